"""The service itself: what it states through deaths and moves is what its pure tasks state."""

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from batches import Scored, batch
from builders import REPO, codec
from confluent_kafka import Producer
from lives import PATIENCE_S, Lives, until
from watched import START, Ward, baseline, live, put_into_use

from services.core.baseline import Baselines
from services.core.errors import ExitCode, Reason
from services.core.events import DeadLetter, Labelled, Measurement, PredictionBatch, Tally
from services.core.windows import DAY
from services.local.kafka import Broker
from services.local.ports import free_port
from services.monitoring.differences import differences, latest
from services.monitoring.families import families
from services.monitoring.outputs import DEAD_LETTERS, LABELLED, METRICS, PREDICTIONS, TALLIES
from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.reader import scan
from services.runtime.ports import Output, Record

pytestmark = [pytest.mark.wire, pytest.mark.slow]

PARTITIONS = 4
DAYS = 4.5


class Watched:
    """A cluster with a feed in transactions, every tenth aborted, and the service on it."""

    def __init__(self, bootstrap: str, log: Path) -> None:
        self._log = log
        self.options = {"bootstrap.servers": bootstrap}
        self.environ = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "VIGIL_SCHEMAS": str(REPO / "schemas"),
            "VIGIL_PARTITIONS": str(PARTITIONS),
            "VIGIL_MONITORING_FLUSH_S": "0.5",
        }
        apply = [sys.executable, "-m", "services.cli.main", "topics", "apply", "--yes"]
        until(lambda: self._done(apply), "the topics are applied")
        self.lives = ExitStack()
        options = {"retry.backoff.ms": 2, "retry.backoff.max.ms": 20, "transactional.id": "feed"}
        self._producer = Producer({**self.options, **options})
        self._producer.init_transactions(PATIENCE_S)
        self._transactions = 0

    def _done(self, command: list[str]) -> bool:
        done = subprocess.run(
            command, env=self.environ, cwd=REPO, check=False, capture_output=True, text=True
        )
        assert done.returncode in {ExitCode.OK, ExitCode.UNREACHABLE}, done.stderr
        return done.returncode == ExitCode.OK

    def start(self, port: int, **settings: str) -> Lives:
        environ = {**self.environ, "VIGIL_METRICS_PORT": str(port), **settings}
        words = [sys.executable, "-m", "services.monitoring"]
        return self.lives.enter_context(Lives(f"monitoring {port}", words, self._log, environ))

    def send(self, outputs: list[Output]) -> None:
        """Write outputs, eight to a transaction; what was aborted is not sent again."""
        for start in range(0, len(outputs), 8):
            self._transactions += 1
            self._producer.begin_transaction()
            for output in outputs[start : start + 8]:
                place = -1 if output.partition is None else output.partition
                self._producer.produce(output.topic, output.value, output.key, place)
            assert self._producer.flush(PATIENCE_S) == 0
            abort = self._transactions % 10 == 0
            (self._producer.abort_transaction if abort else self._producer.commit_transaction)(
                PATIENCE_S
            )

    def feeding(self, outputs: list[Output]) -> threading.Thread:
        thread = threading.Thread(target=self.send, args=(outputs,))
        thread.start()
        return thread

    def read(self, topic: str) -> list[Record]:
        places = partitions_of(self.options, [topic])
        return list(scan(self.options, places, patience_s=PATIENCE_S))

    def stated(self) -> list[Measurement]:
        return [codec().decode(r.value or b"", Measurement) for r in self.read(METRICS)]

    def dead(self) -> dict[tuple[str, int, int], str]:
        letters = [codec().decode(r.value or b"", DeadLetter) for r in self.read(DEAD_LETTERS)]
        return {(d.topic, d.partition, d.offset): d.reason for d in letters}

    def recomputed(self) -> list[Measurement]:
        """What the pure tasks say of the committed log."""
        watched = families(Baselines([(START, baseline())]).at)
        log = [*self.read(PREDICTIONS), *self.read(LABELLED)]
        said = live(watched, PARTITIONS, log, seed=1)
        return [codec().decode(o.value or b"", Measurement) for o in said if o.topic == METRICS]


@pytest.fixture
def watched(broker: Callable[[], Broker], tmp_path: Path) -> Iterator[Watched]:
    made = Watched(broker().bootstrap, tmp_path / "monitoring.log")
    with made.lives:
        yield made


def hospital() -> list[Output]:
    """Days of every partition, in the order of their time; here and there no event at all."""
    found: list[tuple[int, Output]] = []
    for partition in range(PARTITIONS):
        ward = Ward(partition, 7, DAYS)
        events: list[PredictionBatch | Labelled] = [*ward.predictions(), *ward.labels()]
        for event in events:
            topic = PREDICTIONS if isinstance(event, PredictionBatch) else LABELLED
            value = b"no event" if len(found) % 50 == 49 else codec().encode(event)
            found.append((event.watermark or 0, Output(topic, None, value, partition)))
    return [output for _, output in sorted(found, key=lambda each: each[0])]


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except urllib.error.URLError:
        return 0, ""


def more_tallies(watched: Watched, than: int) -> bool:
    return len(watched.read(TALLIES)) > than


