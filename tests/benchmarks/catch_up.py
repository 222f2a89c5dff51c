"""`make bench NAME=catch_up`: a backlog is drained while the live feed goes on.

The real scoring service begins behind a long log of vitals.v1 that waited for an hour; an outside
reader of committed predictions counts. Drained means: everything that was sent so far has its
prediction. Nobody may be called for an alert that is over by the end of the backlog.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

from chaos.crowd import crowd
from chaos.feed import Feed, vitals
from chaos.ground import Ground, Instance
from chaos.log import Count
from confluent_kafka import Producer
from lives import until
from progress import counting, ending_by_signal, say
from report import line

from services.core.events import Alert, Kind, Step, Vitals
from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.codec import Codec
from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.client import QUIET
from services.runtime.kafka.reader import scan
from services.runtime.ports import Output
from services.scoring.outputs import ALERTS
from services.scoring.settings import ScoringSettings

BAR: Final = 5.0
FLUSH_EVERY: Final = 20_000
FLUSH_S: Final = 60.0
WAITED_S: Final = 3600.0
LIVE_S: Final = 0.5
"""Less than so many seconds of the live feed behind is at its end."""
CODEC: Final = Codec(REPO / "schemas")


def write(bootstrap: str, events: Iterable[Output], *, age_s: float = 0) -> int:
    """Write events as if they had been written so long ago, and give their number."""
    options = {"bootstrap.servers": bootstrap, **QUIET}
    producer = Producer({**options, "linger.ms": 5, "enable.idempotence": True})
    stamp, sent = round((time.time() - age_s) * 1000), 0
    for event in events:
        assert event.partition is not None
        producer.produce(event.topic, event.value, event.key, event.partition, timestamp=stamp)
        sent += 1
        if sent % FLUSH_EVERY == 0:
            producer.flush(FLUSH_S)
    assert producer.flush(FLUSH_S) == 0, "the broker did not take everything"
    return sent


def drained(ground: Ground, live: Feed, backlog: int, patience_s: float) -> dict[str, float]:
    """Start the service behind a backlog, with the live feed, and watch it come to the end."""
    count, tell = Count(ground.options, CODEC), counting("predicted", backlog)
    began = time.monotonic()
    with Instance(ground) as service:
        with live:
            service.start()
            until(lambda: count.read() > 0, seconds=patience_s)
            first = time.monotonic()
            until(lambda: at_the_end(count, live, backlog, tell(count.read())), seconds=patience_s)
            seconds, drained_at = time.monotonic() - first, count.predictions
        until(lambda: tell(count.read()) >= backlog + live.sent, seconds=patience_s)
    count.close()
    assert count.predictions == backlog + live.sent, "something was predicted twice"
    return {
        "events_per_s": round(drained_at / seconds, 1),
        "drained_in_s": round(seconds, 1),
        "start_to_first_prediction_s": round(first - began, 2),
        "live_events_per_s": round(live.rate, 1),
        "held_as_over": count.held,
    }


def at_the_end(count: Count, live: Feed, backlog: int, done: int) -> bool:
    """Whether the service has come up to the live feed."""
    assert not live.over, "the live feed has come to its end: give more --live-seconds"
    assert done == count.predictions
    return done >= backlog + live.sent - live.asked * LIVE_S


def time_of(events: list[Output]) -> int:
    """Give the last tick among events, in µs."""
    decoded = (CODEC.decode(event.value or b"", Vitals) for event in reversed(events))
    return next(event.measured_at for event in decoded if event.kind is Kind.TICK)


def calls(ground: Ground, over_at: int) -> dict[str, int]:
    """Count the alerts that call somebody, and those of them that are over by a time."""
    places = partitions_of(ground.options, [ALERTS])
    records = scan(ground.options, places, patience_s=FLUSH_S)
    alerts = [CODEC.decode(record.value or b"", Alert) for record in records]
    until_ = [a.valid_until for a in alerts if a.step in (Step.RAISED, Step.ESCALATED)]
    return {"calls": len(until_), "calls_that_are_over": sum(at < over_at for at in until_)}


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Simulate, write, drain, and look at what was told."""
    say("simulating the ward")
    stream = crowd(vitals(3, beds=given.beds), CODEC, copies=given.copies)
    behind = list(islice(stream, given.backlog))
    live = list(islice(stream, int(given.rate * given.live_seconds)))
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder) / "kafka", free_port(), cache=here().cache)
        try:
            ground = Ground(broker.start(), Path(folder), ScoringSettings().model)
            say("writing the backlog")
            backlog = write(broker.bootstrap, behind, age_s=WAITED_S)
            feed = Feed(broker.bootstrap, live, rate=given.rate)
            say("draining")
            figures = drained(ground, feed, backlog, given.patience)
            return figures | {"backlog": backlog} | calls(ground, time_of(behind))
        finally:
            broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backlog", type=int, default=500_000)
    parser.add_argument("--rate", type=float, default=1_500)
    parser.add_argument("--live-seconds", type=float, default=300)
    parser.add_argument("--beds", type=int, default=400)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--patience", type=float, default=1_200)
    given = parser.parse_args()
    ending_by_signal()
    figures = run(given)
    times = figures["events_per_s"] / given.rate
    ratios = {"of_the_live_rate": round(times, 2)}
    bars = {
        "of_the_live_rate": {"bar": BAR, "reached": times >= BAR},
        "calls_that_are_over": {"bar": 0, "reached": figures["calls_that_are_over"] == 0},
        "held_and_counted": {"bar": 1, "reached": figures["held_as_over"] >= 1},
    }
    did = f"{figures['backlog']} events behind, {given.rate:.0f}/s live, one process, none lost"
    print(line("catch-up", figures, ratios, bars=bars, did=did, repetitions=1))


if __name__ == "__main__":
    main()
