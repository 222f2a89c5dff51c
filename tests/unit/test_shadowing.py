"""A shadow decides as it would as champion, with a memory of its own that touches nobody's."""

import tracemalloc
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typing_extensions import override
from wards import (
    CODEC,
    HOUR,
    MODEL,
    POLICY,
    START,
    HeartRate,
    Run,
    admitted,
    cut,
    engine,
    entries_of,
    first_difference,
    log,
    measured,
    person,
    tick,
    ward_log,
)

from services.core.events import Alert, PredictionBatch, Role, Vitals
from services.core.lineup import LineUp, Seat
from services.core.policy import Policy, PolicyState, Transfer
from services.runtime.ports import Record
from services.scoring import shades
from services.scoring.course import Course
from services.scoring.crew import Crew, Engine
from services.scoring.pipeline import Scorer
from services.scoring.shades import Shade, is_of_a_shadow
from services.scoring.shares import Share

FULL: Final = msgspec.structs.replace(
    POLICY,
    version="full",
    units={"unit 1": 0.7},
    severity=[0.75, 0.9],
    persistence=2,
    refractory_h=3,
    transfer=Transfer(to=["unit 2"], silent_h=3),
    valid_for_h=2,
)
quick = settings(
    max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


class Half(HeartRate):
    """Another model: its scores are higher by a half."""

    @override
    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = np.clip(super().score(features) * np.float32(1.5), 0, 1)
        return scores


def other(number: int, policy: Policy) -> Engine:
    model = msgspec.structs.replace(
        MODEL, version=f"{number}", digest=f"{number:064x}", policy_version=policy.version
    )
    return engine(policy, model=model, onnx=Half())


def crew(champion: Engine, *shadows: Engine) -> Crew:
    seats = [
        Seat(name=e.model.name, version=e.model.version, digest=e.model.digest)
        for e in (champion, *shadows)
    ]
    line_up = LineUp(champion=seats[0], shadows=tuple(seats[1:]))
    return Crew(line_up, champion, None, tuple(shadow.unseen() for shadow in shadows))


class Helm:
    """Gives the crew that it was given last, as one change after the other would."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew

    def crew_for(self, course: Course, first: int) -> Crew:
        course.turn(first, 0, self.crew.line_up)
        return self.crew


class Site:
    """Scoring that is handed a log, with what shadows would have told."""

    def __init__(self, crew: Crew) -> None:
        self.helm, self.untold = Helm(crew), list[Alert]()
        self._scorer = Scorer(CODEC, self.helm, self._heard)
        self.run = Run(self._scorer)

    def _heard(self, share: Share, _: PredictionBatch) -> None:
        self.untold += share.untold

    def hand(self, records: Sequence[Record], cuts: Sequence[int] = ()) -> "Site":
        """Hand over a log in parts; before each but the first is a restart."""
        for part in cut(records, sorted({c for c in cuts if 0 < c < len(records)})):
            before = self.run.patients
            outputs, self.run = self.run.outputs, Run(self._scorer, self.run.rows)
            assert self.run.patients == before
            self.run.outputs = outputs
            self.run.hand(part)
        return self

    def decisions(self, digest: str) -> dict[int, str]:
        batches = [b for b in self.run.batches if b.model_digest == digest]
        return {e["offset"]: e["decision"] for b in batches for e in entries_of(b)}

    @property
    def shadow_rows(self) -> dict[bytes, bytes]:
        return {key: row for key, row in self.run.rows.items() if is_of_a_shadow(key)}


def unexplained(alerts: Sequence[Alert]) -> list[Alert]:
    """What moved a score is computed for nobody who does not see it."""
    return [msgspec.structs.replace(alert, contributions=[]) for alert in alerts]


@quick
@given(
    st.integers(0, 1 << 16),
    st.sampled_from([POLICY, FULL]),
    st.lists(st.integers(1, 300), max_size=4),
)
def test_a_shadow_would_have_told_what_it_tells_as_champion(
    seed: int, policy: Policy, cuts: list[int]
) -> None:
    records = log(ward_log(seed, hours=14, patients=3))
    tried = other(1, policy)
    shown = Site(crew(tried)).hand(records)
    unseen = Site(crew(engine(), tried)).hand(records, cuts)
    assert len(shown.run.alerts) > 10
    assert first_difference(unseen.untold, unexplained(shown.run.alerts)) is None
    digest = tried.model.digest
    assert unseen.decisions(digest) == shown.decisions(digest)
    assert len(set(unseen.decisions(digest).values())) > 3


@quick
@given(st.integers(0, 1 << 16), st.lists(st.integers(1, 300), max_size=3))
def test_a_shadow_changes_no_byte_of_what_is_shown_and_kept(seed: int, cuts: list[int]) -> None:
    records = log(ward_log(seed, hours=14, patients=3))
    alone = Site(crew(engine())).hand(records, cuts)
    beside = Site(crew(engine(), other(1, FULL), other(2, POLICY))).hand(records, cuts)
    shown = [
        output
        for output in beside.run.outputs
        if output.topic != "predictions.v1"
        or CODEC.decode(output.value or b"", PredictionBatch).role is Role.SHOWN
    ]
    assert shown == alone.run.outputs
    assert beside.untold
    of_shadows = {key for key in beside.run.patients if is_of_a_shadow(key)}
    kept = {k: v for k, v in beside.run.patients.items() if k not in of_shadows}
    assert kept == alone.run.patients
    rows = {k: v for k, v in beside.run.rows.items() if not is_of_a_shadow(k) and k != b"models"}
    assert rows == {k: v for k, v in alone.run.rows.items() if k != b"models"}


def stay(hour: int, many: int = 6, rate: float = 150.0) -> list[Vitals]:
    at = START + hour * HOUR
    seen = [measured(f"p{n}", at, {"HR": rate}, encounter=person(f"e{n}")) for n in range(many)]
    return [tick(at), *seen]


def test_a_shadow_that_is_withdrawn_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shades, "AT_ONCE", 2)
    site = Site(crew(engine(), other(1, POLICY), other(2, POLICY)))
    site.hand(log(stay(0)))
    assert len(site.shadow_rows) == 12
    site.helm.crew = crew(engine(), other(2, POLICY))
    left = []
    for hour in range(1, 5):
        site.hand(log(stay(hour), first=100 * hour))
        left.append(len(site.shadow_rows))
    assert left == [10, 8, 6, 6], "some at once, across restarts"
    assert {key for key in site.run.patients if is_of_a_shadow(key)} == set(site.shadow_rows)


def test_a_shadow_that_comes_back_begins_anew_though_rows_of_before_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shades, "AT_ONCE", 1)
    site, digest = Site(crew(engine(), other(1, POLICY))), other(1, POLICY).model.digest
    site.hand(log(stay(0)))
    site.helm.crew = crew(engine())
    site.hand(log(stay(1), first=100))
    assert len(site.shadow_rows) == 5
    site.helm.crew = crew(engine(), other(1, POLICY))
    site.hand(log(stay(2), first=200))
    seen = {o: d for o, d in site.decisions(digest).items() if o > 200 and d != "NONE"}
    assert set(seen.values()) == {"RAISED"}, "nobody remembers an alert, nor its silence"


def test_another_policy_for_a_shadow_goes_on_with_what_was_remembered() -> None:
    site, digest = Site(crew(engine(), other(1, POLICY))), other(1, POLICY).model.digest
    site.hand(log(stay(0)))
    site.helm.crew = crew(engine(), other(1, msgspec.structs.replace(FULL, persistence=1)))
    site.hand(log(stay(1), first=100))
    later = {decided for offset, decided in site.decisions(digest).items() if offset > 101}
    assert later == {"ESCALATED"}


def test_nobody_is_remembered_of_whom_there_is_nothing_to_remember() -> None:
    site = Site(crew(engine(), other(1, POLICY)))
    site.hand(log(stay(0, rate=60.0)))
    assert site.shadow_rows == {}
    site.hand(log(stay(1), first=100))
    assert len(site.shadow_rows) == 6
    gone = [admitted(f"p{n}", START + 2 * HOUR, f"e{n}", "finished") for n in range(6)]
    site.hand(log(gone, first=200))
    assert site.shadow_rows == {}


def test_whom_scoring_forgets_the_shadow_forgets() -> None:
    site = Site(crew(engine(), other(1, POLICY)))
    moved = [admitted(f"p{n}", START, f"e{n}", unit="ward") for n in range(6)]
    site.hand(log([*moved, *stay(0, rate=60.0)]))
    assert len(site.shadow_rows) == 6
    site.hand(log([tick(START + h * HOUR) for h in (1, 50, 51)], first=100))
    assert site.shadow_rows == {}
    assert site.run.patients == {}


def test_an_alert_of_one_who_is_forgotten_is_remembered_until_it_ends() -> None:
    long = msgspec.structs.replace(POLICY, valid_for_h=100)
    site = Site(crew(engine(msgspec.structs.replace(POLICY, threshold=1.0)), other(1, long)))
    site.hand(log(stay(0, many=1)))
    site.hand(log([tick(START + 60 * HOUR)], first=100))
    assert len(site.shadow_rows) == 1
    site.hand(log([tick(START + h * HOUR) for h in (101, 102)], first=200))
    assert [(a.step, a.cause) for a in site.untold[1:]] == [("cleared", "expired")]
    assert site.shadow_rows == {}


def _bytes_each(states: Sequence[PolicyState]) -> int:
    """How much memory a patient takes who is loaded from a row."""
    rows = [(person(n), msgspec.msgpack.encode(state)) for n, state in enumerate(states)]
    shade = Shade()
    tracemalloc.start()
    for name, row in rows:
        shade.load(bytes(bytearray(name)), msgspec.msgpack.decode(row, type=PolicyState))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size // len(states)


def test_a_patient_takes_two_hundred_bytes_a_shadow_and_seven_hundred_with_an_alert() -> None:
    site = Site(crew(engine(), other(1, FULL)))
    site.hand(log([*stay(0), *stay(1)]))
    [alerted, *_] = [
        state
        for row in site.shadow_rows.values()
        if (state := msgspec.msgpack.decode(row[4:], type=PolicyState)).alert is not None
    ]
    assert _bytes_each([PolicyState(unit="MICU")] * 2_000) < 200
    assert _bytes_each([alerted] * 2_000) < 700


def test_rows_of_shadows_are_known_by_their_keys_alone() -> None:
    keys = [b"shadow-", b"models", b"leaf-4095", person("p")]
    assert not any(is_of_a_shadow(key) for key in keys)
    assert not is_of_a_shadow(b"shadow-" + bytes(9)), "a pseudonym may look like one"