def equal(watched: Watched, at_least: int) -> None:
    """Wait until everything stated is what comes out anew; both sides must say much."""
    recomputed = watched.recomputed()
    assert len(latest(recomputed)) > at_least
    found: list[object] = []

    def same() -> bool:
        found[:] = differences(watched.stated(), recomputed)
        return not found

    try:
        until(same, "what is stated is what comes out anew")
    except AssertionError as late:
        raise AssertionError((len(found), found[:3], found[-3:])) from late


def test_what_is_stated_through_deaths_is_what_the_pure_tasks_state(
    watched: Watched,
) -> None:
    outputs, port = hospital(), free_port()
    third = len(outputs) // 3
    used = put_into_use(baseline())
    changes = [used, msgspec.structs.replace(used, after="00")]
    watched.send([Output("changes.v1", b"baseline", codec().encode(c), 0) for c in changes])
    life = watched.start(port)
    watched.send(outputs[:third])
    equal(watched, 100)
    until(lambda: ask(port, "/readyz")[0] == 200)
    metrics = ask(port, "/metrics")[1]
    assert 'vigil_baselines_total{outcome="refused",service="monitoring"} 1.0' in metrics
    assert 'vigil_baselines_total{outcome="taken",service="monitoring"} 1.0' in metrics

    feed = watched.feeding(outputs[third : 2 * third])
    for _ in range(2):
        before = len(watched.read(TALLIES))
        until(lambda before=before: more_tallies(watched, before))  # type: ignore[misc]  # bound now
        life.kill()
        life = watched.start(port)
    feed.join()
    equal(watched, 300)
    assert set(watched.dead().values()) == {Reason.SCHEMA_UNKNOWN}

    assert life.end() == ExitCode.OK


def test_what_is_stated_while_a_second_worker_comes_and_goes_is_what_the_pure_tasks_state(
    watched: Watched,
) -> None:
    outputs, port = hospital(), free_port()
    third = len(outputs) // 3
    change = codec().encode(put_into_use(baseline()))
    watched.send([Output("changes.v1", b"baseline", change, 0)])
    first = watched.start(port)
    watched.send(outputs[: 2 * third])
    equal(watched, 300)
    rest = outputs[2 * third :]
    feed = watched.feeding(rest[: third // 2])
    second = watched.start(
        (other := free_port()), VIGIL_MONITORING_STATIC="false", VIGIL_INSTANCE="1"
    )
    until(lambda: ask(other, "/readyz")[0] == 200)
    feed.join()
    before = len(watched.read(TALLIES))
    feed = watched.feeding(rest[third // 2 :])
    until(lambda: more_tallies(watched, before))
    assert second.end() == ExitCode.OK
    feed.join()
    equal(watched, 500)
    assert set(watched.dead().values()) == {Reason.SCHEMA_UNKNOWN}

    assert first.end() == ExitCode.OK


def test_what_cannot_be_used_becomes_a_dead_letter_and_the_rest_goes_on(watched: Watched) -> None:
    nan = Scored(who=1, at=START, values={"HR": float("nan")})
    short = batch([Scored(who=1, at=START)], watermark=START, instead={"measured_at": b"1"})
    sound = [
        batch([Scored(who=1, at=START + day * DAY)], watermark=START + day * DAY, partition=p)
        for day in (0, 2)
        for p in range(PARTITIONS)
    ]
    tally = Tally(
        family="hours/24h",
        layout="hours/99",
        start=START,
        end=START + DAY,
        topic=PREDICTIONS,
        partition=0,
        through_offset=1,
        baseline="",
        body=b"",
    )
    bad = [
        Output(PREDICTIONS, None, codec().encode(batch([nan], watermark=START)), 0),
        Output(PREDICTIONS, None, codec().encode(short), 0),
        Output(PREDICTIONS, None, None, 0),
        Output(TALLIES, b"hours/24h", codec().encode(tally)),
        Output(TALLIES, b"hours/24h", b"\x00\x01"),
    ]
    good = [Output(PREDICTIONS, None, codec().encode(b), b.partition) for b in sound]
    watched.start(port := free_port())
    watched.send([*bad, *good])
    until(lambda: len(watched.dead()) == len(bad) and len(watched.stated()) > 0)
    assert sorted(watched.dead().values()) == sorted(
        [
            Reason.NUM_NONFINITE,
            Reason.AVRO_SYNTAX,
            Reason.SCHEMA_UNKNOWN,
            Reason.SCHEMA_UNKNOWN,
            Reason.SCHEMA_UNKNOWN,
        ]
    )
    assert json.loads(ask(port, "/version")[1])["service"] == "monitoring"
    until(lambda: ask(port, "/readyz")[0] == 200)


def test_a_monitor_without_its_topics_says_so_and_ends(kafka: str) -> None:
    environ = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "VIGIL_SCHEMAS": str(REPO / "schemas"),
    }
    words = [sys.executable, "-m", "services.monitoring"]
    life = subprocess.run(
        words, env=environ, cwd=REPO, capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert life.returncode == ExitCode.CRASH
    assert b"vigil topics apply" in life.stderr
