"""An outside subscriber of the demo: sees what a hospital would see, and when."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from services.core.events import Alert, Signal, Step
from services.core.notices import MATTERS
from services.runtime.codec import Codec
from services.runtime.kafka.client import Options
from services.runtime.kafka.listening import Listening
from services.runtime.ports import Record

TOPICS: Final = ["predictions.v1", "alerts.v1", "signals.v1"]
MILESTONES: Final = ("first score", "first alert", "first signal")
MICROSECONDS: Final = 1e6


class Listener:
    """Reads predictions, alerts and signals from their beginning, in a thread of its own.

    Attributes:
        steps: of alerts, counted.
        raised: alerts as they were raised.
        signals: their steps.
        latencies_ms: from acceptance to a raised alert.
    """

    def __init__(self, options: Options, schemas: Path, told: Callable[[str], None]) -> None:
        """Begin to listen.

        Args:
            options: of the cluster.
            schemas: the folder of the schemas.
            told: hears of each of MILESTONES, once.
        """
        self._codec, self._told = Codec(schemas), told
        self._listening = Listening(options, TOPICS, self._hear)
        self.steps: Counter[str] = Counter()
        self.raised: list[Alert] = []
        self.signals: list[Signal] = []
        self.latencies_ms: list[float] = []
        self._heard: set[str] = set()

    def __enter__(self) -> Self:
        self._listening.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._listening.__exit__(*reason)

    def _hear(self, records: list[Record]) -> None:
        for record in records:
            self._hear_one(record)

    def _hear_one(self, record: Record) -> None:
        if record.topic == "predictions.v1":
            self._milestone("first score")
        elif record.topic == "signals.v1":
            signal = self._codec.decode(record.value or b"", Signal)
            self.signals.append(signal)
            if signal.metric not in MATTERS:  # the story is about the model, not its feeds
                self._milestone("first signal")
        else:
            self._hear_alert(record)

    def _hear_alert(self, record: Record) -> None:
        alert = self._codec.decode(record.value or b"", Alert)
        self.steps[alert.step] += 1
        if alert.step is Step.RAISED:
            self.raised.append(alert)
            now = datetime.now(UTC).timestamp()
            self.latencies_ms.append((now - alert.accepted_at / MICROSECONDS) * 1000)
            self._milestone("first alert")

    def _milestone(self, name: str) -> None:
        if name not in self._heard:
            self._heard.add(name)
            self._told(name)
