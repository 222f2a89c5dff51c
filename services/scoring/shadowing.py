"""What shadows would have decided, each by its policy and with a memory of its own."""

from collections.abc import Collection, Iterable, Sequence

from services.runtime.ports import Row
from services.scoring.alerting import Alerting
from services.scoring.course import Course
from services.scoring.crew import Crew, Engine
from services.scoring.horizon import Horizon
from services.scoring.shades import Shade, Shades
from services.scoring.shares import Run, Share


class Shadowing:
    """The policies of the shadows of one partition."""

    def __init__(self, partition: int, horizon: Horizon) -> None:
        """Prepare.

        Args:
            partition: of the vitals.
            horizon: that of what is shown: a shadow is held as a champion would be.
        """
        self._partition, self._horizon, self._shades = partition, horizon, Shades()
        self._crew: Crew | None = None
        self._judges: list[tuple[Shade, Alerting]] = []
        self._settled = True

    def load(self, key: bytes, row: bytes | None) -> None:
        """Take a row of the changelog; raises Stop where it is of another form."""
        self._settled = False
        self._shades.load(key, row)

    def settle(self, course: Course) -> None:
        """Drop what was loaded of shadows that were withdrawn; does nothing the second time."""
        if not self._settled:
            self._settled = True
            self._shades.settle(course)

    def changes(self) -> Iterable[Row]:
        """Give the rows that changed since the last call."""
        return self._shades.changes()

    def forget(self, known: Collection[bytes]) -> None:
        """Forget whom scoring has forgotten."""
        self._shades.forget(known)

    def judge(self, run: Run, hidden: Sequence[Share], crew: Crew, course: Course) -> None:
        """Decide on the scores of all shadows, in the order of the log; nobody is told.

        Args:
            run: the messages.
            hidden: what each shadow says of all of them; their decisions are set.
            crew: whose shadows these are.
            course: says since when.
        """
        if crew is not self._crew:
            self._crew = crew
            self._begin(course, run.offsets[0], [share.engine for share in hidden])
        for share, (shade, alerting) in zip(hidden, self._judges, strict=True):
            _judge(run, share, shade, alerting)

    def dump(self) -> list[tuple[bytes, bytes]]:
        """Give all that is remembered; a restart changes no byte of it."""
        return self._shades.dump()

    def _begin(self, course: Course, offset: int, engines: Sequence[Engine]) -> None:
        digests = [engine.model.digest for engine in engines]
        shades = self._shades.present(course, offset, digests)
        self._judges = [
            (shade, self._alerting(engine, shade))
            for engine, shade in zip(engines, shades.values(), strict=True)
        ]

    def _alerting(self, engine: Engine, shade: Shade) -> Alerting:
        return Alerting(
            engine.policy,
            engine.model,
            shade,
            partition=self._partition,
            explain=lambda _: [],  # what nobody reads is not computed
            horizon=self._horizon,
        )


def _judge(run: Run, share: Share, shade: Shade, alerting: Alerting) -> None:
    low = share.low().tolist()
    for place, name in enumerate(run.messages.names):
        if low[place] and place not in run.notes and shade.is_quiet(name):
            continue
        if name:
            shade.touched(name)
        entry = share.entry(run, place)
        share.untold += alerting.step(entry)
        share.verdicts.decisions[place] = entry.decision
