"""The short form of `make chaos`: the real scoring service, hurt under a steady stream."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from chaos.__main__ import FOUND_BY, besieged, grounded, run
from chaos.cases import killed_at, killed_at_random
from chaos.ground import Ground, Instance
from chaos.oracle import Verdict
from chaos.points import POINTS

from services.local.kafka import Broker
from services.local.ports import free_port

pytestmark = [pytest.mark.wire, pytest.mark.slow]

SEED = 7
KILLS = 3


class Hurt(NamedTuple):
    """What came out of a service that was killed so often."""

    verdict: Verdict
    deaths: int
    ground: Ground


@pytest.fixture(scope="module")
def hurt(jar_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hurt]:
    """kill -9 three times at random moments and once at each named point, on one log."""
    folder = tmp_path_factory.mktemp("chaos")
    broker = Broker(folder / "kafka", free_port(), cache=jar_cache)
    try:
        ground = grounded(broker.start(), folder, seed=SEED)
        siege = besieged(ground, seed=SEED)
        with Instance(ground) as service:
            with siege.feed:
                killed_at(siege, service)
                killed_at_random(siege, service, kills=KILLS)
            verdict = siege.verdict()
        siege.log.close()
        sys.stderr.write(f"killed under {siege.feed.rate:.0f} events/s\n")
        yield Hurt(verdict, service.killed - 1, ground)
    finally:
        broker.kill()


def test_each_eligible_offset_has_one_prediction(hurt: Hurt) -> None:
    assert hurt.deaths == KILLS + len(POINTS)
    assert hurt.verdict.predictions == hurt.verdict.events > 0
    assert (hurt.verdict.missing, hurt.verdict.doubled) == (0, 0)


def test_each_prediction_is_that_of_an_undisturbed_run(hurt: Hurt) -> None:
    assert hurt.verdict.changed == 0


def test_the_alerts_are_those_of_an_undisturbed_run(hurt: Hurt) -> None:
    assert hurt.verdict.alerts > 0
    assert hurt.verdict.alerts_changed == 0


def test_the_state_is_that_of_an_undisturbed_run_byte_for_byte(hurt: Hurt) -> None:
    assert hurt.verdict.patients > 0
    assert (hurt.verdict.rows_changed, hurt.verdict.state_changed) == (0, 0)


@pytest.mark.parametrize("bug", ["commit-before-produce", "above-for-at-least"])
def test_a_planted_bug_is_found_by_the_same_comparison(hurt: Hurt, bug: str) -> None:
    hurt.ground.clear()
    siege = besieged(hurt.ground, seed=SEED)
    found = run(bug, FOUND_BY[bug], siege, bug=bug)
    siege.log.close()
    assert found["result"] == "differs"
