"""Models change under load, and a life ends in between: each event has one that is shown."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from bundles import LINE, noise
from chaos.feed import Feed, vitals
from chaos.ground import Ground, Instance
from chaos.log import Log
from chaos.shown import batches, course_of, offsets_of, shown
from lives import until
from typer.testing import CliRunner

from services.audit.rows import alerts as alert_rows
from services.audit.rows import predictions as prediction_rows
from services.cli import changing
from services.cli.main import app
from services.core.errors import ExitCode
from services.core.events import Alert, PredictionBatch, Role
from services.core.features import FEATURES
from services.core.lineup import LineUp, Seat
from services.local.home import REPO
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.bundle import FILES, load
from services.runtime.codec import Codec
from services.runtime.kafka import admin
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.scoring.__main__ import engine, opener
from services.scoring.course import KEY
from services.scoring.fleet import Fleet, Recorded
from services.scoring.horizon import KEY as HORIZON
from services.scoring.outputs import ALERTS, CHANGELOG, PREDICTIONS, VITALS
from services.scoring.pipeline import Scorer, Scoring
from services.training.booster import Lessons, Recipe, fit
from services.training.graph import graph
from services.training.pack import as_json, pack

pytestmark = [pytest.mark.wire, pytest.mark.slow]

CODEC = Codec(REPO / "schemas")
SHIPPED = REPO / "models" / "sepsis" / "1.0.0"
RATE = 150.0
SHARE = 30
ASKED = ("--requested-by", "anna", "--approved-by", "bert", "--reason", "to see")
DIGESTS = ("shipped", "small", "other")


def repacked(path: Path, **policy: Any) -> str:
    """Pack the shipped model again, under another version and policy; give its digest."""
    contents = {name: (SHIPPED / name).read_bytes() for name in FILES}
    contents["policy.json"] = as_json(json.loads(contents["policy.json"]) | policy)
    return pack(path, contents, {"name": path.parent.name, "version": path.name})


def small(path: Path) -> str:
    """Train a model on ten of the features, in an order of its own; give its digest."""
    columns = list(range(len(FEATURES) - 1, 0, -len(FEATURES) // 10))
    rows = noise(4000)[:, columns]
    target = np.nansum(rows, axis=1) > np.median(np.nansum(rows, axis=1))
    chosen = [FEATURES[column] for column in columns]
    lessons = Lessons(target, np.ones(len(target)))
    text = fit(rows, lessons, names=[feature.name for feature in chosen], recipe=Recipe(5))
    contents = {name: (SHIPPED / name).read_bytes() for name in FILES} | {
        "model.onnx": graph(text, LINE),
        "model.txt": text.encode(),
        "features.json": as_json({"features": [feature._asdict() for feature in chosen]}),
        "reference.json": as_json({}),
    }
    return pack(path, contents, {"name": path.parent.name, "version": path.name})


class Changed(NamedTuple):
    """A log during which models changed, and what was said at the terminal."""

    log: Log
    ground: Ground
    digests: dict[str, str]
    told: list[Any]
    lives: int


class Terminal:
    """Runs commands as a person does, in the environment of the service."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ

    def say(self, *words: str) -> tuple[int, Any]:
        done = CliRunner().invoke(app, ["models", *words], env=self.environ)
        return done.exit_code, json.loads(done.stdout) if done.stdout else done.exception

    def change(self, *words: str) -> Any:
        code, answer = self.say(*words, *ASKED, "--yes", "--json")
        assert code == 0, answer
        return answer


@pytest.fixture(scope="module")
def changed(jar_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changed]:
    """A shadow, a canary, a death, another champion, a rollback, and changes that are refused."""
    folder = tmp_path_factory.mktemp("models")
    broker = Broker(folder / "kafka", free_port(), cache=jar_cache)
    models = folder / "models"
    shutil.copytree(SHIPPED, models / "sepsis" / "1.0.0")
    digests = {
        "shipped": load(SHIPPED).digest,
        "small": small(models / "small" / "0.1.0"),
        "other": repacked(models / "sepsis" / "1.1.0", version="eager", threshold=0.015),
    }
    try:
        ground = Ground(broker.start(), folder, SHIPPED)
        port = free_port()
        told = {"VIGIL_MODELS": str(models), "VIGIL_METRICS_PORT": str(port)}
        ground.environ |= told | {"VIGIL_HOME": str(folder)}
        (folder / "ports.json").write_text(json.dumps({"scoring": port}))
        yield exercised(ground, digests)
    finally:
        broker.kill()


def exercised(ground: Ground, digests: dict[str, str]) -> Changed:
    vigil, log, told = Terminal(ground.environ), Log(ground.options, CODEC), []
    seen = Seen(log)
    with Instance(ground) as service:
        service.start()
        with Feed(ground.broker.bootstrap, vitals(7, beds=40), rate=RATE) as feed:
            until(lambda: log.read() > RATE, what="a beginning")
            vigil.change("deploy", "small/0.1.0", "--role", "shadow")
            until(lambda: seen.by(digests["small"], Role.SHADOW), what="a shadow")
            vigil.change("deploy", "sepsis/1.1.0", "--role", "canary", "--share", str(SHARE))
            until(lambda: seen.by(digests["other"], Role.SHOWN), what="a canary")
            told.append(vigil.say("list", "--json"))
            service.kill()
            publish(ground, LineUp(champion=Seat(name="sepsis", version="9", digest="0" * 64)))
            onwards(log)
            vigil.change("rollback")  # of what no service could load
            told.append(vigil.say("deploy", "sepsis/9", "--role", "champion", *ASKED, "--yes"))
            vigil.change("deploy", "sepsis/1.1.0", "--role", "champion")
            onwards(log)
            vigil.change("rollback")
            onwards(log)
        until(lambda: through(log), what="the end")
        told.append(vigil.say("list", "--json"))
        assert service.stop() == ExitCode.OK
    log.read_to_end()
    assert feed.sent > 0
    return Changed(log, ground, digests, told, len(service.codes))


