"""`python -m services.ingest`: fhir.raw.v1 to vitals.v1, and what goes beside it.

It also reads what services notice of sources, and says when somebody must look.
"""

import gc
import sys
from collections import Counter
from collections.abc import Sequence

from services.core.events import Fate, Receipt
from services.ingest.normalise.message import CLOCK_SKEW
from services.ingest.pipeline import NOTICES, RAW, VITALS, Ingest, OnReceipts
from services.ingest.refusals import Refusals
from services.ingest.settings import IngestSettings
from services.ingest.standing import CHANGELOG
from services.ingest.tables import read_terminology
from services.runtime.codec import Codec
from services.runtime.kafka import admin
from services.runtime.kafka.client import Options
from services.runtime.service import run
from services.runtime.settings import KafkaSettings
from services.runtime.telemetry.metrics import Metrics
from services.runtime.vault import KeyFile, read_pseudonym_key
from services.runtime.worker import MakeTask, Plan


def main() -> int:
    """Read the settings, then ingest until told to stop."""
    settings = IngestSettings()
    options = KafkaSettings().client_options()
    plan = Plan(
        service="ingest",
        instance=settings.instance,
        inputs=(RAW, NOTICES),
        changelog=CHANGELOG,
    )
    return run(plan, options, settings, lambda metrics: tasks(settings, options, metrics))


def tasks(settings: IngestSettings, options: Options, metrics: Metrics) -> MakeTask:
    """Read keys and tables, and give the maker of tasks.

    Raises:
        CommandError: a key file or a table cannot be used, or there is no topic of vitals.
    """
    key = read_pseudonym_key(settings.pseudonym_key_file)
    keys = KeyFile(settings.payload_key_file)
    terminology = read_terminology(settings.schemas / "terminology", settings.site_terminology)
    codec = Codec(settings.schemas)
    partitions = len(admin.partitions_of(options, [VITALS]))
    on_receipts = counting(metrics)
    gc.freeze()  # what was read stays: collecting garbage need not look through it again
    return lambda _: Ingest(
        terminology=terminology,
        pseudonym_key=key,
        vault=keys.vault,
        codec=codec,
        partitions=partitions,
        on_receipts=on_receipts,
    )


def counting(metrics: Metrics) -> OnReceipts:
    """Count entries by fate, dead letters by reason, and refusals among the latest messages."""
    refusals = Refusals()
    lately, in_a_row = (
        metrics.gauge("refused_recent_records"),
        metrics.gauge("refused_running_records"),
    )
    lately.set_function(lambda: refusals.worst().refused)
    in_a_row.set_function(lambda: refusals.worst().in_a_row)

    fates = {fate: metrics.counter("entries_total", outcome=fate) for fate in Fate}
    skewed = metrics.counter("skewed_entries_total")

    def count(receipts: Sequence[Receipt]) -> None:
        for receipt in receipts:
            refusals.note(receipt)
        entries = [entry for receipt in receipts for entry in receipt.entries]
        for fate, number in Counter([entry.fate for entry in entries]).items():
            fates[fate].inc(number)
        details = Counter([(entry.fate, entry.detail) for entry in entries if entry.detail])
        for (fate, detail), number in details.items():
            if fate is Fate.DEAD:
                metrics.counter("dead_letters_total", reason=detail).inc(number)
            elif detail == CLOCK_SKEW:
                skewed.inc(number)

    return count


if __name__ == "__main__":
    sys.exit(main())
