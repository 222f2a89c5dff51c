"""`python -m services.scoring.warm`: compile every loop of scoring, so that no event waits for it.

What was compiled is kept on disk (see `core.compiled`). Where it is not, as at the first start of
a new version, this takes some 15 s; where it is, the time of reading it.
"""

import sys
from collections.abc import Iterator
from typing import Final

import numpy as np

from services.core.events import PSEUDONYM_BYTES, Kind, Vitals, packed
from services.core.features import FEATURES, standing_of
from services.core.policy import Abstain
from services.core.shapley import Shapley
from services.core.trees import read_trees
from services.runtime.codec import Codec
from services.runtime.settings import ServiceSettings
from services.scoring.abstention import causes
from services.scoring.patients.folding import MOST_RAW
from services.scoring.patients.ward import Ward
from services.scoring.patients.wire import Wire
from services.scoring.shares import Run

NOBODY: Final = bytes(PSEUDONYM_BYTES)
MINUTE_US: Final = 60_000_000
STUMP: Final = """tree

Tree=0
num_leaves=2
split_feature=0
threshold=80
decision_type=10
left_child=-1
right_child=-2
leaf_value=-1 1
leaf_count=1 1
internal_count=2
"""


def warm(codec: Codec) -> None:
    """Let somebody who does not exist be measured so often that every loop is needed."""
    wire, ward = Wire(codec), Ward()
    rows = np.empty((MOST_RAW + 2, len(FEATURES)), np.float32)
    messages = wire.events([codec.encode(event) for event in _events()])
    did = ward.follow(messages, rows)
    run = Run([*range(len(messages))], messages)
    run.follow(did)
    run.columns()
    patient = ward.patients[NOBODY]
    patient.history.write_features(rows[0], _event(0, Kind.OBSERVATION))
    ward.load(*next(ward.whole([NOBODY], 0)))
    for many in (1, 2):  # rows that are one lie otherwise in memory than rows that are more
        causes(Abstain(), standing_of(rows[:many]))
    Shapley(read_trees(STUMP)).added(rows[:1])


def _events() -> Iterator[Vitals]:
    for number in range(MOST_RAW + 1):
        yield _event(number, Kind.OBSERVATION)
    yield _event(0, Kind.RETRACTION)


def _event(number: int, kind: Kind) -> Vitals:
    at = number * MINUTE_US
    return Vitals(
        kind=kind,
        source="",
        pseudonym=NOBODY,
        encounter=NOBODY,
        measured_at=at,
        received_at=at,
        accepted_at=at,
        ingest_id="",
        raw_partition=0,
        raw_offset=0,
        variables=b"\0",
        values=packed([80], "<f8"),
        flags=packed([0], "<u2"),
        ids=packed([number], "<u8"),
        versions=packed([1], "<i8"),
    )


if __name__ == "__main__":
    warm(Codec(ServiceSettings().schemas))
    sys.exit(0)
