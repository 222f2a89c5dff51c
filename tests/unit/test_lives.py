"""The supervisor of the tests' own: who is followed by another life, and what a wait tells."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lives import Lives, until

from services.core.errors import ExitCode, Retry

SHELL = "/bin/sh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lives").touch()
    return tmp_path


@pytest.fixture
def program(folder: Path, request: pytest.FixtureRequest) -> Iterator[Lives]:
    """A program that counts its lives, then does what the test says."""
    script = f"echo life >> {folder}/lives; lives=$(wc -l < {folder}/lives); {request.param}"
    with Lives("program", [SHELL, "-c", script], folder / "log") as made:
        yield made


def begun(folder: Path) -> int:
    return (folder / "lives").read_text().count("life")


@pytest.mark.parametrize("program", ["[ $lives -gt 2 ] && exec sleep 99; exit 70"], indirect=True)
def test_a_life_that_ended_by_itself_is_followed_until_the_test_kills_one(
    program: Lives, folder: Path
) -> None:
    until(lambda: begun(folder) == 3)
    program.kill()
    assert program.codes == [70, 70, -signal.SIGKILL]
    assert begun(folder) == 3


@pytest.mark.parametrize(
    ("program", "code"), [(f"exit {n}", n) for n in (0, 3, 6)], indirect=["program"]
)
def test_a_life_that_must_not_be_followed_is_not(program: Lives, folder: Path, code: int) -> None:
    assert program.ends() == code
    program._thread.join()
    assert (program.codes, begun(folder)) == ([code], 1)


@pytest.mark.parametrize(
    "program",
    ["trap 'exit $((70 * ($lives == 1)))' TERM; while :; do sleep 0.01; done"],
    indirect=True,
)
def test_a_life_that_could_not_leave_in_order_is_followed_by_one_that_can(
    program: Lives, folder: Path
) -> None:
    until(lambda: begun(folder) == 1)
    assert program.end() == ExitCode.OK
    assert begun(folder) > 1


@pytest.mark.parametrize("program", ["echo door shut; exit 70"], indirect=True)
def test_a_wait_that_fails_tells_how_lives_ended_and_their_last_words(program: Lives) -> None:
    until(lambda: len(program.codes) > 1)
    with pytest.raises(AssertionError, match=r"(?s)a score.*program: ended with \[70, 70.*shut"):
        until(lambda: False, "a score", seconds=0)


def test_a_broker_that_does_not_answer_yet_is_asked_again() -> None:
    answers = iter([False, True])

    def asked() -> bool:
        if not next(answers):
            raise Retry("Kafka: no answer")
        return True

    until(asked)
