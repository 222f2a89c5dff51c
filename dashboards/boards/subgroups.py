"""Subgroups: is anybody alerted, missed or left unscored more than others?"""

from dashboards.annotations import changes
from dashboards.panels import Column, Columns, Words, lines, number, states, table
from dashboards.query import CODE, IN_WINDOW, JUDGED, STATE, interval, worded
from dashboards.shapes import Board
from dashboards.states import CODES, NONE, STATES, VERMILLION
from dashboards.targets import sql
from dashboards.variables import asked, choice, window
from dashboards.words import DIMENSIONS, MEASURES, WHY
from services.core.cohorts import GROUP_DIMENSIONS

ASKED = {
    name: MEASURES[name]
    for name in (
        "alert_rate",
        "not_scored_rate",
        "sensitivity",
        "ppv",
        "specificity",
        "calibration",
    )
}
NAMED = {name: DIMENSIONS[name] for name in GROUP_DIMENSIONS}

UNITS = {
    "sensitivity": "first_alert",
    "ppv": "first_alert",
    "specificity": "hour",
    "calibration": "hour",
    "alert_rate": "patient",
    "not_scored_rate": "patient",
}
"""In which unit of analysis each is shown."""
_COUNTED = "unit_of_analysis = " + worded("'${metric}'", UNITS)
_OWN = f"metric = '${{metric}}' AND {_COUNTED}"
_GAP = "metric = '${metric}_difference'"
_ALL = f"""
    FROM measurements_now
    WHERE {IN_WINDOW} AND ({_OWN} OR {_GAP})
        AND (cohort = 'all' OR startsWith(cohort, '${{dimension}}='))
"""
_NAME = "if(cohort = 'all', 'everybody', substring(cohort, position(cohort, '=') + 1))"
# Where there is a difference to the largest group, its gate is the state; the largest group itself
# and metrics without such a gate have their own.
_BY_GROUP = f"""
    SELECT start, cohort, {_NAME} AS name,
        anyIf(value, {_OWN}) AS own,
        anyIf(low, {_OWN}) AS own_low, anyIf(high, {_OWN}) AS own_high,
        anyIf(patients, {_OWN}) AS counted, anyIf(positives, {_OWN}) AS septic,
        anyIf(value, {_GAP}) AS gap,
        anyIf(low, {_GAP}) AS gap_low, anyIf(high, {_GAP}) AS gap_high,
        anyIf(reference, {_GAP}) AS against,
        argMax(toString(measurements_now.why), {_GAP}) AS why,
        argMax(toString(measurements_now.state), {_GAP}) AS state
    {_ALL}
    GROUP BY start, cohort
"""
_LATEST = f"SELECT * FROM ({_BY_GROUP}) ORDER BY start DESC LIMIT 1 BY cohort"
_SHOWN = f"""
    SELECT name AS "Group", {STATE} AS "State", own AS "Value",
        {interval("own_low", "own_high")} AS "Interval", counted AS "Patients",
        septic AS "with onset", gap AS "Difference",
        {interval("gap_low", "gap_high")} AS "Interval of it", against AS "Largest group",
        {worded("why", WHY)} AS "Why", start AS "Window"
"""
COLUMNS: Columns = {
    "Window": Column(unit="dateTimeAsIso"),
    "State": Column(looks=STATES, width=150),
    "Value": Column(empty="not shown", decimals=3),
    "Patients": Column(unit="short", empty="<11"),
    "with onset": Column(unit="short", empty="—"),
    "Difference": Column(empty="—", decimals=3),
}

