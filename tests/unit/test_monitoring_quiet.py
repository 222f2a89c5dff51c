"""Faust and aiokafka say little in our log, seldom, and never what they quote."""

import logging

from services.monitoring.quiet import EVERY_S, Quiet


def record(name: str, level: int = logging.ERROR, line: int = 1) -> logging.LogRecord:
    return logging.LogRecord(name, level, "fetcher.py", line, "cannot read %r", (b"secret",), None)


def test_the_same_line_of_theirs_is_heard_once_a_minute() -> None:
    now = 0.0
    quiet = Quiet(lambda: now)
    heard = [quiet.filter(record("aiokafka.consumer.fetcher")) for _ in range(3)]
    other = quiet.filter(record("aiokafka.consumer.fetcher", line=2))
    now = EVERY_S
    later = quiet.filter(record("aiokafka.consumer.fetcher"))
    assert (heard, other, later) == ([True, False, False], True, True)


def test_what_they_quote_is_not_written() -> None:
    told = record("faust.app.base")
    assert Quiet(lambda: 0.0).filter(told)
    assert "secret" not in told.getMessage()
    assert "faust.app.base" in told.getMessage()


def test_what_they_merely_mention_is_not_heard() -> None:
    told = record("services.monitoring.transport", logging.INFO)
    assert not Quiet(lambda: 0.0).filter(told)


def test_our_own_words_pass_as_they_are() -> None:
    told = record("services.monitoring.app", logging.INFO)
    assert all(Quiet(lambda: 0.0).filter(told) for _ in range(3))
    assert "secret" in told.getMessage()
