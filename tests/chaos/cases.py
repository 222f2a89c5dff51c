"""What is done to the service while vitals stream through it."""

import signal
import time
from collections.abc import Callable
from typing import Any

from chaos.ground import PARTITIONS, Instance
from chaos.model import SAMPLE
from chaos.points import POINTS
from chaos.siege import Siege
from confluent_kafka import Producer
from lives import until

from services.core.errors import ExitCode
from services.runtime.kafka.client import QUIET
from services.scoring.outputs import CHANGELOG

Facts = dict[str, Any]
Case = Callable[[Siege, Instance], Facts]
"""Hurts a service that is fed, and says what it did; the service lives when it returns."""

FROZEN_S = 20.0
AWAY_S = 10.0
HELD_S = 6.0
SHORTEST_S, LONGEST_S = 0.1, 1.5
PASSES = 20


def killed_at_random(siege: Siege, service: Instance, *, kills: int) -> Facts:
    """kill -9 at random moments."""
    service.start()
    inside = 0
    for _ in range(kills):
        siege.flowing()
        siege.for_seconds(siege.rng.uniform(SHORTEST_S, LONGEST_S))
        service.kill()
        inside += siege.log.in_transaction()
    siege.flowing()
    return {"kills": kills, "kills_in_an_open_transaction": inside}


def killed_at(siege: Siege, service: Instance, *, points: tuple[str, ...] = POINTS) -> Facts:
    """kill -9 once at each named point."""
    service.start(*points, passes=PASSES)
    for deaths in range(1, len(points) + 1):
        siege.until(lambda n=deaths: service.killed >= n)  # type: ignore[misc]  # bound now
    siege.flowing()
    return {"kills": len(points), "points": list(points)}


def frozen(siege: Siege, service: Instance) -> Facts:
    """SIGSTOP before a commit; another instance takes over; SIGCONT 20 s later."""
    with siege.another(service) as other:
        service.start()
        siege.flowing()
        other.start("before-commit", passes=PASSES, number="SIGSTOP")
        siege.until(lambda: siege.ground.members() == 2)
        siege.until(other.stopped)
        open_ = siege.log.in_transaction()
        siege.for_seconds(FROZEN_S)
        others = siege.log.moving()
        other.send(signal.SIGCONT)
        siege.until(lambda: bool(other.codes))
        assert other.codes[0] == ExitCode.CRASH, "it went on as if nothing had been"
        siege.flowing()
    return {
        "stopped_s": FROZEN_S,
        "stopped_in_an_open_transaction": open_,
        "partitions_that_moved_meanwhile": others,
        "exit_code_when_it_woke": other.codes[0],
    }


def joined_and_left(siege: Siege, service: Instance, *, every_s: float, rounds: int) -> Facts:
    """A second instance leaves and joins."""
    service.start()
    siege.flowing()
    codes = []
    with siege.another(service) as other:
        for _ in range(rounds):
            other.start()
            siege.until(lambda: siege.ground.members() == 2)
            siege.for_seconds(every_s)
            codes.append(other.stop())
            siege.until(lambda: siege.ground.members() == 1)
            siege.for_seconds(every_s)
    assert set(codes) == {ExitCode.OK}
    siege.flowing()
    return {"joined_and_left": rounds, "every_s": every_s}


def without_a_broker(siege: Siege, service: Instance) -> Facts:
    """kill -9 of the broker, which comes back later."""
    service.start()
    siege.flowing()
    siege.ground.broker.kill()
    back = time.monotonic() + AWAY_S
    until(lambda: time.monotonic() >= back)
    siege.ground.broker.start()
    siege.flowing()
    return {"broker_away_s": AWAY_S, "lives": len(service.codes) + 1}


def behind_an_open_transaction(siege: Siege, service: Instance) -> Facts:
    """kill -9 while an older transaction is open on the changelog, as a late marker leaves it."""
    service.start()
    siege.flowing()
    stranger = Producer({**siege.ground.options, **QUIET, "transactional.id": "stranger"})
    stranger.init_transactions(HELD_S)
    stranger.begin_transaction()
    for partition in range(PARTITIONS):
        stranger.produce(CHANGELOG, b"", b"stranger", partition)
    stranger.flush(HELD_S)
    siege.for_seconds(1.0)
    service.kill()
    before, end = siege.log.read(), time.monotonic() + HELD_S
    until(lambda: siege.log.read() > before or time.monotonic() > end)
    stranger.abort_transaction(HELD_S)
    siege.flowing()
    return {"kills": 1, "held_s": HELD_S}


def left_alone(siege: Siege, service: Instance) -> Facts:
    """Nothing."""
    service.start()
    siege.until(lambda: siege.log.predictions > SAMPLE)
    return {}
