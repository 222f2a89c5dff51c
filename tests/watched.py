"""Logs of predictions and labels as a watched ward leaves them, and what was said of them live."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np
from batches import DAY, HOUR, MINUTE, Scored, batch, person
from builders import codec

from services.core.baseline import Baseline, encode
from services.core.events import (
    Change,
    Decision,
    Disposition,
    HourLabel,
    Kind,
    Labelled,
    Measurement,
    PredictionBatch,
)
from services.core.freeze import PatientHours, Period, freeze
from services.core.vitals import VITALS
from services.core.windows import Window
from services.monitoring.counting import CountTask
from services.monitoring.families import Family
from services.monitoring.judging import JudgeTask
from services.monitoring.outputs import METRICS, PREDICTIONS, TALLIES
from services.monitoring.past import Span
from services.runtime.ports import Output, Record

START = 1_767_225_600_000_000
PATIENTS = 10  # of each partition


@cache
def baseline() -> Baseline:
    """Of 200 patients, with few draws."""
    rng = np.random.default_rng(1)
    values = np.full((2400, len(VITALS)), np.nan)
    values[:, VITALS.index("HR")] = rng.normal(85, 12, 2400)
    values[::2, VITALS.index("Temp")] = rng.normal(37, 0.5, 1200)
    rows = np.arange(2400)
    given = PatientHours(rows // 12, rows % 12, values, ["ICU", "ward"] * 100)
    return freeze(rng, given, Period("simple"), sizes=(20, 40), draws=400)


def put_into_use(found: Baseline, since: int = START) -> Change:
    return Change(
        change_id=found.name,
        kind="baseline",
        subject="baseline/site",
        made_at=since,
        effective_from=since,
        requested_by="informaticist",
        approved_by="clinical lead",
        reason="first baseline",
        before="",
        after=found.digest,
        content=encode(found),
    )


class Ward:
    """What happens in one partition, hour after hour; a function of the seed."""

    def __init__(self, partition: int, seed: int, days: float) -> None:
        self._partition, self._days = partition, days
        self._rng = np.random.default_rng([seed, partition])

    def predictions(self) -> Iterator[PredictionBatch]:
        """A batch every 40 minutes or so; some entries come late, and some much too late."""
        rng, now, watermark = self._rng, START + int(self._rng.integers(30)) * MINUTE, 0
        while now < START + self._days * DAY:
            watermark = max(watermark, now - int(rng.integers(20)) * MINUTE)
            many = int(rng.integers(4))
            yield batch(
                [self._entry(now) for _ in range(many)] or [_tick(now)],
                watermark=watermark,
                partition=self._partition,
            )
            now += int(rng.integers(20, 60)) * MINUTE

    def _entry(self, now: int) -> Scored:
        rng = self._rng
        who = int(rng.integers(PATIENTS))
        late_h = rng.choice([0, 0.5, 9, 30, 60], p=[0.7, 0.15, 0.09, 0.04, 0.02])
        scored = rng.random() < 0.9
        score = float(rng.random())
        return Scored(
            who=100 * self._partition + who,
            at=now - int(late_h * HOUR),
            values={"HR": float(rng.normal(85, 12)), "Temp": float(rng.normal(37, 0.5))},
            score=score,
            disposition=Disposition.SCORED if scored else Disposition.ABSTAINED,
            decision=Decision.RAISED if scored and score > 0.85 else Decision.NONE,
            cohorts={"sex": ("female", "male")[who % 2], "unit": ("ICU", "ward")[who % 3 == 0]},
        )

    def labels(self) -> Iterator[Labelled]:
        """Hours as they are scored, some restated days later."""
        rng, pending = self._rng, list[tuple[int, Labelled]]()
        yield Labelled(hour=START, revision=0, watermark=START)
        for number in range(int(self._days * 24)):
            hour = START + number * HOUR
            for who in range(PATIENTS):
                if rng.random() < 0.5:
                    first = _labelled(100 * self._partition + who, hour, 0, rng)
                    yield msgspec.structs.replace(first, watermark=hour)
                    if rng.random() < 0.4:
                        pending.append((number + int(rng.integers(90)), first))
            for _, old in [each for each in pending if each[0] == number]:
                yield msgspec.structs.replace(_again(old, rng), watermark=hour)
            yield Labelled(hour=hour + HOUR, revision=0, watermark=hour + HOUR)


def _tick(now: int) -> Scored:
    return Scored(who=0, at=now, kind=Kind.TICK, disposition=Disposition.STATE_ONLY)


def _labelled(who: int, hour: int, revision: int, rng: np.random.Generator) -> Labelled:
    score = float(rng.random())
    now = HourLabel(
        score=score,
        threshold=0.7,
        above=score >= 0.7,
        raised=score >= 0.8,
        first_alert=score >= 0.9,
        label=0,
        final=False,
        onset=False,
        lead_s=None,
        recognition_lead_s=None,
        treatment_lead_s=None,
        shown=score >= 0.8,
        answered_at=None,
        verdict="",
        reason="",
        acted_at=None,
        authority="",
    )
    return Labelled(
        pseudonym=person(who),
        encounter=person(who),
        hour=hour,
        revision=revision,
        now=now,
        cohort_dimensions=["sex", "unit"],
        cohorts=[("female", "male")[who % 2], "ICU"],
        definition="physionet-2019 1",
    )


def _again(old: Labelled, rng: np.random.Generator) -> Labelled:
    """The hour's label became known: final, and one in four of them positive."""
    if old.now is None:
        raise ValueError("an hour that is gone is not restated")
    onset = bool(rng.random() < 0.05)
    label = int(rng.random() < 0.25)
    known: dict[str, Any] = {"label": label, "final": True, "onset": onset, "authority": "final"}
    known["lead_s"] = int(rng.integers(-3600, 20000)) if onset or old.now.first_alert else None
    return msgspec.structs.replace(
        old, revision=old.revision + 1, now=msgspec.structs.replace(old.now, **known)
    )


