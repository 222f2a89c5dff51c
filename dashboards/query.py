"""Pieces of SQL that several boards share."""

from collections.abc import Mapping
from typing import Final

STATE: Final = "if(why = 'suppressed', 'suppressed', toString(state))"
"""The state of a measurement; of one that is not shown, that it is not."""
JUDGED: Final = "state != 'insufficient'"
"""Only what can be judged is drawn as a line."""
CODE: Final = (
    "multiIf(why = 'suppressed', 4, state = 'alarm', 3, state = 'watch', 2, state = 'ok', 1, 0)"
)
"""A state as a number, for plots; `states.CODES` gives it back its word."""

IN_WINDOW: Final = "$__timeFilter(start) AND dateDiff('hour', start, end) = ${window}"
"""Windows of the chosen length that begin in the time that is shown."""

_CHOSEN: Final = "${unit:sqlstring}"
_EVERY: Final = f"'*' IN ({_CHOSEN})"
OF_UNITS: Final = f"({_EVERY} OR unit IN ({_CHOSEN}))"
"""By name, whatever is in it: All stands for '*', see `variables`."""
OF_MODELS: Final = "match(model_name, '^(?:${model:regex})$')"

OF_COHORT: Final = (
    f"if({_EVERY}, cohort = 'all',"
    f" startsWith(cohort, 'unit=') AND substring(cohort, 6) IN ({_CHOSEN}))"
)
"""Everybody, or the units that were chosen."""

UNTIL: Final = "least(now(), $__toTime)"
"""Now, or the end of the time that is shown when that is earlier."""


def worded(column: str, words: Mapping[str, str]) -> str:
    """Put codes into words; a code without words stays as it is.

    >>> worded("why", {"few": "too few", "late": "too late"})
    "transform(toString(why), ['few', 'late'], ['too few', 'too late'], toString(why))"
    """
    codes, told = (", ".join(_quoted(text) for text in of) for of in (words, words.values()))
    return f"transform(toString({column}), [{codes}], [{told}], toString({column}))"


def interval(low: str, high: str) -> str:
    """Write the two ends of an interval in one column; nothing where there is none.

    >>> interval("low", "high")
    "ifNull(concat(toString(round(low, 3)), ' to ', toString(round(high, 3))), '')"
    """
    return f"ifNull(concat(toString(round({low}, 3)), ' to ', toString(round({high}, 3))), '')"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
