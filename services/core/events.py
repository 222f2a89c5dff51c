"""Every message that travels on a topic, frozen and typed; `schemas/events` tells outsiders too.

Times are integers, microseconds since the epoch, UTC. Columns with one number per reading or per
entry are packed little-endian bytes (`schemas/events/*.avsc` names each layout); numpy reads them
in place.
"""

from enum import IntEnum, IntFlag, StrEnum
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

PSEUDONYM_BYTES: Final = 16
"""Length of a pseudonym of a patient or an encounter."""
READING_ID_BYTES: Final = 8
"""Length of the keyed hash that stands for a resource's id."""
MICROSECONDS_PER_HOUR: Final = 3_600_000_000
"""How many microseconds an hour has."""

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Hash a key as Kafka's Java client does.

    Args:
        key: any bytes.

    Returns:
        An unsigned 32-bit hash.

    >>> murmur2(b"21") - (1 << 32)
    -973932308
    """
    length = len(key)
    state = _SEED ^ length
    whole = length - length % 4
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        state = state * _MULTIPLIER & _MASK ^ word
    if whole < length:
        state = (state ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _MASK
    state = (state ^ state >> 13) * _MULTIPLIER & _MASK
    return state ^ state >> 15


def partition_of(pseudonym: bytes, partitions: int) -> int:
    """Say which partition of every patient-keyed topic belongs to a patient.

    Args:
        pseudonym: the patient's pseudonym, 16 bytes.
        partitions: how many partitions patient-keyed topics have, at least 1.

    Returns:
        A partition number, 0 ≤ number < partitions.
    """
    return (murmur2(pseudonym) & 0x7FFFFFFF) % partitions


class Kind(StrEnum):
    """What a Vitals event tells about its patient."""

    OBSERVATION = "observation"
    PATIENT = "patient"
    ENCOUNTER = "encounter"
    RETRACTION = "retraction"
    TICK = "tick"


class Flag(IntFlag):
    """What a reader of one value must know; any bit of UNUSABLE keeps it out of the model."""

    NONE = 0
    ABSENT = 1  # no value, with a reason (dataAbsentReason)
    PRELIMINARY = 2
    COMPARATOR = 4  # "<" or ">": not an exact value
    UNUSUAL = 8  # possible, outside the usual range
    INCONSISTENT = 16  # systolic below diastolic
    DERIVED = 32
    CONVERTED = 64
    NO_ID = 128  # the sender gave no id; the entry's sha256 stands for it
    UNUSABLE = ABSENT | COMPARATOR | UNUSUAL | INCONSISTENT


class Demographics(msgspec.Struct, frozen=True, kw_only=True):
    """Who the patient is, as cohorts and the model need it; each may be unknown (None)."""

    age: float | None = None  # years; 90 means 90 and over
    sex: str | None = None
    race: str | None = None
    ethnicity: str | None = None
    language: str | None = None
    payer: str | None = None
    birth_sex: str | None = None  # as registered at birth; `sex` is the administrative one


class Stay(msgspec.Struct, frozen=True, kw_only=True):
    """Where an encounter stands; each may be unknown (None)."""

    status: str
    unit: str | None = None
    admitted_at: int | None = None
    ended_at: int | None = None


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """Something that concerns one patient, in the one order of its partition.

    Readings are columns of equal length: reading i has the variable `variables[i]` and so on.
    """

    kind: Kind
    source: str
    pseudonym: bytes = b""  # 16 bytes; empty for a tick
    encounter: bytes = b""  # 16 bytes; empty when the sender named none
    measured_at: int
    received_at: int
    accepted_at: int
    ingest_id: str
    raw_partition: int
    raw_offset: int
    entries: bytes = b""  # <u2 per reading (or one, without readings): entry of the raw record
    variables: bytes = b""  # u1 per reading: place in core.vitals.VARIABLES; 255 unknown
    values: bytes = b""  # <f8 per reading, model units; NaN where absent or retracted
    flags: bytes = b""  # <u2 per reading: Flag
    ids: bytes = b""  # 8 bytes per reading: keyed hash of source and resource id
    versions: bytes = b""  # <i8 per reading: the resource's version, later is greater; 0 unknown
    codes: list[str] = []  # LOINC, per reading
    units: list[str] = []  # UCUM as sent, per reading
    devices: list[str] = []  # keyed hash of the device, hex, per reading; "" unknown
    demographics: Demographics | None = None
    stay: Stay | None = None
    terminology: str = ""  # version of the tables by which values were converted


class Fate(StrEnum):
    """What became of one entry of a raw record."""

    VITALS = "vitals"
    DEAD = "dead"
    OUT_OF_SCOPE = "out_of_scope"
    DUPLICATE = "duplicate"
    TICK = "tick"


class ReceiptEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one entry; `detail` is a reason or an out-of-scope code, never a value."""

    index: int
    fate: Fate
    detail: str = ""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each entry of one record of fhir.raw.v1."""

    ingest_id: str
    source: str
    raw_partition: int
    raw_offset: int
    received_at: int
    accepted_at: int
    length: int
    sha256: bytes
    entries: list[ReceiptEntry]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """An encrypted patient reference: AES-256-GCM, nonce first, associated data the pseudonym."""

    pseudonym: bytes
    key_epoch: int
    ciphertext: bytes


class Patient(msgspec.Struct, frozen=True, kw_only=True):
    """A view of one patient for readers off the alert path.

    The key is the pseudonym followed by `/patient`, `/encounter` or, of a Coverage that came alone
    and tells the payer only, `/coverage`, so that compaction keeps the latest of each; what a
    message does not carry is None.
    """

    pseudonym: bytes
    updated_at: int
    demographics: Demographics | None = None
    encounter: bytes = b""
    stay: Stay | None = None


class Disposition(IntEnum):
    """What scoring did with one vitals offset."""

    SCORED = 0
    ABSTAINED = 1
    DUPLICATE = 2
    CONFLICT = 3
    STATE_ONLY = 4
    HEARTBEAT = 5


class Cause(IntEnum):
    """Why an entry was not scored, or what was special about it."""

    NONE = 0
    TOO_FEW_VITALS = 1
    TOO_OLD = 2  # the newest vital signs are older than the policy allows
    TOO_LATE = 3  # measured before the history that is kept
    NOTHING_CHANGED = 4
    UNUSABLE = 5  # no value of the message may be used
    UNREADABLE = 6  # the record was no event; a dead letter tells why
    MODEL_OUTPUT = 7
    LATE = 8  # scored, though measured before a newer value
    OUTSIDE_SUPPORT = 9  # too unlike the patients that the model learned from
    SUSPECT_DELTA = 10  # scored, though a vital sign jumped
    SUSPECT_FLAT = 11  # scored, though a vital sign has not moved for very many readings


class Decision(IntEnum):
    """What the policy decided on one score."""

    NONE = 0
    RAISED = 1
    ONGOING = 2
    CLEARED = 3
    WITHDRAWN = 4
    HELD_PERSISTENCE = 5
    HELD_REFRACTORY = 6
    ESCALATED = 7
    HELD_TRANSFER = 8  # silence after a transfer
    HELD_EXPIRED = 9  # it would be over by now: scoring came back to a log that had waited


class Role(StrEnum):
    """Whether anybody sees what the model says."""

    SHOWN = "shown"
    SHADOW = "shadow"


class PredictionBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What one model made of 1 to 512 records of one vitals partition, one entry per offset.

    Columns have one element per entry unless they say otherwise. `features` has a row of
    `feature_count` numbers per *scored* entry, in entry order; `values` has one number per set bit
    of `bitmaps`, entry after entry, lowest bit first.
    """

    vitals_topic_id: str
    partition: int
    model_name: str
    model_version: str
    model_digest: str
    policy_version: str
    role: Role
    watermark: int | None  # µs; no earlier event is expected of any source heard
    entries: int
    offsets: bytes  # <i8
    kinds: bytes  # u1: place in tuple(Kind)
    dispositions: bytes  # u1: Disposition
    causes: bytes  # u1: Cause
    pseudonyms: bytes  # 16 each, zeros for a tick
    encounters: bytes  # 16 each, zeros where there is none
    measured_at: bytes  # <i8
    received_at: bytes  # <i8
    accepted_at: bytes  # <i8
    as_of: bytes  # <i8: the time at which the features were taken
    bitmaps: bytes  # <u8: bit i set where variable i was measured in the event
    values: bytes  # <f8, packed by bitmap
    scores: bytes  # <f4, NaN where not scored
    thresholds: bytes  # <f4, NaN where not scored
    decisions: bytes  # u1: Decision
    cohort_dimensions: list[str]
    cohort_labels: list[str]  # dictionary of the codes below
    cohorts: bytes  # <u2, one per entry and dimension, entry-major: place in cohort_labels
    feature_count: int
    features: bytes  # <f4, feature_count per scored entry
    suspects: bytes = b""  # <u2: bit i vital sign i jumped, bit 8 + i it froze; empty: none of any


