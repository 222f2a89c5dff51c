"""The service under a steady stream of vitals, and the account of what came out of it."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

from chaos.feed import Feed
from chaos.ground import Ground, Instance
from chaos.log import Log
from chaos.oracle import Undisturbed, Verdict
from lives import until

from services.local.home import REPO
from services.runtime import bundle
from services.runtime.codec import Codec
from services.runtime.kafka.admin import topics
from services.runtime.kafka.client import Options
from services.runtime.ports import Output
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.runtime.worker import MakeTask
from services.scoring.__main__ import tasks
from services.scoring.outputs import VITALS
from services.scoring.settings import ScoringSettings

RATE = 330.0
FARTHEST = 1500
"""The feed waits when so many events have no prediction."""


def task_maker(options: Options, model: Path) -> MakeTask:
    """Make tasks as the service makes them, outside of it."""
    settings = ScoringSettings(model=model, schemas=REPO / "schemas")
    return tasks(settings, options, Metrics(Build.of("scoring")))


class Siege:
    """A ground with a feed; one log is written, whatever happens."""

    def __init__(self, ground: Ground, events: Iterable[Output], *, seed: int) -> None:
        self.ground, self.rng = ground, Random(seed)  # noqa: S311 - it chooses moments, no secrets
        codec = Codec(REPO / "schemas")
        self.log = Log(ground.options, codec)
        self.feed = Feed(ground.broker.bootstrap, events, rate=RATE, held=self._far_behind)
        self._undisturbed = Undisturbed(
            task_maker(ground.options, ground.model),
            codec,
            topic_id=topics(ground.options)[VITALS].topic_id,
            digest=bundle.load(ground.model).digest,
        )

    def _far_behind(self) -> bool:
        # On a busy machine a life begins slowly: the log must not grow without bounds meanwhile.
        return self.feed.sent - self.log.predictions > FARTHEST

    def another(self, service: Instance) -> Instance:
        """Make a second instance like the first; it is started by the caller."""
        return Instance(self.ground, 1, bug=service.bug)

    def flowing(self) -> None:
        """Wait for the next prediction."""
        before = self._read()
        until(lambda: self._read() > before, what="a prediction")

    def until(self, condition: Callable[[], bool]) -> None:
        """Let it flow until something is true."""
        until(lambda: self._read() >= 0 and condition())

    def for_seconds(self, seconds: float) -> None:
        """Let it flow."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)

    def _read(self) -> int:
        assert not self.feed.over, "the feed has come to its end"
        return self.log.read()

    def verdict(self) -> Verdict:
        """Wait until all is scored, and compare; nothing may be fed meanwhile."""
        self.log.read_to_end()
        until(lambda: self.log.settled(self.ground.committed()), what="the end of the log")
        self.log.read_to_end()
        return self._undisturbed.compare(self.log)
