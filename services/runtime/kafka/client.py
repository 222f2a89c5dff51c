"""What every client of the cluster shares: options, errors, and the shape of a record."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

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
        name = cause.name() if isinstance(cause, KafkaError) else type(error).__name__
        raise Retry(f"Kafka: {doing} failed ({name})") from None
    except TimeoutError:  # of the future that the admin client's call returned
        raise Retry(f"Kafka: no answer to {doing}") from None


def record_of(message: Message) -> Record:
    """Copy a message out of the client.

    Raises:
        Retry: the message is an error of the client's.
    """
    error = message.error()
    if error is not None:
        raise Retry(f"Kafka: reading failed ({error.name()})")
    timestamp_type, timestamp_ms = message.timestamp()
    headers = message.headers()
    return Record(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=timestamp_ms,
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=tuple([(header[0], _bytes(header[1])) for header in headers]) if headers else (),
        timestamp_type=timestamp_type,
    )


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
