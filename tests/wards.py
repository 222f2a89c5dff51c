"""A small ward for the tests of scoring: events as ingest makes them, and a model of one line."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.core.events import (
    MICROSECONDS_PER_HOUR,
    Alert,
    Change,
    Decision,
    Demographics,
    Disposition,
    Kind,
    PredictionBatch,
    Role,
    Stay,
    Vitals,
    packed,
)
from services.core.features import FEATURES
from services.core.lineup import Proposal, encode
from services.core.policy import Abstain, Policy
from services.core.support import Limits
from services.core.vitals import VARIABLE_INDEX, VARIABLES
from services.local.home import REPO
from services.runtime.codec import Codec
from services.runtime.model import Contribution
from services.runtime.ports import Output, Record, Row
from services.scoring.crew import Alone, Engine, Scores, Select
from services.scoring.entries import Model
from services.scoring.outputs import ALERTS, PREDICTIONS, VITALS
from services.scoring.pipeline import Scorer, Scoring
from services.scoring.shares import Share

HOUR: Final = MICROSECONDS_PER_HOUR
MINUTE: Final = HOUR // 60
START: Final = 1_767_254_400_000_000
"""2026-01-01 08:00 UTC."""
CODEC: Final = Codec(REPO / "schemas")
MODEL: Final = Model(
    name="test",
    version="0.0.1",
    digest="ab" * 32,
    policy_version="1",
    role=Role.SHOWN,
    vitals_topic_id="00c7a1f4-0000-4000-8000-000000000000",
)
POLICY: Final = Policy(
    version="1",
    threshold=0.6,
    clear_below=0.5,
    refractory_h=6,
    valid_for_h=6,
    abstain=Abstain(min_vitals=1),
)
HR_LAST: Final = [feature.name for feature in FEATURES].index("HR_last")


class HeartRate:
    """Scores a heart rate as its two hundredth, and tells every score what it was made of."""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = np.nan_to_num(features[:, HR_LAST]) / np.float32(200)
        return np.clip(scores, 0, 1)

    def contributions(
        self, features: NDArray[np.float32], most: int | None = None
    ) -> list[Contribution]:
        return self._shares(features)[:most]

    def _shares(self, features: NDArray[np.float32]) -> list[Contribution]:
        return [Contribution("HR_last", float(features[HR_LAST]), 0.5)] + [
            Contribution(feature.name, float(value), -0.1 / (1 + place))
            for place, (feature, value) in enumerate(zip(FEATURES, features, strict=True))
            if feature.name != "HR_last"
        ]


class Kept:
    """Keeps every entry and every alert that was told."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.alerts: list[Alert] = []

    def __call__(self, share: Share, batch: PredictionBatch) -> None:
        assert batch.entries == len(share.places)
        self.entries += entries_of(batch)
        self.alerts += share.alerts


def person(name: str | int) -> bytes:
    """Make 16 bytes that stand for somebody, or for an encounter."""
    return hashlib.sha256(str(name).encode()).digest()[:16]


def identity(name: str | int) -> int:
    """Make the number that stands for a resource."""
    return int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:8], "little")


def event(kind: Kind, who: str, at: int, **more: Any) -> Vitals:
    fields: dict[str, Any] = {
        "source": "west",
        "pseudonym": person(who),
        "measured_at": at,
        "received_at": at,
        "accepted_at": at,
        "ingest_id": "0" * 32,
        "raw_partition": 0,
        "raw_offset": 0,
        "entries": b"\0\0",
    }
    return Vitals(kind=kind, **(fields | more))


def measured(  # noqa: PLR0913 - an event has as many sides
    who: str,
    at: int,
    values: Mapping[str, float],
    *,
    ids: Mapping[str, str | int] | None = None,
    version: int = 1,
    flags: int = 0,
    kind: Kind = Kind.OBSERVATION,
    **more: Any,
) -> Vitals:
    """Make an observation; without ids a resource is named by patient, time and variable."""
    names = [(ids or {}).get(name, f"{who}/{at}/{name}") for name in values]
    many = len(values)
    return event(
        kind,
        who,
        at,
        **{
            "entries": packed(range(many), "<u2"),
            "variables": bytes(VARIABLE_INDEX.get(name, 255) for name in values),
            "values": packed(list(values.values()), "<f8"),
            "flags": packed([flags] * many, "<u2"),
            "ids": packed([identity(name) for name in names], "<u8"),
            "versions": packed([version] * many, "<i8"),
            "codes": [""] * many,
            "units": [""] * many,
            "devices": [""] * many,
        }
        | more,
    )


