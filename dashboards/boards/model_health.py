"""Model health: does the model still see the patients it was made for, and what changed?"""

from dashboards.annotations import changes, signals
from dashboards.panels import Column, Columns, Words, lines, number, states, table
from dashboards.query import (
    CODE,
    IN_WINDOW,
    JUDGED,
    OF_COHORT,
    OF_UNITS,
    STATE,
    interval,
    worded,
)
from dashboards.shapes import Board
from dashboards.states import CODES, NONE, ORANGE, STATES, VERMILLION
from dashboards.targets import sql
from dashboards.variables import feature, unit, window
from dashboards.words import MATTERS, MEASURES, WHY
from services.core.baseline import PRESENCE, VITAL_FEATURES

FEATURES = {
    name: f"{name.removesuffix(PRESENCE)}, whether measured" if name.endswith(PRESENCE) else name
    for name in VITAL_FEATURES
}
_IN_COHORT = "if(cohort = 'all', '', concat(' — ', cohort))"
_DRIFT = f"FROM measurements_now WHERE metric = 'drift' AND {IN_WINDOW} AND {OF_COHORT}"
_LATEST = f"""
    SELECT * FROM measurements_now
    WHERE {IN_WINDOW} AND {OF_COHORT} AND metric IN ('drift', 'calibration')
    ORDER BY start DESC
    LIMIT 1 BY metric, feature, cohort
"""
STATED: Columns = {
    "Window": Column(unit="dateTimeAsIso"),
    "State": Column(looks=STATES),
    "Patients (K)": Column(unit="short", empty="<11"),
    "Hours": Column(unit="short", empty="not shown"),
    "PSI": Column(unit="none", empty="not shown", decimals=3),
    "Threshold": Column(unit="none", empty="—", decimals=3),
    "p": Column(unit="none", empty="—", decimals=4),
    "Value": Column(unit="none", empty="not shown", decimals=2),
}
_TOLD = f"""
    SELECT start AS "Window", {worded("feature", FEATURES)} AS "Feature", cohort AS "Cohort",
        {STATE} AS "State", patients AS "Patients (K)", hours AS "Hours", value AS "PSI",
        threshold AS "Threshold", p_value AS "p", direction AS "Direction",
        {worded("why", WHY)} AS "Why"
"""

