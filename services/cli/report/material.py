"""What a report is made of, as the store told it, before anything is put into words."""

import msgspec

from services.core.events import Measurement
from services.core.windows import Window
from services.monitoring.findings import Share


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model under one policy at work; times in µs, of measurement."""

    name: str
    version: str
    digest: str
    policy: str
    role: str
    first: int
    last: int
    scored: int


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What was done in a period, counted.

    Attributes:
        patients: with an event that was scored, or from which scoring abstained.
        scored: events.
        abstained: events, by cause.
        entries: that came in.
        refused: of them, those that became dead letters, by reason.
    """

    patients: int = 0
    scored: int = 0
    abstained: dict[str, int] = {}
    entries: int = 0
    refused: dict[str, int] = {}


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """How the alerts that were raised in a period were answered; the first answer counts.

    Attributes:
        raised: alerts.
        withdrawn: of them, after a correction.
        patients: who had one.
        verdicts: answers by verdict.
        reasons: answers that dismissed, by coded reason.
        wait_s: median time from raised to answered; None without an answer.
    """

    raised: int = 0
    withdrawn: int = 0
    patients: int = 0
    verdicts: dict[str, int] = {}
    reasons: dict[str, int] = {}
    wait_s: float | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What people changed; times in µs, `made_at` real, `effective_from` of the events."""

    kind: str
    subject: str
    made_at: int
    effective_from: int
    requested_by: str
    approved_by: str
    reason: str
    before: str
    after: str


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """A signal that was open in a period, as it stood at its end.

    Attributes:
        opened: start of the window that opened it, µs.
        step: the last one; closed: it is over.
        severity: at that step.
        start: of the window that led to that step.
        end: of the same.
        summary: of the last step that was not its end.
        evidence: name and value of each fact, of the same step.
        mix: what came otherwise than in the days before; None: nobody looked.
        near: changes that people made around it.
    """

    signal_id: str
    kind: str
    metric: str
    feature: str
    cohort: str
    opened: int
    step: str
    severity: str
    start: int
    end: int
    summary: str
    evidence: list[tuple[str, str]]
    runbook: str
    mix: list[Share] | None = None
    near: list[str] = []

    @property
    def is_open(self) -> bool:
        """Whether somebody still has to look at it."""
        return self.step != "closed"


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        whole: the measurements of one window that is the whole period.
        daily: those of each day in it, as they stand.
        leads: onsets by whole hours from first alert to onset; -1: none came before it.
    """

    period: Window
    models: list[Model] = []
    work: Work = Work()
    answers: Answers = Answers()
    whole: list[Measurement] = []
    daily: list[Measurement] = []
    leads: dict[int, int] = {}
    signs: list[Sign] = []
    changes: list[Change] = []
