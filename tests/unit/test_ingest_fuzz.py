"""Damaged messages, 20,000 of them: each is read or refused by name, and the next one is read.

`make bench NAME=fuzz` does the same with a million.
"""

import itertools
import random

import builders
import pytest
from mutation import corpus, mutants

from services.core.errors import Reason
from services.core.events import Fate, Receipt

INPUTS = 20_000
SHARES = 4
BODIES = corpus()


@pytest.mark.parametrize("seed", range(SHARES))
def test_no_damage_leaves_the_handler_as_an_exception(seed: int) -> None:
    heard: list[Receipt] = []
    task = builders.ingest(heard.extend)
    damaged = mutants(BODIES, random.Random(seed))  # noqa: S311 - no secret
    for number, body in enumerate(itertools.islice(damaged, INPUTS // SHARES)):
        task.handle([builders.record(body, offset=number)])
        assert len(heard) == number + 1
    reasons = {e.detail for r in heard for e in r.entries if e.fate is Fate.DEAD}
    assert Reason.UNEXPECTED not in reasons
    assert len(reasons) > 15, "the damage is too much alike"
    sound = builders.observation(subject={"reference": "Patient/of-nobody-before"})
    outputs = list(task.handle([builders.record(sound)]))
    assert [output.topic for output in outputs] == ["vitals.v1", "identity.v1", "receipts.v1"]
