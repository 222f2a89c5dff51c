"""A one-time token counts once, also after the gateway was killed or its disk failed."""

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.core.errors import Retry
from services.gateway.reception.spent import Spent
from services.gateway.tokens import NAME, UsedTokens

NOW_S = 1_800_000_000
LATER_S = NOW_S + 60
SECRET = "Mxyzptlk"  # noqa: S105 - a name that must never be repeated


def spends(used: UsedTokens, spent: Spent, jti: str, ends_s: int, now_s: int) -> bool:
    """Take a token as a door does, and wait as an answer does."""

    async def taken() -> bool:
        first = spent.spend("west", jti, ends_s=ends_s, now_s=now_s)
        await used.kept()
        return first

    return asyncio.run(taken())


def life(folder: Path, clock: Callable[[], float], **more: int) -> tuple[UsedTokens, Spent]:
    used = UsedTokens(folder, clock, **more)
    return used, Spent(used.before, used.note)


def names_in(folder: Path) -> list[bytes]:
    return [line for line in (folder / NAME).read_bytes().splitlines() if line]


@settings(max_examples=25, deadline=None)  # a disk takes its time
@given(
    shown=st.lists(
        st.tuples(
            st.sampled_from("abcde"), st.integers(1, 9), st.integers(0, 3), st.sampled_from("-kc")
        ),
        max_size=12,
    ),
    most_lines=st.integers(1, 4),
)
def test_a_token_counts_once_until_it_ends_whenever_the_gateway_is_killed_or_closed(
    tmp_path_factory: pytest.TempPathFactory,
    shown: list[tuple[str, int, int, str]],
    most_lines: int,
) -> None:
    folder, now = tmp_path_factory.mktemp("tokens"), [NOW_S]
    used, spent = life(folder, lambda: now[0], most_lines=most_lines)
    taken: dict[str, int] = {}
    for jti, lives_s, passed_s, ending in shown:
        now[0] += passed_s
        if taken.get(jti, 0) > now[0]:  # one that has ended is refused before it comes here
            assert not spends(used, spent, jti, taken[jti], now[0])
        elif jti not in taken:
            assert spends(used, spent, jti, now[0] + lives_s, now[0])
            taken[jti] = now[0] + lives_s
        if ending == "c":
            asyncio.run(used.close())
        if ending != "-":  # a killed life does not say goodbye
            used, spent = life(folder, lambda: now[0], most_lines=most_lines)
    live = sum(ends > now[0] for ends in taken.values())
    assert len(life(folder, lambda: now[0])[0].before) == live == len(names_in(folder))


def test_what_has_ended_leaves_the_file_while_the_gateway_runs(tmp_path: Path) -> None:
    now = [NOW_S]
    used, spent = life(tmp_path, lambda: now[0], most_lines=10)
    for n in range(200):
        now[0] += 1
        assert spends(used, spent, str(n), now[0] + 5, now[0])
        assert len(names_in(tmp_path)) <= 11
    assert len(life(tmp_path, lambda: now[0])[0].before) == 5


@pytest.mark.parametrize("rest", [b"18000000", b"\0" * 30, b"1800000060 " + b"a" * 63])
def test_an_unfinished_line_is_no_token_and_hides_none(tmp_path: Path, rest: bytes) -> None:
    used, spent = life(tmp_path, lambda: NOW_S)
    assert spends(used, spent, "1", LATER_S, NOW_S)
    with (tmp_path / NAME).open("ab") as file:
        file.write(rest)
    assert spends(used, spent, "2", LATER_S, NOW_S)
    again_used, again = life(tmp_path, lambda: NOW_S)
    assert not again.spend("west", "1", ends_s=LATER_S, now_s=NOW_S)
    assert not again.spend("west", "2", ends_s=LATER_S, now_s=NOW_S)
    assert set(again_used.before.values()) == {LATER_S}
    assert len(again_used.before) == 2


def test_the_file_tells_no_name_and_nobody_else_may_look(tmp_path: Path) -> None:
    used, spent = life(tmp_path, lambda: NOW_S)
    assert spends(used, spent, SECRET, LATER_S, NOW_S)
    path = tmp_path / NAME
    assert SECRET.encode() not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_accepted_while_the_disk_fails_and_afterwards_nothing_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, spent = life(tmp_path, lambda: NOW_S)

    def full(_: int) -> None:
        raise OSError(28, "full")

    with monkeypatch.context() as patched, capture_logs() as told:
        patched.setattr(os, "fdatasync", full)
        for jti in ("0", "1"):
            with pytest.raises(Retry):
                spends(used, spent, jti, LATER_S, NOW_S)
    assert [line["because"] for line in told] == ["full"], "an outage is told once"
    assert spends(used, spent, "2", LATER_S, NOW_S)
    asyncio.run(used.close())
    _, again = life(tmp_path, lambda: NOW_S)
    assert not again.spend("west", "1", ends_s=LATER_S, now_s=NOW_S)


def test_many_that_come_together_share_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, spent = life(tmp_path, lambda: NOW_S)
    sync, syncs = os.fdatasync, list[int]()

    def counted(file: int) -> None:
        syncs.append(file)
        sync(file)

    monkeypatch.setattr(os, "fdatasync", counted)

    async def one(jti: str) -> None:
        assert spent.spend("west", jti, ends_s=LATER_S, now_s=NOW_S)
        await used.kept()

    async def together() -> None:
        await asyncio.gather(*(one(str(n)) for n in range(100)))

    asyncio.run(together())
    assert 1 <= len(syncs) <= 3
    assert len(names_in(tmp_path)) == 100
