"""The columns of a batch agree with each other and with what was consumed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from wards import (
    HOUR,
    MODEL,
    START,
    HeartRate,
    Kept,
    Run,
    admitted,
    identified,
    log,
    measured,
    person,
    replay,
    retracted,
    scorer,
    tick,
)

from services.core.cohorts import DIMENSIONS
from services.core.events import Decision, Disposition, Kind, PredictionBatch, Vitals
from services.core.features import FEATURES
from services.core.vitals import VARIABLES

EVENTS: list[Vitals | bytes | None] = [
    identified("p", START, age=70, sex="male", race="white"),
    admitted("p", START, "e1", unit="MICU"),
    measured("p", START, {"Lactate": 3.25, "SBP": 90, "HR": 150}, encounter=person("e1")),
    measured("q", START, {"HR": 70}),
    measured("q", START, {"HR": 70}),
    b"unreadable",
    retracted("p", START, ["SBP"], encounter=person("e1")),
    measured("r", START, {"Lactate": 2}),
    measured("q", START, {"HR": float("nan"), "Platelets": 250}, version=2),
    tick(START + HOUR),
    None,
]
FIXED = {
    **dict.fromkeys(("offsets", "measured_at", "received_at", "accepted_at", "as_of"), 8),
    **dict.fromkeys(("kinds", "dispositions", "causes", "decisions"), 1),
    **dict.fromkeys(("pseudonyms", "encounters"), 16),
    **dict.fromkeys(("scores", "thresholds"), 4),
    "bitmaps": 8,
    "cohorts": 2 * len(DIMENSIONS),
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=30))
def test_every_column_has_its_length(events: list[Vitals | bytes | None]) -> None:
    batches = replay(events).batches
    assert sum(batch.entries for batch in batches) == len(events)
    for batch in batches:
        assert_columns_fit(batch)


def assert_columns_fit(batch: PredictionBatch) -> None:
    lengths = {name: len(getattr(batch, name)) for name in FIXED}
    assert lengths == {name: batch.entries * width for name, width in FIXED.items()}
    scored = batch.dispositions.count(Disposition.SCORED)
    bits = sum(bitmap.bit_count() for bitmap in np.frombuffer(batch.bitmaps, "<u8").tolist())
    assert len(batch.features) == 4 * batch.feature_count * scored
    assert len(batch.values) == 8 * bits
    assert np.isfinite(np.frombuffer(batch.scores, "<f4")).sum() == scored
    assert np.isfinite(np.frombuffer(batch.thresholds, "<f4")).sum() == scored
    assert max(np.frombuffer(batch.cohorts, "<u2")) < len(batch.cohort_labels)
    assert max(batch.decisions) < len(Decision)


def test_an_entry_says_what_its_event_measured_and_who_it_was_about() -> None:
    run = replay(EVENTS)
    entries = run.entries
    assert [entry["measured"] for entry in entries[2:5]] == [
        {"HR": 150, "SBP": 90, "Lactate": 3.25},
        {"HR": 70},
        {"HR": 70},
    ]
    assert entries[6]["measured"] == {}
    assert entries[8]["measured"] == {"Platelets": 250}
    assert entries[2]["cohorts"] == ["male", "unknown", "65-79", "white", *["unknown"] * 3, "MICU"]
    assert entries[2]["encounter"] == person("e1")
    nobody = [entries[i]["pseudonym"] for i in (5, 9, 10)]
    assert nobody == [bytes(16)] * 3
    assert [entries[i]["kind"] for i in (5, 9)] == [None, Kind.TICK]


def test_a_batch_says_which_model_and_policy_made_it() -> None:
    batch, _ = replay(EVENTS).batches
    assert (batch.model_name, batch.model_version) == (MODEL.name, MODEL.version)
    assert (batch.model_digest, batch.policy_version) == (MODEL.digest, "1")
    assert (batch.vitals_topic_id, batch.partition) == (MODEL.vitals_topic_id, 3)
    assert batch.watermark == START + HOUR
    assert (batch.feature_count, tuple(batch.cohort_dimensions)) == (len(FEATURES), DIMENSIONS)


def test_the_score_of_an_entry_is_the_models_answer_to_its_features() -> None:
    run = replay(EVENTS)
    scored = [entry for entry in run.entries if entry["disposition"] == "SCORED"]
    again = HeartRate().score(run.features)
    assert [entry["score"] for entry in scored] == again.tolist()
    assert [np.frombuffer(e["features"], "<f4")[VARIABLES.index("HR")] for e in scored][:2] == [
        150,
        70,
    ]


def test_a_batch_has_at_most_512_entries_and_together_they_have_all_offsets() -> None:
    records = log(measured("p", START + i, {"HR": 80}) for i in range(1200))
    run = Run().hand(records)
    assert [batch.entries for batch in run.batches] == [512, 512, 176]
    assert [entry["offset"] for entry in run.entries] == [record.offset for record in records]
    assert {output.partition for output in run.outputs} == {3}


def test_a_batch_ends_with_the_tick_that_begins_an_hour() -> None:
    events = [tick(START + i * HOUR // 4) for i in range(10)]
    assert [batch.entries for batch in replay(events).batches] == [1, 4, 4, 1]


def test_the_meter_hears_of_every_entry() -> None:
    told = Kept()
    run = Run(scorer(told=told)).hand(log(EVENTS))
    assert [e["offset"] for e in told.entries] == [e["offset"] for e in run.entries]
    assert told.alerts == run.alerts
    assert len(run.alerts) == 1
