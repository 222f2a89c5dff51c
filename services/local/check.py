"""One thing that the doctor looked at, and its verdict."""

from dataclasses import dataclass
from typing import Final

PASS: Final = "pass"  # noqa: S105 - a verdict
WARN: Final = "warn"
FAIL: Final = "fail"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Args:
        name: of what was looked at.
        state: pass, warn or fail.
        found: what is the case.
        remedy: what to do; empty when nothing.
    """

    name: str
    state: str
    found: str
    remedy: str = ""
