"""Tasks that begin anew from their rows, again and again, state what undisturbed ones state."""

from collections.abc import Callable, Sequence
from random import Random

import pytest
from builders import codec
from watched import baseline, live, logs, put_into_use

from services.core.events import Measurement
from services.monitoring.baselines import baselines_of
from services.monitoring.counting import CountTask
from services.monitoring.differences import differences, latest
from services.monitoring.families import Family, families
from services.monitoring.judging import JudgeTask
from services.runtime.ports import Output, Record, Task

PARTITIONS = 2
DAYS = 4.0


@pytest.fixture(scope="module")
def watched() -> list[Family]:
    changes = [codec().encode(put_into_use(baseline()))]
    return families(baselines_of(changes, codec()).at)


@pytest.fixture(scope="module")
def records(watched: list[Family]) -> list[Record]:
    found = logs(watched, PARTITIONS, seed=11, days=DAYS)
    return sorted(found, key=lambda record: record.timestamp_ms)


@pytest.fixture(scope="module")
def undisturbed(watched: list[Family], records: list[Record]) -> list[Measurement]:
    return stated(live(watched, PARTITIONS, records, seed=1))


def stated(outputs: Sequence[Output]) -> list[Measurement]:
    return [
        codec().decode(o.value or b"", Measurement) for o in outputs if o.topic == "metrics.v1"
    ]


class Seat:
    """A task that is given up now and then, and made again from the rows it kept."""

    def __init__(self, make: Callable[[], Task]) -> None:
        self._make, self._rows = make, dict[bytes, bytes]()
        self.task = make()

    def renew(self) -> None:
        for key, row in self.task.changes():
            if row is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = row
        self.task = self._make()
        for key, row in self._rows.items():
            self.task.load(key, row)


def counting(family: Family, partition: int) -> Seat:
    return Seat(lambda: CountTask(family.fold(partition), family.event, codec()))


@pytest.mark.parametrize("seed", [1, 2])
def test_tasks_that_begin_anew_state_what_undisturbed_tasks_state(
    watched: list[Family],
    records: list[Record],
    undisturbed: list[Measurement],
    seed: int,
) -> None:
    judges = [family.judge for family in watched]
    judge = Seat(lambda: JudgeTask(judges, PARTITIONS, codec()))
    seats = {(f.topic, p): counting(f, p) for f in watched for p in range(PARTITIONS)}
    said, tallies, random = list[Output](), 0, Random(seed)  # noqa: S311 - it draws when to die
    for record in records:
        for output in seats[(record.topic, record.partition)].task.handle([record]):
            if output.topic == "tallies.v1":
                tallies += 1
                tally = Record(output.topic, 0, tallies, 0, output.key, output.value)
                said += judge.task.handle([tally])
        if random.random() < 0.01:
            for seat in (*seats.values(), judge):
                seat.renew()
    assert len(latest(undisturbed)) > 300
    assert list(differences(stated(said), undisturbed)) == []