WORST = number(
    Words(
        "Worst state",
        "The worst that the latest windows say of inputs and calibration, for everybody or the"
        " chosen units. Insufficient: nothing could be judged, which is no good news.",
    ),
    sql(f"SELECT if(count() = 0, NULL, max({CODE} % 4)) AS state FROM ({_LATEST})"),
    looks=CODES,
    empty="— no window in this time",
)
OPEN_ALARMS = number(
    Words(
        "Open alarms",
        "Signals of severity alarm that stand open, whatever time is shown: somebody must judge"
        " each of them. The table below names them.",
    ),
    sql("SELECT countIf(severity = 'alarm') AS alarms FROM signals_open"),
    unit="short",
    looks=NONE,
    limits=((1, VERMILLION),),
)
OPEN_WATCHES = number(
    Words(
        "Open watches",
        "Signals of severity watch that stand open, whatever time is shown: look again when the"
        " next window is told.",
    ),
    sql("SELECT countIf(severity = 'watch') AS watches FROM signals_open"),
    unit="short",
    looks=NONE,
    limits=((1, ORANGE),),
)
UNJUDGED = number(
    Words(
        "Not to be judged",
        "How many of the latest statements are insufficient: too few patients, no baseline, or"
        " fewer than 11 patients. What is not judged is not well.",
    ),
    sql(f"""
        SELECT concat(toString(countIf(state = 'insufficient')), ' of ', toString(count())) AS told
        FROM ({_LATEST})
        HAVING count() > 0
    """),
    unit="string",
)
LATEST = number(
    Words(
        "Windows are told up to",
        "End of the latest window, whatever time is shown. Is the board empty? Choose a time"
        " that reaches back from here; recorded and simulated patients live in their own time.",
    ),
    sql("""
        SELECT if(count() = 0, NULL, toUnixTimestamp(max(end)) * 1000) AS until FROM measurements
    """),
    unit="dateTimeAsIso",
    empty="— no window yet",
)
BASELINE = number(
    Words(
        "Baseline in use",
        "First digits of the digest of the site's baseline that took effect last, and since"
        " when. Without one, drift is not judged.",
    ),
    sql("""
        SELECT concat(substring(after, 1, 12), ' since ', toString(toDate(effective_from))) AS used
        FROM changes
        WHERE kind = 'baseline'
        ORDER BY effective_from DESC, offset DESC
        LIMIT 1
    """),
    unit="string",
    empty="— none yet",
)
SIGNALS = table(
    Words(
        "Open signals",
        "What is open now, the gravest first, whatever time is shown. The runbook of that name"
        " under docs/runbooks says how to check and whom to tell.",
    ),
    sql(f"""
        SELECT severity AS "State", {worded("metric", {**MEASURES, **MATTERS})} AS "What",
            {worded("feature", FEATURES)} AS "Feature", cohort AS "Cohort", start AS "Last step",
            summary AS "Summary", runbook AS "Runbook"
        FROM signals_open
        ORDER BY severity = 'alarm' DESC, start DESC
        LIMIT 100
    """),
    {"State": Column(looks=STATES, width=110), "Last step": Column(unit="dateTimeAsIso")},
    height=6,
)
DRIFT = states(
    Words(
        "Drift of the inputs, window by window",
        "One line a feature. A watch is a difference that chance gives in 1 of 20 windows, an"
        " alarm in 1 of 100 or a watch twice running, corrected for the number of features and"
        " calibrated to the number of patients (K). The table beside it has K and threshold.",
    ),
    sql(f"""
        SELECT start AS time, concat({worded("feature", FEATURES)}, {_IN_COHORT}) AS name,
            {CODE} AS state
        {_DRIFT}
        ORDER BY time, name
    """),
    CODES,
    name="name",
    twin=(sql(f"{_TOLD} {_DRIFT} ORDER BY start DESC, feature"), STATED),
    height=12,
)
_FEATURE = f"{_DRIFT} AND feature = '${{feature}}'"
PSI = lines(
    Words(
        "Chosen feature: distance from the baseline",
        "Population stability index, and the value from which on it is a watch for the number of"
        " patients in that window. With few patients the threshold is high: chance alone moves"
        " them so far. Several units: the greatest of each.",
    ),
    [sql(f"""
        SELECT start AS time, maxIf(value, {JUDGED}) AS "PSI", max(threshold) AS "threshold"
        {_FEATURE}
        GROUP BY time ORDER BY time
    """)],
    ["PSI", "threshold"],
    twin=(sql(f"{_TOLD} {_FEATURE} ORDER BY start DESC"), STATED),
)  # fmt: skip
PATIENTS = lines(
    Words(
        "Chosen feature: patients (K)",
        "Patients with an hour of the feature in the window: the evidence behind the states."
        " Below 20 nothing is judged; below 11 the number is not shown.",
    ),
    [sql(f"""
        SELECT start AS time, min(patients) AS "patients" {_FEATURE} GROUP BY time ORDER BY time
    """)],
    ["patients"],
    unit="short",
)  # fmt: skip
SCORES = lines(
    Words(
        "Scores",
        "Median and upper end of the scores that were shown, by time of measurement, of the chosen"
        " units together. A step without a change marked is worth a look.",
    ),
    [sql(f"""
        SELECT $__timeInterval(measured_at) AS time,
            quantileTDigest(0.5)(score) AS "median",
            quantileTDigest(0.9)(score) AS "90th percentile",
            quantileTDigest(0.99)(score) AS "99th percentile"
        FROM predictions
        WHERE $__timeFilter(measured_at) AND disposition = 'scored' AND role = 'shown'
            AND {OF_UNITS}
        GROUP BY time ORDER BY time
    """)],
    ["median", "90th percentile", "99th percentile"],
    unit="percentunit",
)  # fmt: skip
_CALIBRATION = (
    f"FROM measurements_now WHERE metric = 'calibration' AND {IN_WINDOW} AND {OF_COHORT}"
)
CALIBRATION = lines(
    Words(
        "Calibration: observed over expected",
        "Hours soon before an onset that came, over those that the scores announced, with its"
        " interval. 1 is right; 0.5: the scores promise twice as much as comes. Labels must be"
        " final for it, so it is told late. No line where it cannot be judged. Several units: the"
        " extremes.",
    ),
    [sql(f"""
        SELECT start AS time, maxIf(value, {JUDGED}) AS "observed / expected",
            minIf(low, {JUDGED}) AS "low", maxIf(high, {JUDGED}) AS "high"
        {_CALIBRATION}
        GROUP BY time ORDER BY time
    """)],
    ["observed / expected", "low", "high"],
    twin=(
        sql(f"""
            SELECT start AS "Window", cohort AS "Cohort", {STATE} AS "State", value AS "Value",
                {interval("low", "high")} AS "Interval", patients AS "Patients (K)",
                {worded("why", WHY)} AS "Why"
            {_CALIBRATION}
            ORDER BY start DESC, cohort
        """),
        STATED,
    ),
)  # fmt: skip


def board() -> Board:
    """Does the model still see the patients it was made for, and what changed?"""
    return Board(
        uid="vigil-model-health",
        area="model",
        question="Does the model still see the patients it was made for? If not, what changed?",
        rows=[
            [WORST, OPEN_ALARMS, OPEN_WATCHES, UNJUDGED, LATEST, BASELINE],
            [SIGNALS],
            [DRIFT],
            [PSI, PATIENTS],
            [SCORES, CALIBRATION],
        ],
        variables=[unit(), window(), feature(FEATURES)],
        annotations=[changes(), signals()],
        since="now-30d",
        refresh="5m",
    )
