"""Ledger: is everything kept, is it whole, and who changed what?"""

from dashboards.panels import Column, Words, bars, lines, number, table
from dashboards.query import UNTIL, worded
from dashboards.shapes import Board
from dashboards.states import NONE, ORANGE, VERMILLION, WHOLE
from dashboards.targets import sql
from dashboards.words import TAKEN_FOR

# Within one chain sequence numbers are dense and rise with the store's clock, so that what was
# written in any span of time is dense as well.
_CHAINS = """
    SELECT topic, topic_id, partition, count() AS records,
        max(sequence) - min(sequence) + 1 - count() AS gap,
        max(recorded_at) AS last, sum(greatest(length, 0)) AS bytes
    FROM ledger
    WHERE $__timeFilter(recorded_at)
    GROUP BY topic, topic_id, partition
"""

BROKEN = number(
    Words(
        "Chains with a gap or a double",
        "Chains whose numbers are not dense in the time that is shown. A quick look alone: that"
        " no record was altered is proved by `vigil ledger verify`, whose findings stand beside"
        " it.",
    ),
    sql(f"SELECT if(count() = 0, NULL, countIf(gap != 0)) AS chains FROM ({_CHAINS})"),
    unit="short",
    looks=NONE,
    limits=((1, VERMILLION),),
    empty="— nothing written",
)
PROVED = number(
    Words(
        "Findings of the last proof",
        "What `vigil ledger verify` found when it last computed every hash anew, whatever time is"
        " shown. Nothing stands here when nobody proved the ledger for 8 days. The table below"
        " has every proof; it shows what was written down, and is no proof itself.",
    ),
    sql("""
        SELECT if(count() = 0, NULL, argMax(findings, ended_at)) AS findings
        FROM verifications
        WHERE ended_at > now() - INTERVAL 8 DAY
    """),
    unit="short",
    looks=NONE,
    limits=((1, VERMILLION),),
    empty="— not proved for 8 days",
)
BEHIND = number(
    Words(
        "Wrote last",
        "How long ago the store took its last record. Sources tick every 10 seconds, so more"
        " than a minute means that the ledger stands, or that nothing arrives.",
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
DELAY = number(
    Words(
        "Kept within",
        "99 of 100 records were in the store within this time after Kafka had them. The"
        " objective is 60 seconds. Kafka keeps them meanwhile.",
    ),
    sql("""
        SELECT if(count() = 0, NULL,
            quantileTDigest(0.99)(age('ms', timestamp, recorded_at)) / 1000) AS delay
        FROM ledger
        WHERE $__timeFilter(timestamp)
    """),
    unit="s",
    decimals=1,
    limits=((60, ORANGE),),
)
KEPT = number(
    Words(
        "Records kept",
        "In the time that is shown, of all topics.",
    ),
    sql("SELECT count() AS records FROM ledger WHERE $__timeFilter(timestamp)"),
    unit="short",
)
REFUSED = number(
    Words(
        "Dead letters",
        "Messages or entries that could not be used, in the time that is shown. They are kept,"
        " encrypted, until somebody has looked; the bars below say why.",
    ),
    sql("SELECT count() AS letters FROM dead_letters WHERE $__timeFilter(timestamp)"),
    unit="short",
)
CHAINS = table(
    Words(
        "Chains by topic",
        "What was written in the time that is shown. Whole: the numbers of every chain are"
        " dense. Broken: records are missing or there twice; run `vigil ledger verify` and call"
        " whoever answers for the ledger.",
    ),
    sql(f"""
        SELECT topic AS "Topic", if(countIf(gap != 0) = 0, 'whole', 'broken') AS "Chains are",
            count() AS "Chains", sum(records) AS "Records", sum(bytes) AS "Size",
            dateDiff('second', max(last), {UNTIL}) AS "Wrote last"
        FROM ({_CHAINS})
        GROUP BY topic
        ORDER BY "Chains are", topic
    """),
    {
        "Chains are": Column(looks=WHOLE, width=130),
        "Chains": Column(unit="short"),
        "Records": Column(unit="short"),
        "Size": Column(unit="bytes"),
        "Wrote last": Column(unit="s"),
    },
    width=14,
    height=10,
)
PROOFS = table(
    Words(
        "Proofs of the ledger",
        "What `vigil ledger verify` found, the latest first. Heads: the first digits of one digest"
        " over the heads of all chains. Only those who may write it down appear: an auditor's own"
        " proof does not.",
    ),
    sql("""
        SELECT ended_at AS "Ended", if(findings = 0, 'whole', 'broken') AS "Ledger is",
            findings AS "Findings", records AS "Records", chains AS "Chains", seconds AS "Took",
            verifier AS "By", version AS "Vigil", substring(heads, 1, 12) AS "Heads"
        FROM verifications
        WHERE $__timeFilter(ended_at)
        ORDER BY ended_at DESC
        LIMIT 100
    """),
    {
        "Ended": Column(unit="dateTimeAsIso"),
        "Ledger is": Column(looks=WHOLE, width=130),
        "Findings": Column(unit="short"),
        "Records": Column(unit="short"),
        "Chains": Column(unit="short"),
        "Took": Column(unit="s"),
    },
    height=6,
)
FATES = bars(
    Words(
        "What became of every entry",
        "Entries of what the gateway accepted, by receipt: each is in exactly one bar. `vigil"
        " ledger reconcile` accounts for every offset.",
    ),
    sql(f"""
        SELECT {worded("fate", TAKEN_FOR)} AS "Fate", count() AS "Entries"
        FROM receipts
        WHERE $__timeFilter(timestamp)
        GROUP BY 1 ORDER BY 2 DESC, 1
    """),
    unit="short",
    width=10,
)
WRITTEN = lines(
    Words(
        "Records written",
        "By the store's clock. A hole while the ward is watched: the ledger stood, and caught up"
        " where the line rises again.",
    ),
    [sql("""
        SELECT $__timeInterval(recorded_at) AS time, count() AS "records"
        FROM ledger
        WHERE $__timeFilter(recorded_at)
        GROUP BY time ORDER BY time
    """)],
    ["records"],
    unit="short",
)  # fmt: skip
WAITED = lines(
    Words(
        "From Kafka to the ledger",
        "How long records waited: half and 99 of 100 were kept within these times. Objective: 60"
        " seconds.",
    ),
    [sql("""
        SELECT $__timeInterval(recorded_at) AS time,
            quantileTDigest(0.5)(age('ms', timestamp, recorded_at)) / 1000 AS "half within",
            quantileTDigest(0.99)(age('ms', timestamp, recorded_at)) / 1000 AS "99 of 100 within"
        FROM ledger
        WHERE $__timeFilter(recorded_at)
        GROUP BY time ORDER BY time
    """)],
    ["half within", "99 of 100 within"],
    unit="s",
)  # fmt: skip
REASONS = bars(
    Words(
        "Dead letters by reason",
        "In the time that is shown, with the topic they came from. `vigil dlq show` decrypts one"
        " for those who may.",
    ),
    sql("""
        SELECT concat(reason, ' — ', source_topic) AS "Reason", count() AS "Dead letters"
        FROM dead_letters
        WHERE $__timeFilter(timestamp)
        GROUP BY 1 ORDER BY 2 DESC, 1
    """),
    unit="short",
    width=10,
)
CHANGED = table(
    Words(
        "What people changed",
        "Everything that took part in a decision and was changed by somebody, the latest first:"
        " who asked, who approved, and what was before. `access` is no change: who was shown whom"
        " a pseudonym stands for.",
    ),
    sql("""
        SELECT made_at AS "Made", effective_from AS "In effect from", kind AS "Kind",
            subject AS "What", requested_by AS "Asked for by", approved_by AS "Approved by",
            reason AS "Reason", substring(before, 1, 12) AS "Before",
            substring(after, 1, 12) AS "After"
        FROM changes
        WHERE $__timeFilter(made_at)
        ORDER BY made_at DESC, offset DESC
        LIMIT 1 BY change_id
        LIMIT 200
    """),
    {"Made": Column(unit="dateTimeAsIso"), "In effect from": Column(unit="dateTimeAsIso")},
    width=14,
)


def board() -> Board:
    """Is everything kept, is it whole, and who changed what?"""
    return Board(
        uid="vigil-ledger",
        area="audit",
        question="Is everything kept, is it whole, and who changed what?",
        rows=[
            [BROKEN, PROVED, BEHIND, DELAY, REFUSED, KEPT],
            [CHAINS, FATES],
            [PROOFS],
            [CHANGED, REASONS],
            [WRITTEN, WAITED],
        ],
        since="now-7d",
        refresh="1m",
    )
