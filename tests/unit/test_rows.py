"""From events to rows: exact, one row per entry, and never from a malformed event."""

import hashlib
import json
import re
from typing import Any, Final

import alert_path as hospital
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.migrate import read_migrations
from services.audit.recorder import Source, derived
from services.audit.rows import (
    TABLES,
    Columns,
    alerts,
    changes,
    dead_letters,
    feedback,
    labels,
    outcomes,
    patients,
    predictions,
    receipts,
    signals,
    tables_of,
    vitals,
)
from services.core.cohorts import DIMENSIONS
from services.core.errors import Reason, Refusal
from services.core.events import (
    Action,
    Cause,
    Disposition,
    Fate,
    HourLabel,
    PredictionBatch,
    packed,
    prediction_id,
)
from services.local.home import REPO
from services.runtime.codec import EVENTS, Codec
from services.runtime.ports import Record

CODEC: Final = Codec(REPO / "schemas")
EXAMPLES: Final = REPO / "schemas" / "examples"


def _row(columns: Columns, at: int = 0) -> dict[str, Any]:
    return {name: column[at] for name, column in columns.items()}


def test_every_column_of_every_event_has_as_many_rows_as_the_event_has_entries() -> None:
    made: dict[int, Columns] = {
        1: vitals(hospital.vitals((0, 1), [0, 1, 1])),
        4: predictions(hospital.predictions(0, range(4))),
        3: receipts(hospital.receipt((0, 1), [Fate.VITALS, Fate.DEAD, Fate.DUPLICATE])),
    }
    for count, columns in made.items():
        assert {len(column) for column in columns.values()} == {count}
    assert set(TABLES) == {
        "vitals", "predictions", "alerts", "alert_severities", "receipts", "dead_letters",
        "patients", "feedback", "outcomes", "labels", "measurements", "signals", "changes",
    }  # fmt: skip


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(0, 9), st.data())
def test_a_prediction_row_holds_what_a_slow_reader_of_the_batch_finds(
    dispositions: list[int], width: int, data: st.DataObject
) -> None:
    count = len(dispositions)
    bitmaps = data.draw(st.lists(st.integers(0, 2**34 - 1), min_size=count, max_size=count))
    scored = [d == Disposition.SCORED for d in dispositions]
    rng = np.random.default_rng(count)
    features = rng.random((sum(scored), width)).astype("<f4")
    values = rng.random(sum(b.bit_count() for b in bitmaps))
    batch = hospital.predictions(
        1,
        range(100, 100 + count),
        dispositions=bytes(dispositions),
        bitmaps=packed(bitmaps, "<u8"),
        values=packed(values, "<f8"),
        feature_count=width,
        features=features.tobytes(),
    )
    columns = predictions(batch)
    at_feature = at_value = 0
    for i, bitmap in enumerate(bitmaps):
        row = _row(columns, i)
        ahead = bitmap.bit_count()
        assert row["measured"] == values[at_value : at_value + ahead].astype("<f8").tobytes()
        at_value += ahead
        wanted = features[at_feature].tobytes() if scored[i] else b""
        at_feature += scored[i]
        assert row["features"] == wanted
        assert row["features_sha256"] == hashlib.sha256(wanted).digest()
        assert row["disposition"] == Disposition(dispositions[i]).name.lower()
        assert row["vitals_offset"] == 100 + i
        assert row["prediction_id"] == prediction_id(
            batch.vitals_topic_id, 1, 100 + i, digest=batch.model_digest
        )


def test_what_was_not_scored_has_no_score_and_no_threshold() -> None:
    columns = predictions(hospital.predictions(0, [0, 1, 2]))
    assert columns["score"] == [0.25, 0.25, None]
    assert columns["threshold"] == [0.5, 0.5, None]


