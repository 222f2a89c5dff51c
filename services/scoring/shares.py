"""What each model makes of a batch: whom it scores, whether it abstains, what it says."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.core.errors import Stop
from services.core.events import Alert, Cause, Disposition, Role
from services.core.features import FEATURES, Standing, compute
from services.scoring.abstention import causes
from services.scoring.crew import Crew, Engine, Floats
from services.scoring.entries import Entry
from services.scoring.slots import Snapshots

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


class Rows:
    """Patients of a batch as they stood: features and what reaches further back, by snapshot."""

    def __init__(self, snapshots: Snapshots) -> None:
        grid, self.standing = snapshots.inputs()
        self.features = compute(grid, self.standing) if snapshots.rows else NOBODY

    def standing_of(self, rows: list[int]) -> Standing:
        """Give what reaches further back of some of the rows."""
        return Standing(*(column[rows] for column in self.standing))


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


def score(share: Share, rows: Rows) -> None:
    """Score the entries of a share that are due, or say why not.

    Raises:
        Stop: the champion gave what is no probability.
    """
    engine = share.engine
    due = [entry for entry in share.entries if entry.snapshot >= 0]
    if due:
        standing = rows.standing_of([entry.snapshot for entry in due])
        found = causes(engine.policy.abstain, standing, engine.support)
        for entry, cause in zip(due, found, strict=True):
            if cause != Cause.NONE:
                _abstain(entry, Cause(cause))
    scored = [entry for entry in due if entry.disposition is Disposition.SCORED]
    share.inputs = engine.select(rows.features[[entry.snapshot for entry in scored]])
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