FAILED = number(
    Words(
        "Groups in alarm",
        "Groups of the chosen dimension whose whole interval lies more than 0.05 from the largest"
        " group, by the latest window of each. The table below names them.",
    ),
    sql(f"""
        SELECT if(count() = 0, NULL, countIf(state = 'alarm')) AS groups
        FROM ({_LATEST}) WHERE cohort != 'all'
    """),
    unit="short",
    looks=NONE,
    limits=((1, VERMILLION),),
    empty="— no window in this time",
    width=6,
)
UNJUDGED = number(
    Words(
        "Not to be judged",
        "Groups with too few patients, or an interval too wide to decide. It takes hundreds of"
        " patients with an onset a group to decide a difference in sensitivity: no alarm here is"
        " no proof of fairness.",
    ),
    sql(f"""
        SELECT concat(toString(countIf(NOT {JUDGED})), ' of ',
            toString(count())) AS told
        FROM ({_LATEST}) WHERE cohort != 'all'
        HAVING count() > 0
    """),
    unit="string",
    width=6,
)
SUPPRESSED = number(
    Words(
        "Not shown",
        "Groups of fewer than 11 patients, and the next smallest group of the dimension, so that"
        " no subtraction reveals them. They stand in the table without numbers.",
    ),
    sql(f"""
        SELECT concat(toString(countIf(why = 'suppressed')), ' of ', toString(count())) AS told
        FROM ({_LATEST}) WHERE cohort != 'all'
        HAVING count() > 0
    """),
    unit="string",
    width=6,
)
LATEST = number(
    Words(
        "Windows are told up to",
        "End of the latest window that speaks of groups, whatever time is shown. Is the board"
        " empty? Choose a time that reaches back from here.",
    ),
    sql("""
        SELECT if(count() = 0, NULL, toUnixTimestamp(max(end)) * 1000) AS until
        FROM measurements
        WHERE cohort != 'all' AND metric != 'drift'
    """),
    unit="dateTimeAsIso",
    empty="— no window yet",
    width=6,
)
GROUPS = table(
    Words(
        "Groups, by the latest window of each",
        "The chosen number by group, with its interval and the patients behind it; and its"
        " difference to the largest group with an interval that holds for all groups together."
        " Ok: the whole interval within 0.05. Alarm: wholly outside. Else insufficient, which is"
        " never colored. Numbers are shares, calibration is a ratio.",
    ),
    sql(f"{_SHOWN} FROM ({_LATEST}) ORDER BY name = 'everybody' DESC, name"),
    COLUMNS,
    height=9,
)
STATES_OVER_TIME = states(
    Words(
        "States of the groups, window by window",
        "One line a group of the chosen dimension. A single alarm may be chance; one that stays"
        " is a finding for whoever answers for the model.",
    ),
    sql(f"""
        SELECT start AS time, name, {CODE} AS state
        FROM ({_BY_GROUP})
        ORDER BY time, name
    """),
    CODES,
    name="name",
    twin=(sql(f"{_SHOWN} FROM ({_BY_GROUP}) ORDER BY start DESC, name"), COLUMNS),
    height=9,
)
_GROUP = f"""
    FROM measurements_now
    WHERE {IN_WINDOW} AND {_OWN} AND cohort = ${{group:sqlstring}}
"""
ONE = lines(
    Words(
        "Chosen group: the number with its interval",
        "Of the chosen group alone, window by window. There is no line where it cannot be judged"
        " or is suppressed; the table beside it says why.",
    ),
    [sql(f"""
        SELECT start AS time, maxIf(value, {JUDGED}) AS "value", maxIf(low, {JUDGED}) AS "low",
            maxIf(high, {JUDGED}) AS "high"
        {_GROUP}
        GROUP BY time ORDER BY time
    """)],
    ["value", "low", "high"],
    twin=(
        sql(f"""
            SELECT start AS "Window",
                {STATE} AS "State", value AS "Value",
                {interval("low", "high")} AS "Interval", patients AS "Patients",
                {worded("why", WHY)} AS "Why"
            {_GROUP}
            ORDER BY start DESC
        """),
        COLUMNS,
    ),
    width=24,
)  # fmt: skip


def board() -> Board:
    """Is anybody alerted, missed or left unscored more than others?"""
    return Board(
        uid="vigil-subgroups",
        area="fairness",
        question="Is any group of patients alerted, missed or left unscored more than others?",
        rows=[[FAILED, UNJUDGED, SUPPRESSED, LATEST], [GROUPS], [STATES_OVER_TIME], [ONE]],
        variables=[
            choice("metric", "Number", ASKED),
            choice("dimension", "Groups by", NAMED),
            asked(
                "group",
                "One group",
                "SELECT DISTINCT cohort FROM measurements WHERE metric = '${metric}'"
                " AND (cohort = 'all' OR startsWith(cohort, '${dimension}='))"
                " ORDER BY cohort",
            ),
            window(),
        ],
        annotations=[changes()],
        since="now-30d",
        refresh="5m",
    )