def test_cohorts_are_named_and_a_dimension_the_batch_lacks_is_unknown() -> None:
    columns = predictions(hospital.predictions(0, [0]))
    assert {name: columns[name][0] for name in DIMENSIONS} == {
        **dict.fromkeys(DIMENSIONS, "unknown"),
        "sex": "female",
        "unit": "MICU",
    }
    fewer = hospital.predictions(0, [0], cohort_dimensions=["unit"], cohorts=packed([2], "<u2"))
    assert (predictions(fewer)["unit"], predictions(fewer)["sex"]) == (["MICU"], ["unknown"])


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": bytes(8)},
        {"scores": bytes(7)},
        {"values": bytes(8)},
        {"features": bytes(4)},
        {"pseudonyms": bytes(16)},
        {"cohorts": packed([9] * 14, "<u2")},
        {"dispositions": bytes([0, len(Disposition)])},
        {"causes": bytes([0, len(Cause)])},
        {"entries": 0},
        {"entries": -1},
    ],
)
def test_a_malformed_batch_has_no_rows_and_no_crash(changes: dict[str, Any]) -> None:
    batch = msgspec.structs.replace(hospital.predictions(0, [0, 1]), **changes)
    with pytest.raises(Refusal) as refused:
        predictions(batch)
    assert refused.value.reason == Reason.AVRO_SYNTAX


