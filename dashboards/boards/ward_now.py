"""Ward now: is every unit watched at this moment?"""

from dashboards.panels import Column, Words, lines, number, states, table
from dashboards.query import OF_MODELS, OF_UNITS, UNTIL
from dashboards.shapes import Board
from dashboards.states import COVERED, HEARD, NONE, ORANGE, VERMILLION, WORKING
from dashboards.targets import promql, sql
from dashboards.variables import model, unit

_DAY = "24h"
_HOURS = "1h"
_HEARD = f"""
    FROM predictions
    WHERE $__timeFilter(timestamp) AND kind = 'observation' AND role = 'shown'
        AND {OF_UNITS} AND {OF_MODELS}
"""
_ALERTS = f"""
    SELECT place AS unit, active
    FROM (
        SELECT argMax(unit, (timestamp, offset)) AS place,
            argMax(step, (timestamp, offset)) IN ('raised', 'escalated') AS active
        FROM alerts
        WHERE $__timeFilter(timestamp)
        GROUP BY alert_id
    )
    WHERE {OF_UNITS}
"""
_FIRING = 'ALERTS{alertname=~"Vigil.+", alertstate="firing"}'
_SERVICES = 'service=~"gateway|ingest|scoring"'

WORKS = number(
    Words(
        "Are patients scored?",
        "Yes when gateway, ingest and scoring all make progress. No also when nothing is known."
        " If no: watch as if there were no Vigil; the board Pipeline shows which service stands.",
    ),
    promql(f"min(max by (service) (vigil_ready{{{_SERVICES}}}))"
           f" * (count(count by (service) (vigil_ready{{{_SERVICES}}})) == bool 3)"
           " or vector(0)"),
    looks=WORKING,
)  # fmt: skip
QUIET = number(
    Words(
        "Units not heard for 15 min",
        "Units that sent a vital sign within 24 hours and none in the last 15 minutes. The table"
        " below names them. A unit whose last patient left is counted until the day is over.",
    ),
    sql(f"""
        SELECT if(count() = 0, NULL, countIf(age > 900)) AS "units"
        FROM (SELECT dateDiff('second', max(accepted_at), {UNTIL}) AS age {_HEARD} GROUP BY unit)
    """),
    unit="short",
    looks=NONE,
    limits=((1, ORANGE),),
    empty="■ nothing heard for a day",
    since=_DAY,
)
UNSCORED = number(
    Words(
        "Patients not scored",
        "Patients heard in the last hour of whom no measurement led to a score, because too"
        " little was measured or it was too old. Nobody is warned about them.",
    ),
    sql(f"""
        SELECT if(count() = 0, NULL, countIf(NOT scored) / count()) AS "share"
        FROM (SELECT countIf(disposition = 'scored') > 0 AS scored {_HEARD} GROUP BY pseudonym)
    """),
    unit="percentunit",
    decimals=0,
    limits=((0.5, ORANGE),),
    empty="■ nobody heard",
    since=_HOURS,
)
ACTIVE = number(
    Words(
        "Active alerts",
        "Alerts raised within 24 hours and neither cleared nor withdrawn since. Many are not"
        " wrong by themselves: the burden stands in the table below.",
    ),
    sql(f"SELECT countIf(active) AS alerts FROM ({_ALERTS})"),
    unit="short",
    since=_DAY,
)
HEARTBEAT = number(
    Words(
        "Last heartbeat",
        "How long ago a tick of a source had gone all the way to the ledger. Sources send one"
        " every 10 seconds: after a minute without, a source, Kafka or the ledger stands.",
    ),
    sql(f"""
        SELECT dateDiff('second', maxOrNull(accepted_at), {UNTIL}) AS ago
        FROM predictions
        WHERE $__timeFilter(timestamp) AND kind = 'tick'
    """),
    unit="s",
    limits=((60, ORANGE), (300, VERMILLION)),
    empty="■ none for a day",
    since=_DAY,
)
CALLS = number(
    Words(
        "Calls that are open",
        "Alerts of Prometheus that fire now: each has called somebody. The table below names"
        " them; docs/runbooks has a page for each.",
    ),
    promql(f"count({_FIRING}) or 0 * count(up)"),
    unit="short",
    looks=NONE,
    limits=((1, VERMILLION),),
)
UNITS = table(
    Words(
        "Units",
        "One line a unit, the longest unheard first. Quiet: nothing for 15 minutes; silent: for"
        " an hour. Counts are of the present ward, for those who work there; a unit that was not"
        " heard for 24 hours is not in the list.",
    ),
    sql(f"""
        SELECT heard.unit AS "Unit",
            multiIf(age > 3600, 'silent', age > 900, 'quiet', 'covered') AS "Covered",
            age AS "Last heard",
            patients AS "Patients, last hour", unscored AS "not scored", active AS "Active alerts",
            100 * raised / nullIf(days, 0) AS "Alerts per 100 patient-days"
        FROM (
            SELECT unit, dateDiff('second', max(accepted_at), {UNTIL}) AS age,
                uniqExactIf(pseudonym, recent) AS patients,
                patients - uniqExactIf(pseudonym, recent AND disposition = 'scored') AS unscored,
                uniqExact(pseudonym, toStartOfHour(measured_at)) / 24 AS days
            FROM (
                SELECT unit, pseudonym, disposition, measured_at, accepted_at,
                    accepted_at > {UNTIL} - INTERVAL 1 HOUR AS recent
                {_HEARD}
            )
            GROUP BY unit
        ) AS heard
        LEFT JOIN (
            SELECT unit, countIf(active) AS active, count() AS raised
            FROM ({_ALERTS})
            GROUP BY unit
        ) AS alarmed ON heard.unit = alarmed.unit
        ORDER BY age DESC
    """),
    {
        "Covered": Column(looks=COVERED),
        "Last heard": Column(unit="s"),
        "Patients, last hour": Column(unit="short"),
        "not scored": Column(unit="short"),
        "Active alerts": Column(unit="short"),
        "Alerts per 100 patient-days": Column(unit="short", decimals=1),
        "Unit": Column(
            link="/d/vigil-alerts-and-answers?var-unit=${__data.fields.Unit:percentencode}"
        ),
    },
    since=_DAY,
    width=16,
)
CALLED = table(
    Words(
        "What has called",
        "Alerts of Prometheus that fire now, with whom they call: technical is the engineer on"
        " call, clinical the clinical lead. Empty is good, as long as patients are scored.",
    ),
    promql(f"max by (alertname, severity, audience) ({_FIRING})"),
    {"Time": Column(unit="dateTimeAsIso"), "Value": Column(unit="none")},
    width=8,
)
HEARD_OF = states(
    Words(
        "When each unit was heard",
        "Whether a vital sign of the unit arrived within each quarter of an hour (longer where"
        " more time is shown). A gap in one unit is that unit's feed; in all,"
        " Vigil or the network.",
    ),
    sql(f"""
        WITH greatest(900, $__interval_s) AS step,
            intDiv(toUnixTimestamp($__fromTime), step) AS first,
            intDiv(toUnixTimestamp({UNTIL}), step) AS last
        SELECT toDateTime(slot * step, 'UTC') AS time, unit, toUInt8(has(slots, slot)) AS state
        FROM (SELECT arrayJoin(range(first, last + 1)) AS slot) AS axis
        CROSS JOIN (
            SELECT unit, groupUniqArray(intDiv(toUnixTimestamp(timestamp), step)) AS slots {_HEARD}
            GROUP BY unit
        ) AS heard
        ORDER BY time, unit
    """),
    HEARD,
    name="unit",
    since=_DAY,
)
SCORES = lines(
    Words(
        "Measurements that led to a score",
        "Of the chosen units together. Not scored: too little was measured, or it was too old."
        " Both at zero: nothing arrives.",
    ),
    [sql(f"""
        SELECT $__timeInterval(timestamp) AS time, countIf(disposition = 'scored') AS "scored",
            countIf(disposition = 'abstained') AS "not scored"
        {_HEARD}
        GROUP BY time ORDER BY time
    """)],
    ["scored", "not scored"],
    unit="short",
    bars=True,
)  # fmt: skip
STEPS = lines(
    Words(
        "Steps of alerts",
        "Of the chosen units together: raised, escalated, cleared, withdrawn (by a correction).",
    ),
    [sql(f"""
        SELECT $__timeInterval(timestamp) AS time, countIf(step = 'raised') AS "raised",
            countIf(step = 'escalated') AS "escalated", countIf(step = 'cleared') AS "cleared",
            countIf(step = 'withdrawn') AS "withdrawn"
        FROM alerts
        WHERE $__timeFilter(timestamp) AND {OF_UNITS}
        GROUP BY time ORDER BY time
    """)],
    ["raised", "escalated", "cleared", "withdrawn"],
    unit="short",
    bars=True,
)  # fmt: skip


def board() -> Board:
    """Is every unit watched at this moment?"""
    return Board(
        uid="vigil-ward-now",
        area="ward",
        question="Is every unit watched at this moment? The first row says it, the table where.",
        rows=[
            [WORKS, QUIET, UNSCORED, HEARTBEAT, CALLS, ACTIVE],
            [UNITS, CALLED],
            [HEARD_OF],
            [SCORES, STEPS],
        ],
        variables=[unit(), model()],
        refresh="10s",
    )