class Step(StrEnum):
    """A step in the life of an alert; each happens at most once, ESCALATED once per severity."""

    RAISED = "raised"
    ESCALATED = "escalated"
    CLEARED = "cleared"
    WITHDRAWN = "withdrawn"


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """How far one feature moved the model's raw margin."""

    feature: str
    value: float | None
    contribution: float


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A step in the life of an alert, for the hospital to act on."""

    alert_id: str  # the prediction id that raised it
    step: Step
    prediction_id: str  # the prediction, or for an expiry the record, behind this step
    pseudonym: bytes
    encounter: bytes
    unit: str
    measured_at: int
    received_at: int
    accepted_at: int
    valid_until: int
    score: float
    threshold: float
    cause: str  # why this step, a word
    contributions: list[Contribution] = []
    policy_version: str
    model_digest: str
    severity: int = 0  # severity steps reached as it was told last; rises with each ESCALATED


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message, or one entry of one, that could not be used; the payload is encrypted."""

    reason: str
    place: str
    topic: str
    partition: int
    offset: int
    entry: int  # -1: the whole record
    source: str
    received_at: int
    length: int
    sha256: bytes
    key_epoch: int
    payload: bytes  # AES-256-GCM, nonce first, sha256 as associated data; empty when too large


class Verdict(StrEnum):
    """What a clinician said of an alert."""

    CONFIRMED = "confirmed"  # the patient has it, or is treated as if
    DISMISSED = "dismissed"  # overridden, with a reason
    UNSURE = "unsure"


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done for the patient, and when."""

    kind: str  # a word of core.feedback.ACTIONS
    at: int


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What a clinician answered to an alert; the same id again is the same answer."""

    feedback_id: str  # of the source; unique there
    source: str
    alert_id: str
    verdict: Verdict
    reason: str = ""  # a code of core.feedback.REASONS; "" where none was given
    role: str = ""  # a word of core.feedback.ROLES; "" unknown
    shown_at: int | None = None
    answered_at: int
    actions: list[Action] = []
    received_at: int
    accepted_at: int