def doubled(once: Vitals) -> Vitals:
    """Repeat the readings of an event in the same event."""
    columns = ("entries", "variables", "values", "flags", "ids", "versions")
    lists = ("codes", "units", "devices")
    twice = {name: 2 * getattr(once, name) for name in (*columns, *lists)}
    return msgspec.structs.replace(once, **twice)


def retracted(who: str, at: int, names: Iterable[str], *, version: int = 1, **more: Any) -> Vitals:
    """Take back readings that `measured` made at that time."""
    values = dict.fromkeys(names, float("nan"))
    return measured(who, at, values, version=version, flags=1, kind=Kind.RETRACTION, **more)


def tick(at: int, source: str = "west") -> Vitals:
    return event(Kind.TICK, "", at, pseudonym=b"", source=source)


def identified(who: str, at: int, **known: Any) -> Vitals:
    return event(Kind.PATIENT, who, at, demographics=Demographics(**known))


def admitted(
    who: str, at: int, encounter: str, status: str = "in-progress", **stay: Any
) -> Vitals:
    return event(
        Kind.ENCOUNTER, who, at, encounter=person(encounter), stay=Stay(status=status, **stay)
    )


def log(events: Iterable[Vitals | bytes | None], first: int = 0) -> list[Record]:
    """Write events to a log; every seventh offset is a transaction marker's."""
    records, offset = [], first
    for each in events:
        offset += 1 + (offset % 7 == 6)
        value = CODEC.encode(each) if isinstance(each, Vitals) else each
        key = each.pseudonym if isinstance(each, Vitals) else None
        records.append(Record(VITALS, 3, offset, 0, key, value))
    return records


def engine(
    policy: Policy = POLICY,
    *,
    model: Model = MODEL,
    onnx: Scores | None = None,
    select: Select = lambda rows: rows,
    support: Limits | None = None,
) -> Engine:
    return Engine(model, onnx or HeartRate(), select, policy, support)


def scorer(
    policy: Policy = POLICY,
    *,
    told: Kept | None = None,
    **of: Any,
) -> Scorer:
    return Scorer(CODEC, Alone(engine(policy, **of)), told or Kept())


def deployment(proposal: Proposal | bytes, number: int = 0, *, kind: str = "deployment") -> Change:
    """Ask for a line-up of models, as `vigil models` does."""
    return Change(
        change_id=f"c{number}",
        kind=kind,
        subject="model",
        made_at=0,
        effective_from=0,
        requested_by="a",
        approved_by="b",
        reason="c",
        before="",
        after="",
        content=proposal if isinstance(proposal, bytes) else encode(proposal),
    )


