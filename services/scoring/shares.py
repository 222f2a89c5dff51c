"""What each model makes of a batch: whom it scores, whether it abstains, what it says."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.errors import Stop
from services.core.events import Alert, Cause, Disposition
from services.core.features import FEATURES, standing_of
from services.scoring.abstention import causes
from services.scoring.columns import Columns, Fact, columns_of
from services.scoring.crew import Crew, Engine, Floats
from services.scoring.entries import QUIET, Entry, Note, Verdicts

NONE: Final = -1
NO_ROWS: Floats = np.empty((0, len(FEATURES)), np.float32)

Places = npt.NDArray[np.int64]


class Run:
    """Records that were applied one after the other, in the order of the log.

    `rows` are the features of those that are due for a score, in order.
    """

    def __init__(self, size: int) -> None:
        """Begin.

        Args:
            size: so many of them can be due for a score.
        """
        self.offsets: list[int] = []
        self.facts: list[Fact] = []
        self.notes: dict[int, Note] = {}
        self.rows, self._size = np.empty((size, len(FEATURES)), np.float32), 0

    def add(self, offset: int, fact: Fact, note: Note = QUIET) -> None:
        """Take what became of a record, the next one."""
        if note is not QUIET:
            self.notes[len(self.facts)] = note
        self._size += fact.row != NONE
        self.offsets.append(offset)
        self.facts.append(fact)

    def features(self, rows: Places) -> Floats:
        """Give the features of some of the rows, (N, len(FEATURES)); they rise."""
        return self.rows[: self._size] if len(rows) == self._size else self.rows[rows]

    def columns(self) -> Columns:
        """Give all facts as columns."""
        return columns_of(self.offsets, self.facts)


class Share:
    """The entries of a run that are one model's, and what it says of them.

    Attributes:
        engine: the model.
        steady: whether scoring ends when the model gives no probabilities; of any but the
            champion, those entries go without a score.
        places: (N,) in the run.
        columns: of N entries.
        verdicts: on them.
        inputs: (S, F) a row per scored entry.
        alerts: that followed and are shown, in order.
    """

    def __init__(
        self, engine: Engine, columns: Columns, places: Places, *, steady: bool = False
    ) -> None:
        self.engine, self.steady, self.places = engine, steady, places
        self.columns = columns.only(places)
        self.verdicts = Verdicts.pending(self.columns)
        self.inputs, self.alerts = NO_ROWS, list[Alert]()

    def score(self, run: Run) -> None:
        """Score the entries that are due, or say why not.

        Raises:
            Stop: the champion gave what is no probability.
        """
        verdicts, columns = self.verdicts, self.columns
        due = np.flatnonzero(columns.rows != NONE)
        features = run.features(columns.rows[due])
        found = causes(self.engine.policy.abstain, standing_of(features), self.engine.support)
        kept = found == Cause.NONE
        if not kept.all():
            self._abstain(due[~kept], found[~kept])
            due, features = due[kept], features[kept]
        self.inputs = self.engine.select(features)
        if len(due):
            self._score(due)
        self._hold_to_thresholds(verdicts.scored)

    def _score(self, due: Places) -> None:
        try:
            self.verdicts.scores[due] = self.engine.onnx.score(self.inputs)
        except Stop:
            if self.steady:
                raise
            self._abstain(due, Cause.MODEL_OUTPUT)
            self.inputs = self.inputs[:0]

    def _abstain(self, seats: Places, cause: Any) -> None:
        self.verdicts.dispositions[seats] = Disposition.ABSTAINED
        self.verdicts.causes[seats] = cause

    def _hold_to_thresholds(self, scored: npt.NDArray[np.bool_]) -> None:
        units = [names[-1] for names in self.columns.cohorts]
        thresholds = np.array([self.engine.policy.threshold_in(unit) for unit in units])
        self.verdicts.thresholds[scored] = thresholds[self.columns.groups[scored]]

    def low(self) -> list[bool]:
        """Say of each entry whether it has a score below the threshold."""
        low: list[bool] = (self.verdicts.scores < self.verdicts.thresholds).tolist()
        return low

    def entry(self, run: Run, seat: int) -> Entry:
        """Give an entry to ask the policy of."""
        place = int(self.places[seat])
        fact, verdicts = run.facts[place], self.verdicts
        return Entry(
            offset=run.offsets[place],
            event=fact.event,
            note=run.notes.get(place, QUIET),
            disposition=Disposition(int(verdicts.dispositions[seat])),
            encounter=fact.encounter,
            unit=fact.cohorts[-1],
            as_of=fact.as_of,
            seat=seat,
            score=float(verdicts.scores[seat]),
            threshold=float(verdicts.thresholds[seat]),
        )

    def input_of(self, seat: int) -> Floats:
        """Give the row (F,) that a scored entry was scored on."""
        row: Floats = self.inputs[np.count_nonzero(self.verdicts.scored[:seat])]
        return row


def shown(crew: Crew, run: Run, columns: Columns) -> tuple[list[Share], list[tuple[int, int]]]:
    """Give each entry to the one model that is shown for its patient.

    Those of nobody, as ticks, are the champion's.

    Returns:
        shares, those with entries, the champion's last; and of each entry the number of its share
        and its seat there.
    """
    many = len(run.facts)
    everybody = np.arange(many)
    if crew.canary is None:
        champion = Share(crew.champion, columns, everybody, steady=True)
        return [champion], [(0, seat) for seat in range(many)]
    names = [fact.event.pseudonym for fact in run.facts]
    chosen = np.array([crew.shown_for(name) is crew.canary for name in names])
    shares = list[Share]()
    turns = np.empty((many, 2), np.int64)
    for engine, its in ((crew.canary, chosen), (crew.champion, ~chosen)):
        places = everybody[its]
        if len(places):
            turns[places, 0], turns[places, 1] = len(shares), np.arange(len(places))
            shares.append(Share(engine, columns, places, steady=engine is crew.champion))
    return shares, [(share, seat) for share, seat in turns.tolist()]


def unseen(crew: Crew, columns: Columns) -> list[Share]:
    """Give every shadow all entries."""
    everybody = np.arange(len(columns.offsets))
    return [Share(engine, columns, everybody) for engine in crew.shadows]
