"""What an undisturbed run over the same log gives, and how what was written differs from it."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from chaos.log import Log

from services.audit.rows import predictions as prediction_rows
from services.core.events import PredictionBatch, prediction_id
from services.runtime.codec import Codec
from services.runtime.ports import Output, Task
from services.runtime.worker import MakeTask
from services.scoring.course import KEY as MODELS
from services.scoring.horizon import KEY as HORIZON
from services.scoring.outputs import ALERTS, CHANGELOG, PREDICTIONS, VITALS
from services.scoring.pipeline import Scoring
from services.scoring.watermark import KEY as TICKS

PER_BATCH = frozenset({"watermark"})
"""Said once per batch, and where batches end is a matter of timing."""
CHUNK = 500
AS_THEY_ARE = frozenset({TICKS, MODELS})
"""Rows of the changelog that do not depend on where transactions ended."""

State = dict[bytes, bytes]
Alerts = list[tuple[bytes | None, bytes | None]]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared, and how much of it differs.

    Attributes:
        events: committed offsets of vitals.v1.
        predictions: entries of predictions.v1.
        missing: offsets without a prediction.
        doubled: predictions of an offset that has one already, or of no offset.
        changed: entries that differ from the undisturbed run's in any column.
        alerts: steps on alerts.v1.
        alerts_changed: steps that the undisturbed run has not, or has and this one not, in order.
        patients: in the state.
        rows_changed: what the changelog, loaded into a task and packed, says otherwise than that
            of the undisturbed run, patients, ticks and models.
        state_changed: patients of whom it says otherwise than the undisturbed task knows.
    """

    events: int
    predictions: int
    missing: int
    doubled: int
    changed: int
    alerts: int
    alerts_changed: int
    patients: int
    rows_changed: int
    state_changed: int

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        found = (self.missing, self.doubled, self.changed, self.alerts_changed)
        return not any((*found, self.rows_changed, self.state_changed))


class Undisturbed:
    """The service's own task, fed by hand, in one process that nobody hurts."""

    def __init__(self, make: MakeTask, codec: Codec, *, topic_id: str, digest: str) -> None:
        self._make, self._codec = make, codec
        self._topic_id, self._digest = topic_id, digest
        self._tasks: dict[int, Task] = {}
        self._done: dict[int, int] = {}
        self._lines: dict[int, list[bytes]] = {}
        self._alerts: dict[int, Alerts] = {}
        self._rows: dict[int, State] = {}

    def compare(self, log: Log) -> Verdict:
        """Go on to the end of the log, and hold what was written against it."""
        found = [self._compare(log, partition) for partition in log.partitions]
        names = Verdict.__struct_fields__
        return Verdict(**{name: sum(getattr(each, name) for each in found) for name in names})

    def _compare(self, log: Log, p: int) -> Verdict:
        events = log.of(VITALS, p)
        self._follow(p, log)
        batches = [r.value or b"" for r in log.of(PREDICTIONS, p)]
        written = self._exploded(batches)
        alerts = [(r.key, r.value) for r in log.of(ALERTS, p)]
        rows = folded((r.key, r.value) for r in log.of(CHANGELOG, p))
        known = {k: v for k, v in self._dump(p, rows).items() if k not in AS_THEY_ARE}
        expected_ids = Counter(self._id(p, record.offset) for record in events)
        ids = Counter(name for name, _ in written)
        return Verdict(
            events=len(events),
            predictions=len(written),
            missing=(expected_ids - ids).total(),
            doubled=(ids - expected_ids).total(),
            changed=differing([line for _, line in written], self._lines[p]),
            alerts=len(alerts),
            alerts_changed=differing(alerts, self._alerts[p]),
            patients=len(known_to(self._tasks[p])),
            rows_changed=unequal(self._dump(p, rows), self._dump(p, self._rows[p])),
            state_changed=unequal(known, known_to(self._tasks[p])),
        )

    def _follow(self, p: int, log: Log) -> None:
        events = log.of(VITALS, p)
        task = self._tasks.setdefault(p, self._make(p))
        # What was held because a life came back late is a matter of when it came.
        task.load(HORIZON, log.last(CHANGELOG, p, HORIZON))
        lines, alerts = self._lines.setdefault(p, []), self._alerts.setdefault(p, [])
        rows = self._rows.setdefault(p, {})
        for start in range(self._done.get(p, 0), len(events), CHUNK):
            outputs: list[Output] = list(task.handle(events[start : start + CHUNK]))
            batches = [o.value or b"" for o in outputs if o.topic == PREDICTIONS]
            lines += [line for _, line in self._exploded(batches)]
            alerts += [(o.key, o.value) for o in outputs if o.topic == ALERTS]
            fold(rows, task.changes())
        self._done[p] = len(events)

    def _dump(self, p: int, rows: State) -> State:
        """Load rows into a fresh task, and take what it knows of the patients, and the rest."""
        task = self._make(p)
        for key, value in rows.items():
            task.load(key, value)
        return known_to(task) | {key: rows[key] for key in AS_THEY_ARE & rows.keys()}

    def _exploded(self, batches: Iterable[bytes]) -> list[tuple[str, bytes]]:
        """Cut batches into entries: the id of each, and a digest of all that it says."""
        found: list[tuple[str, bytes]] = []
        for value in batches:
            batch = self._codec.decode(value, PredictionBatch)
            columns = {n: c for n, c in prediction_rows(batch).items() if n not in PER_BATCH}
            ids = columns["prediction_id"]
            lines = zip(*columns.values(), strict=True)
            found += [(str(i), digest(line)) for i, line in zip(ids, lines, strict=True)]
        return found

    def _id(self, p: int, offset: int) -> str:
        return prediction_id(self._topic_id, p, offset, digest=self._digest)


def known_to(task: Task) -> State:
    """Give all that a task of scoring knows of its patients."""
    if not isinstance(task, Scoring):
        raise TypeError(type(task))
    return dict(task.dump())


def digest(line: object) -> bytes:
    return hashlib.blake2b(repr(line).encode(), digest_size=16).digest()


def fold(rows: State, changes: Iterable[tuple[bytes | None, bytes | None]]) -> None:
    """Apply rows of a changelog to a table."""
    for key, value in changes:
        if value is None:
            rows.pop(key or b"", None)
        else:
            rows[key or b""] = value


def folded(changes: Iterable[tuple[bytes | None, bytes | None]]) -> State:
    rows: State = {}
    fold(rows, changes)
    return rows


def differing(one: Sequence[object], other: Sequence[object]) -> int:
    """Count the places at which two sequences differ; a surplus counts too."""
    apart = sum(a != b for a, b in zip(one, other, strict=False))
    return apart + abs(len(one) - len(other))


def unequal(one: State, other: State) -> int:
    return sum(one.get(key) != other.get(key) for key in one.keys() | other.keys())
