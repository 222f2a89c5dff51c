"""The small share of things that go wrong in every hospital, and what is sent because of them."""

from typing import Final, NamedTuple

import msgspec
import numpy as np

from services.core.vitals import VARIABLE_INDEX
from services.simulator.charting import Chart

CORRECTABLE: Final = ("HR", "Resp", "Glucose", "Lactate")
"""Variables whose values are sometimes typed wrong, and put right or taken back later."""
BAD: Final = ("unit", "truncated", "subject", "status")
"""Kinds of messages that nobody can use."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """How often each thing goes wrong: shares of the charted rows (of the reports: late)."""

    late: float = 0.02
    corrected: float = 0.004
    retracted: float = 0.002
    duplicate: float = 0.004
    bad: float = 0.0005
    out_of_scope: float = 0.01


NO_TROUBLE: Final = Trouble(late=0, corrected=0, retracted=0, duplicate=0, bad=0, out_of_scope=0)


class Sending(NamedTuple):
    """One message to be sent about one row of a chart.

    Attributes:
        at_s: seconds after admission.
        kind: chart, correction, retraction, or bad.
        row: of the chart.
        detail: the variable that is corrected or retracted, or the kind of bad message.
    """

    at_s: int
    kind: str
    row: int
    detail: str = ""


class Plan(NamedTuple):
    """Everything that is sent about a chart.

    Attributes:
        sendings: in order of time.
        mistyped: per row the variable whose first version is wrong.
        extra: rows that carry something out of scope besides.
    """

    sendings: list[Sending]
    mistyped: dict[int, str]
    extra: set[int]


def plan(rng: np.random.Generator, trouble: Trouble, chart: Chart, end_s: int) -> Plan:
    """Draw what goes wrong with a chart; nothing is sent after `end_s`, the discharge."""
    rows = len(chart.measured_min)
    # One draw per row and kind whatever the shares are: a switch leaves the rest as it was.
    drawn = rng.random((6, rows))
    delays = rng.uniform(120, 10_800, (4, rows)).astype(np.int64)
    pick = rng.integers(1 << 16, size=rows)
    late = (drawn[0] < trouble.late) & chart.lab
    chart.sent_s[late] += 2 * 3600 + 4 * delays[0, late]
    sent = np.minimum(chart.sent_s, end_s)
    sendings = [Sending(int(sent[row]), "chart", row) for row in range(rows)]
    mistyped: dict[int, str] = {}
    for row in np.flatnonzero(drawn[1:5].min(axis=0) < _most(trouble)):
        name = _correctable(chart, int(row), int(pick[row]))
        at = sent[row] + delays[:, row]
        if name and drawn[1, row] < trouble.corrected:
            sendings.append(Sending(int(at[1]), "correction", int(row), name))
            mistyped[int(row)] = name
        elif name and drawn[2, row] < trouble.retracted:
            sendings.append(Sending(int(at[2]), "retraction", int(row), name))
        if drawn[3, row] < trouble.duplicate:
            sendings.append(Sending(int(at[3]), "chart", int(row)))
        if drawn[4, row] < trouble.bad:
            sendings.append(Sending(int(sent[row]), "bad", int(row), BAD[pick[row] % len(BAD)]))
    extra = set(np.flatnonzero(drawn[5] < trouble.out_of_scope).tolist())
    return Plan(sorted(s for s in sendings if s.at_s <= end_s), mistyped, extra)


def _most(trouble: Trouble) -> float:
    return max(trouble.corrected, trouble.retracted, trouble.duplicate, trouble.bad)


def _correctable(chart: Chart, row: int, pick: int) -> str:
    noted = [n for n in CORRECTABLE if not np.isnan(chart.values[row, VARIABLE_INDEX[n]])]
    return noted[pick % len(noted)] if noted else ""
