"""What makes a policy one that may be put into use."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import msgspec

from services.core.policy.rules import Policy

LONGEST_NAME: Final = 64


def read_policy(content: bytes) -> Policy:
    """Read a policy as a file or a change holds it, strictly: JSON without unknown names.

    Raises:
        ValueError: it is no policy, or contradicts itself; the text gives every reason.
    """
    try:
        policy = msgspec.json.decode(content, type=Policy)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    if found := complaints(policy):
        raise ValueError("; ".join(found))
    return policy


def complaints(policy: Policy) -> list[str]:
    """Say what is wrong with a policy, a sentence each; nothing where it may be used."""
    return [*_of_thresholds(policy), *_of_severity(policy), *_of_times(policy)]


def _of_thresholds(policy: Policy) -> Iterator[str]:
    if not policy.version.strip():
        yield "version is empty: records could not name the policy"
    elif not policy.version.isprintable() or len(policy.version) > LONGEST_NAME:
        yield f"version must be printable and have at most {LONGEST_NAME} characters"
    for place, threshold in {"threshold": policy.threshold, **_named(policy)}.items():
        if not threshold > 0:
            yield f"{place} must be above 0: every score would reach it"
    if policy.clear_below > policy.threshold:
        yield "clear_below must be at most the threshold: an alert would end as it is raised"
    if "" in policy.units:
        yield "units has a unit without a name"


def _of_severity(policy: Policy) -> Iterator[str]:
    if any(below >= above for below, above in pairwise(policy.severity)):
        yield "severity must rise from step to step"
    if policy.severity and policy.severity[0] <= policy.threshold:
        yield "severity must begin above the threshold: its first step would say nothing"


def _of_times(policy: Policy) -> Iterator[str]:
    if not policy.valid_for_h > 0:
        yield "valid_for_h must be above 0: an alert would mean nothing from the start"
    transfer = policy.transfer
    if "" in transfer.to:
        yield "transfer.to has a unit without a name"
    if bool(transfer.to) is not bool(transfer.silent_h):
        yield "transfer needs both: the units in `to`, and how long in silent_h"


def _named(policy: Policy) -> dict[str, float]:
    return {f"the threshold of {unit}": value for unit, value in policy.units.items()}
