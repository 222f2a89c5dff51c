"""Every error says who must act: the sender, the engineer on call, the person at the terminal."""

from enum import IntEnum, StrEnum

from services.core.faults import Fault


class ExitCode(IntEnum):
    """How a process ends; a supervisor restarts every code but OK, CONFIGURATION and STOP."""

    OK = 0
    FINDING = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    REFUSED = 5
    STOP = 6
    CRASH = 70
    INTERRUPTED = 130


class Reason(StrEnum):
    """Why a message, or an entry of one, was refused; the code that a dead letter carries."""

    JSON_SYNTAX = "JSON_SYNTAX"
    JSON_NONFINITE = "JSON_NONFINITE"
    JSON_DUP_KEY = "JSON_DUP_KEY"
    JSON_DEPTH = "JSON_DEPTH"
    NUM_OVERFLOW = "NUM_OVERFLOW"
    NUM_UNDERFLOW = "NUM_UNDERFLOW"
    NUM_RANGE = "NUM_RANGE"
    NUM_NONFINITE = "NUM_NONFINITE"
    TOO_LARGE = "TOO_LARGE"
    DECOMP_BOMB = "DECOMP_BOMB"
    ENCODING = "ENCODING"
    BAD_CHAR = "BAD_CHAR"
    FHIR_TYPE = "FHIR_TYPE"
    FHIR_STATUS = "FHIR_STATUS"
    FHIR_CODE = "FHIR_CODE"
    FHIR_ID = "FHIR_ID"
    CODE_CONFLICT = "CODE_CONFLICT"
    SUBJECT = "SUBJECT"
    VALUE_CHOICE = "VALUE_CHOICE"
    VALUE_TYPE = "VALUE_TYPE"
    MODIFIER_EXT = "MODIFIER_EXT"
    UNIT_IMPLAUSIBLE = "UNIT_IMPLAUSIBLE"
    UNIT_DIMENSION = "UNIT_DIMENSION"
    UNIT_UNKNOWN = "UNIT_UNKNOWN"
    RANGE = "RANGE"
    DEMOG = "DEMOG"
    PATIENT_MERGE = "PATIENT_MERGE"
    TIME_FUTURE = "TIME_FUTURE"
    TIME_FORMAT = "TIME_FORMAT"
    KEY_MISMATCH = "KEY_MISMATCH"
    HEADER = "HEADER"
    TOMBSTONE = "TOMBSTONE"
    AVRO_SYNTAX = "AVRO_SYNTAX"
    SCHEMA_UNKNOWN = "SCHEMA_UNKNOWN"
    ALERT_UNKNOWN = "ALERT_UNKNOWN"
    ENCOUNTER_UNKNOWN = "ENCOUNTER_UNKNOWN"
    UNEXPECTED = "UNEXPECTED"


class VigilError(Exception):
    """Every error that Vigil raises on purpose."""


class Retry(VigilError):  # noqa: N818 - it names what to do
    """A door is shut for now: the process leaves and its next life tries again."""


class Stop(VigilError):  # noqa: N818 - it names what to do
    """Going on would make state wrong: the process ends with exit code 6 and stays down."""


class Refusal(VigilError):  # noqa: N818 - a refusal is an answer, not a fault of ours
    """The sender's message cannot be used.

    Args:
        reason: the code.
        place: where in the message, as a path such as `Observation.valueQuantity.code` or
            `byte 17`; never a value.
    """

    def __init__(self, reason: Reason, place: str) -> None:
        super().__init__(f"{reason} at {place}")
        self.reason = reason
        self.place = place


class CommandError(VigilError):
    """A command cannot do what it was asked; the text is for the person at the terminal.

    Args:
        what: what happened and why, one sentence.
        remedy: what to do about it, one sentence.
        fault: which error it is; its first digit is how the command ends.
        exit_code: how it ends instead: as what it had asked for ended.
    """

    def __init__(
        self, what: str, remedy: str, fault: Fault, exit_code: ExitCode | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.fault = fault
        self.exit_code = exit_code or ExitCode(fault.number // 1000)

    @property
    def vgl(self) -> str:
        """The code under which docs/errors.md tells of it."""
        return self.fault.code

    @property
    def told(self) -> str:
        """All of it in one line, for logs."""
        return f"{self.vgl} {self.what} {self.remedy}"
