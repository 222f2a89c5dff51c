"""How a stream is sent, and what became of it."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from services.simulator.messages import instant


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream is sent.

    Attributes:
        speed: seconds of event time per second; None for as fast as the gateway takes it.
        tick_every: event time between ticks; shorter below speed 6, so that a source is heard
            every 10 s of real time.
        lead: messages may be this many ticks ahead of the last acknowledged tick; 0 holds each
            message back until every tick before it is acknowledged.
        connections: requests under way at once, at least 1.
        patience_s: how long one request is repeated before the feeder gives up.
    """

    speed: float | None = None
    tick_every: timedelta = timedelta(minutes=1)
    lead: int = 15
    connections: int = 16
    patience_s: float = 300.0

    def interval(self) -> timedelta:
        """Event time between ticks at this speed."""
        heard = timedelta(seconds=10 * self.speed) if self.speed else self.tick_every
        return min(self.tick_every, heard)


@dataclass(slots=True)
class Sent:
    """What became of a stream, counted by message: a repeated request counts once.

    Attributes:
        sent: messages handed to the gateway at least once.
        accepted: of them, those acknowledged as durable.
        refused: of them, those turned away for good, by HTTP status.
        repeated: requests sent again; a lost answer may have made a second record.
        entries: entries of the accepted messages.
        observations: Observations among those entries.
        by_route: accepted messages by where the gateway takes them.
        ticks: acknowledged ticks.
        reached: event time up to which everything is acknowledged.
        stopped: whether the caller stopped it before the stream's end.
        elapsed_s: real time so far.
        latencies_ms: from first request to final answer, one per answered message.
    """

    sent: int = 0
    accepted: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    repeated: int = 0
    entries: int = 0
    observations: int = 0
    by_route: Counter[str] = field(default_factory=Counter)
    ticks: int = 0
    reached: datetime | None = None
    stopped: bool = False
    elapsed_s: float = 0.0
    latencies_ms: "array[float]" = field(default_factory=lambda: array("d"))

    def summary(self) -> dict[str, Any]:
        """Say it in plain numbers, for a report."""
        latency = np.percentile(self.latencies_ms or [0.0], [50, 99])
        return {
            "sent": self.sent,
            "accepted": self.accepted,
            "refused": {str(status): count for status, count in sorted(self.refused.items())},
            "repeated": self.repeated,
            "entries": self.entries,
            "observations": self.observations,
            "by_route": dict(sorted(self.by_route.items())),
            "ticks": self.ticks,
            "reached": instant(self.reached) if self.reached else None,
            "stopped": self.stopped,
            "elapsed_s": round(self.elapsed_s, 3),
            "post_p50_ms": round(float(latency[0]), 2),
            "post_p99_ms": round(float(latency[1]), 2),
        }
