"""Who is believed: of many outcomes the one in force, of many answers their sum.

Both are the same whatever came first.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from services.core.events import Action, Authority, Feedback, Outcome, Verdict

_WEIGHT: Final = {authority: weight for weight, authority in enumerate(Authority)}


class Settled(msgspec.Struct, frozen=True, array_like=True):
    """The outcome that a stay's labels follow."""

    authority: Authority
    revision: int
    outcome_id: str
    source: str
    onset_at: int | None  # µs; None: there was none
    recognized_at: int | None
    treated_at: int | None
    definition: str  # with its version

    @classmethod
    def of(cls, outcome: Outcome) -> "Settled":
        """Take from an outcome what labels need."""
        return cls(
            authority=outcome.authority,
            revision=outcome.revision,
            outcome_id=outcome.outcome_id,
            source=outcome.source,
            onset_at=outcome.onset_at,
            recognized_at=outcome.recognized_at,
            treated_at=outcome.treated_at,
            definition=f"{outcome.definition} {outcome.definition_version}".strip(),
        )


def weightier(one: Settled | None, other: Settled) -> Settled:
    """Give the outcome that labels follow: authority, then revision, then the greater id."""
    return other if one is None else max(one, other, key=_weight)


def _weight(outcome: Settled) -> tuple[int, int, str, str]:
    weight = _WEIGHT[outcome.authority]
    return weight, outcome.revision, outcome.outcome_id, outcome.source


class Answers(msgspec.Struct, frozen=True, array_like=True):
    """All answers to one alert: when the first came, what the latest says, what was done."""

    first_at: int  # µs
    latest: tuple[int, str, str]  # answered_at, source and id of the latest
    verdict: Verdict
    reason: str
    acted_at: int | None  # the earliest action of any answer

    @classmethod
    def of(cls, feedback: Feedback) -> "Answers":
        """Take from one answer what labels need."""
        return cls(
            first_at=feedback.answered_at,
            latest=(feedback.answered_at, feedback.source, feedback.feedback_id),
            verdict=feedback.verdict,
            reason=feedback.reason,
            acted_at=_earliest(feedback.actions),
        )


def together(one: Answers | None, other: Answers | None) -> Answers | None:
    """Sum up answers; in any order and grouping the same."""
    if one is None or other is None:
        return one or other
    latest = max(one, other, key=_recency)
    acted = [answers.acted_at for answers in (one, other) if answers.acted_at is not None]
    return msgspec.structs.replace(
        latest, first_at=min(one.first_at, other.first_at), acted_at=min(acted, default=None)
    )


def _recency(answers: Answers) -> tuple[int, str, str]:
    return answers.latest


def _earliest(actions: Iterable[Action]) -> int | None:
    return min((action.at for action in actions), default=None)
