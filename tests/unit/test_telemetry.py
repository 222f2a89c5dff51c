import io
import json
import logging
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from services.core import metrics as spec
from services.core.errors import CommandError, Retry
from services.runtime.ports import Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.health import Health, HealthServer
from services.runtime.telemetry.logs import configure
from services.runtime.telemetry.metrics import Metrics
from services.runtime.telemetry.progress import Progress

BUILD = Build(service="trial", version="1.2.3", revision="abcdef012345", python="3.11.0")
ALL = [*spec.COUNTERS.values(), *spec.GAUGES.values(), *spec.HISTOGRAMS.values()]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("threading.excepthook", sys.excepthook)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure("trial", "info")
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_log_line_is_one_json_object_whatever_stands_in_it(log: io.StringIO) -> None:
    structlog.stdlib.get_logger("x").info("two\nlines", place="\x1b[31m\u202e")
    logging.getLogger("library").warning("of %s", "a library")
    told = lines(log)
    assert [line["event"] for line in told] == ["two\nlines", "of a library"]
    assert {line["service"] for line in told} == {"trial"}
    assert {line["level"] for line in told} == {"info", "warning"}
    assert "\u202e" not in log.getvalue()


def test_a_log_line_below_the_level_is_not_written(log: io.StringIO) -> None:
    structlog.stdlib.get_logger("x").debug("quiet")
    logging.getLogger("library").debug("quiet")
    assert log.getvalue() == ""


def test_an_exception_of_others_is_told_without_its_text(log: io.StringIO) -> None:
    try:
        int("Jane Roe")
    except ValueError:
        structlog.stdlib.get_logger("x").exception("failed")
        logging.getLogger("library").exception("failed too")
    assert [line["error"] for line in lines(log)] == ["ValueError", "ValueError"]
    assert all(line["at"][-1].startswith("test_telemetry.py:") for line in lines(log))
    assert "Jane" not in log.getvalue()


def test_an_exception_of_ours_says_what_to_do(log: io.StringIO) -> None:
    error = Retry("Kafka: no answer")
    sys.excepthook(Retry, error, None)
    assert lines(log)[0]["because"] == "Kafka: no answer"
    assert lines(log)[0]["event"] == "uncaught"


def test_every_metric_has_a_base_unit_for_suffix_and_labels_of_the_allow_list() -> None:
    counters = ("_total",)
    others = (
        "_seconds",
        "_bytes",
        "_ratio",
        "_records",
        "_rows",
        "_signals",
        "_findings",
        "_gaps",
        "_subscriptions",
        "_info",
        "ready",
    )
    assert all(name.endswith(counters) for name in spec.COUNTERS)
    assert all(name.endswith(others) for name in (*spec.GAUGES, *spec.HISTOGRAMS))
    assert all(set(metric.labels) <= set(spec.LABELS) for metric in ALL)
    assert all(list(m.buckets) == sorted(set(m.buckets)) for m in spec.HISTOGRAMS.values())


def test_no_metric_can_grow_with_patients() -> None:
    assert not {"patient", "encounter", "pseudonym", "source", "ingest_id"} & set(spec.LABELS)


def test_the_service_label_is_filled_in() -> None:
    metrics = Metrics(BUILD)
    metrics.counter("records_total", topic="vitals.v1").inc(3)
    exposition = metrics.exposition().decode()
    assert 'vigil_records_total{service="trial",topic="vitals.v1"} 3.0' in exposition
    info = 'vigil_build_info{python="3.11.0",revision="abcdef012345",version="1.2.3"} 1.0'
    assert info in exposition


def test_two_services_in_one_process_do_not_share_a_registry() -> None:
    one, two = Metrics(BUILD), Metrics(BUILD)
    one.counter("ticks_total", outcome="sent").inc()
    assert "vigil_ticks_total{" not in two.exposition().decode()


def test_a_service_without_http_answers_the_four_questions_on_loopback() -> None:
    state = (False, "nothing was read yet")
    health = Health(BUILD, Metrics(BUILD), lambda: state)
    with HealthServer(health, 0) as server:
        assert get(server.port, "/livez")[0] == 200
        assert get(server.port, "/readyz") == (503, {"ready": False, "why": state[1]})
        state = (True, "")
        assert get(server.port, "/readyz") == (200, {"ready": True, "why": ""})
        assert get(server.port, "/version")[1]["revision"] == "abcdef012345"
        assert get(server.port, "/elsewhere")[0] == 404
        state = (False, "nothing moves")
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
            assert b'vigil_ready{service="trial"} 0.0' in answer.read()
        state = (True, "")
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
            assert b'vigil_ready{service="trial"} 1.0' in answer.read()


def test_beyond_this_machine_metrics_are_shown_to_whoever_has_the_token_alone() -> None:
    with pytest.raises(CommandError, match="whoever asks"):
        HealthServer(Health(BUILD, Metrics(BUILD), lambda: (True, "")), 0, "0.0.0.0")  # noqa: S104 - the address is the point
    guarded = Health(BUILD, Metrics(BUILD), lambda: (True, ""), "open sesame")
    with HealthServer(guarded, 0, "0.0.0.0") as server:  # noqa: S104 - the address is the point
        assert get(server.port, "/livez")[0] == get(server.port, "/readyz")[0] == 200
        for path in ("/metrics", "/version"):
            assert get(server.port, path)[0] == 401
            assert get(server.port, path, Authorization="Bearer open barley")[0] == 401
        assert get(server.port, "/version", Authorization="Bearer open sesame")[0] == 200


def test_a_port_of_metrics_that_is_taken_may_be_free_in_the_next_life() -> None:
    health = Health(BUILD, Metrics(BUILD), lambda: (True, ""))
    with HealthServer(health, 0) as holder, pytest.raises(Retry, match=str(holder.port)):
        HealthServer(health, holder.port)


def get(port: int, path: str, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own server
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class Hands:
    """A clock that moves when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


RECORD = Record("vitals.v1", 2, 10, 0, b"key", b"value")


def test_readiness_comes_from_offsets_that_move_or_from_no_lag() -> None:
    clock = Hands()
    progress = Progress(Metrics(BUILD), clock)
    assert progress.ready()[0] is False
    progress.behind({("vitals.v1", 2): 1})
    assert progress.ready() == (True, "")
    clock.now += 60
    assert progress.ready() == (False, "the loop has not turned for 60 s")
    progress.behind({("vitals.v1", 2): 500})
    assert progress.ready() == (False, "records wait and nothing was committed for 60 s")
    progress.handled([RECORD], [])
    progress.committed(0.01)
    assert progress.ready() == (True, "")


def test_records_count_when_their_transaction_is_committed() -> None:
    metrics = Metrics(BUILD)
    progress = Progress(metrics, Hands())
    progress.handled([RECORD, RECORD], [])
    assert "vigil_records_total{" not in metrics.exposition().decode()
    progress.committed(0.006)
    line = 'vigil_records_total{service="trial",topic="vitals.v1"} 2.0'
    assert line in metrics.exposition().decode()


def test_the_lag_of_a_partition_that_was_given_up_is_forgotten() -> None:
    metrics = Metrics(BUILD)
    progress = Progress(metrics, Hands())
    progress.behind({("vitals.v1", 0): 0, ("vitals.v1", 1): 7})
    metrics.gauge("watermark_timestamp_seconds", topic="vitals.v1", partition="0").set(5)
    progress.behind({("vitals.v1", 1): 6})
    exposition = metrics.exposition().decode()
    assert 'vigil_lag_records{partition="1",topic="vitals.v1"} 6.0' in exposition
    assert 'partition="0"' not in exposition
