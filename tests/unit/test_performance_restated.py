"""Labels through the tasks of monitoring: stated when the day is over, restated as labels come."""

from collections.abc import Iterable, Sequence

import msgspec
from builders import codec
from labelled_hours import BEGIN, chain, hour_label, progress, ward

from services.core.events import DeadLetter, Labelled, Measurement, State, Tally
from services.core.folds.labels import LabelFold
from services.core.judge.labels import LabelJudge, measured
from services.core.windows import DAY, HOUR, Window
from services.monitoring.counting import CountTask
from services.monitoring.judging import JudgeTask
from services.runtime.ports import Output, Record

DAY_ONE = Window(BEGIN, BEGIN + DAY)


class Monitor:
    """Labels of some partitions in, measurements out."""

    def __init__(self, partitions: int) -> None:
        self.codec = codec()
        self.counts = [CountTask(LabelFold(p), Labelled, self.codec) for p in range(partitions)]
        self.judge = JudgeTask([LabelJudge()], partitions, self.codec)
        self.offsets = [0] * (partitions + 1)

    def records(self, topic: str, partition: int, values: Iterable[bytes]) -> list[Record]:
        found = []
        for value in values:
            found.append(Record(topic, partition, self.offsets[partition], 0, None, value))
            self.offsets[partition] += 1
        return found

    def tell(self, partition: int, events: Sequence[Labelled]) -> list[Measurement]:
        """What is stated anew after labels of a partition."""
        values = [self.codec.encode(event) for event in events]
        records = self.records("labelled.v1", partition, values)
        stated = self.judged(self.counts[partition].handle(records))
        return [self.codec.decode(each.value or b"", Measurement) for each in stated]

    def judged(self, tallies: Iterable[Output]) -> list[Output]:
        values = [each.value or b"" for each in tallies]
        return list(self.judge.handle(self.records("tallies.v1", -1, values)))


def final(measurements: Iterable[Measurement]) -> list[Measurement]:
    return [msgspec.structs.replace(each, revision=0) for each in measurements]


def test_a_day_is_stated_once_every_partition_has_passed_it() -> None:
    told = ward(3, 60)
    monitor = Monitor(2)
    parts = [[each for each in told if each.pseudonym[0] % 2 == part] for part in range(2)]
    assert monitor.tell(0, [progress(BEGIN), *parts[0], progress(BEGIN + DAY)]) == []
    stated = monitor.tell(1, [progress(BEGIN), *parts[1], progress(BEGIN + DAY)])
    assert stated == measured(told, DAY_ONE)


def test_a_day_is_restated_when_labels_become_final_and_only_what_differs() -> None:
    revisions = [hour_label(label=0, final=False, above=True), hour_label(label=1, above=True)]
    chains = [chain(revisions, patient=number) for number in range(30)]
    monitor = Monitor(1)
    stated = monitor.tell(
        0, [progress(BEGIN), *(each[0] for each in chains), progress(BEGIN + DAY)]
    )
    assert {each.revision for each in stated} == {0}
    later = [each[1] for each in chains]
    again = monitor.tell(0, [*later, progress(BEGIN + DAY + HOUR)])
    now = {(e.metric, e.unit_of_analysis, e.cohort): e for e in [*stated, *again]}
    assert final(now.values()) == measured(later, DAY_ONE)
    assert {each.revision for each in again} == {1}
    sensitivity = now["sensitivity", "hour", "all"]
    assert (sensitivity.value, sensitivity.state) == (1.0, State.OK)
    assert not [each for each in final(again) if each in stated]
    assert monitor.tell(0, [progress(BEGIN + DAY + 2 * HOUR)]) == []


def test_a_tally_that_is_none_is_a_dead_letter_and_the_next_is_judged() -> None:
    monitor = Monitor(1)
    told = ward(4, 30)
    events = [progress(BEGIN), *told, progress(BEGIN + DAY)]
    values = [monitor.codec.encode(each) for each in events]
    [good] = monitor.counts[0].handle(monitor.records("labelled.v1", 0, values))
    tally = monitor.codec.decode(good.value or b"", Tally)
    broken = [
        msgspec.structs.replace(tally, body=tally.body[:-1]),
        msgspec.structs.replace(tally, layout="labels/2"),
    ]
    bad = [Output(good.topic, good.key, monitor.codec.encode(each)) for each in broken]
    first, second, *stated = monitor.judged([*bad, good])
    reasons = [
        monitor.codec.decode(each.value or b"", DeadLetter).reason for each in (first, second)
    ]
    assert reasons == ["AVRO_SYNTAX", "SCHEMA_UNKNOWN"]
    assert len(stated) == len(measured(told, DAY_ONE))


def test_a_label_that_is_none_is_a_dead_letter_and_the_next_is_counted() -> None:
    monitor = Monitor(1)
    [bad] = chain([hour_label(label=5)])
    told = ward(5, 30)
    values = [monitor.codec.encode(each) for each in [progress(BEGIN), bad, *told]]
    [dead] = monitor.counts[0].handle(monitor.records("labelled.v1", 0, values))
    assert monitor.codec.decode(dead.value or b"", DeadLetter).reason == "RANGE"
    assert monitor.tell(0, [progress(BEGIN + DAY)]) == measured(told, DAY_ONE)
