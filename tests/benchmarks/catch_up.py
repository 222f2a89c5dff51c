"""`make bench NAME=catch_up`: a backlog is drained while the live feed goes on.

The real scoring service begins behind a long log of vitals.v1; an outside reader of committed
predictions counts. Drained means: everything that was sent so far has its prediction.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from chaos.crowd import crowd
from chaos.feed import Feed, vitals
from chaos.ground import Ground, Instance, until
from chaos.log import Count
from report import line

from services.local.home import REPO, here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.codec import Codec
from services.runtime.kafka.publisher import Publisher
from services.runtime.ports import Output
from services.scoring.settings import ScoringSettings

BAR = 5.0
FLUSH_EVERY = 20_000
FLUSH_S = 60.0
LIVE_S = 0.5
"""Less than so many seconds of the live feed behind is at its end."""


def write(bootstrap: str, events: Iterable[Output]) -> int:
    """Write events, and give their number."""
    publisher, confirmed, sent = Publisher({"bootstrap.servers": bootstrap}), list[bool](), 0
    for event in events:
        publisher.send(event, confirmed.append)
        sent += 1
        if sent % FLUSH_EVERY == 0:
            publisher.flush(FLUSH_S)
    publisher.flush(FLUSH_S)
    assert confirmed == [True] * sent
    return sent


def drained(ground: Ground, live: Feed, backlog: int, patience_s: float) -> dict[str, float]:
    """Start the service behind a backlog, with the live feed, and watch it come to the end."""
    count = Count(ground.options, Codec(REPO / "schemas"))
    began = time.monotonic()
    with Instance(ground) as service:
        with live:
            service.start()
            until(lambda: count.read() > 0, patience_s)
            first = time.monotonic()
            until(lambda: at_the_end(count, live, backlog), patience_s)
            seconds, drained_at = time.monotonic() - first, count.predictions
        until(lambda: count.read() >= backlog + live.sent, patience_s)
    count.close()
    assert count.predictions == backlog + live.sent, "something was predicted twice"
    return {
        "events_per_s": round(drained_at / seconds, 1),
        "drained_in_s": round(seconds, 1),
        "start_to_first_prediction_s": round(first - began, 2),
        "live_events_per_s": round(live.rate, 1),
    }


def at_the_end(count: Count, live: Feed, backlog: int) -> bool:
    """Whether the service has come up to the live feed."""
    assert not live.over, "the live feed has come to its end: give more --live-seconds"
    return count.read() >= backlog + live.sent - live.asked * LIVE_S


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backlog", type=int, default=500_000)
    parser.add_argument("--rate", type=float, default=1_500)
    parser.add_argument("--live-seconds", type=float, default=300)
    parser.add_argument("--beds", type=int, default=400)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--patience", type=float, default=1_200)
    given = parser.parse_args()
    sys.stderr.write("simulating the ward\n")
    ward = vitals(3, beds=given.beds)
    stream = crowd(ward, Codec(REPO / "schemas"), copies=given.copies)
    behind = list(islice(stream, given.backlog))
    live = list(islice(stream, int(given.rate * given.live_seconds)))
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder) / "kafka", free_port(), cache=here().cache).start()
        try:
            ground = Ground(broker, Path(folder), ScoringSettings().model)
            sys.stderr.write("writing the backlog\n")
            backlog = write(broker.bootstrap, behind)
            feed = Feed(broker.bootstrap, live, rate=given.rate)
            figures = drained(ground, feed, backlog, given.patience)
        finally:
            broker.stop()
    times = figures["events_per_s"] / given.rate
    ratios = {"of_the_live_rate": round(times, 2)}
    bars = {"of_the_live_rate": {"bar": BAR, "reached": times >= BAR}}
    did = f"{backlog} events behind, {given.rate:.0f}/s live, one process, no event lost"
    print(line("catch-up", figures, ratios, bars=bars, did=did, repetitions=1))


if __name__ == "__main__":
    main()
