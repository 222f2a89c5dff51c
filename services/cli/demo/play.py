"""What is played with the simulated ward: baseline, clinicians, registry, story."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from services.cli.demo.asking import Vigil
from services.cli.demo.truth import Ends
from services.core.pseudonyms import parse_key
from services.runtime.kafka.client import Options
from services.simulator.answering import Answering, Stack
from services.simulator.clinicians import Clinicians
from services.simulator.delivery import Sent
from services.simulator.messages import START, Message, instant
from services.simulator.outcomes import with_outcomes
from services.simulator.registry import Registry
from services.simulator.story import draw_story
from services.simulator.truth import Truth
from services.simulator.ward import Ward

QUICKER: Final = 1 / 6
"""Outcomes come so much earlier than in life: the demo sees a week, not a quarter."""
DAY: Final = timedelta(days=1)


class Play:
    """A ward to which something happens half-way, and the people in it.

    Args:
        beds: of the ward.
        seed: of everything; the same seed plays the same.
        hours: event time that the demo will see.
        scenario: name of a scenario; empty: the seed draws one.
    """

    def __init__(self, beds: int, *, seed: int, hours: float, scenario: str = "") -> None:
        self.story = draw_story(seed, hours, scenario)
        self.ward = Ward(np.random.default_rng(seed), START, beds=beds, strike=self.story.strike)
        self._seed, self._hours = seed, hours
        self._people: tuple[Answering, Truth] | None = None

    def messages(self) -> Iterable[Message]:
        """Give what the ward and the registry send, in order of time."""
        registry = Registry(self._seed, scale=QUICKER)
        # Beyond the hours that were drawn for the story nobody looks.
        return with_outcomes(self.ward, self.ward.messages(self._hours * 2), registry)

    def use_baseline(self, vigil: Vigil) -> None:
        """Put the baseline of the unchanged ward into use, before anybody streams in."""
        baseline = files("services.simulator") / "baselines" / "ward.json"
        vigil.ask(
            *("drift", "baseline", "use", str(baseline), "--effective-from", instant(START)),
            *("--requested-by", "vigil demo", "--approved-by", "vigil demo"),
            *("--reason", "2,000 seeded stays of the ward before anything changed", "--yes"),
        )

    @contextmanager
    def clinicians(
        self, options: Options, environ: Mapping[str, str], sent: Callable[[], Sent | None]
    ) -> Iterator[None]:
        """Let clinicians answer, each when event time has come so far."""
        key = parse_key(Path(environ["VIGIL_PSEUDONYM_KEY_FILE"]).read_text())
        gateway = f"http://127.0.0.1:{environ['VIGIL_GATEWAY_PORT']}"
        stack = Stack(options, Path(environ["VIGIL_SCHEMAS"]), gateway)
        truth = Truth(self.ward.courses, key)

        def reached() -> datetime | None:
            now = sent()
            return now.reached if now else None

        answering = Answering(stack, Clinicians(self._seed), truth, clock=reached)
        self._people = answering, truth
        with answering:
            yield

    def people(self) -> tuple[Answering, Truth]:
        """Give those who answered, and who knows whose stay is whose.

        Raises:
            RuntimeError: nobody has played yet.
        """
        if self._people is None:
            raise RuntimeError("nobody has played yet")
        return self._people

    def whole_days(self, sent: Sent) -> Ends | None:
        """Find the days that were seen from their beginning to their end."""
        seen = (sent.reached - START) // DAY if sent.reached else 0
        return Ends(START, START + seen * DAY) if seen else None