@pytest.mark.parametrize(
    "changes",
    [
        {"values": bytes(8)},
        {"entries": bytes(2)},
        {"codes": []},
        {"ids": bytes(3)},
        {
            "entries": b"",
            "variables": b"",
            "values": b"",
            "flags": b"",
            "ids": b"",
            "versions": b"",
        }
        | {name: [] for name in ("codes", "units", "devices")},
        {"pseudonym": bytes(5)},
    ],
)
def test_malformed_vitals_have_no_rows_and_no_crash(changes: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        vitals(msgspec.structs.replace(hospital.vitals((0, 0), [0, 1]), **changes))


def test_a_tick_has_zeros_for_names_and_one_entry() -> None:
    row = _row(vitals(hospital.tick((1, 5))))
    assert (row["kind"], row["pseudonym"], row["encounter"]) == ("tick", bytes(16), bytes(16))
    assert (row["raw_partition"], row["raw_offset"], row["entries"]) == (1, 5, bytes(2))


def test_an_event_without_readings_may_stand_for_several_entries() -> None:
    event = msgspec.structs.replace(hospital.tick((0, 1)), entries=packed([3, 4], "<u2"))
    assert _row(vitals(event))["entries"] == packed([3, 4], "<u2")


def test_a_receipt_without_entries_still_has_its_row() -> None:
    row = _row(receipts(hospital.receipt((0, 3), [])))
    assert (row["raw_offset"], row["entry"], row["fate"]) == (3, -1, "empty")


def test_a_dead_letter_leaves_its_payload_behind() -> None:
    columns = dead_letters(hospital.dead_letter((1, 7), 2))
    assert "payload" not in columns
    row = _row(columns)
    assert (row["source_topic"], row["source_partition"], row["source_offset"]) == (
        "fhir.raw.v1", 1, 7,
    )  # fmt: skip
    assert b"never to be seen" not in repr(columns).encode()


def test_an_alert_keeps_the_order_of_its_contributions() -> None:
    row = _row(alerts(hospital.alert(0, 1)))
    assert row["contribution_features"] == ["HR last", "Lactate last"]
    assert row["contribution_values"] == [120.0, None]
    assert row["contributions"] == [0.5, -0.125]


def test_what_is_not_known_of_a_patient_is_null() -> None:
    row = _row(patients(hospital.patient(1)))
    assert (row["age"], row["sex"], row["race"], row["unit"], row["ended_at"]) == (
        90.0, "female", None, "MICU", None,
    )  # fmt: skip


def test_a_record_that_is_no_event_is_left_to_the_ledger_alone() -> None:
    def refuse(_: bytes, __: type[msgspec.Struct]) -> msgspec.Struct:
        raise Refusal(Reason.AVRO_SYNTAX, "body")

    source = Source(topic="predictions.v1", topic_id="0" * 32, phi=False, event=PredictionBatch)
    assert derived(source, Record("predictions.v1", 0, 0, 0, None, b"x"), refuse) == {}
    assert derived(source, Record("predictions.v1", 0, 0, 0, None, None), refuse) == {}


def _example(path: str) -> Any:
    stored = json.loads((EXAMPLES / path).read_text())
    return CODEC.decode(bytes.fromhex(stored["wire"]), EVENTS[stored["event"]])


ABOUT: Final = (
    "feedback.v1",
    "outcomes.v1",
    "labelled.v1",
    "metrics.v1",
    "signals.v1",
    "changes.v1",
)


@pytest.mark.parametrize(
    "path",
    sorted(f"{topic}/{p.name}" for topic in ABOUT for p in (EXAMPLES / topic).glob("*.json")),
)
def test_a_message_about_the_models_work_has_one_row_with_the_columns_of_its_table(
    path: str,
) -> None:
    event = _example(path)
    [(table, rows_of)] = tables_of(type(event)).items()
    columns = rows_of(event)
    assert {len(column) for column in columns.values()} == {1}
    assert set(columns) == _columns_of(table)


def _columns_of(table: str) -> set[str]:
    text = "\n".join(m.text for m in read_migrations())
    added = re.findall(rf"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS (\w+)", text)
    (body,) = re.findall(rf"TABLE IF NOT EXISTS {table} \(\n(.*?)\n\) ENGINE", text, re.DOTALL)
    names = {*added, *(line.split()[0].strip("`") for line in body.splitlines())}
    return names - {"topic", "topic_id", "partition", "offset", "index", "timestamp"}


def test_a_label_stands_with_what_windows_counted_before() -> None:
    row = _row(labels(_example("labelled.v1/restated.json")))
    assert (row["label"], row["final"], row["authority"]) == (1, True, "final")
    assert (row["before_label"], row["before_final"]) == (0, False)
    assert {name: row[name] for name in DIMENSIONS} == {
        **dict.fromkeys(DIMENSIONS, "unknown"),
        "sex": "female",
        "unit": "micu",
    }


def test_a_label_that_was_taken_back_is_null_and_still_has_its_row() -> None:
    event = msgspec.structs.replace(_example("labelled.v1/restated.json"), now=None)
    row = _row(labels(event))
    gone = {name: row[name] for name in HourLabel.__struct_fields__}
    assert gone == dict.fromkeys(HourLabel.__struct_fields__)
    assert row["before_label"] == 0


def test_what_concerns_nobody_has_zeros_for_names() -> None:
    for row in (
        _row(labels(_example("labelled.v1/progress.json"))),
        _row(outcomes(_example("outcomes.v1/progress.json"))),
    ):
        assert (row["pseudonym"], row["encounter"]) == (bytes(16), bytes(16))


def test_actions_and_evidence_keep_their_order() -> None:
    answer = _example("feedback.v1/confirmed.json")
    twice = [*answer.actions, Action(kind="lactate", at=1)]
    row = _row(feedback(msgspec.structs.replace(answer, actions=twice)))
    assert row["action_kinds"] == ["antibiotic", "lactate"]
    assert row["action_times"] == [1767255300000000, 1]
    row = _row(signals(_example("signals.v1/opened.json")))
    assert row["evidence_names"] == ["patients", "threshold"]
    assert row["evidence_values"] == ["57", "0.125"]


def test_a_change_leaves_its_content_to_the_ledger() -> None:
    row = _row(changes(_example("changes.v1/baseline.json")))
    assert "content" not in row
    assert (row["content_length"], row["content_sha256"]) == (2, hashlib.sha256(b"{}").digest())


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("labelled.v1/restated.json", {"cohorts": ["female"]}),
        ("labelled.v1/restated.json", {"pseudonym": bytes(5)}),
        ("outcomes.v1/onset.json", {"encounter": bytes(17)}),
    ],
)
def test_a_malformed_label_or_outcome_has_no_row_and_no_crash(
    path: str, changed: dict[str, Any]
) -> None:
    event = msgspec.structs.replace(_example(path), **changed)
    [rows_of] = tables_of(type(event)).values()
    with pytest.raises(Refusal) as refused:
        rows_of(event)
    assert refused.value.reason == Reason.AVRO_SYNTAX
