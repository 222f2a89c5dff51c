"""What to decide next: rules as data, each a finding and who can do what about it."""

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from services.cli.report.material import Material, Sign
from services.cli.report.view import Step
from services.cli.report.words import about
from services.core.events import Measurement, State

MATURE: Final = 0.9
"""Below this share of final labels no number of performance is believed (core.judge.shares)."""
HALF: Final = 0.5
REFUSED: Final = 0.001
"""Share of entries from which on somebody should look at what could not be used."""


class Rule(NamedTuple):
    """When something is to be decided.

    Attributes:
        found: says what was found; nothing: "".
        what: to do.
        who: can.
        runbook: where the way stands, under docs/runbooks.
    """

    found: Callable[[Material], str]
    what: str
    who: str
    runbook: str = ""


def statement(
    material: Material, metric: str, unit: str, cohort: str = "all"
) -> Measurement | None:
    """Find what is said of a cohort in the whole period."""
    sought = (metric, unit, cohort)
    for said in material.whole:
        if (said.metric, said.unit_of_analysis, said.cohort) == sought:
            return said
    return None


def steps(material: Material) -> list[Step]:
    """Give what is to be decided, in the order of the rules."""
    told = [(rule, rule.found(material)) for rule in RULES]
    return [Step(rule.what, found, rule.who, rule.runbook) for rule, found in told if found]


def _open(kind: str, severity: str = "") -> Callable[[Material], str]:
    def found(material: Material) -> str:
        signs = [
            sign
            for sign in material.signs
            if sign.is_open and sign.kind == kind and severity in ("", sign.severity)
        ]
        return _named(signs)

    return found


def _named(signs: list[Sign]) -> str:
    if not signs:
        return ""
    topics = Counter(about(sign.metric, sign.feature) for sign in signs)
    names = (f"{name} (in {n} cohorts)" if n > 1 else name for name, n in topics.items())
    return f"open at the end of the period: {'; '.join(names)}"


def _immature(material: Material) -> str:
    said = statement(material, "label_maturity", "hour")
    if said is None or said.value is None or said.value >= MATURE:
        return ""
    return f"{said.value:.0%} of the hours have a final label; {MATURE:.0%} are needed"


def _too_few(material: Material) -> str:
    said = statement(material, "sensitivity", "first_alert")
    few = said is not None and said.why in ("few_positives", "few_patients", "suppressed")
    return "too few patients with an onset in this period to judge sensitivity" if few else ""


def _dismissed(material: Material) -> str:
    verdicts = material.answers.verdicts
    answered, dismissed = sum(verdicts.values()), verdicts.get("dismissed", 0)
    if dismissed <= HALF * answered:
        return ""
    return f"{dismissed / answered:.0%} of the answers dismissed the alert"


def _unanswered(material: Material) -> str:
    raised, answered = material.answers.raised, sum(material.answers.verdicts.values())
    if answered >= HALF * raised:
        return ""
    return f"{answered / raised:.0%} of the alerts were answered"


def _own_approval(material: Material) -> str:
    alone = [c.subject for c in material.changes if c.requested_by == c.approved_by]
    return f"asked for and approved by the same: {', '.join(alone)}" if alone else ""


def _no_baseline(material: Material) -> str:
    words = ("no_baseline", "no_site_baseline")
    without = {said.start for said in material.daily if said.why in words}
    return f"{len(without)} days could not be held against a baseline" if without else ""


def _abstained(material: Material) -> str:
    scored, without = material.work.scored, sum(material.work.abstained.values())
    if without <= HALF * (scored + without):
        return ""
    return f"{without / (scored + without):.0%} of the events led to no score"


def _refused(material: Material) -> str:
    refused = material.work.refused
    number = sum(refused.values())
    entries = max(number, material.work.entries)
    if number <= REFUSED * entries:
        return ""
    most = max(refused, key=lambda reason: (refused[reason], reason)).lower().replace("_", " ")
    return f"{number:,} of {entries:,} entries were refused, most as {most}"


def _groups(material: Material) -> str:
    gaps = [
        said
        for said in material.whole
        if said.metric.endswith("_difference") and said.state is State.ALARM
    ]
    names = sorted({said.cohort.partition("=")[2] for said in gaps})
    return f"over the whole period these differ: {', '.join(names)}" if names else ""


RULES: Final = (
    Rule(
        _open("drift", "alarm"),
        "Look at devices, units and codes behind the measurements that drifted, before anybody"
        " trusts scores built on them; then decide whether the model stays in use there.",
        "clinical informatics, with biomedical engineering",
        "drift",
    ),
    Rule(
        _open("drift", "watch"),
        "Watch these measurements for another day; if they stay, look at the devices.",
        "clinical informatics",
        "drift",
    ),
    Rule(
        _open("fairness"),
        "Decide whether a difference between groups of patients is meant. If nobody can say why"
        " it is there, bring it before those who answer for the model.",
        "the clinical lead",
        "fairness",
    ),
    Rule(
        _groups,
        "Look at the groups below before the next period; a difference over the whole period is"
        " seldom chance.",
        "the clinical lead",
        "fairness",
    ),
    Rule(
        _open("burden"),
        "Ask the wards what the changed number of alerts means for them, and whether the"
        " threshold is still the right one.",
        "the clinical lead, with the wards",
        "burden",
    ),
    Rule(
        _open("performance"),
        "Have the scores compared with what came true, and decide whether the model is to be"
        " calibrated again.",
        "clinical informatics",
        "performance",
    ),
    Rule(
        _no_baseline,
        "Freeze a baseline of this site and put it into use: without one no drift is seen.",
        "clinical informatics",
        "drift",
    ),
    Rule(
        _immature,
        "Do not judge the model by this period yet. Ask the registry when it will have told of"
        " all onsets, and have the report made again then.",
        "quality management",
        "performance",
    ),
    Rule(
        _too_few,
        "Have the report made over a longer period before anything is concluded about how good"
        " the alerts are.",
        "quality management",
        "performance",
    ),
    Rule(
        _abstained,
        "Find out what is missing in most events: where the model has too little to go by it"
        " says nothing.",
        "clinical informatics",
        "VigilCannotScore",
    ),
    Rule(
        _refused,
        "Find the devices and interfaces whose data could not be used: of these patients the model"
        " sees less than it could.",
        "clinical informatics, with biomedical engineering",
        "VigilDeadLetters",
    ),
    Rule(
        _dismissed,
        "Go through the reasons with the wards: alerts that are mostly dismissed will be dismissed"
        " when they are right.",
        "the clinical lead, with the wards",
        "burden",
    ),
    Rule(
        _unanswered,
        "Find out whether the alerts are seen at all: no answer is no rejection.",
        "the wards",
        "burden",
    ),
    Rule(
        _own_approval,
        "Have these changes approved by a second person.",
        "whoever answers for the model",
    ),
)
"""Asked in this order; the first are the most pressing."""
