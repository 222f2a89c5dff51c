"""Alerts and answers: are alerts right, in time, and are they heard?"""

from dashboards.annotations import changes
from dashboards.panels import Column, Columns, Words, bars, lines, number, table
from dashboards.query import (
    IN_WINDOW,
    JUDGED,
    OF_COHORT,
    OF_UNITS,
    STATE,
    interval,
    worded,
)
from dashboards.shapes import Board, Piece
from dashboards.states import STATES
from dashboards.targets import sql
from dashboards.variables import unit, window
from dashboards.words import ANSWERS, MEASURES, WHY

TOLD = (
    "sensitivity",
    "ppv",
    "lead_time_h",
    "alerted_before_onset",
    "alerts_per_100_patient_days",
    "label_maturity",
)
"""Of the first alert of a stay, in the order of the table."""
# An alert by what raised it, with the first answer to it: most have none.
_ALERTS = f"""
    SELECT raised.alert_id AS alert_id, raised_at, said AS verdict, because AS reason,
        toNullable(said_at) AS answered_at
    FROM (
        SELECT alert_id, min(received_at) AS raised_at
        FROM alerts
        WHERE $__timeFilter(received_at) AND step = 'raised' AND {OF_UNITS}
        GROUP BY alert_id
    ) AS raised
    LEFT JOIN (
        SELECT alert_id, argMin(toString(verdict), answered_at) AS said,
            argMin(toString(reason), answered_at) AS because, min(answered_at) AS said_at
        FROM feedback
        GROUP BY alert_id
    ) AS answer ON raised.alert_id = answer.alert_id
"""
_STATED = (
    f"FROM measurements_now WHERE {IN_WINDOW} AND {OF_COHORT} AND unit_of_analysis = 'first_alert'"
)
# An alert with the highest severity that was told of it.
_SEVERE = f"""
    SELECT alert_id, min(received_at) AS told_at, max(severity) AS reached
    FROM alert_severities
    WHERE $__timeFilter(received_at) AND step IN ('raised', 'escalated') AND {OF_UNITS}
    GROUP BY alert_id
"""
COLUMNS: Columns = {
    "Window": Column(unit="dateTimeAsIso"),
    "State": Column(looks=STATES, width=130),
    "Value": Column(empty="not shown", decimals=2),
    "Patients": Column(unit="short", empty="<11"),
    "with onset": Column(unit="short", empty="not shown"),
    "Labels final": Column(unit="percentunit", empty="—", decimals=0),
}

RAISED = number(
    Words(
        "Alerts raised",
        "In the time that is shown, of the chosen units. How many of them were right stands in the"
        " table below.",
    ),
    sql(f"SELECT count() AS alerts FROM ({_ALERTS})"),
    unit="short",
)
ANSWERED = number(
    Words(
        "Answered",
        "Share of these alerts that somebody answered. No answer is no rejection: it is not"
        " known whether anybody saw the alert.",
    ),
    sql(
        f"SELECT if(count() = 0, NULL, countIf(verdict != '') / count()) AS share FROM ({_ALERTS})"
    ),
    unit="percentunit",
    decimals=0,
)
OVERRIDDEN = number(
    Words(
        "Overridden, of the answered",
        "Share of the answers that dismissed the alert. The bars below say why.",
    ),
    sql(f"""
        SELECT if(countIf(verdict != '') = 0, NULL,
            countIf(verdict = 'dismissed') / countIf(verdict != '')) AS share
        FROM ({_ALERTS})
    """),
    unit="percentunit",
    decimals=0,
)
WAITED = number(
    Words(
        "Time to answer",
        "Half of the answers came within this time after the alert was raised. Alerts without"
        " an answer are not in it.",
    ),
    sql(f"""
        SELECT if(count() = 0, NULL, quantileExact(dateDiff('second', raised_at, answered_at)))
            AS median
        FROM ({_ALERTS})
        WHERE verdict != ''
    """),
    unit="s",
)
LATEST = number(
    Words(
        "Windows are told up to",
        "End of the latest window of labels, whatever time is shown. Labels come days after the"
        " alert. Is the board empty? Choose a time that reaches back from here.",
    ),
    sql("""
        SELECT if(count() = 0, NULL, toUnixTimestamp(max(end)) * 1000) AS until
        FROM measurements
        WHERE unit_of_analysis = 'first_alert'
    """),
    unit="dateTimeAsIso",
    empty="— no window yet",
    width=8,
)
WORTH = table(
    Words(
        "What alerts are worth, by the latest window",
        "Of the first alert of each stay, with interval, patients and the share of labels that"
        " are final; below 0.9 nothing is judged. Lead time counts a missed case as missed, not"
        " as absent. Shares are between 0 and 1.",
    ),
    sql(f"""
        SELECT {worded("metric", MEASURES)} AS "What", cohort AS "Cohort", {STATE} AS "State",
            value AS "Value", {interval("low", "high")} AS "Interval", patients AS "Patients",
            positives AS "with onset", maturity AS "Labels final", {worded("why", WHY)} AS "Why",
            start AS "Window"
        FROM (SELECT * {_STATED} ORDER BY start DESC LIMIT 1 BY metric, cohort)
        ORDER BY indexOf([{", ".join(f"'{name}'" for name in TOLD)}], toString(metric)), cohort
    """),
    COLUMNS,
)