class Run:
    """A task that was handed records, and everything that it gave."""

    def __init__(
        self, shared: Scorer | None = None, rows: Mapping[bytes, bytes] | None = None
    ) -> None:
        self.task = Scoring(3, shared or scorer())
        self.rows: dict[bytes, bytes] = dict(rows or {})
        for key, row in self.rows.items():
            self.task.load(key, row)
        self.outputs: list[Output] = []

    def hand(self, records: Sequence[Record]) -> "Run":
        """Hand over one batch and commit."""
        self.outputs += self.task.handle(records)
        for row in self.task.changes():
            self.keep(row)
        return self

    def keep(self, row: Row) -> None:
        """Do with a row of the changelog what compaction does."""
        key, value = row
        if value is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = value

    @property
    def patients(self) -> dict[bytes, bytes]:
        """All that is known of every patient."""
        return dict(self.task.dump())

    @property
    def batches(self) -> list[PredictionBatch]:
        return [
            CODEC.decode(each.value or b"", PredictionBatch)
            for each in self.outputs
            if each.topic == PREDICTIONS
        ]

    @property
    def alerts(self) -> list[Alert]:
        return [
            CODEC.decode(each.value or b"", Alert) for each in self.outputs if each.topic == ALERTS
        ]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Every entry of every batch, each as the values of its columns."""
        return [entry for batch in self.batches for entry in entries_of(batch)]

    @property
    def features(self) -> NDArray[np.float32]:
        """The features of everything that was scored, a row each."""
        return np.concatenate(
            [np.frombuffer(b.features, "<f4").reshape(-1, b.feature_count) for b in self.batches]
        )


def replay(events: Iterable[Vitals | bytes | None], policy: Policy = POLICY) -> Run:
    """Hand a log to a new task in one batch."""
    return Run(scorer(policy)).hand(log(events))


def entries_of(batch: PredictionBatch) -> Iterator[dict[str, Any]]:
    """Read the columns of a batch as its schema describes them."""
    bitmaps = np.frombuffer(batch.bitmaps, "<u8").tolist()
    values = iter(np.frombuffer(batch.values, "<f8").tolist())
    features = iter(np.frombuffer(batch.features, "<f4").reshape(-1, batch.feature_count))
    cohorts = np.frombuffer(batch.cohorts, "<u2").reshape(batch.entries, -1)
    for i in range(batch.entries):
        disposition = Disposition(batch.dispositions[i])
        yield {
            "offset": _number(batch.offsets, "<i8", i),
            "kind": tuple(Kind)[batch.kinds[i]] if batch.kinds[i] < len(Kind) else None,
            "disposition": disposition.name,
            "cause": batch.causes[i],
            "pseudonym": batch.pseudonyms[16 * i : 16 * i + 16],
            "encounter": batch.encounters[16 * i : 16 * i + 16],
            "measured_at": _number(batch.measured_at, "<i8", i),
            "as_of": _number(batch.as_of, "<i8", i),
            "measured": {
                VARIABLES[v]: next(values) for v in range(len(VARIABLES)) if bitmaps[i] >> v & 1
            },
            "score": _number(batch.scores, "<f4", i),
            "threshold": _number(batch.thresholds, "<f4", i),
            "decision": Decision(batch.decisions[i]).name,
            "cohorts": [batch.cohort_labels[code] for code in cohorts[i].tolist()],
            "features": next(features).tobytes() if disposition is Disposition.SCORED else b"",
        }


def _number(column: bytes, layout: str, place: int) -> Any:
    """Give one number of a column; NaN is None, which equals itself."""
    number = np.frombuffer(column, layout)[place].item()
    return None if number != number else number  # noqa: PLR0124 - NaN alone is not itself


def first_difference(ours: Sequence[Any], theirs: Sequence[Any]) -> Any:
    """Give the first pair that differs, or None: a whole log would make a long message."""
    pairs = zip_longest(ours, theirs)
    return next((pair for pair in pairs if pair[0] != pair[1]), None)


def ward_log(seed: int, hours: int = 30, patients: int = 5) -> list[Vitals]:
    """A ward: monitors and labs, late, doubled and corrected, moves between units, ticks."""
    random = np.random.default_rng(seed)
    events: list[tuple[int, Vitals]] = []
    for number in range(patients):
        who = f"p{number}"
        events.append((START, identified(who, START, age=50.0 + number, sex="female")))
        for hour in range(hours):
            at = START + hour * HOUR + int(random.integers(0, 60)) * MINUTE
            values = {name: float(random.integers(70, 150)) for name in ("HR", "SBP", "Resp")}
            values = {n: v for n, v in values.items() if random.random() < 0.8} or {"HR": 75.0}
            encounter = person(f"{who}-{hour // 14}")
            event = measured(who, at, values, encounter=encounter)
            late = int(random.choice([0, 0, 0, 2, 7])) * HOUR
            events.append((at + late, event))
            if random.random() < 0.15:
                events.append((at + late + MINUTE, event))
            if random.random() < 0.2:
                name = next(iter(values))
                changed = measured(who, at, {name: 66.0}, version=2, encounter=encounter)
                gone = retracted(who, at, [name], version=3, encounter=encounter)
                events.append((at + HOUR, changed if random.random() < 0.5 else gone))
            if random.random() < 0.1:
                moved = admitted(who, at, f"{who}-{hour // 14}", unit=f"unit {hour % 3}")
                events.append((at + 1, moved))
    events += [(START + h * HOUR // 2, tick(START + h * HOUR // 2)) for h in range(2 * hours)]
    end = START + hours * HOUR
    events += [(end + h * HOUR, tick(end + h * HOUR)) for h in range(60)]
    return [event for _, event in sorted(events, key=lambda pair: pair[0])]


def cut(records: Sequence[Record], places: Sequence[int]) -> list[Sequence[Record]]:
    edges = [0, *sorted(places), len(records)]
    return [records[a:b] for a, b in pairwise(edges)]
