"""What goes wrong at Kafka is told by name, with what to do where that is known."""

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from services.core.errors import Retry
from services.runtime.kafka.client import record_of, shut_doors_raise_retry

MISSING = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
)


@pytest.mark.parametrize("code", MISSING)
def test_a_missing_topic_is_told_with_the_command_that_makes_it(code: int) -> None:
    with pytest.raises(Retry, match=r"commit failed \(.+ run `vigil topics apply`"):  # noqa: SIM117 - the outer one looks at what the inner one raises
        with shut_doors_raise_retry("commit"):
            raise KafkaException(KafkaError(code))
    unread = Message(topic="fhir.raw.v1", error=KafkaError(code))
    with pytest.raises(Retry, match=r"fhir\.raw\.v1 is missing, run `vigil topics apply`"):
        record_of(unread)


def test_any_other_error_is_told_by_its_name_alone() -> None:
    with pytest.raises(Retry, match=r"^Kafka: commit failed \(_TRANSPORT\)$"):  # noqa: SIM117 - as above
        with shut_doors_raise_retry("commit"):
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, "host and port"))
    with pytest.raises(Retry, match=r"^Kafka: reading failed \(_TRANSPORT\)$"):
        record_of(Message(topic="fhir.raw.v1", error=KafkaError(KafkaError._TRANSPORT)))


def test_a_record_is_copied_as_it_was_read() -> None:
    headers: list[tuple[str, str | bytes | None]] = [("source", b"west"), ("none", None)]
    read = record_of(
        Message(
            topic="fhir.raw.v1",
            partition=2,
            offset=7,
            key=b"k",
            value=b"{}",
            headers=headers,
            timestamp=(1, 1_767_600_030_000),
        )
    )
    assert (read.topic, read.partition, read.offset) == ("fhir.raw.v1", 2, 7)
    assert (read.timestamp_ms, read.timestamp_type) == (1_767_600_030_000, 1)
    assert (read.key, read.value, read.headers) == (b"k", b"{}", tuple(headers))
    tombstone = record_of(Message(topic="t", partition=0, offset=0, timestamp=(1, 0)))
    assert (tombstone.key, tombstone.value, tombstone.headers) == (None, None, ())
