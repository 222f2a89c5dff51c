"""What labelling reads, made by hand, and what it says of it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from batches import HOUR, person
from builders import SCHEMAS

from services.core.events import (
    Action,
    Alert,
    Authority,
    DeadLetter,
    Feedback,
    HourLabel,
    Labelled,
    Outcome,
    Step,
    Verdict,
)
from services.core.labels import Rule
from services.labelling.outputs import ALERTS, FEEDBACK, LABELLED, OUTCOMES, PREDICTIONS
from services.labelling.pipeline import Labeller, Labelling
from services.runtime.codec import Codec
from services.runtime.ports import Output, Record

CODEC = Codec(SCHEMAS)
T0 = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC
TOPICS = {
    "PredictionBatch": PREDICTIONS,
    "Alert": ALERTS,
    "Feedback": FEEDBACK,
    "Outcome": OUTCOMES,
}


def at(hours: float) -> int:
    """A time, in hours since the tests' first day began."""
    return T0 + round(hours * HOUR)


def alert_id(number: int, partition: int = 0) -> str:
    return f"00c7-{partition}-{number}@ababababab12"


def alert(who: int, hours: float, *, number: int, late_h: float = 0, **more: Any) -> Alert:
    fields: dict[str, Any] = {
        "alert_id": alert_id(number),
        "step": Step.RAISED,
        "prediction_id": alert_id(number),
        "pseudonym": person(who),
        "encounter": person(who),
        "unit": "micu",
        "measured_at": at(hours),
        "received_at": at(hours + late_h),
        "accepted_at": 0,
        "valid_until": at(hours + 6),
        "score": 0.9,
        "threshold": 0.5,
        "cause": "threshold",
        "policy_version": "1",
        "model_digest": "ab" * 32,
    }
    return Alert(**(fields | more))


def feedback(name: str, number: int, hours: float, **more: Any) -> Feedback:
    fields: dict[str, Any] = {
        "feedback_id": name,
        "source": "west",
        "alert_id": alert_id(number),
        "verdict": Verdict.DISMISSED,
        "answered_at": at(hours),
        "received_at": at(hours),
        "accepted_at": 0,
    }
    return Feedback(**(fields | more))


def outcome(name: str, who: int, hours: float, **more: Any) -> Outcome:
    """An outcome told at a time; final and without an onset unless told otherwise."""
    fields: dict[str, Any] = {
        "outcome_id": name,
        "source": "registry",
        "pseudonym": person(who),
        "encounter": person(who),
        "authority": Authority.FINAL,
        "revision": 0,
        "definition": "physionet-2019",
        "definition_version": "1",
        "received_at": at(hours),
        "accepted_at": 0,
    }
    return Outcome(**(fields | more))


def progress(name: str, through_h: float, *, source: str = "registry") -> Outcome:
    told = outcome(name, 0, through_h, source=source, complete_through=at(through_h))
    return msgspec.structs.replace(told, pseudonym=b"", encounter=b"")


def done(kind: str, hours: float) -> Action:
    return Action(kind=kind, at=at(hours))


def records(events: Iterable[msgspec.Struct], first: int = 0) -> list[Record]:
    """Records of one partition, numbered by topic."""
    next_offset: Counter[str] = Counter()
    made = []
    for event in events:
        topic = TOPICS[type(event).__name__]
        offset = first + next_offset[topic]
        made.append(Record(topic, 0, offset, T0 // 1000, None, CODEC.encode(event)))
        next_offset[topic] += 1
    return made


class Run:
    """A task and everything it said."""

    def __init__(self, *, rule: Rule | None = None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.rule = rule or Rule()
        self.outputs: list[Output] = []
        self.rows: dict[bytes, bytes] = {}
        self.task = self._fresh()

    def _fresh(self) -> Labelling:
        return Labelling(0, Labeller(CODEC, self.rule, self._count))

    def _count(self, topic: str, outcome: str) -> None:
        self.counts[topic, outcome] += 1

    def take(self, log: Sequence[Record]) -> "Run":
        self.outputs += self.task.handle(log)
        for key, row in self.task.changes():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        return self

    def tell(self, *events: msgspec.Struct) -> "Run":
        return self.take(records(events, first=len(self.outputs) * 1000))

    def restart(self, *, rule: Rule | None = None) -> "Run":
        self.rule = rule or self.rule
        self.task = self._fresh()
        for key, row in self.rows.items():
            self.task.load(key, row)
        return self

    def labelled(self) -> list[Labelled]:
        found = [o for o in self.outputs if o.topic == LABELLED]
        return [CODEC.decode(o.value or b"", Labelled) for o in found]

    def dead(self) -> list[DeadLetter]:
        found = [o for o in self.outputs if o.topic == "dlq.v1"]
        return [CODEC.decode(o.value or b"", DeadLetter) for o in found]

    def label(self, who: int, hour: int) -> HourLabel:
        """What was said last of an hour."""
        now = final(self.labelled())[person(who), at(hour)].now
        assert now is not None
        return now

    def hours(self, who: int) -> dict[int, int]:
        """Label by hour, as it was said last."""
        last = final(self.labelled())
        found = {k[1]: v.now.label for k, v in last.items() if k[0] == person(who) and v.now}
        return {(hour - T0) // HOUR: label for hour, label in sorted(found.items())}


def final(said: Iterable[Labelled]) -> dict[tuple[bytes, int], Labelled]:
    """The last revision of each hour of each encounter, checking that each follows the last."""
    last: dict[tuple[bytes, int], Labelled] = {}
    for each in said:
        if not each.encounter:
            continue
        earlier = last.get((each.encounter, each.hour))
        assert each.revision == (earlier.revision + 1 if earlier else 0)
        assert fields(each.before) == fields(earlier.now if earlier else None)
        last[each.encounter, each.hour] = each
    return last


def fields(label: HourLabel | None) -> dict[str, Any] | None:
    return None if label is None else msgspec.structs.asdict(label)
