"""The decoder that docs/subscribe.md gives to outsiders, run as it stands there."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from services.local.home import REPO
from services.runtime.kafka.admin import create_topic, topics
from services.runtime.kafka.publisher import Publisher
from services.runtime.ports import Output

pytestmark = pytest.mark.wire
DEADLINE_S = 180.0


def block() -> str:
    text = (REPO / "docs" / "subscribe.md").read_text()
    (code,) = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    return code


def test_the_decoder_needs_nothing_of_ours() -> None:
    code = block()
    assert "services" not in code
    assert len([line for line in code.splitlines() if line.strip()]) <= 25


def test_the_decoder_reads_every_alert_of_a_real_topic(kafka: str, tmp_path: Path) -> None:
    options = {"bootstrap.servers": kafka}
    if "alerts.v1" not in topics(options):
        create_topic(options, "alerts.v1", partitions=4, config={})
    examples = [json.loads(p.read_text()) for p in (REPO / "schemas/examples/alerts.v1").iterdir()]
    publisher = Publisher(options)
    for example in examples:
        key, wire = bytes.fromhex(example["key"]), bytes.fromhex(example["wire"])
        publisher.send(Output("alerts.v1", key, wire), lambda held: None)  # noqa: ARG005 - the reader tells
    assert publisher.flush(DEADLINE_S) == 0
    values = [example["value"] for example in examples]
    wanted = {f"{v['step']} {v['alert_id']} {v['unit']} {v['score']}" for v in values}
    assert len(wanted) >= 2
    (tmp_path / "subscribe.py").write_text(block())
    assert wanted <= lines_of(tmp_path / "subscribe.py", kafka, until=wanted)


def lines_of(script: Path, bootstrap: str, *, until: set[str]) -> set[str]:
    """Run a script that never ends until it has printed some lines."""
    command = [sys.executable, str(script), bootstrap, uuid4().hex]
    seen: set[str] = set()
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) as process:
        deadline = threading.Timer(DEADLINE_S, process.kill)
        deadline.start()
        for line in process.stdout or ():
            seen.add(line.strip())
            if until <= seen:
                break
        deadline.cancel()
        process.kill()
    return seen
