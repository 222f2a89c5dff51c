"""Nothing is refused in silence: the share of refused messages, and runs of them."""

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.events import Receipt
from services.ingest.__main__ import counting
from services.ingest.refusals import SOURCES, TOO_LONG, TOO_MANY, WINDOW, Refusals
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics


def receipts(*contents: builders.Resource | bytes) -> list[Receipt]:
    heard: list[Receipt] = []
    task = builders.ingest(heard.extend)
    list(task.handle([builders.record(content, offset=i) for i, content in enumerate(contents)]))
    return heard


(GOOD,) = receipts(builders.observation())
(BAD,) = receipts(builders.observation(status=None))
(FOREIGN,) = receipts(builders.observation("2089-1"))


@given(st.lists(st.booleans(), max_size=WINDOW // 4), st.integers(1, 12))
def test_share_and_run_are_those_of_the_latest_messages(refused: list[bool], times: int) -> None:
    refusals, all_of_them = Refusals(), refused * times
    for each in all_of_them:
        refusals.note(BAD if each else GOOD)
    latest = all_of_them[-WINDOW:]
    backwards = "".join("x" if each else "." for each in reversed(all_of_them))
    assert refusals.worst().refused == sum(latest)
    assert refusals.worst().in_a_row == len(backwards) - len(backwards.lstrip("x"))


@pytest.mark.parametrize(("every", "alarming"), [(19, True), (20, False), (1, True)])
def test_more_than_one_message_in_twenty_is_an_alarm(every: int, *, alarming: bool) -> None:
    refusals = Refusals()
    for number in range(WINDOW):
        refusals.note(BAD if number % every == 0 else GOOD)
    assert refusals.worst().alarming is alarming
    assert refusals.worst().refused == -(-WINDOW // every)


def test_a_hundred_refused_running_records_are_an_alarm_before_a_thousand_came() -> None:
    refusals = Refusals()
    for number in range(TOO_LONG):
        assert not refusals.worst().alarming or number > TOO_MANY
        refusals.note(BAD)
    assert refusals.worst().in_a_row == TOO_LONG
    refusals.note(FOREIGN)
    assert refusals.worst().in_a_row == 0


def test_a_source_that_is_refused_is_not_hidden_by_a_busy_one_nor_by_its_clock() -> None:
    refusals = Refusals()
    heard: list[Receipt] = []
    list(builders.ingest(heard.extend).handle([builders.tick("2026-01-05T08:00:00Z")]))
    east = Receipt(
        **{name: getattr(BAD, name) for name in BAD.__struct_fields__} | {"source": "e"}
    )
    for _ in range(TOO_LONG):
        for receipt in (east, GOOD, GOOD, heard[0]):
            refusals.note(receipt)
    assert refusals.worst().in_a_row == TOO_LONG


def test_sources_that_nobody_configured_do_not_fill_the_memory() -> None:
    refusals = Refusals()
    fields = {name: getattr(BAD, name) for name in BAD.__struct_fields__}
    for number in range(SOURCES + 10):
        refusals.note(Receipt(**fields | {"source": str(number)}))
    assert len(refusals._sources) == SOURCES


def test_ingest_shows_what_is_refused() -> None:
    metrics = Metrics(Build(service="ingest", version="0", revision="", python=""))
    count = counting(metrics)
    count([GOOD, BAD])
    count([BAD])
    shown = metrics.exposition().decode()
    assert 'vigil_refused_recent_records{service="ingest"} 2.0' in shown
    assert 'vigil_refused_running_records{service="ingest"} 2.0' in shown
