"""The gateway learns which topics there are, and says why it cannot."""

import asyncio

import pytest
from structlog.testing import capture_logs

from services.core.errors import Retry
from services.gateway import pipeline


def test_a_topic_that_is_missing_is_told_once_and_found_when_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "ASK_EVERY_S", 0)
    missing, known = "run `vigil topics apply`", dict[str, int]()
    answers = iter([missing, missing, missing, ""])

    def ask(topics: list[str]) -> list[tuple[str, int]]:
        if why := next(answers):
            raise Retry(why)
        return [(topic, number) for topic in topics for number in (0, 1)]

    with capture_logs() as told:
        asyncio.run(pipeline.learn(known, ask, ["notices.v1"]))
    assert known == {"notices.v1": 2}
    assert [line["because"] for line in told] == [missing]
