"""What a receipt says of an entry, the outputs bear out: nothing is unaccounted for."""

import itertools
from collections import Counter

import builders
import numpy as np
import pytest

from services.core.events import Fate, Receipt, Vitals
from services.runtime.ports import Output
from services.simulator.messages import START
from services.simulator.ward import Ward


def account(outputs: list[Output]) -> tuple[Counter[int], Counter[int]]:
    """Entries that the receipt calls vitals, and entries that stand in vitals events."""
    codec, said, found = builders.codec(), Counter[int](), Counter[int]()
    for output in outputs:
        if output.topic == "receipts.v1":
            receipt = codec.decode(output.value or b"", Receipt)
            said.update(e.index for e in receipt.entries if e.fate is Fate.VITALS)
        elif output.topic == "vitals.v1":
            event = codec.decode(output.value or b"", Vitals)
            found.update(set(np.frombuffer(event.entries, "<u2").tolist()))
    return said, found


@pytest.mark.parametrize("seed", range(3))
def test_each_entry_called_vitals_stands_in_exactly_one_event(seed: int) -> None:
    ward = Ward(np.random.default_rng(seed), START, beds=20)
    task = builders.ingest()
    for message in itertools.islice(ward.messages(1000), 300):
        said, found = account(list(task.handle([builders.record(message.body)])))
        assert said == found


def test_a_coverage_stands_in_the_event_of_its_patient_or_else_in_its_own() -> None:
    coverage = {
        "resourceType": "Coverage",
        "status": "active",
        "beneficiary": {"reference": "Patient/p-1"},
        "type": {"coding": [{"system": "https://nahdo.org/sopt", "code": "1"}]},
    }
    whole = builders.bundle(builders.patient(id="p-1"), coverage)
    said, found = account(list(builders.ingest().handle([builders.record(whole)])))
    assert said == found == Counter([0, 1])
    refused = builders.bundle(builders.patient(id="p-1", birthDate="2999-01-01"), coverage)
    said, found = account(list(builders.ingest().handle([builders.record(refused)])))
    assert said == found == Counter([1])
