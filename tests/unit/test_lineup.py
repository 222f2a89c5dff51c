"""What people change adds up to one line-up, and names one shown model for every patient."""

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wards import deployment

from services.core.errors import Reason, Refusal
from services.core.lineup import (
    AS_CONFIGURED,
    MOST_SHADOWS,
    History,
    LineUp,
    Part,
    Proposal,
    Seat,
    check,
    decode,
    encode,
    in_canary,
    seated,
    withdrawn,
)
from services.core.policy import Policy

POLICY = Policy(version="2", threshold=0.3, clear_below=0.2)

SILLY = Policy(version="3", threshold=0.3, clear_below=0.4)


def seat(number: int, **more: object) -> Seat:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    known = {"name": "sepsis", "version": f"1.{number}.0", "digest": digest}
    return msgspec.convert(known | more, Seat)


def deployed(*line_ups: LineUp) -> History:
    history = History()
    for number, line_up in enumerate(line_ups):
        history.take(deployment(history.propose(line_up), number), number)
    return history


def refused(history: History, proposal: Proposal | bytes) -> tuple[Reason, str]:
    before = (history.now, history.latest, list(history.standing))
    with pytest.raises(Refusal) as caught:
        history.take(deployment(proposal, 99), 99)
    assert (history.now, history.latest, history.standing) == before, "nothing was changed"
    return caught.value.reason, caught.value.place


CHAMPION = LineUp(champion=seat(1))
CANARY = LineUp(champion=seat(1), canary=seat(2), share=10)


def test_a_model_that_becomes_champion_leaves_its_old_part() -> None:
    shadow = seated(CHAMPION, seat(2), Part.SHADOW)
    assert shadow == LineUp(champion=seat(1), shadows=(seat(2),))
    canary = seated(shadow, seat(2), Part.CANARY, 10)
    assert canary == CANARY
    assert seated(canary, seat(2), Part.CHAMPION) == LineUp(champion=seat(2))
    assert withdrawn(canary, seat(2).digest) == CHAMPION
    assert withdrawn(canary, seat(1).digest) == canary, "a champion stays until another comes"


def test_a_canary_that_becomes_champion_keeps_the_policy_that_was_tried() -> None:
    tried = seat(2, policy=POLICY)
    canary = LineUp(champion=seat(1), canary=tried, share=10)
    assert seated(canary, seat(2), Part.CHAMPION) == LineUp(champion=tried)
    other = seat(2, policy=Policy(version="9", threshold=0.5, clear_below=0.4))
    assert seated(canary, other, Part.CHAMPION) == LineUp(champion=other)


@pytest.mark.parametrize(
    ("line_up", "place"),
    [
        (LineUp(canary=seat(2)), "share"),
        (LineUp(share=10), "share"),
        (LineUp(canary=seat(2), share=100), "share"),
        (LineUp(champion=seat(1), canary=seat(1), share=10), "canary"),
        (LineUp(champion=seat(1), shadows=(seat(1),)), "shadows"),
        (LineUp(canary=seat(1), share=1, shadows=(seat(1, policy=POLICY),)), "shadows"),
        (LineUp(shadows=(seat(1), seat(1))), "shadows"),
        (LineUp(champion=seat(1, policy=SILLY)), "policy"),
        (LineUp(shadows=tuple(seat(n) for n in range(MOST_SHADOWS + 1))), "shadows"),
    ],
)
def test_a_line_up_that_contradicts_itself_is_refused(line_up: LineUp, place: str) -> None:
    with pytest.raises(Refusal) as caught:
        check(line_up)
    assert (caught.value.reason, caught.value.place) == (Reason.RANGE, place)
    content = encode(Proposal(line_up=line_up, based_on=""))
    assert refused(History(), content)[0] in {Reason.RANGE, Reason.JSON_SYNTAX}


def test_a_canary_may_be_the_champion_under_another_policy() -> None:
    check(LineUp(champion=seat(1), canary=seat(1, policy=POLICY), share=10))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"line_up": {}, "based_on": "", "more": 1}',
        b'{"line_up": {"champion": {"name": "../s", "version": "1"}}, "based_on": ""}',
    ],
)
def test_content_that_is_no_proposal_is_refused(content: bytes) -> None:
    assert refused(deployed(CHAMPION), content) == (Reason.JSON_SYNTAX, "content")


