"""What ingest writes by itself is what the codec writes."""

from builders import codec
from hypothesis import given
from hypothesis import strategies as st

from services.core.events import Fate, Kind, Receipt, ReceiptEntry, Vitals
from services.ingest.wire import Wire

LONG = (
    st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 5000) | st.integers(1 << 48, 1 << 55)
)
INT = st.integers(-(1 << 31), (1 << 31) - 1)
TEXTS = st.lists(st.text(max_size=12), max_size=4)
WIRE = Wire(codec())


@given(
    event=st.builds(
        Vitals,
        kind=st.sampled_from(Kind),
        source=st.text(max_size=20),
        pseudonym=st.binary(max_size=20),
        encounter=st.binary(max_size=20),
        measured_at=LONG,
        received_at=LONG,
        accepted_at=LONG,
        ingest_id=st.text(max_size=40),
        raw_partition=INT,
        raw_offset=LONG,
        entries=st.binary(max_size=200),
        variables=st.binary(max_size=5000),
        codes=TEXTS,
        units=TEXTS,
        devices=TEXTS,
    )
)
def test_an_event_has_the_bytes_of_the_codec(event: Vitals) -> None:
    assert WIRE.vitals(event) == codec().encode(event)


@given(
    receipt=st.builds(
        Receipt,
        ingest_id=st.text(max_size=40),
        source=st.text(max_size=20),
        raw_partition=INT,
        raw_offset=LONG,
        received_at=LONG,
        accepted_at=LONG,
        length=LONG,
        sha256=st.binary(max_size=32),
        entries=st.lists(
            st.builds(
                ReceiptEntry, index=INT, fate=st.sampled_from(Fate), detail=st.text(max_size=20)
            ),
            max_size=5,
        ),
    )
)
def test_a_receipt_has_the_bytes_of_the_codec(receipt: Receipt) -> None:
    assert WIRE.receipt(receipt) == codec().encode(receipt)
