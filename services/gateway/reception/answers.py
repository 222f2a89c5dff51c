"""What a sender is told: OperationOutcome on FHIR routes, problem details (RFC 9457) elsewhere."""

from typing import Final

import msgspec

FHIR: Final = "application/fhir+json"
PROBLEM: Final = "application/problem+json"

# Status: the issue type of FHIR (http://hl7.org/fhir/issue-type) and what it means here.
MEANINGS: Final = {
    400: ("structure", "The message cannot be read."),
    401: ("login", "The source is not known: send the token it was given."),
    403: ("forbidden", "The source may not do this."),
    404: ("not-found", "There is nothing here."),
    405: ("not-supported", "This address does not take this method."),
    408: ("timeout", "The message did not arrive in time."),
    412: ("not-supported", "No condition is taken: say the version in meta.versionId."),
    413: ("too-long", "The message is longer than 1 MiB: send fewer entries at a time."),
    415: (
        "not-supported",
        "Send application/fhir+json or application/json, in UTF-8, not compressed.",
    ),
    500: ("exception", "The gateway failed; nothing is known to be stored. Send again."),
    503: ("transient", "The message could not be stored for now. Send again."),
}

CLOSE: Final = {"Connection": "close"}  # the rest of the body is not worth reading
HEADERS: Final = {
    401: {"WWW-Authenticate": "Bearer"},
    408: CLOSE,
    413: CLOSE,
    503: {"Retry-After": "1"},
}


class Rejected(Exception):  # noqa: N818 - an answer, not a fault of ours
    """A request is answered with something else than 202.

    Args:
        status: HTTP status, one of MEANINGS.
        place: what is wrong and where, such as `byte 17`; never a value.
        reason: a code of `services.core.errors.Reason` or `forms.Fault`, where one fits.
    """

    def __init__(self, status: int, place: str = "", reason: str = "") -> None:
        super().__init__(f"{status} {reason} {place}".strip())
        self.status, self.place, self.reason = status, place, reason


class _Details(msgspec.Struct, frozen=True):
    text: str


class _Issue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    severity: str
    code: str
    details: _Details
    diagnostics: str = ""


class _OperationOutcome(msgspec.Struct, frozen=True, kw_only=True):
    resourceType: str = "OperationOutcome"  # noqa: N815 - FHIR's name
    issue: list[_Issue]


class _Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    title: str
    status: int
    detail: str = ""
    reason: str = ""  # for programs: the parts of `detail`
    place: str = ""


def operation_outcome(rejected: Rejected) -> bytes:
    """Tell it in FHIR's words."""
    code, meaning = MEANINGS[rejected.status]
    issue = _Issue(
        severity="error", code=code, details=_Details(meaning), diagnostics=_diagnostics(rejected)
    )
    return msgspec.json.encode(_OperationOutcome(issue=[issue]))


def problem(rejected: Rejected) -> bytes:
    """Tell it as problem details."""
    _, meaning = MEANINGS[rejected.status]
    return msgspec.json.encode(
        _Problem(
            title=meaning,
            status=rejected.status,
            detail=_diagnostics(rejected),
            reason=rejected.reason,
            place=rejected.place,
        )
    )


def _diagnostics(rejected: Rejected) -> str:
    return " at ".join(part for part in (rejected.reason, rejected.place) if part)