def log_of(topic: str, partition: int, events: Iterator[msgspec.Struct]) -> list[Record]:
    """Records with gaps in their offsets; each twenty-fifth is no event."""
    records = []
    for number, event in enumerate(events):
        value = b"no event" if number % 25 == 24 else codec().encode(event)
        at = START // 1000 + number
        records.append(Record(topic, partition, 2 * number, at, b"key", value))
    return records


def logs(families: Sequence[Family], partitions: int, seed: int, days: float) -> list[Record]:
    """What the partitions of every family's topic hold, one partition after the other."""
    found = []
    for partition in range(partitions):
        ward = Ward(partition, seed, days)
        for family in families:
            events = ward.predictions() if family.event is PredictionBatch else ward.labels()
            found += log_of(family.topic, partition, events)
    return found


def live(
    families: Sequence[Family], partitions: int, records: Sequence[Record], seed: int
) -> list[Output]:
    """What the service says of the records, whatever the order in which partitions come on."""
    judge = JudgeTask([family.judge for family in families], partitions, codec())
    lanes = {
        (family.topic, partition): (
            CountTask(family.fold(partition), family.event, codec()),
            [r for r in records if (r.topic, r.partition) == (family.topic, partition)],
        )
        for family in families
        for partition in range(partitions)
    }
    rng, said, offset = np.random.default_rng(seed), list[Output](), 0
    while any(rest for _, rest in lanes.values()):
        task, rest = lanes[list(lanes)[int(rng.integers(len(lanes)))]]
        size = int(rng.integers(1, 40))
        for output in task.handle(rest[:size]):
            if output.topic == TALLIES:
                offset += 1
                tally = Record(output.topic, 0, offset, 0, output.key, output.value)
                said += judge.handle([tally])
        del rest[:size]
    return said


def statements_in(outputs: Sequence[Output]) -> list[Measurement]:
    """What the service said, every revision of it."""
    said = [o for o in outputs if o.topic == METRICS]
    return [codec().decode(o.value or b"", Measurement) for o in said]


class Memory:
    """The ledger's past, from a list."""

    def __init__(self, records: Sequence[Record], statements: Sequence[Measurement]) -> None:
        self.everything, self.statements = records, list(statements)
        self._known = [(r, _told(r)) for r in records]

    def partitions(self, topic: str) -> int:
        return len({r.partition for r in self.everything if r.topic == topic})

    def spans(self, topic: str, period: Window, *, reach: int) -> list[Span]:
        found = []
        for partition in range(self.partitions(topic)):
            known = [
                (r.offset, *told)
                for r, told in self._known
                if (r.topic, r.partition) == (topic, partition) and told
            ]
            inside = [
                o for o, times, _ in known if any(period.start <= t < period.end for t in times)
            ]
            before = [o for o, _, clock in known if clock < period.start]
            after = [o for o, _, clock in known if clock >= period.end + reach]
            first = min([before[-1], *inside]) - 1 if before else -1
            last = after[0] if after else known[-1][0]
            found.append(
                Span(
                    topic=topic,
                    topic_id="",
                    partition=partition,
                    after=first,
                    last=last,
                    records=1,
                    bytes=1,
                )
            )
        return found

    def records(self, span: Span) -> Iterator[list[Record]]:
        place = (span.topic, span.partition)
        page = [
            r
            for r in self.everything
            if (r.topic, r.partition) == place and span.after < r.offset <= span.last
        ]
        for at in range(0, len(page), 7):
            yield page[at : at + 7]

    def stated(self, period: Window) -> list[Measurement]:
        return [s for s in self.statements if period.start <= s.start and s.end <= period.end]

    def entries(self) -> Iterator[tuple[bytes, int, bool]]:
        """Who was measured when, and whether that raised an alert; ticks are left out."""
        for record in self.everything:
            if record.topic != PREDICTIONS or not (record.value or b"").startswith(b"\xc3\x01"):
                continue
            event = codec().decode(record.value or b"", PredictionBatch)
            at = memoryview(event.measured_at).cast("q").tolist()
            for place, kind in enumerate(event.kinds):
                who = event.pseudonyms[16 * place : 16 * place + 16]
                if tuple(Kind)[kind] is not Kind.TICK:
                    yield who, at[place], event.decisions[place] == Decision.RAISED


def _told(record: Record) -> tuple[list[int], int] | None:
    """When the entries of a record were measured, and its watermark."""
    if not (record.value or b"").startswith(b"\xc3\x01"):
        return None
    if record.topic == "labelled.v1":
        label = codec().decode(record.value or b"", Labelled)
        return [label.hour], label.watermark or 0
    event = codec().decode(record.value or b"", PredictionBatch)
    return memoryview(event.measured_at).cast("q").tolist(), event.watermark or 0