class Authority(StrEnum):
    """Who says what became of a patient, from the least to the most that it weighs."""

    CLINICIAN = "clinician"  # a verdict on the alert
    CODED = "coded"  # discharge codes
    PROVISIONAL = "provisional"  # adjudicated, may change
    FINAL = "final"  # adjudicated, for good


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Whether and when an encounter had its onset, as one authority saw it at one time.

    Without a pseudonym it concerns nobody: it says that `source` has told of every onset before
    `complete_through`, and stands in every partition.
    """

    outcome_id: str  # of the source; unique there
    source: str
    pseudonym: bytes = b""  # 16 bytes; empty for a source's progress
    encounter: bytes = b""  # 16 bytes
    authority: Authority
    revision: int  # of this outcome by this authority; later is greater
    onset_at: int | None = None  # None: there was none
    recognized_at: int | None = None  # first antibiotic, culture or lactate order
    treated_at: int | None = None
    definition: str  # physionet-2019, sepsis-3, cdc-ase
    definition_version: str
    complete_through: int | None = None  # only of a source's progress
    received_at: int
    accepted_at: int


class HourLabel(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one hour of an encounter at one revision.

    `first_alert` and `onset` mark the hour in which they fall, so that a window counts each stay
    once, whatever the order in which its hours come. What each field means: docs/labels.md.
    """

    score: float  # the highest of the hour
    threshold: float  # it was held against
    above: bool  # whether the score reached it
    raised: bool  # an alert was raised in this hour
    first_alert: bool  # and it is the first of the encounter
    label: int  # 1: onset's hour lies in (hour, hour + horizon]; 0: not; -1: left out, it passed
    final: bool  # the label will not change
    onset: bool  # the onset falls into this hour, or into one after it without a score
    lead_s: int | None  # of the first alert or of the onset hour: from first alert to onset
    recognition_lead_s: int | None  # the same, to recognition
    treatment_lead_s: int | None  # the same, to treatment
    shown: bool  # somebody saw the alert
    answered_at: int | None
    verdict: str  # "" without an answer
    reason: str
    acted_at: int | None  # earliest action told
    authority: str  # who settled the label; "" nobody yet
    from_start: bool = False  # positive from the stay's first hour: left out of lead times


