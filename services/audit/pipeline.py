"""From every topic to the ledger: where it resumes, and the loop that writes block after block."""

import fcntl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from services.audit.recorder import START, Chain, Head, Recorder, Source
from services.audit.writer import Store, await_former_life, heads, held_beyond, write
from services.core.errors import Retry
from services.runtime.codec import EVENTS, Codec
from services.runtime.kafka.admin import cluster_id_of, partitions_of, topics
from services.runtime.kafka.client import Options
from services.runtime.kafka.reader import Partition, Reader, starts
from services.runtime.ports import Record
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.progress import Progress
from services.runtime.topics.files import Topic

POLL_S: Final = 0.1
GATHER_S: Final = 0.2
HEARD_EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 60.0
"""How often what was verified is shown anew."""
FORMER_LIFE_LOOKS: Final = 150
READER: Final = "audit"
"""Among the consumers of every topic that the ledger keeps; the others hold state alone."""

log = structlog.stdlib.get_logger()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a block is written: whichever comes first."""

    rows: int
    bytes: int
    seconds: float


class Records(Protocol):
    """What the loop needs of `services.runtime.kafka.reader.Reader`."""

    def read(self, timeout_s: float) -> list[Record]:
        """Wait for records."""

    def lag(self) -> Mapping[Partition, int]:
        """Say how far the ends are."""


@contextmanager
def alone(home: Path, name: str = "audit") -> Iterator[None]:
    """Be the one process of a name on this machine; the kernel frees the lock however it ends.

    Raises:
        Retry: another one runs.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Retry(f"another {name} process holds {name}.lock") from None
        yield


def sources_of(options: Options, contracts: Sequence[Topic]) -> dict[str, Source]:
    """Say of each topic that the ledger keeps which one it is.

    Raises:
        Retry: Kafka does not answer, or a topic does not exist yet.
    """
    wanted = [topic for topic in contracts if READER in topic.consumers]
    known = topics(options)
    for topic in wanted:
        if topic.topic not in known:
            raise Retry(f"Kafka: topic {topic.topic} does not exist; run `vigil topics apply`")
    return {
        topic.topic: Source(
            topic=topic.topic,
            topic_id=known[topic.topic].topic_id,
            phi=topic.phi,
            event=EVENTS[topic.event] if topic.event else None,
        )
        for topic in wanted
    }


def resume(
    options: Options, store: Store, sources: Mapping[str, Source], codec: Codec
) -> tuple[Reader, Recorder]:
    """Go on where the store stands; what Kafka remembers of earlier lives means nothing.

    Raises:
        Retry: Kafka or ClickHouse does not answer.
    """
    await_former_life(store, looks=FORMER_LIFE_LOOKS, wait=time.sleep)
    places = partitions_of(options, sorted(sources))
    chains = {(sources[topic].topic_id, number): topic for topic, number in places}
    known = heads(store)
    recorder = Recorder(
        cluster_id_of(options),
        sources,
        heads={chain: head for chain, head in known.items() if chain in chains},
        held=held_beyond(store, chains, known),
        decode=codec.decode,
    )
    first = _first_offsets(options, chains, known)
    return Reader(options, first, gather_s=GATHER_S), recorder


def _first_offsets(
    options: Options, chains: Mapping[Chain, str], known: Mapping[Chain, Head]
) -> dict[Partition, int]:
    lowest = starts(options, [(topic, number) for (_, number), topic in chains.items()])
    first = {}
    for chain, topic in chains.items():
        place, wanted = (topic, chain[1]), known.get(chain, START).offset + 1
        if chain in known and lowest[place] > wanted:
            log.warning("gap", topic=topic, partition=chain[1], start=wanted, end=lowest[place])
        first[place] = max(wanted, lowest[place])
    return first


class Loop:
    """Reads, records and writes until it is told to stop."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        *,
        metrics: Metrics,
        progress: Progress,
        clock: Callable[[], float],
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            store: takes the blocks.
            limits: of a block.
            metrics: count what was written.
            progress: hears of every step.
            clock: seconds, monotonic.
            look: called between two blocks, at the start and every LOOK_EVERY_S.
        """
        self._store, self._limits = store, limits
        self._metrics, self._progress, self._clock = metrics, progress, clock
        self._opened_at: float | None = None
        self._heard_at = clock() - HEARD_EVERY_S
        self._look, self._looked_at = look, clock() - LOOK_EVERY_S

    def run(self, reader: Records, recorder: Recorder, stopping: threading.Event) -> None:
        """Write block after block; what was read is written before it returns.

        Raises:
            Retry: a door is shut.
            Stop: going on would make the ledger wrong.
        """
        while not stopping.is_set():
            records = reader.read(POLL_S)
            if records:
                self._opened_at = self._opened_at or self._clock()
                recorder.add(records)
                self._progress.handled(records, ())
            if self._due(recorder):
                self._write(recorder)
            self._tell(reader)
        self._write(recorder)

    def _due(self, recorder: Recorder) -> bool:
        if self._opened_at is None:
            return False
        full = recorder.rows >= self._limits.rows or recorder.bytes >= self._limits.bytes
        return full or self._clock() - self._opened_at >= self._limits.seconds

    def _write(self, recorder: Recorder) -> None:
        if self._opened_at is None:
            return
        block = recorder.take()
        write(self._store, block)
        for topic, number in Counter(block.ledger["topic"]).items():
            self._metrics.counter("ledger_rows_total", topic=topic).inc(number)
        self._progress.committed(self._clock() - self._opened_at)
        self._opened_at = None

    def _tell(self, reader: Records) -> None:
        if self._clock() - self._heard_at >= HEARD_EVERY_S:
            self._heard_at = self._clock()
            self._progress.behind(reader.lag())
        if self._clock() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = self._clock()
            self._look()
