"""Rows of the changelog are read by the version that knows their form, and by no other."""

import hashlib
from collections.abc import Callable

import msgspec
import pytest
from wards import Run, log, ward_log

from services.core.errors import Stop
from services.scoring.patients.form import MARK, marked, unmarked
from services.scoring.patients.journal import KEY

PATIENT = bytes(16)
FORMS = {b"vgl4": "5c7377bdb40676453a6ae81f2f908eda91670c17c6d3ee5f72e43b9efa172664"}
"""What the rows of a ward are, by the mark of their form: a digest of the bytes."""


def told() -> dict[str, bytes]:
    """The changelog of a ward, and every patient as a whole row."""
    run = Run()
    list(run.task.handle(log(ward_log(5, hours=20, patients=3))))
    rows = {repr(key): row for key, row in run.task.changes() if key.startswith(KEY) and row}
    return rows | {repr(name): row for name, row in run.task.dump()}


def test_a_row_that_means_something_else_has_another_mark() -> None:
    digest = hashlib.sha256(b"".join(row for _, row in sorted(told().items()))).hexdigest()
    assert FORMS.get(MARK) == digest, (
        "count MARK up in patients/form.py, and write its digest here"
    )


def test_a_leaf_that_does_not_say_which_is_the_oldest_is_of_the_same_form() -> None:
    run, task = Run(), Run().task
    list(run.task.handle(log(ward_log(5, hours=20, patients=3))))
    for key, row in run.task.changes():
        shorter = row
        if key.startswith(KEY) and row:
            number, steps, policies, oldest = msgspec.msgpack.decode(unmarked(row))
            assert oldest <= number
            shorter = marked(msgspec.msgpack.encode([number, steps, policies]))
        task.load(key, shorter)
    assert task.dump() == run.task.dump()


@pytest.mark.parametrize("key", [PATIENT, KEY + b"1"], ids=["a patient's", "a leaf's"])
@pytest.mark.parametrize(
    "spoiled",
    [
        lambda row: row[len(MARK) :],
        lambda row: b"vgl1" + row[len(MARK) :],
        lambda _: b"",
        lambda _: msgspec.msgpack.encode([1, [], {}]),
    ],
    ids=["of before marks", "of an earlier form", "empty", "another's"],
)
def test_a_row_of_another_form_stops_scoring_and_says_what_to_do(
    key: bytes, spoiled: Callable[[bytes], bytes]
) -> None:
    run = Run()
    list(run.task.handle(log(ward_log(5, hours=2, patients=1))))
    row = next(row for name, row in run.task.changes() if name.startswith(KEY) and row)
    with pytest.raises(Stop, match=r"docs/operations\.md"):
        Run().task.load(key, spoiled(row))
