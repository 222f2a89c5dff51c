"""Why a message is not taken: what its sender is told in MSA and ERR."""

from enum import StrEnum
from typing import Final


class Answer(StrEnum):
    """The acknowledgment codes of the original mode."""

    ACCEPTED = "AA"
    ERROR = "AE"
    """The message is at fault, or cannot be stored now: mend it or send it again."""
    REJECTED = "AR"
    """It is of a kind that is not taken here, whatever it says."""


# HL7 table 0357: numbers of errors.
SEQUENCE: Final = "100^Segment sequence error"
MISSING: Final = "101^Required field missing"
TYPE: Final = "102^Data type error"
NOT_IN_TABLE: Final = "103^Table value not found"
KIND: Final = "200^Unsupported message type"
EVENT: Final = "201^Unsupported event code"
PROCESSING: Final = "202^Unsupported processing id"
VERSION: Final = "203^Unsupported version id"
INTERNAL: Final = "207^Application internal error"


class NotTaken(Exception):  # noqa: N818 - an answer, not a fault of ours
    """A message is answered with something else than AA.

    Args:
        answer: AE or AR.
        error: one of the numbers above, with its text.
        place: segment, its number among its like, field: `PID^1^3`; never a value.
        reason: a word of ours for logs and metrics.
    """

    def __init__(self, answer: Answer, error: str, place: str = "", reason: str = "") -> None:
        super().__init__(f"{answer} {error} {place}".strip())
        self.answer, self.error, self.place = answer, error, place
        self.reason = reason or error[:3]
