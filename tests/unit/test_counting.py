"""Counting: records in, tallies out; what cannot be read is a dead letter, and no more stops."""

import msgspec
import pytest
from batches import DAY, HOUR, Scored, batch
from builders import codec

from services.core.errors import Stop
from services.core.events import DeadLetter, PredictionBatch, Tally
from services.core.folds.hours import HourFold
from services.core.tallies import decode
from services.monitoring.counting import CountTask
from services.monitoring.outputs import DEAD_LETTERS, TALLIES
from services.runtime.ports import Output, Record


def task(partition: int = 2) -> CountTask[PredictionBatch]:
    return CountTask(HourFold(partition, lambda _: None), PredictionBatch, codec())


def record(value: PredictionBatch | bytes | None, offset: int) -> Record:
    encoded = codec().encode(value) if isinstance(value, PredictionBatch) else value
    return Record("predictions.v1", 2, offset, 1_767_600_000_000, None, encoded)


FIRST = record(batch([Scored(who=1, at=HOUR, values={"HR": 80.0})], watermark=HOUR), 5)
CLOSING = record(batch([], watermark=DAY), 6)


def tallies(outputs: list[Output]) -> list[Tally]:
    return [codec().decode(o.value or b"", Tally) for o in outputs if o.topic == TALLIES]


def test_a_closed_window_becomes_a_tally_where_its_family_meets() -> None:
    [made] = task().handle([FIRST, CLOSING])
    assert (made.topic, made.key, made.partition) == (TALLIES, b"hours/24h", None)
    [tally] = tallies([made])
    assert (tally.start, tally.end, tally.partition, tally.through_offset) == (0, DAY, 2, 6)
    assert decode(tally.body).patients == 1


def test_records_handed_out_again_in_the_same_life_give_nothing_new() -> None:
    counting = task()
    assert len(list(counting.handle([FIRST, CLOSING]))) == 1
    assert list(counting.handle([FIRST, CLOSING])) == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "SCHEMA_UNKNOWN"),
        (b"", "SCHEMA_UNKNOWN"),
        (b"{}" * 20, "SCHEMA_UNKNOWN"),
        (codec().encode(batch([], watermark=0))[:30], "AVRO_SYNTAX"),
        (b"\xc3\x01" + bytes(3 << 20), "TOO_LARGE"),
        (
            codec().encode(batch([Scored(who=1, at=HOUR)], watermark=0, instead={"values": b"x"})),
            "AVRO_SYNTAX",
        ),
    ],
)
def test_what_is_no_batch_is_a_dead_letter_and_the_next_record_counts(
    value: bytes | None, reason: str
) -> None:
    made = list(task().handle([record(value, 4), FIRST, CLOSING]))
    assert [output.topic for output in made] == [DEAD_LETTERS, TALLIES]
    letter = codec().decode(made[0].value or b"", DeadLetter)
    assert (letter.reason, letter.offset, letter.payload) == (reason, 4, b"")
    assert made[0].key == b"predictions.v1/2/4"
    assert decode(tallies(made)[0].body).patients == 1


def test_a_schema_that_nobody_here_knows_stops_the_process() -> None:
    with pytest.raises(Stop):
        list(task().handle([record(b"\xc3\x01" + bytes(12), 0)]))


def test_rows_name_partition_and_family_and_load_only_there() -> None:
    counting = task()
    list(counting.handle([FIRST]))
    rows = dict(counting.changes())
    assert set(rows) == {b"predictions.v1/2/hours/24h/0", b"predictions.v1/2/hours/24h/clock"}
    assert dict(counting.changes()) == {}
    same, other = task(), task(partition=3)
    for key, row in rows.items():
        same.load(key, row)
        other.load(key, row)
    assert decode(tallies(list(same.handle([CLOSING])))[0].body).patients == 1
    other_partition = msgspec.structs.replace(CLOSING, partition=3)
    assert list(other.handle([other_partition])) == [], "its first window is the one just begun"


def test_every_row_begins_with_the_offset_it_is_counted_through() -> None:
    counting = task()
    list(counting.handle([FIRST, record(batch([], watermark=2 * HOUR), 9)]))
    marks = {key.rpartition(b"/")[2]: row for key, row in counting.changes()}
    assert int.from_bytes((marks[b"0"] or b"")[:8], "big") == 5
    assert int.from_bytes((marks[b"clock"] or b"")[:8], "big") == 9


def test_a_flush_tells_of_closed_windows_that_changed_and_of_no_open_one() -> None:
    counting = task()
    list(counting.handle([FIRST, CLOSING]))
    late = Scored(who=2, at=HOUR)
    today = Scored(who=3, at=DAY + HOUR)
    assert list(counting.handle([record(batch([late, today], watermark=DAY), 7)])) == []
    [tally] = tallies(list(counting.flush()))
    assert (tally.start, decode(tally.body).patients) == (0, 2)
    assert list(counting.flush()) == []
