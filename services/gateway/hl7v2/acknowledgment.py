"""What the sender of a message is told: MSH, MSA and, where something is wrong, ERR."""

import re
from typing import Final

from services.gateway.hl7v2.refusal import INTERNAL, Answer, NotTaken
from services.gateway.hl7v2.translation import Header

LONGEST: Final = 199
CHARSET: Final = "||||||UNICODE UTF-8"
_ECHOED: Final = re.compile(r"[^ -~]|[|^~\\&]")


def acknowledged(header: Header | None, *, at: str, name: str) -> bytes:
    """Say that a message is durably held.

    Args:
        header: of the message.
        at: the time, as `20260101090000+0000`.
        name: of this answer.
    """
    return _message(header, Answer.ACCEPTED, (), at=at, name=name)


def refused(header: Header | None, why: NotTaken, *, at: str, name: str) -> bytes:
    """Say why a message is not taken; header is None where it could not be read."""
    error = f"ERR||{why.place}|{why.error}^HL70357|E||||{_echo(why.reason)}"
    return _message(header, why.answer, (error,), at=at, name=name)


def not_stored(header: Header | None, *, at: str, name: str) -> bytes:
    """Say that a message could not be stored for now: send it again."""
    return refused(header, NotTaken(Answer.ERROR, INTERNAL, reason="SEND_AGAIN"), at=at, name=name)


def _message(
    header: Header | None, answer: Answer, errors: tuple[str, ...], *, at: str, name: str
) -> bytes:
    sender = [_echo(header.segment.raw(n)) if header else "" for n in (3, 4)]
    version = _echo(header.segment.first(12)) if header else ""
    kind = f"ACK^{_echo(header.event)}^ACK" if header and header.event else "ACK"
    lines = (
        f"MSH|^~\\&|VIGIL||{'|'.join(sender)}|{at}||{kind}|{name}|P|{version or '2.5.1'}{CHARSET}",
        f"MSA|{answer}|{_echo(header.control_id) if header else ''}",
        *errors,
    )
    return ("\r".join(lines) + "\r").encode()


def _echo(text: str) -> str:
    """Give a sender's word back in letters that cannot be mistaken for anything else."""
    return _ECHOED.sub("", text)[:LONGEST]
