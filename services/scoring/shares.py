"""What each model makes of a batch: whom it scores, whether it abstains, what it says."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.errors import Refusal, Stop
from services.core.events import Alert, Cause, DeadLetter, Disposition, Kind, Vitals
from services.core.features import FEATURES, standing_of
from services.scoring.abstention import causes
from services.scoring.columns import Columns, columns_of
from services.scoring.crew import Crew, Engine, Floats
from services.scoring.entries import QUIET, Entry, Note, Verdicts
from services.scoring.patients.history import OVER, REVISED_AT
from services.scoring.patients.message import Messages
from services.scoring.patients.readings import UNREVISED
from services.scoring.patients.ward import Applied, Followed

NONE: Final = -1
NO_CAUSE: Final = int(Cause.NONE)
UNREADABLE: Final = Applied(Disposition.ABSTAINED, Cause.UNREADABLE)
UNREAD: Final = Vitals(
    kind=Kind.TICK,
    source="",
    measured_at=0,
    received_at=0,
    accepted_at=0,
    ingest_id="",
    raw_partition=0,
    raw_offset=0,
)
"""Stands for what nobody could read: it concerns no patient."""
NO_ROWS: Floats = np.empty((0, len(FEATURES)), np.float32)

Places = npt.NDArray[np.int64]


class Run:
    """Messages that were applied one after the other, in the order of the log.

    Attributes:
        offsets: of each.
        messages: as they were read.
        rows: (N, len(FEATURES)) features of those that are due for a score, in order.
        notes: of the few that have one, by place.
    """

    def __init__(self, offsets: list[int], messages: Messages) -> None:
        self.offsets, self.messages = offsets, messages
        self.rows = np.empty((len(messages), len(FEATURES)), np.float32)
        self.notes: dict[int, Note] = {}
        self._did: Followed

    def follow(self, did: Followed) -> None:
        """Take what the messages did."""
        self._did = did
        revised, over = did.done[:, REVISED_AT], did.done[:, OVER]
        noted = np.flatnonzero((revised != UNREVISED) | (over != 0)).tolist()
        for place in (*noted, *(place for place, each in did.met.items() if each.ended)):
            self.notes[place] = Note(
                revised_at=None if revised[place] == UNREVISED else int(revised[place]),
                ended=place in did.met and did.met[place].ended,
                discharged=bool(over[place]),
            )

    @property
    def slots(self) -> Places:
        """(N,) of the patients, NONE of nobody."""
        return self._did.slots

    def unread(self, place: int, dead: DeadLetter) -> None:
        """Note that a message could not be read."""
        self._did.met[place] = UNREADABLE
        self.notes[place] = Note(dead=dead)

    def event(self, place: int) -> Vitals:
        """Give what a message told; of one that could not be read nothing."""
        event = self.messages.event(place)
        return UNREAD if isinstance(event, Refusal) else event

    def features(self, rows: Places) -> Floats:
        """Give the features of some of the rows, (N, len(FEATURES)); they rise."""
        many = len(rows)
        if many and rows[-1] == many - 1:
            return self.rows[:many]
        return self.rows[rows]

    def columns(self) -> Columns:
        """Give all facts as columns."""
        return columns_of(self.offsets, self.messages, self._did)


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
        untold: what a shadow would have told, in order.
    """

    def __init__(
        self, engine: Engine, columns: Columns, places: Places, *, steady: bool = False
    ) -> None:
        self.engine, self.steady, self.places = engine, steady, places
        self.columns = columns.only(places)
        self.verdicts = Verdicts.pending(self.columns)
        self.inputs, self.alerts, self.untold = NO_ROWS, list[Alert](), list[Alert]()

    def score(self, run: Run) -> None:
        """Score the entries that are due, or say why not.

        Raises:
            Stop: the champion gave what is no probability.
        """
        verdicts, columns = self.verdicts, self.columns
        due = np.flatnonzero(columns.rows != NONE)
        features = run.features(columns.rows[due])
        found = causes(self.engine.policy.abstain, standing_of(features), self.engine.support)
        if found.any():
            kept = found == NO_CAUSE
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
        of_unit = {unit: self.engine.policy.threshold_in(unit) for unit in set(units)}
        thresholds = np.array([of_unit[unit] for unit in units])
        self.verdicts.thresholds[scored] = thresholds[self.columns.groups[scored]]

    def low(self) -> npt.NDArray[np.bool_]:
        """Say of each entry whether it has a score below the threshold, (N,)."""
        return np.less(self.verdicts.scores, self.verdicts.thresholds)

    def entry(self, run: Run, seat: int) -> Entry:
        """Give an entry to ask the policy of."""
        place, verdicts, columns = int(self.places[seat]), self.verdicts, self.columns
        return Entry(
            offset=run.offsets[place],
            event=run.event(place),
            note=run.notes.get(place, QUIET),
            disposition=Disposition(int(verdicts.dispositions[seat])),
            encounter=columns.encounters[seat].tobytes(),
            unit=columns.cohorts[columns.groups[seat]][-1],
            as_of=int(columns.as_of[seat]),
            seat=seat,
            score=float(verdicts.scores[seat]),
            threshold=float(verdicts.thresholds[seat]),
        )

    def input_of(self, seat: int) -> Floats:
        """Give the row (F,) that a scored entry was scored on."""
        row: Floats = self.inputs[np.count_nonzero(self.verdicts.scored[:seat])]
        return row


class Scored(NamedTuple):
    """What the models of a crew say of a run.

    Attributes:
        hidden: the shadows' shares.
        owners: of the models that are shown, those with entries; the champion's last.
        turns: (N, 2) of each entry the number of its owner, and its seat there.
    """

    hidden: list[Share]
    owners: list[Share]
    turns: Places


def scored(crew: Crew, run: Run) -> Scored:
    """Let every model of a crew score its share of a run; touches nothing but these.

    Raises:
        Stop: the champion gave what is no probability.
    """
    columns = run.columns()
    said = Scored(unseen(crew, columns), *shown(crew, run, columns))
    for share in (*said.hidden, *said.owners):
        share.score(run)
    return said


def shown(crew: Crew, run: Run, columns: Columns) -> tuple[list[Share], Places]:
    """Give each entry to the one model that is shown for its patient.

    Those of nobody, as ticks, are the champion's.

    Returns:
        shares, those with entries, the champion's last; and (N, 2) of each entry the number of its
        share and its seat there.
    """
    everybody = np.arange(len(run.offsets))
    turns = np.zeros((len(everybody), 2), np.int64)
    if crew.canary is None:
        turns[:, 1] = everybody
        return [Share(crew.champion, columns, everybody, steady=True)], turns
    chosen = np.array([crew.shown_for(name) is crew.canary for name in run.messages.names])
    shares = list[Share]()
    for engine, its in ((crew.canary, chosen), (crew.champion, ~chosen)):
        places = everybody[its]
        if len(places):
            turns[places, 0], turns[places, 1] = len(shares), np.arange(len(places))
            shares.append(Share(engine, columns, places, steady=engine is crew.champion))
    return shares, turns


def unseen(crew: Crew, columns: Columns) -> list[Share]:
    """Give every shadow all entries."""
    everybody = np.arange(len(columns.offsets))
    return [Share(engine, columns, everybody) for engine in crew.shadows]