def test_a_change_whose_author_did_not_know_of_the_latest_is_refused() -> None:
    history = deployed(CHAMPION)
    late = history.propose(LineUp(champion=seat(3)))
    history.take(deployment(history.propose(CANARY), 1), 1)
    assert refused(history, late) == (Reason.KEY_MISMATCH, "based_on")


def test_a_change_that_comes_twice_is_taken_once() -> None:
    history = deployed(CHAMPION)
    twice = history.propose(CANARY)
    history.take(deployment(twice, 1), 1)
    assert refused(history, twice) == (Reason.KEY_MISMATCH, "based_on")


def test_each_rollback_goes_one_standing_deployment_back() -> None:
    history = deployed(CHAMPION, CANARY)
    for number, expected in enumerate([CHAMPION, AS_CONFIGURED]):
        proposal = history.undo()
        assert proposal is not None
        history.take(deployment(proposal, 10 + number), 10 + number)
        assert history.now == expected
    assert history.undo() is None


def test_a_rollback_of_a_deployment_takes_back_the_policies_that_came_after() -> None:
    history = deployed(CHAMPION, LineUp(champion=seat(2)))
    other = LineUp(champion=seat(2, policy=POLICY))
    history.take(deployment(history.propose(other), 5, kind="policy"), 5)
    policy_only, whole = history.undo({"policy"}), history.undo({"deployment"})
    assert policy_only is not None
    assert whole is not None
    assert policy_only.line_up == LineUp(champion=seat(2))
    assert whole.line_up == CHAMPION
    history.take(deployment(whole, 6), 6)
    assert history.now == CHAMPION


def test_a_rollback_to_something_else_than_what_held_is_refused() -> None:
    history = deployed(CHAMPION, CANARY)
    proposal = history.undo()
    assert proposal is not None
    wrong = msgspec.structs.replace(proposal, line_up=LineUp(champion=seat(9)))
    assert refused(history, wrong) == (Reason.KEY_MISMATCH, "line_up")
    unknown = msgspec.structs.replace(proposal, undoes="change-77")
    assert refused(history, unknown) == (Reason.KEY_MISMATCH, "undoes")


line_ups = st.sampled_from(
    [
        CHAMPION,
        CANARY,
        LineUp(champion=seat(2), shadows=(seat(1), seat(3))),
        LineUp(champion=seat(1, policy=POLICY)),
        LineUp(shadows=(seat(4),)),
    ]
)


@settings(deadline=None, derandomize=True)
@given(st.lists(line_ups | st.none()))
def test_the_line_up_that_holds_is_the_top_of_what_was_not_taken_back(
    steps: Sequence[LineUp | None],
) -> None:
    history, stack = History(), [AS_CONFIGURED]
    for number, line_up in enumerate(steps):
        proposal = history.undo() if line_up is None else history.propose(line_up)
        if proposal is None:
            assert stack == [AS_CONFIGURED]
            continue
        history.take(deployment(proposal, number), number)
        if line_up is None:
            stack.pop()
        else:
            stack.append(line_up)
        assert history.now == stack[-1]
        assert decode(encode(proposal)) == proposal


def test_the_share_of_a_canary_lies_within_binomial_bounds_in_every_partition() -> None:
    rng = np.random.default_rng(1)
    pseudonyms = [rng.bytes(16) for _ in range(20_000)]
    for share in (1, 10, 50, 99):
        chosen = sum(in_canary(each, share) for each in pseudonyms)
        p, n = share / 100, len(pseudonyms)
        assert abs(chosen - n * p) < 5 * (n * p * (1 - p)) ** 0.5


@given(st.binary(min_size=16, max_size=16), st.integers(0, 99), st.integers(0, 99))
def test_a_patient_stays_in_the_canary_when_its_share_grows(
    pseudonym: bytes, one: int, other: int
) -> None:
    small, large = sorted((one, other))
    assert in_canary(pseudonym, small) <= in_canary(pseudonym, large)
    assert not in_canary(pseudonym, 0)
