"""Which models score, for whom each is shown, and how what people changed adds up to that."""

import hashlib
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from services.core.errors import Reason, Refusal
from services.core.events import Change
from services.core.policy import Policy, complaints

DEPLOYMENT: Final = "deployment"
"""Kind of the changes by which models come and go."""
KINDS: Final = frozenset({DEPLOYMENT, "policy", "threshold"})
"""Kinds of the changes that carry a line-up."""
BUCKETS: Final = 100
MOST_SHADOWS: Final = 3
"""Each costs as much computing as the champion."""

Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Share = Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)]
Shadows = Annotated[tuple["Seat", ...], msgspec.Meta(max_length=MOST_SHADOWS)]


class Part(StrEnum):
    """What a model does: of champion and canary one is shown for each patient."""

    CHAMPION = "champion"
    CANARY = "canary"
    SHADOW = "shadow"


class Seat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model, named whatever the folder it lies in, and the policy its scores are held to."""

    name: Word
    version: Word
    digest: Digest
    policy: Policy | None = None  # None: the bundle's own


class LineUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All models that score at a time; of a policy too, one change replaces the whole."""

    champion: Seat | None = None  # None: the bundle that scoring was started with
    canary: Seat | None = None
    share: Share = 0  # per cent of the patients for whom the canary is shown
    shadows: Shadows = ()

    def seats(self) -> list[tuple[Part, Seat]]:
        """Give every seat that is named, with its part."""
        shown = [(Part.CHAMPION, self.champion), (Part.CANARY, self.canary)]
        named = [(part, seat) for part, seat in shown if seat is not None]
        return named + [(Part.SHADOW, seat) for seat in self.shadows]

    def unseen(self) -> list[Seat]:
        """Give the shadows that score: what is shown already needs none."""
        shown = {seat.digest for seat in (self.champion, self.canary) if seat is not None}
        return [seat for seat in self.shadows if seat.digest not in shown]


AS_CONFIGURED: Final = LineUp()
"""The line-up before anybody changed it."""


class Proposal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a change: what shall hold, in place of what, and whether it takes back.

    Two people who change the line-up at once would undo each other's work unseen. So the second
    change, whose author did not know of the first, is refused.
    """

    line_up: LineUp
    based_on: str  # id of the latest change that its author knew of; "" of none
    undoes: str = ""  # id of the change that it takes back, with all that came after


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A change that has not been taken back, where it stands in changes.v1, what holds by it."""

    offset: int
    change: Change
    line_up: LineUp


class History:
    """What the changes add up to; the same changes in the same order give the same line-up."""

    def __init__(self) -> None:
        self.standing: list[Standing] = []
        """Oldest first; a rollback takes from its end."""
        self.taken: list[str] = []
        """Ids of all changes that were taken, rollbacks too."""

    @property
    def now(self) -> LineUp:
        """The line-up that shall hold."""
        return self.standing[-1].line_up if self.standing else AS_CONFIGURED

    @property
    def latest(self) -> str:
        """Id of the change that was taken last; empty before any."""
        return self.taken[-1] if self.taken else ""

    def take(self, change: Change, offset: int) -> None:
        """Take a change of KINDS.

        Args:
            change: as published.
            offset: in changes.v1.

        Raises:
            Refusal: it cannot be read (JSON_SYNTAX), contradicts itself (RANGE), or builds on
                something else than what holds (KEY_MISMATCH); nothing was changed.
        """
        proposal = decode(change.content)
        if proposal.based_on != self.latest:
            raise Refusal(Reason.KEY_MISMATCH, "based_on")
        if proposal.undoes:
            self.standing = self._without(proposal)
        else:
            step = Standing(offset=offset, change=change, line_up=proposal.line_up)
            self.standing.append(step)
        self.taken.append(change.change_id)

    def undo(self, kinds: Collection[str] = KINDS) -> Proposal | None:
        """Propose what held before the last standing change of some kinds; None without one."""
        for place in range(len(self.standing) - 1, -1, -1):
            change = self.standing[place].change
            if change.kind in kinds:
                before = self.standing[place - 1].line_up if place else AS_CONFIGURED
                undoes = change.change_id
                return Proposal(line_up=before, based_on=self.latest, undoes=undoes)
        return None

    def propose(self, line_up: LineUp) -> Proposal:
        """Propose a line-up in place of the one that holds; raises Refusal as `check` does."""
        check(line_up)
        return Proposal(line_up=line_up, based_on=self.latest)

    def _without(self, proposal: Proposal) -> list[Standing]:
        ids = [step.change.change_id for step in self.standing]
        if proposal.undoes not in ids:
            raise Refusal(Reason.KEY_MISMATCH, "undoes")
        kept = self.standing[: ids.index(proposal.undoes)]
        if proposal.line_up != (kept[-1].line_up if kept else AS_CONFIGURED):
            raise Refusal(Reason.KEY_MISMATCH, "line_up")
        return kept


