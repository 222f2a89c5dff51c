"""Questions to the cluster and changes of its topics."""

import time
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, not in its __all__
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from services.core.errors import Retry
from services.runtime.kafka.client import QUIET, Options, shut_doors_raise_retry

TIMEOUT_S: Final = 10.0
LED_S: Final = 60.0
LED_STEP_S: Final = 0.02
NOT_YET: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE)


class TopicState(msgspec.Struct, frozen=True):
    """A topic as the cluster has it."""

    name: str
    topic_id: str  # 32 hex digits
    partitions: int
    config: Mapping[str, str]  # settings that differ from the cluster's defaults


def cluster_id(bootstrap: str, timeout_s: float) -> str:
    """Ask a cluster for its name; the sign that it lives.

    Raises:
        Retry: no answer within `timeout_s`.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    with shut_doors_raise_retry("describe cluster"):
        answer = admin.describe_cluster(request_timeout=timeout_s).result(timeout_s)
    return str(answer.cluster_id)


def cluster_id_of(options: Options, timeout_s: float = TIMEOUT_S) -> str:
    """Ask the cluster that the options lead to for its name; raises as `topics` does."""
    admin = AdminClient({**options, **QUIET})
    with shut_doors_raise_retry("describe cluster"):
        answer = admin.describe_cluster(request_timeout=timeout_s).result(timeout_s)
    return str(answer.cluster_id)


def access_rules(options: Options, timeout_s: float = TIMEOUT_S) -> int:
    """Count the ACLs that the client may see; 0 also where the broker has no authorizer.

    Raises:
        Retry: no answer, or the client may not ask.
    """
    anything: Any = None  # the client's stubs want text where it takes None for any
    everything = AclBindingFilter(
        ResourceType.ANY,
        anything,
        ResourcePatternType.ANY,
        anything,
        anything,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    admin = AdminClient({**options, **QUIET})
    with shut_doors_raise_retry("describe ACLs"):
        asked = admin.describe_acls(everything, request_timeout=timeout_s)
        return len(asked.result(timeout_s))


def topics(options: Options) -> dict[str, TopicState]:
    """Describe every topic that the client may see, the cluster's own left out.

    Raises:
        Retry: no answer.
    """
    admin = AdminClient({**options, **QUIET})
    with shut_doors_raise_retry("list topics"):
        names = [n for n in admin.list_topics(timeout=TIMEOUT_S).topics if not n.startswith("__")]
        if not names:
            return {}
        described = admin.describe_topics(TopicCollection(names), request_timeout=TIMEOUT_S)
        resources = {n: ConfigResource(ResourceType.TOPIC, n) for n in names}
        configs = admin.describe_configs(list(resources.values()), request_timeout=TIMEOUT_S)
        return {
            name: TopicState(
                name=name,
                topic_id=topic_id_hex(described[name].result(TIMEOUT_S).topic_id),
                partitions=len(described[name].result(TIMEOUT_S).partitions),
                config={
                    k: str(v.value)
                    for k, v in configs[resources[name]].result(TIMEOUT_S).items()
                    if not v.is_default
                },
            )
            for name in names
        }


def topic_id_hex(topic_id: object) -> str:
    """Write the client's topic id as 32 hex digits."""
    bits = (topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits())  # type: ignore[attr-defined]  # the client's stubs lack its Uuid
    return UUID(int=(bits[0] % (1 << 64)) << 64 | bits[1] % (1 << 64)).hex


def create_topic(
    options: Options, name: str, *, partitions: int, config: Mapping[str, str], replicas: int = -1
) -> None:
    """Create a topic, and return when each partition has a leader; may block for LED_S.

    The controller answers before the brokers know of the topic: who asked one of them for its ends
    in between would hear that there is no such partition.

    Args:
        options: of the cluster.
        name: of the topic.
        partitions: how many.
        config: settings that differ from the cluster's defaults.
        replicas: of each partition; -1 is the cluster's default.

    Raises:
        Retry: no answer, the cluster refused, or a partition stays without a leader.
    """
    admin = AdminClient({**options, **QUIET})
    topic = NewTopic(
        name, num_partitions=partitions, replication_factor=replicas, config=dict(config)
    )
    with shut_doors_raise_retry("create topic"):
        admin.create_topics([topic], request_timeout=TIMEOUT_S)[name].result(TIMEOUT_S)
    deadline = time.monotonic() + LED_S
    while not _led(admin, name, partitions):
        if time.monotonic() > deadline:
            raise Retry(f"Kafka: topic {name} was created and has no leaders")
        time.sleep(LED_STEP_S)


def _led(admin: AdminClient, name: str, partitions: int) -> bool:
    """Whether a broker knows of all partitions of a topic, and who leads each."""
    with shut_doors_raise_retry("describe topic"):
        asked = admin.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT_S)
        try:
            found = asked[name].result(TIMEOUT_S).partitions
        except KafkaException as error:
            if error.args[0].code() in NOT_YET:
                return False
            raise
    return len(found) == partitions and all(partition.leader for partition in found)


def set_config(options: Options, name: str, config: Mapping[str, str]) -> None:
    """Set settings of a topic, leaving its others; raises as `create_topic` does."""
    admin = AdminClient({**options, **QUIET})
    entries = [
        ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    with shut_doors_raise_retry("alter topic"):
        admin.incremental_alter_configs([resource], request_timeout=TIMEOUT_S)[resource].result(
            TIMEOUT_S
        )


def partitions_of(options: Options, names: list[str]) -> list[tuple[str, int]]:
    """List every partition of the named topics.

    Raises:
        Retry: no answer, or a topic does not exist (`vigil topics apply` creates it).
    """
    try:
        known = AdminClient({**options, **QUIET}).list_topics(timeout=TIMEOUT_S).topics
    except KafkaException:
        raise Retry("Kafka: no answer to the list of topics") from None
    missing = [name for name in names if name not in known]
    if missing:
        raise Retry(f"Kafka: topic {missing[0]} does not exist; run `vigil topics apply`")
    return [(name, p) for name in names for p in sorted(known[name].partitions)]
