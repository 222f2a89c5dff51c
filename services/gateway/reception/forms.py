"""The forms in which answers and outcomes are handed in, read as strictly as they are narrow.

A refusal names a code and a field of the form. The names and values of a body are never repeated:
what somebody calls a field can tell of a patient, too.
"""

import json
import re
from collections.abc import Container
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, NoReturn, TypeVar

import msgspec
from msgspec import Meta

from services.core.errors import Reason
from services.core.events import Authority, Verdict
from services.core.feedback import ACTIONS, ALERT_ID, DEFINITIONS, REASONS, ROLES
from services.gateway.reception.answers import Rejected
from services.gateway.reception.body import check_object

MOST_ACTIONS: Final = 64
GREATEST_REVISION: Final = 1_000_000

# A line end may follow `$` here, and `\\Z` is unknown where the contract is read.
_END: Final = r"$(?!\n)"
Name = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9._:-]{{1,64}}{_END}")]
LogicalId = Annotated[str, Meta(pattern=rf"^(?!\.{{1,2}}$)[A-Za-z0-9.-]{{1,64}}{_END}")]
"""As FHIR has it, and as ingest reads it: the pseudonyms of both doors must be the same."""
Version = Annotated[str, Meta(pattern=rf"^[0-9]{{1,4}}(\.[0-9]{{1,4}}){{0,2}}{_END}")]
Instant = Annotated[datetime, Meta(tz=True)]
AlertId = Annotated[str, Meta(extra_json_schema={"pattern": ALERT_ID.pattern})]
ActionWord = Annotated[str, Meta(extra_json_schema={"enum": list(ACTIONS)})]
ReasonWord = Annotated[str, Meta(extra_json_schema={"enum": ["", *REASONS]})]
RoleWord = Annotated[str, Meta(extra_json_schema={"enum": ["", *ROLES]})]
DefinitionWord = Annotated[str, Meta(extra_json_schema={"enum": list(DEFINITIONS)})]


class Fault(StrEnum):
    """What is wrong with a form, where no `errors.Reason` says it."""

    FIELD_MISSING = "FIELD_MISSING"
    FIELD_UNKNOWN = "FIELD_UNKNOWN"
    WORD_UNKNOWN = "WORD_UNKNOWN"
    ID = "ID"
    ALERT_ID = "ALERT_ID"
    TIME_PAST = "TIME_PAST"
    TIME_ORDER = "TIME_ORDER"


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that was done, and when."""

    kind: ActionWord
    at: Instant


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a clinician answers to an alert; the same id again is the same answer."""

    id: Name
    alert_id: AlertId
    verdict: Verdict
    reason: ReasonWord = ""
    role: RoleWord = ""
    shown_at: Instant | None = None
    answered_at: Instant
    actions: Annotated[list[Done], Meta(max_length=MOST_ACTIONS)] = []


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether and when an encounter had its onset; ids are the source's own."""

    id: Name
    patient: LogicalId
    encounter: LogicalId
    authority: Authority
    revision: Annotated[int, Meta(ge=0, le=GREATEST_REVISION)]
    onset_at: Instant | None  # must be said: what is left out is not "there was none"
    recognized_at: Instant | None = None
    treated_at: Instant | None = None
    definition: DefinitionWord
    definition_version: Version


class Progress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every onset before a time has been told."""

    id: Name
    complete_through: Instant


Form = TypeVar("Form", Answer, Told, Progress)

_FIELDS: Final = sorted(
    {
        field.name
        for form in (Answer, Done, Told, Progress)
        for field in msgspec.structs.fields(form)
    }
)
_FIELD: Final = "|".join(_FIELDS)
# Only names of ours are repeated, though a sender wrote a path into the name of a field.
_PLACE: Final = re.compile(rf" - at `\$((?:\.(?:{_FIELD})|\[\d{{1,7}}\])+)`\Z")
_MISSING: Final = re.compile(rf"\AObject missing required field `({_FIELD})`")
_CODES: Final = (
    ("JSON is malformed", Reason.JSON_SYNTAX),
    ("Object missing required field", Fault.FIELD_MISSING),
    ("Object contains unknown field", Fault.FIELD_UNKNOWN),
    ("Invalid enum value", Fault.WORD_UNKNOWN),
    ("Invalid RFC3339 encoded datetime", Reason.TIME_FORMAT),
    ("Expected `datetime", Reason.TIME_FORMAT),
    ("Expected `str` matching regex", Fault.ID),
    ("Expected `int` ", Reason.RANGE),
    ("Expected `array` of length", Reason.RANGE),
)


def read(body: bytes, form: type[Form]) -> Form:
    """Read a body as a form.

    Raises:
        Rejected: it is none (400), with a code and the field.
    """
    check_object(body)
    try:
        filled = msgspec.json.decode(body, type=form)
    except msgspec.DecodeError as error:
        _refuse(str(error))
    # The fast parser keeps the last of two equal names; by now the body is known to be small.
    json.loads(body, object_pairs_hook=_once)
    return filled


def tells_progress(body: bytes) -> bool:
    """Say whether a body is that of Progress; one that is no object is not."""
    try:
        return "complete_through" in msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def check_word(word: str, words: Container[str], place: str) -> str:
    """Give a word back if it is one of some.

    Raises:
        Rejected: it is none of them (400).
    """
    if word not in words:
        raise Rejected(400, place, Fault.WORD_UNKNOWN)
    return word


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Rejected(400, "body", Reason.JSON_DUP_KEY)


def _refuse(complaint: str) -> NoReturn:
    found, missing = _PLACE.search(complaint), _MISSING.match(complaint)
    parts = [found[1].lstrip(".")] if found else []
    parts += [missing[1]] if missing else []
    codes = (code for begin, code in _CODES if complaint.startswith(begin))
    raise Rejected(400, ".".join(parts) or "body", next(codes, Reason.VALUE_TYPE)) from None
