"""The words in which alerts are answered and outcomes are told, and the name of an alert."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

CODE_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"
"""Where the codes of REASONS stand: HL7, Clinical Decision Support (CDS Hooks 3.0)."""


class Override(NamedTuple):
    """Why an alert was not followed: what a clinician reads, and HL7's code for it."""

    words: str
    hl7: str


REASONS: Final[Mapping[str, Override]] = {
    "not-septic": Override("The patient does not have it", "patient-ineligible"),
    "already-ordered": Override("Work-up or treatment is ordered", "indication-order-exists"),
    "already-treated": Override("Already treated for it", "action-completed"),
    "tried-before": Override("Tried before without success", "action-unsuccessful"),
    "other-priority": Override("Something else comes first", "action-not-priority"),
    "no-time": Override("No time to see to it now", "limited-time"),
    "wrong-moment": Override("It came too early or too late to act", "wrong-time-workflow"),
    "not-my-patient": Override("I am not the one who decides", "inappropriate-recipient"),
    "results-pending": Override("Waiting for results or a consult", "need-more-info"),
    "consultant-disagrees": Override("A specialist advises otherwise", "expert-contradicts"),
    "against-policy": Override("A rule of the house says otherwise", "policy-contradicts"),
    "clinical-judgment": Override("I judge otherwise", "recipient-does-not-trust"),
    "risk-outweighs": Override("The risk outweighs the benefit", "risk-benefit-ratio"),
    "contraindicated": Override("The patient must not have it", "patient-contraindication"),
    "comfort-care": Override("Against the goals of care", "does-not-align-preferences"),
    "patient-refuses": Override("The patient refuses", "patient-refuses"),
    "not-available": Override("What is needed is not to be had", "service-not-available"),
}
"""Why an alert was overridden, by our own word; each has a code of HL7's to itself."""

ROLES: Final = (
    "physician",
    "advanced-practice",
    "nurse",
    "pharmacist",
    "respiratory-therapist",
    "rapid-response",
    "other",
)
"""Who answers; never a person."""

ACTIONS: Final = (
    "review",  # somebody went and looked
    "lactate",
    "culture",
    "antibiotic",
    "fluids",
    "vasopressor",
    "imaging",
    "consult",
    "transfer",  # to a higher level of care
)
"""What is done because of an alert."""

DEFINITIONS: Final = ("physionet-2019", "sepsis-3", "cdc-ase")
"""What an onset may mean; the first is the one that holds unless another is named."""

ALERT_ID: Final = re.compile(
    r"^[0-9a-f]{4}-(0|[1-9][0-9]{0,4})-(0|[1-9][0-9]{0,18})@[0-9a-f]{12}$"
)
"""How alert ids look: topic, partition and offset of the record behind it, and the model."""


def partition_named(alert_id: str) -> int:
    """Tell the partition of the record that raised an alert; its answers go to the same number.

    Args:
        alert_id: as `core.events.prediction_id` makes it.

    Raises:
        ValueError: it is no such id; the text is not repeated.

    >>> partition_named("00c7-2-10@0123456789ab")
    2
    """
    found = ALERT_ID.fullmatch(alert_id)
    if not found:
        raise ValueError("no alert id")
    return int(found[1])
