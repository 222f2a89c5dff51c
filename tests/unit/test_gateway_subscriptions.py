"""Notifications of FHIR Subscriptions: what never came is told, and asked for; nothing is lost."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doors import BUILD, OBSERVATION, Gateway
from fhir.resources import get_fhir_model_class
from fhir.resources.R4B import get_fhir_model_class as get_r4b
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from services.gateway.catching import (
    FIRST_PAUSE_S,
    GRACE_S,
    Catching,
    Followed,
    fetched,
    read_followed,
)
from services.gateway.reception.subscriptions import Notification, Numbers, notification_of
from services.runtime.telemetry.metrics import Metrics

FOLLOWED = Followed(source="west", id="vitals", server="http://ehr.example/fhir", heartbeat_s=60)


def said(
    *numbers: int, kind: str = "event-notification", since: int | None = None
) -> Notification:
    return Notification(
        "vitals", kind, max(numbers, default=0) if since is None else since, numbers
    )


def r5(*numbers: int, kind: str = "event-notification", since: int = 0) -> dict[str, Any]:
    status = {
        "resourceType": "SubscriptionStatus",
        "type": kind,
        "eventsSinceSubscriptionStart": max((*numbers, since)),
        "subscription": {"reference": "http://ehr.example/fhir/Subscription/vitals"},
        "notificationEvent": [{"eventNumber": number} for number in numbers],
    }
    if not numbers:
        del status["notificationEvent"]
    return bundle("subscription-notification", status, *[OBSERVATION for _ in numbers])


def r4(*numbers: int, kind: str = "event-notification") -> dict[str, Any]:
    events = [
        {"name": "notification-event", "part": [{"name": "event-number", "valueString": f"{n}"}]}
        for n in numbers
    ]
    status = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "subscription", "valueReference": {"reference": "Subscription/vitals"}},
            {"name": "status", "valueCode": "active"},
            {"name": "type", "valueCode": kind},
            {
                "name": "events-since-subscription-start",
                "valueString": f"{max(numbers, default=0)}",
            },
            *events,
        ],
    }
    return bundle("history", status, *[OBSERVATION for _ in numbers])


def bundle(kind: str, *resources: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [{"resource": resource} for resource in resources],
    }


def test_both_forms_of_a_notification_say_the_same() -> None:
    wanted = Notification("vitals", "event-notification", 4, (3, 4))
    status = r5(3, 4)["entry"][0]["resource"]
    get_fhir_model_class("SubscriptionStatus").model_validate({**status, "status": "active"})
    get_r4b("Parameters").model_validate(r4(3, 4)["entry"][0]["resource"])
    for made in (r5(3, 4), r4(3, 4)):
        found = notification_of(json.dumps(made).encode())
        assert found is not None
        assert found == wanted


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"SubscriptionStatus":1}',
        b'{"entry":[],"x":"SubscriptionStatus"}',
        json.dumps(bundle("history", {"resourceType": "SubscriptionStatus"})).encode(),
        json.dumps(r5(1)).replace('"eventNumber": 1', '"eventNumber": "x"').encode(),
        json.dumps(r4(1)).replace('"parameter"', '"parameters"').encode(),
        json.dumps(bundle("collection", OBSERVATION)).encode(),
    ],
)
def test_what_cannot_be_numbered_is_taken_as_any_other_body(body: bytes) -> None:
    assert notification_of(body) is None


@given(st.permutations(range(1, 12)), st.lists(st.integers(1, 11)), st.integers(0, 11))
def test_whatever_the_order_a_gap_is_what_has_not_come(
    order: list[int], again: list[int], came: int
) -> None:
    numbers = Numbers(0)
    for number in (*order[:came], *[n for n in again if n in order[:came]]):
        numbers.hold(said(number))
    held = set(order[:came])
    absent = sorted(set(range(1, max(held, default=0))) - held)
    missing = numbers.missing()
    assert (missing is None) == (not absent)
    if missing:
        assert missing[0] == absent[0]
        assert set(range(missing[0], missing[1] + 1)).isdisjoint(held)
    assert all(numbers.known(said(n)) == (n in held) for n in range(1, 12))


def test_a_heartbeat_tells_of_events_that_never_came() -> None:
    numbers = Numbers(3)
    numbers.hold(said(kind="heartbeat", since=3))
    assert numbers.missing() is None
    numbers.hold(said(kind="heartbeat", since=5))
    assert numbers.missing() == (4, 5)


def test_a_handshake_begins_anew_and_what_was_before_the_first_is_not_missed() -> None:
    numbers = Numbers()
    numbers.hold(said(57))
    assert numbers.missing() is None
    numbers.hold(said(60))
    assert numbers.missing() == (58, 59)
    numbers.hold(said(kind="handshake", since=0))
    assert (numbers.through, numbers.missing()) == (0, None)
    numbers.hold(said(2))
    assert numbers.missing() == (1, 1)


class Scene:
    """A gateway that follows a subscription, its server, and a clock that is moved by hand."""

    def __init__(self, marks: Path | None = None) -> None:
        self.now, self.asked = 0.0, list[tuple[int, int | None]]()
        self.answer: dict[str, Any] | None = None
        self.metrics = Metrics(BUILD)
        self.catching = Catching(
            [FOLLOWED], self.metrics, clock=lambda: self.now, marks=marks, fetch=self._fetch
        )
        self.taken: list[bytes] = []

    def _fetch(self, followed: Followed, first: int, last: int | None) -> bytes:
        assert followed == FOLLOWED
        self.asked.append((first, last))
        if self.answer is None:
            raise OSError("away")
        return json.dumps(self.answer).encode()

    def hear(self, notification: Notification) -> None:
        self.catching.count("west", notification)
        self.catching.hold("west", notification)

    def look(self) -> None:
        async def take(source: str, body: bytes) -> None:
            assert source == "west"
            self.taken.append(body)

        row = self.catching._rows[("west", "vitals")]
        asyncio.run(self.catching._look(FOLLOWED, row, take))

    def gauge(self, name: str) -> str:
        lines = self.metrics.exposition().decode().splitlines()
        return next(line for line in lines if line.startswith(f"vigil_{name}{{")).split()[1]


def stands(*, gap: int = 0, silent: int = 0) -> dict[tuple[str, str], int]:
    return {("subscription_gap", "west"): gap, ("subscription_silent", "west"): silent}


def test_a_gap_is_told_asked_for_and_closed_by_what_comes() -> None:
    scene = Scene()
    scene.hear(said(kind="handshake", since=0))
    scene.hear(said(1))
    scene.hear(said(4))
    scene.look()
    assert (scene.asked, scene.gauge("subscription_gaps")) == ([], "0.0"), "they may overtake"
    assert scene.catching.stands() == stands(gap=0)
    scene.now += GRACE_S
    scene.look()
    assert (scene.asked, scene.gauge("subscription_gaps")) == ([(2, 3)], "1.0")
    assert scene.catching.stands() == stands(gap=1)
    scene.look()
    assert len(scene.asked) == 1, "a server that is away is not hammered"
    scene.answer = r5(2, 3, kind="query-event", since=4)
    scene.now += FIRST_PAUSE_S
    scene.look()
    assert (len(scene.taken), scene.gauge("subscription_gaps")) == (1, "0.0")
    assert scene.catching.stands() == stands(gap=0)


def test_an_idle_subscription_is_told_and_asked_about_and_heard_again() -> None:
    scene = Scene()
    scene.hear(said(1))
    scene.now += 119
    scene.look()
    assert scene.gauge("silent_subscriptions") == "0.0"
    scene.now += 2
    scene.look()
    assert (scene.asked, scene.gauge("silent_subscriptions")) == ([(2, None)], "1.0")
    assert scene.catching.stands() == stands(silent=1)
    scene.hear(said(kind="heartbeat", since=1))
    assert scene.gauge("silent_subscriptions") == "0.0"
    assert scene.catching.stands() == stands()


def test_of_a_source_that_was_not_heard_nothing_is_said_until_it_is_silent() -> None:
    scene = Scene()
    assert scene.catching.stands() == {}
    scene.now += 121
    scene.look()
    assert scene.catching.stands() == {("subscription_silent", "west"): 1}


def test_the_next_life_asks_for_what_came_between(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "marks.json")
    scene.hear(said(1))
    scene.hear(said(2))
    scene.catching.keep()
    later = Scene(tmp_path / "marks.json")
    later.hear(said(5))
    later.now += GRACE_S
    later.look()
    assert later.asked == [(3, 4)]


def test_a_disk_that_fails_does_not_end_the_watch(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "nowhere" / "marks.json")
    scene.hear(said(1))
    kept: list[None] = []
    keep = scene.catching.keep

    def counted() -> None:
        kept.append(None)
        keep()

    scene.catching.keep = counted  # type: ignore[method-assign]  # counts on the way

    async def taken(source: str, body: bytes) -> None:
        raise AssertionError(source, body)

    async def watched() -> None:
        watching = asyncio.create_task(scene.catching.watch(taken))
        async with asyncio.timeout(120):
            while len(kept) < 2:  # noqa: ASYNC110 - another thread tells
                await asyncio.sleep(0.01)
        assert not watching.done()
        watching.cancel()

    asyncio.run(watched())


def test_a_redelivery_is_counted_and_still_handed_on() -> None:
    gateway = Gateway()
    for _ in range(2):
        assert gateway.post(json.dumps(r5(7))).status_code == 202
    assert len(gateway.log) == 2, "behind the door a reading counts once by id and version"
    counted = gateway.metrics.exposition().decode()
    for outcome in ("event-notification", "repeated"):
        assert f'vigil_notifications_total{{outcome="{outcome}",service="gateway"}} 1.0' in counted


@pytest.mark.parametrize("kind", ["handshake", "heartbeat"])
@pytest.mark.parametrize("form", [r4, r5])
def test_a_sign_of_life_is_answered_and_not_stored(kind: str, form: Any) -> None:
    gateway = Gateway()
    assert gateway.post(json.dumps(form(kind=kind))).status_code == 200
    assert not gateway.log


def test_an_event_that_could_not_be_stored_stays_missing() -> None:
    gateway = Gateway()
    gateway.post(json.dumps(r5(1)))
    gateway.away = True
    assert gateway.post(json.dumps(r5(2))).status_code == 503
    gateway.away = False
    gateway.post(json.dumps(r5(2)))
    assert 'outcome="repeated"' not in gateway.metrics.exposition().decode()


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    seen: list[tuple[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization", "")))
            body = json.dumps(r5(2, 3, kind="query-event")).encode()
            self.send_response(404 if "gone" in self.path else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/fhir", seen
        running.shutdown()
        thread.join()


def test_a_server_is_asked_in_its_own_words_with_its_token(
    server: tuple[str, list[tuple[str, str]]], tmp_path: Path
) -> None:
    base, seen = server
    (token := tmp_path / "token").write_text("wonderful\n")
    one = Followed(source="west", id="vitals", server=base, token_file=token)
    assert notification_of(fetched(one, 2, 3)) is not None
    path = "/fhir/Subscription/vitals/$events?eventsSinceNumber=2&content=full-resource"
    assert seen == [(f"{path}&eventsUntilNumber=3", "Bearer wonderful")]
    with pytest.raises(OSError, match="404"):
        fetched(Followed(source="west", id="gone", server=base), 2, None)


def test_the_list_of_subscriptions_is_read_strictly() -> None:
    text = b'[[subscription]]\nsource = "west"\nid = "vitals"\nserver = "%s"\n'
    assert read_followed(text % b"https://ehr.example/fhir")[0].id == "vitals"
    for wrong in (text % b"file:///etc/passwd", text % b"x" + b"more = 1\n", b"{"):
        with pytest.raises(ValueError):  # noqa: PT011 - of several libraries
            read_followed(wrong)
