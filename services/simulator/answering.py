"""Invented clinicians at work: they read the alerts as anyone may, and answer at the gateway."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from heapq import heappop, heappush
from pathlib import Path
from typing import Final, NamedTuple, Self

from services.core.errors import VigilError
from services.core.events import Alert, Step
from services.runtime.codec import Codec
from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.client import Options
from services.runtime.kafka.reader import Reader
from services.runtime.ports import Record
from services.simulator.clinicians import Answer, Clinicians
from services.simulator.feeder import ACCEPTED, headers_of
from services.simulator.posting import Door, Given
from services.simulator.truth import Truth

SOURCE: Final = "clinicians"
"""The sender's id; answers name an alert and not a patient, so that any will do."""
ALERTS: Final = "alerts.v1"
READ_S: Final = 0.05
PATIENCE_S: Final = 60.0

Clock = Callable[[], datetime | None]
"""How far event time has come; None when nobody knows."""


class Stack(NamedTuple):
    """Where alerts are read and answers are sent: the cluster, our schemas, the gateway."""

    options: Options
    schemas: Path
    gateway: str


class Answering:
    """Answers alerts in a thread of its own, each when event time has come so far.

    Attributes:
        raised: alerts that were read.
        silent: of them, those that nobody answers.
        unknown: of them, those of a stay that the ward does not know.
        answered: accepted answers by verdict.
        refused: answers turned away for good, by HTTP status.
    """

    def __init__(
        self, stack: Stack, clinicians: Clinicians, truth: Truth, clock: Clock | None = None
    ) -> None:
        """Prepare to read the alerts from their beginning.

        Args:
            stack: where.
            clinicians: who answers.
            truth: what they half know.
            clock: event time; None answers at once, and declares the time all the same.

        Raises:
            Retry: the cluster does not answer, or has no alerts.v1.
        """
        self.raised = self.silent = self.unknown = 0
        self.answered: Counter[str] = Counter()
        self.refused: Counter[int] = Counter()
        self._codec, self._gateway = Codec(stack.schemas), stack.gateway
        self._clinicians, self._truth, self._clock = clinicians, truth, clock
        self._reader = Reader(
            stack.options, dict.fromkeys(partitions_of(stack.options, [ALERTS]), 0)
        )
        self._waiting: list[tuple[datetime, Answer]] = []
        self._ending = threading.Event()
        self._failed: VigilError | None = None
        self._thread = threading.Thread(target=self._run, name="clinicians", daemon=True)

    @property
    def waiting(self) -> int:
        """How many answers are not given yet."""
        return len(self._waiting)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give what is due, leave the rest.

        Raises:
            VigilError: the cluster or the gateway was away for too long.
        """
        self._ending.set()
        self._thread.join()
        self._reader.close()
        if self._failed and kind is None:
            raise self._failed

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except VigilError as error:
            self._failed = error

    async def _work(self) -> None:
        stop = asyncio.Event()
        door = Door(self._gateway, patience_s=PATIENCE_S, stop=stop)
        heeding = asyncio.create_task(self._heed(stop))
        try:
            while not stop.is_set():
                for record in await asyncio.to_thread(self._reader.read, READ_S):
                    self._consider(record)
                await self._give(door)
        except Given:
            return
        finally:
            heeding.cancel()
            await door.close()

    async def _heed(self, stop: asyncio.Event) -> None:
        await asyncio.to_thread(self._ending.wait)
        stop.set()  # whoever is away from now on is not waited for

    def _consider(self, record: Record) -> None:
        alert = self._codec.decode(record.value or b"", Alert)
        if alert.step is not Step.RAISED:
            return
        course = self._truth.of(alert.encounter)
        answer = self._clinicians.answer(alert, course)
        self.raised += 1
        self.unknown += course is None
        self.silent += answer is None
        if answer:
            heappush(self._waiting, (answer.told_at, answer))

    async def _give(self, door: Door) -> None:
        while self._waiting and self._is_due(self._waiting[0][0]):
            at, answer = self._waiting[0]
            headers = headers_of(SOURCE, at, "application/json")
            status = await door.post("/feedback", answer.body(), headers)
            heappop(self._waiting)
            if status == ACCEPTED:
                self.answered[answer.verdict] += 1
            else:
                self.refused[status] += 1

    def _is_due(self, at: datetime) -> bool:
        if self._clock is None:
            return True
        now = self._clock()
        return now is not None and at <= now
