"""What every client of the cluster shares: options, errors, and the shape of a record."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message

from services.core.errors import Retry
from services.runtime.ports import Record

Options = Mapping[str, str | int]
"""librdkafka options of one cluster, as `KafkaSettings.client_options` gives them."""

QUIET: Final[Options] = {
    # librdkafka tells every failed reconnect, several a second, unless it is quieted.
    "log_level": 2,
    # The defaults wait 100 ms where the coordinator answers in 2: a commit takes 6 ms, not 105.
    "retry.backoff.ms": 2,
    "retry.backoff.max.ms": 20,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1000,
}

_MISSING: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001 - the client names them so
)


def gathering(seconds: float) -> Options:
    """Give the options by which a consumer asks a broker for what it has.

    Args:
        seconds: for which the broker may gather 1 MiB before it answers; 0 for what somebody
            waits for: a broker that hands out record after record works several times as hard.
    """
    if not seconds:
        # A record or a commit is told at once, however long the broker may wait for one. The wait
        # says how often it is asked in vain: at 20 ms it spends 7 % of a core on each reader.
        return {"fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 5}
    return {"fetch.min.bytes": 1 << 20, "fetch.wait.max.ms": round(seconds * 1000)}


@contextmanager
def shut_doors_raise_retry(doing: str) -> Iterator[None]:
    """Turn an error of the client into Retry, which names the error and holds no payload."""
    try:
        yield
    except KafkaException as error:
        cause = error.args[0]
        name = told(cause) if isinstance(cause, KafkaError) else type(error).__name__
        raise Retry(f"Kafka: {doing} failed ({name})") from None
    except TimeoutError:  # of the future that the admin client's call returned
        raise Retry(f"Kafka: no answer to {doing}") from None


def told(error: KafkaError, topic: str | None = None) -> str:
    """Name an error, and what to do where a topic is missing; holds no payload.

    Args:
        error: of the client.
        topic: that it concerns, where that is known.
    """
    if error.code() not in _MISSING:
        return error.name()
    return f"{error.name()}: {topic or 'a topic'} is missing, run `vigil topics apply`"


def record_of(message: Message) -> Record:
    """Copy a message out of the client.

    Raises:
        Retry: the message is an error of the client's.
    """
    error = message.error()
    if error is not None:
        raise Retry(f"Kafka: reading failed ({told(error, message.topic())})")
    timestamp_type, timestamp_ms = message.timestamp()
    # What the client read is bytes, whatever its stubs say of messages that a program makes.
    key: Any = message.key()
    value: Any = message.value()
    headers: Any = message.headers()
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        timestamp_ms,
        key,
        value,
        tuple(headers) if headers else (),
        timestamp_type,
    )
