"""When a score becomes an alert and when the alert ends; a policy is frozen, its state a value.

Time is event time, microseconds; the policy never sees a clock.
"""

from services.core.policy.checks import complaints, read_policy
from services.core.policy.life import (
    FRESH,
    NEVER,
    ActiveAlert,
    PolicyState,
    Verdict,
    decide,
    ended,
    expired,
    moved,
    raised,
    withdrawn,
)
from services.core.policy.rules import Abstain, Policy, Transfer
from services.core.policy.trial import Tally, Told

__all__ = [
    "FRESH",
    "NEVER",
    "Abstain",
    "ActiveAlert",
    "Policy",
    "PolicyState",
    "Tally",
    "Told",
    "Transfer",
    "Verdict",
    "complaints",
    "decide",
    "ended",
    "expired",
    "moved",
    "raised",
    "read_policy",
    "withdrawn",
]