def seated(line_up: LineUp, seat: Seat, part: Part, share: int = 0) -> LineUp:
    """Give a model a part; a canary or shadow that becomes champion leaves its old part.

    Args:
        line_up: of before.
        seat: the model; without a policy it keeps the one that it is held to already, as a canary
            that becomes champion is what was tried.
        part: what it shall do.
        share: per cent of the patients, for a canary.

    Raises:
        Refusal: as `check` does.
    """
    known = next((each for _, each in line_up.seats() if each.digest == seat.digest), seat)
    seat, rest = (known if seat.policy is None else seat), withdrawn(line_up, seat.digest)
    if part is Part.CHAMPION:
        found = msgspec.structs.replace(rest, champion=seat)
    elif part is Part.CANARY:
        found = msgspec.structs.replace(rest, canary=seat, share=share)
    else:
        found = msgspec.structs.replace(rest, shadows=(*rest.shadows, seat))
    check(found)
    return found


def withdrawn(line_up: LineUp, digest: str) -> LineUp:
    """Take a model out of canary and shadows; a champion stays until another one comes."""
    shadows = tuple(seat for seat in line_up.shadows if seat.digest != digest)
    without = msgspec.structs.replace(line_up, shadows=shadows)
    if line_up.canary is not None and line_up.canary.digest == digest:
        without = msgspec.structs.replace(without, canary=None, share=0)
    return without


def check(line_up: LineUp) -> None:
    """Hold a line-up to what it takes for every prediction to have a name of its own.

    Raises:
        Refusal: a canary without a share or a share without a canary (RANGE at share), too many
            shadows, or one that is another part already (RANGE at shadows), a canary that is the
            champion (RANGE at canary), a policy that may not be used (RANGE at policy).
    """
    if (line_up.canary is None) != (line_up.share == 0) or not 0 <= line_up.share < BUCKETS:
        raise Refusal(Reason.RANGE, "share")
    if line_up.canary is not None and line_up.canary == line_up.champion:
        raise Refusal(Reason.RANGE, "canary")
    shadows = [seat.digest for seat in line_up.shadows]
    shown = {seat.digest for part, seat in line_up.seats() if part is not Part.SHADOW}
    if len(set(shadows) - shown) < len(line_up.shadows) or len(shadows) > MOST_SHADOWS:
        raise Refusal(Reason.RANGE, "shadows")
    if any(complaints(seat.policy) for _, seat in line_up.seats() if seat.policy is not None):
        raise Refusal(Reason.RANGE, "policy")


def encode(proposal: Proposal) -> bytes:
    """Write a proposal as the content of a change, JSON."""
    return msgspec.json.encode(proposal, order="deterministic")


def decode(content: bytes) -> Proposal:
    """Read the content of a change; raises Refusal (JSON_SYNTAX) or as `check` does."""
    try:
        found = msgspec.json.decode(content, type=Proposal)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(Reason.JSON_SYNTAX, "content") from error
    check(found.line_up)
    return found


def in_canary(pseudonym: bytes, share: int) -> bool:
    """Tell whether a patient is one of those for whom the canary is shown.

    It depends on the pseudonym alone: a patient stays when the share grows, whatever the canary.

    Args:
        pseudonym: of the patient, 16 bytes.
        share: per cent, 0 to 99.

    >>> [in_canary(bytes(16), share) for share in (0, 69, 70, 99)]
    [False, False, True, True]
    """
    # A hash of its own: the pseudonym chooses the partition as well, and shares shall be alike.
    digest = hashlib.sha256(b"canary" + pseudonym).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS < share