class HourBefore(HourLabel, frozen=True, kw_only=True):
    """The same of the revision before; a name of its own, because Avro names a record once."""


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """One hour of one encounter with its label; a consumer takes `before` out and `now` in.

    Without a pseudonym it concerns nobody: it tells how far event time has come.
    """

    pseudonym: bytes = b""
    encounter: bytes = b""
    hour: int  # begin of the UTC hour
    revision: int  # 0 first, one more with every change
    now: HourLabel | None = None  # None: the hour is no longer one of this encounter
    before: HourBefore | None = None
    cohort_dimensions: list[str] = []
    cohorts: list[str] = []  # as known at the hour's last score
    definition: str = ""
    model_digest: str = ""
    policy_version: str = ""
    watermark: int | None = None


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one partition of one topic adds to one window; it replaces its predecessor."""

    family: str  # such as hours/24h: what is counted, over which length
    layout: str  # name and version of the body's form
    start: int
    end: int
    topic: str
    partition: int
    through_offset: int  # of `topic`, the last that is in it
    baseline: str  # digest of the bins it was counted in, hex; "" where none
    body: bytes  # msgpack of core.tallies


class State(StrEnum):
    """What a measurement is worth and says."""

    OK = "ok"
    WATCH = "watch"
    ALARM = "alarm"
    INSUFFICIENT = "insufficient"


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One number about one cohort in one window, with what it takes to believe it."""

    metric: str  # a name of core.measures
    feature: str = ""  # of a drift metric: variable, or variable.presence
    cohort: str  # all, or dimension=label
    unit_of_analysis: str  # patient_hour, hour, encounter, first_alert, patient
    start: int
    end: int
    revision: int
    value: float | None  # None where suppressed or not to be computed
    low: float | None = None  # interval
    high: float | None = None
    numerator: float | None = None
    denominator: float | None = None
    patients: int | None  # None: fewer than 11
    positives: int | None = None
    hours: int | None = None
    maturity: float | None = None  # share of units whose label is final
    threshold: float | None = None  # the value at which the state changes
    p_value: float | None = None  # corrected
    direction: str = ""  # higher, lower, ""
    state: State
    why: str = ""  # a word: no_baseline, few_patients, suppressed, ...
    reference: str = ""  # digest of the baseline, or name of the reference group


class SignalStep(StrEnum):
    """A step in the life of a signal; each change of severity is one."""

    OPENED = "opened"
    CHANGED = "changed"
    CLOSED = "closed"


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One fact behind a signal."""

    name: str
    value: str


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody must look at; id and step and window name a message for good."""

    signal_id: str
    step: SignalStep
    kind: str  # drift, fairness, performance, burden, silence, integrity
    severity: State  # watch or alarm; of `closed` the highest it had
    metric: str
    feature: str = ""
    cohort: str
    start: int  # of the window that led to this step
    end: int
    summary: str
    evidence: list[Evidence] = []
    runbook: str


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a service saw of a source, or the source's time."""

    kind: str  # a word of core.notices
    source: str
    at: int  # event-world time
    count: int = 1  # how often it happened; of what lasts, how many stand so now


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something people changed: who asked, who approved, since when, and what was before."""

    change_id: str
    kind: str  # baseline, deployment, policy, threshold, assay, ward, outage, access
    subject: str
    made_at: int  # real time
    effective_from: int  # event-world time
    requested_by: str
    approved_by: str
    reason: str
    before: str  # digest or version; "" nothing
    after: str
    content: bytes = b""


def prediction_id(vitals_topic_id: str, partition: int, offset: int, *, digest: str) -> str:
    """Name the prediction of one vitals offset by one model.

    Args:
        vitals_topic_id: the topic's UUID, as hex with or without dashes.
        partition: of the vitals topic.
        offset: of the vitals record.
        digest: the bundle's digest, hex.

    >>> prediction_id("00c7a1f4-0000-4000-8000-000000000000", 2, 10, digest="0123456789abcdef")
    '00c7-2-10@0123456789ab'
    """
    return f"{vitals_topic_id.replace('-', '')[:4]}-{partition}-{offset}@{digest[:12]}"


def alert_event_id(alert: Alert) -> str:
    """Name a step in the life of an alert: its id and step, of an escalation the severity too."""
    named = f"{alert.alert_id}:{alert.step}"
    return f"{named}:{alert.severity}" if alert.step is Step.ESCALATED else named


def packed(values: npt.ArrayLike, layout: npt.DTypeLike) -> bytes:
    r"""Pack numbers as little-endian bytes.

    >>> packed([1, 2], "<u2")
    b'\x01\x00\x02\x00'
    """
    return np.asarray(values, dtype=layout).tobytes()
