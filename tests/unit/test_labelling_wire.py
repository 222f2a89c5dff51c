"""What labelling writes by itself is what the codec writes."""

from builders import codec
from hypothesis import given
from hypothesis import strategies as st

from services.core.events import HourBefore, HourLabel, Labelled, Verdict
from services.labelling.wire import Wire

LONG = (
    st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 5000) | st.integers(1 << 48, 1 << 55)
)
WORD = st.text(max_size=12) | st.sampled_from(Verdict)
LABEL = {
    "score": st.floats(),
    "threshold": st.floats(),
    "label": LONG,
    "lead_s": st.none() | LONG,
    "recognition_lead_s": st.none() | LONG,
    "treatment_lead_s": st.none() | LONG,
    "answered_at": st.none() | LONG,
    "acted_at": st.none() | LONG,
    "verdict": WORD,
    "reason": WORD,
    "authority": WORD,
}


@given(
    told=st.builds(
        Labelled,
        pseudonym=st.binary(max_size=20),
        encounter=st.binary(max_size=20),
        hour=LONG,
        revision=LONG,
        now=st.none() | st.builds(HourLabel, **LABEL),
        before=st.none() | st.builds(HourBefore, **LABEL),
        cohort_dimensions=st.lists(WORD, max_size=4),
        cohorts=st.lists(WORD, max_size=4),
        definition=WORD,
        model_digest=WORD,
        policy_version=WORD,
        watermark=st.none() | LONG,
    )
)
def test_an_hour_has_the_bytes_of_the_codec(told: Labelled) -> None:
    assert Wire(codec()).labelled(told) == codec().encode(told)