def _over_time(metric: str, words: Words) -> Piece:
    stated = f"{_STATED} AND metric = '{metric}'"
    plotted = sql(f"""
        SELECT start AS time, maxIf(value, {JUDGED}) AS "value", minIf(low, {JUDGED}) AS "low",
            maxIf(high, {JUDGED}) AS "high"
        {stated}
        GROUP BY time ORDER BY time
    """)
    told = sql(f"""
        SELECT start AS "Window", cohort AS "Cohort", {STATE} AS "State", value AS "Value",
            {interval("low", "high")} AS "Interval", patients AS "Patients",
            positives AS "with onset",
            maturity AS "Labels final", {worded("why", WHY)} AS "Why"
        {stated}
        ORDER BY start DESC, cohort
    """)
    unit = "h" if metric == "lead_time_h" else "percentunit"
    return lines(
        words, [plotted], ["value", "low", "high"], unit=unit, twin=(told, COLUMNS), width=8
    )


SENSITIVITY = _over_time(
    "sensitivity",
    Words(
        "Sensitivity",
        "Share of the patients with an onset who were alerted within the horizon before it, with"
        " its interval. No line where it cannot be judged. Several units: the extremes.",
    ),
)
PPV = _over_time(
    "ppv",
    Words(
        "PPV",
        "Share of the first alerts that an onset followed within the horizon, with its interval."
        " An alert that prevents an onset counts as false here. No line where it cannot be"
        " judged.",
    ),
)
LEAD = _over_time(
    "lead_time_h",
    Words(
        "Lead time",
        "Median time from first alert to onset, missed cases counted as missed, with its"
        " interval. No line where half were missed, or where it cannot be judged.",
    ),
)
VERDICTS = lines(
    Words(
        "Answers",
        "What became of the alerts raised, day by day. A growing share without an answer is how"
        " alarm fatigue begins.",
    ),
    [sql(f"""
        SELECT toStartOfDay(raised_at) AS time, countIf(verdict = 'confirmed') AS "confirmed",
            countIf(verdict = 'dismissed') AS "dismissed", countIf(verdict = 'unsure') AS "unsure",
            countIf(verdict = '') AS "no answer"
        FROM ({_ALERTS})
        GROUP BY time ORDER BY time
    """)],
    ["confirmed", "dismissed", "unsure", "no answer"],
    unit="short",
    bars=True,
    width=8,
)  # fmt: skip
REASONS = bars(
    Words(
        "Why alerts were overridden",
        "Dismissed alerts by the reason that was chosen. “The patient does not have it” speaks"
        " of the model, “work-up or treatment is ordered” of its timing, “no time” of the ward.",
    ),
    sql(f"""
        SELECT if(reason = '', 'no reason given', {worded("reason", ANSWERS)}) AS "Reason",
            count() AS "Alerts"
        FROM ({_ALERTS})
        WHERE verdict = 'dismissed'
        GROUP BY 1 ORDER BY 2 DESC, 1
    """),
    unit="short",
    width=8,
)
WAITS = lines(
    Words(
        "Time to answer, day by day",
        "From the alert to its first answer: half and nine of ten came within these times.",
    ),
    [sql(f"""
        SELECT toStartOfDay(raised_at) AS time,
            quantileExact(0.5)(dateDiff('second', raised_at, answered_at)) AS "half within",
            quantileExact(0.9)(dateDiff('second', raised_at, answered_at)) AS "9 of 10 within"
        FROM ({_ALERTS})
        WHERE verdict != ''
        GROUP BY time ORDER BY time
    """)],
    ["half within", "9 of 10 within"],
    unit="s",
    width=8,
)  # fmt: skip

SEVERITIES = bars(
    Words(
        "Alerts by severity",
        "How many severity steps of the policy each alert reached at most. Without steps in the"
        " policy, and before there were any, all are at 0.",
    ),
    sql(f"""
        SELECT if(reached = 0, 'no step', concat('step ', toString(reached))) AS "Severity",
            count() AS "Alerts"
        FROM ({_SEVERE})
        GROUP BY reached ORDER BY reached
    """),
    unit="short",
    width=8,
)
SEVERER = lines(
    Words(
        "Alerts by severity, day by day",
        "The same alerts by the day on which they were first told. More that reach a step, of as"
        " many alerts: patients are sicker, found later, or scores have shifted.",
    ),
    [sql(f"""
        SELECT toStartOfDay(told_at) AS time, countIf(reached = 0) AS "no step",
            countIf(reached = 1) AS "step 1", countIf(reached = 2) AS "step 2",
            countIf(reached > 2) AS "step 3 and above"
        FROM ({_SEVERE})
        GROUP BY time ORDER BY time
    """)],
    ["no step", "step 1", "step 2", "step 3 and above"],
    unit="short",
    bars=True,
    width=16,
)  # fmt: skip


def board() -> Board:
    """Are alerts right, in time, and are they heard?"""
    return Board(
        uid="vigil-alerts-and-answers",
        area="alerts",
        question="Are alerts right, do they come in time, and are they heard?",
        rows=[
            [RAISED, ANSWERED, OVERRIDDEN, WAITED, LATEST],
            [WORTH],
            [SENSITIVITY, PPV, LEAD],
            [VERDICTS, REASONS, WAITS],
            [SEVERITIES, SEVERER],
        ],
        variables=[unit(), window()],
        annotations=[changes()],
        since="now-30d",
        refresh="5m",
    )
