"""Pipeline: does everything flow, and if not, where does it stand?"""

from dashboards.panels import Column, Words, lines, number, states, table
from dashboards.query import UNTIL
from dashboards.shapes import Board, Query
from dashboards.states import NONE, ORANGE, VERMILLION, WORKING
from dashboards.targets import promql, sql
from dashboards.variables import model

SERVICES = ("gateway", "ingest", "scoring", "labelling", "monitoring", "audit")
"""In the order in which a measurement meets them."""
_ALL = len(SERVICES)
_RATE = "$__rate_interval"


def _quantiles(name: str) -> list[Query]:
    """Half and 99 of 100 came within so long."""
    shares = ((0.5, "half within"), (0.99, "99 of 100 within"))
    return [promql(_within(share, name, _RATE), words) for share, words in shares]


def _within(share: float, name: str, span: str) -> str:
    rates = f'rate(vigil_{name}_bucket{{model=~"$model"}}[{span}])'
    return f"histogram_quantile({share}, sum by (le) ({rates}))"


DOWN = number(
    Words(
        "Services that do not work",
        "Of six: those that do not answer, or answer and make no progress. The bands below name"
        " them; `/readyz` of the service says why.",
    ),
    promql(f"({_ALL} - count(max by (service) (vigil_ready) == 1)) or vector({_ALL})"),
    unit="short",
    looks=NONE,
    limits=((1, VERMILLION),),
)
WAITING = number(
    Words(
        "Records that wait",
        "Offsets between where services stand and the ends of their partitions, less the marker"
        " of the last transaction. Under load some always wait; it must not grow.",
    ),
    promql("sum(clamp_min(vigil_lag_records - 1, 0))"),
    unit="short",
    limits=((10000, ORANGE),),
)
LATE = number(
    Words(
        "Score within",
        "99 of 100 scores of the last 5 minutes came within this time after the gateway had"
        " accepted the measurement. The objective is 1 second. NaN or nothing: none was given.",
    ),
    promql(_within(0.99, "accepted_to_scored_seconds", "5m")),
    unit="s",
    limits=((1, ORANGE), (5, VERMILLION)),
    empty="— no score",
)
DEAD = number(
    Words(
        "Entries that could not be used",
        "Share of the entries of the last 15 minutes that became dead letters. They are kept,"
        " encrypted; `vigil dlq list` shows why, `vigil dlq replay` sends them again.",
    ),
    promql("""
        sum(rate(vigil_entries_total{outcome="dead"}[15m]))
            / sum(rate(vigil_entries_total{outcome!="tick"}[15m]))
    """),
    unit="percentunit",
    decimals=1,
    limits=((0.05, ORANGE),),
    empty="— nothing arrived",
)
RESTARTS = number(
    Words(
        "Restarts in 15 min",
        "A service that fails ends and is started anew, and goes on where it was: one restart"
        " loses nothing. Many say that it cannot go on.",
    ),
    promql("sum(changes(vigil_process_start_time_seconds[15m]))"),
    unit="short",
    looks=NONE,
    limits=((1, ORANGE), (3, VERMILLION)),
)
BEHIND = number(
    Words(
        "Ledger wrote last",
        "How long ago the ledger's store took its last record. Sources tick every 10 seconds, so"
        " more than a minute means that the ledger stands, or that nothing arrives.",
    ),
    sql(f"""
        SELECT dateDiff('second', maxOrNull(recorded_at), {UNTIL}) AS ago
        FROM ledger
        WHERE $__timeFilter(timestamp)
    """),
    unit="s",
    limits=((60, ORANGE), (300, VERMILLION)),
    empty="■ nothing for a day",
    since="24h",
)
LEDGER = table(
    Words(
        "The ledger: how late it is, and when it was proved",
        "When the store took its last record; within which time 99 of 100 records of the last day"
        " were kept (objective: 60 seconds); how long ago `vigil ledger verify` last found"
        " nothing, and what it found last. The board Ledger has every proof.",
    ),
    sql(f"""
        SELECT wrote AS "Wrote last", delay AS "Kept within", proved AS "Proved whole",
            found AS "Findings of the last proof"
        FROM (
            SELECT dateDiff('second', maxOrNull(recorded_at), {UNTIL}) AS wrote,
                if(count() = 0, NULL,
                    quantileTDigest(0.99)(age('ms', timestamp, recorded_at)) / 1000) AS delay
            FROM ledger
            WHERE $__timeFilter(timestamp)
        ) AS kept
        CROSS JOIN (
            SELECT dateDiff('second', maxOrNull(if(findings = 0, ended_at, NULL)), {UNTIL})
                    AS proved,
                if(count() = 0, NULL, argMax(findings, ended_at)) AS found
            FROM verifications
        ) AS proofs
    """),
    {
        "Wrote last": Column(unit="s", empty="■ nothing for a day"),
        "Kept within": Column(unit="s", empty="—", decimals=1),
        "Proved whole": Column(unit="s", empty="— never"),
        "Findings of the last proof": Column(unit="short", looks=NONE, empty="— none was made"),
    },
    since="24h",
    height=4,
)
READY = states(
    Words(
        "Which service works",
        "Yes while the service makes progress or has nothing to do. A gap: it was not asked or"
        " did not answer.",
    ),
    promql("max by (service) (vigil_ready)", "{{service}}"),
    WORKING,
    height=7,
)
FLOW = lines(
    Words(
        "Records a second, by service",
        "What each service handled and committed. Steps should be seen in all of them, each a"
        " moment after the one before.",
    ),
    [promql(f"sum by (service) (rate(vigil_records_total[{_RATE}]))", "{{service}}")],
    SERVICES,
    unit="cps",
)
LAG = lines(
    Words(
        "Records that wait, by service",
        "A line that rises and does not fall: that service is slower than what arrives.",
    ),
    [promql("sum by (job) (clamp_min(vigil_lag_records - 1, 0))", "{{job}}")],
    SERVICES,
    unit="short",
)
SCORED = lines(
    Words(
        "From acceptance to score",
        "Real time from the gateway's acceptance to the committed score. Objective: 99 of 100"
        " within 1 second.",
    ),
    _quantiles("accepted_to_scored_seconds"),
    ["half within", "99 of 100 within"],
    unit="s",
)
ALERTED = lines(
    Words(
        "From acceptance to alert",
        "Real time from the gateway's acceptance to the alert that the measurement raised."
        " Objective: 99 of 100 within 1 second. No line where no alert was raised.",
    ),
    _quantiles("accepted_to_alert_seconds"),
    ["half within", "99 of 100 within"],
    unit="s",
)
REFUSED = lines(
    Words(
        "Dead letters a second, by service",
        "Messages, or entries of one, that could not be used. The table beside it has the"
        " reasons.",
    ),
    [promql(f"sum by (service) (rate(vigil_dead_letters_total[{_RATE}]))", "{{service}}")],
    SERVICES,
    unit="cps",
)
REASONS = table(
    Words(
        "Dead letters by reason",
        "In the time that is shown, the most frequent first. A new reason on a Monday is"
        " usually a change at a source: ask whoever made it.",
    ),
    promql(
        "sort_desc(sum by (service, reason) (increase(vigil_dead_letters_total[$__range])) > 0)"
    ),
    {"Time": Column(unit="dateTimeAsIso"), "Value": Column(unit="short", decimals=0)},
    width=12,
)
FAILED = lines(
    Words(
        "Transactions that failed, a second",
        "Each ends its process, which is started anew and repeats the work: nothing is lost and"
        " nothing is done twice. Many in a row: look at Kafka.",
    ),
    [promql(
        f'sum by (service) (rate(vigil_transactions_total{{outcome!="committed"}}[{_RATE}]))',
        "{{service}}",
    )],
    SERVICES,
    unit="cps",
)  # fmt: skip
ANSWERS = lines(
    Words(
        "Answers of the gateway, a second",
        "2xx: taken and durable. 4xx: the sender's fault, 5xx: ours, and the sender will try"
        " again.",
    ),
    [
        promql(
            f'sum(rate(vigil_requests_total{{service="gateway", outcome=~"{digit}.."}}[{_RATE}]))',
            f"{digit}xx",
        )
        for digit in (2, 4, 5)
    ],
    ["2xx", "4xx", "5xx"],
    unit="reqps",
)


def board() -> Board:
    """Does everything flow, and if not, where does it stand?"""
    return Board(
        uid="vigil-pipeline",
        area="operations",
        question="Does everything flow, and if not, where does it stand?",
        rows=[
            [DOWN, WAITING, LATE, DEAD, RESTARTS, BEHIND],
            [READY],
            [LEDGER],
            [FLOW, LAG],
            [SCORED, ALERTED],
            [REFUSED, REASONS],
            [FAILED, ANSWERS],
        ],
        variables=[model()],
        since="now-6h",
        refresh="10s",
    )