class Seen:
    """Which models have scored something so far, and in which role."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._models: set[tuple[str, Role]] = set()
        self._read = dict.fromkeys(log.partitions, 0)

    def by(self, digest: str, role: Role) -> bool:
        """Take what has come, and tell whether a model is among them."""
        self._log.read()
        for partition, at in self._read.items():
            fresh = self._log.of(PREDICTIONS, partition)[at:]
            self._read[partition] += len(fresh)
            found = (CODEC.decode(record.value or b"", PredictionBatch) for record in fresh)
            self._models.update((batch.model_digest, batch.role) for batch in found)
        return (digest, role) in self._models


def through(log: Log) -> bool:
    """Tell whether the last event of every partition has its prediction."""
    log.read_to_end()
    newest = {p: log.of(VITALS, p)[-1].offset for p in log.partitions if log.of(VITALS, p)}
    return all(log.predicted.get(p, -1) >= offset for p, offset in newest.items())


def onwards(log: Log) -> None:
    """Wait until scoring has gone on for a second of the feed."""
    log.read_to_end()
    goal = log.predictions + 2 * RATE
    until(lambda: log.read() > goal, what="going on")


def publish(ground: Ground, line_up: LineUp) -> None:
    """Write a change past the command, which would refuse it."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ground.environ.items():
            patched.setenv(name, value)
        log = changing.Log()
        proposal = log.history.propose(line_up)
        asked = changing.Asked("anna", "bert", "by hand")
        names = {"kind": "deployment", "subject": "model/champion", "before": "", "after": "0"}
        log.publish(changing.change_of(proposal, asked, **names))


def test_each_event_has_one_shown_prediction_and_its_model_is_that_of_the_log(
    changed: Changed,
) -> None:
    found = shown(changed.log, CODEC)
    assert found.events > 0
    assert (found.missing, found.doubled, found.foreign) == (0, 0, 0)
    assert set(found.models) == {changed.digests["shipped"], changed.digests["other"]}
    assert changed.lives == 2, "it was killed once, and ended once"


def test_shadows_score_beside_what_is_shown_while_the_log_says_so(changed: Changed) -> None:
    for partition in changed.log.partitions:
        course, seen = course_of(changed.log, partition), Counter[tuple[int, str]]()
        for batch in batches(changed.log, CODEC, partition):
            if batch.role is Role.SHADOW:
                seen.update((offset, batch.model_digest) for offset, _ in offsets_of(batch))
        expected = [
            (record.offset, seat.digest)
            for record in changed.log.of(VITALS, partition)
            for turn in [course.at(record.offset)]
            if turn is not None
            for seat in turn.line_up.shadows
        ]
        assert seen == Counter(expected)
        assert expected


def test_alerts_come_of_what_is_shown_alone(changed: Changed) -> None:
    alerts = [
        CODEC.decode(record.value or b"", Alert)
        for partition in changed.log.partitions
        for record in changed.log.of(ALERTS, partition)
    ]
    by = Counter(alert.model_digest for alert in alerts)
    assert set(by) == {changed.digests["shipped"], changed.digests["other"]}


def test_the_row_of_cut_overs_repeats_it_all(changed: Changed) -> None:
    models = Path(changed.ground.environ["VIGIL_MODELS"])
    told: dict[str, Any] = {
        "role": Role.SHOWN,
        "topic_id": admin.topics(changed.ground.options)[VITALS].topic_id,
    }
    metrics = Metrics(Build.of("scoring"))
    fleet = Fleet(engine(SHIPPED, **told), opener(models, **told), CODEC, metrics)
    for partition in changed.log.partitions:
        task = Scoring(partition, Scorer(CODEC, Recorded(fleet), lambda *_: None))
        for key in (KEY, HORIZON):
            task.load(key, changed.log.last(CHANGELOG, partition, key))
        again = [(o.topic, o.value) for o in task.handle(changed.log.of(VITALS, partition))]
        for topic in (PREDICTIONS, ALERTS):
            ours = [r.value for r in changed.log.of(topic, partition)]
            assert lines(topic, ours) == lines(topic, [v for t, v in again if t == topic])


def lines(topic: str, values: list[bytes | None]) -> list[str]:
    """Cut messages into entries: where batches end is a matter of timing."""
    found: list[str] = []
    for value in values:
        if topic == PREDICTIONS:
            columns = dict(prediction_rows(CODEC.decode(value or b"", PredictionBatch)))
        else:
            columns = dict(alert_rows(CODEC.decode(value or b"", Alert)))
        kept = {n: c for n, c in columns.items() if n not in {"watermark", "index"}}
        found += [str(line) for line in zip(*kept.values(), strict=True)]
    return sorted(found)


def test_the_terminal_says_what_holds_and_refuses_what_cannot(changed: Changed) -> None:
    (code, listed), (refused, _), (after_code, after) = changed.told
    assert code == after_code == 0, (listed, after)
    parts = {
        (row["role"], row["name"], row["version"], row["at_work"]) for row in listed["models"]
    }
    assert parts == {("shadow", "small", "0.1.0", True), ("canary", "sepsis", "1.1.0", True)}
    assert {row["requested_by"] for row in listed["models"]} == {"anna"}
    assert listed["share"] == SHARE
    assert refused == 5
    assert {row["role"] for row in after["models"]} == {"shadow", "canary"}
    text = (changed.ground.folder / "scoring-0.log").read_text()
    assert '"reason": "missing"' in text or '"reason":"missing"' in text, "it says why"
