"""The scanner for canaries finds what is there, however it is written, and nothing else."""

import base64
import os
from pathlib import Path

import pytest
from canary.needles import ENCODINGS, PLANTED, REAL, Mark, encoded, needles
from canary.packing import PACK, block_of
from canary.plants import blob
from canary.scanner import Scanner, content
from hypothesis import given
from hypothesis import strategies as st

SCANNER = Scanner(REAL)
AROUND = st.binary(max_size=40)


@pytest.mark.parametrize("text", [*REAL, REAL.letters.lower(), REAL.day.replace("-", "")])
@given(before=AROUND, after=AROUND)
def test_a_mark_is_found_in_each_encoding_wherever_it_stands(
    text: str, before: bytes, after: bytes
) -> None:
    for name, written in encoded(text):
        assert name in SCANNER.found(before + written + after)


@given(before=AROUND, after=AROUND)
def test_base64_is_found_at_every_alignment(before: bytes, after: bytes) -> None:
    written = base64.b64encode(before + REAL.letters.encode() + after)
    assert "base64" in SCANNER.found(written)


@pytest.mark.parametrize("outer", PACK)
@pytest.mark.parametrize("inner", PACK)
def test_a_mark_is_found_inside_what_is_compressed_twice(outer: str, inner: str) -> None:
    packed = b"head" + PACK[outer](b"\0" * 100 + PACK[inner](REAL.letters.encode() * 9)) + b"tail"
    assert f"{outer}/{inner}/plain" in SCANNER.found(packed)


def test_a_column_of_clickhouse_is_read_block_by_block() -> None:
    text = f"nothing here {REAL.letters} {REAL.letters}".encode() * 20
    block = block_of(text)
    assert SCANNER.found(block + block) >= {"lz4/plain"}


@given(st.binary(max_size=3000))
def test_what_holds_no_mark_is_clean(data: bytes) -> None:
    assert SCANNER.found(data) == frozenset()


def test_one_mark_is_not_mistaken_for_the_other() -> None:
    assert Scanner(PLANTED).found(blob(PLANTED)) >= {
        *ENCODINGS,
        *(f"{container}/plain" for container in PACK),
    }
    assert SCANNER.found(blob(PLANTED)) == frozenset()


def test_no_needle_is_so_short_that_chance_would_find_it() -> None:
    assert min(len(n) for found in needles(REAL).values() for n in found) >= 8


def test_a_mark_after_a_hole_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 24)
        file.seek(1 << 23)
        file.write(REAL.letters.encode())
    assert len(content(path)) < 1 << 20
    assert "plain" in SCANNER.found(content(path))


def test_a_mark_has_no_part_of_the_other() -> None:
    assert len({*REAL, *PLANTED}) == len(Mark._fields) * 2
