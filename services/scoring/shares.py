"""What each model makes of a batch: whom it scores, whether it abstains, what it says."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.core.errors import Stop
from services.core.events import Alert, Cause, Disposition, Role
from services.core.features import FEATURES, standing_of
from services.scoring.abstention import causes
from services.scoring.crew import Crew, Engine, Floats
from services.scoring.entries import Entry
from services.scoring.history import History

NOBODY: Floats = np.empty((0, len(FEATURES)), np.float32)


@dataclass(slots=True, kw_only=True, eq=False)
class Share:
    """The entries of a batch that are one model's, and the rows that it scored.

    Attributes:
        engine: the model.
        steady: whether scoring ends when the model gives no probabilities; of any but the
            champion, those entries go without a score.
        entries: in order of offset.
        inputs: (S, F) a row per scored entry.
        alerts: that followed and are shown, in order.
    """

    engine: Engine
    steady: bool = False
    entries: list[Entry] = field(default_factory=list)
    inputs: Floats = field(default_factory=lambda: NOBODY)
    alerts: list[Alert] = field(default_factory=list)
    _thresholds: dict[str, float] = field(default_factory=dict)

    def threshold_in(self, unit: str) -> float:
        """Give what the policy says, asked once per unit."""
        if unit not in self._thresholds:
            self._thresholds[unit] = self.engine.policy.threshold_in(unit)
        return self._thresholds[unit]


class Snapshots:
    """Patients of a batch as they stood after each event that asked for a score."""

    def __init__(self, size: int) -> None:
        """Make room.

        Args:
            size: the most rows that the batch can have.
        """
        self._rows, self._size = np.empty((size, len(FEATURES)), np.float32), 0

    def take(self, history: History) -> int:
        """Keep what the model may see of a patient, and give the row."""
        row, self._size = self._size, self._size + 1
        history.write_features(self._rows[row])
        return row

    def features(self, rows: list[int]) -> Floats:
        """Give the features of some of the rows, (N, len(FEATURES))."""
        return self._rows[: self._size] if len(rows) == self._size else self._rows[rows]


def shown(crew: Crew, entries: Sequence[Entry]) -> list[Share]:
    """Give each entry to the one model that is shown for its patient: an owner per entry.

    Those of nobody, as ticks, are the champion's.
    """
    champion = Share(engine=crew.champion, steady=True)
    owners = [champion] * len(entries)
    if crew.canary is not None:
        canary = Share(engine=crew.canary)
        chosen = [crew.shown_for(_pseudonym(entry)) is crew.canary for entry in entries]
        owners = [canary if each else champion for each in chosen]
    for owner, entry in zip(owners, entries, strict=True):
        owner.entries.append(entry)
    return owners


def unseen(crew: Crew, entries: Sequence[Entry]) -> list[Share]:
    """Give every shadow a copy of all entries, before anybody has scored them.

    Of a record that nobody can read the one dead letter is that of whoever is shown.
    """
    return [
        Share(engine=engine, entries=[replace(entry, dead=None) for entry in entries])
        for engine in crew.shadows
    ]


def score(share: Share, snapshots: Snapshots) -> None:
    """Score the entries of a share that are due, or say why not.

    Raises:
        Stop: the champion gave what is no probability.
    """
    engine = share.engine
    due = [entry for entry in share.entries if entry.snapshot >= 0]
    if due:
        standing = standing_of(snapshots.features([entry.snapshot for entry in due]))
        found = causes(engine.policy.abstain, standing, engine.support)
        for entry, cause in zip(due, found, strict=True):
            if cause != Cause.NONE:
                _abstain(entry, Cause(cause))
    scored = [entry for entry in due if entry.disposition is Disposition.SCORED]
    share.inputs = engine.select(snapshots.features([entry.snapshot for entry in scored]))
    if scored:
        _score(share, scored)
    if engine.model.role is Role.SHADOW:
        for entry in scored:
            entry.threshold = engine.policy.threshold_in(entry.unit)


def _score(share: Share, scored: list[Entry]) -> None:
    try:
        found = share.engine.onnx.score(share.inputs).tolist()
    except Stop:
        if share.steady:
            raise
        for entry in scored:
            _abstain(entry, Cause.MODEL_OUTPUT)
        scored.clear()
        share.inputs = share.inputs[:0]
        return
    for place, (entry, probability) in enumerate(zip(scored, found, strict=True)):
        entry.score, entry.snapshot = probability, place


def _pseudonym(entry: Entry) -> bytes:
    return entry.event.pseudonym if entry.event else b""


def _abstain(entry: Entry, cause: Cause) -> None:
    entry.disposition, entry.cause = Disposition.ABSTAINED, cause
