"""What a subscription did not bring: told as a gap or a silence, and asked for at its server."""

import asyncio
import http.client
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec
import structlog

from services.core.errors import Retry
from services.core.notices import SUBSCRIPTION_GAP, SUBSCRIPTION_SILENT
from services.gateway.reception.answers import FHIR, Rejected
from services.gateway.reception.body import MAX_BYTES
from services.gateway.reception.subscriptions import (
    HANDSHAKE,
    HEARTBEAT,
    Notification,
    Numbers,
    notification_of,
)
from services.runtime.telemetry.metrics import Metrics

LOOK_EVERY_S: Final = 1.0
GRACE_S: Final = 2.0
"""Events may overtake each other for so long before one is called missing."""
LATE: Final = 2.0
"""A subscription is silent after so many heartbeats without any."""
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 60.0
ANSWER_S: Final = 10.0
MOST: Final = 1000
"""Subscriptions that are followed, so that made-up names cannot fill the memory."""

Name = tuple[str, str]
"""The id of a source, and that of its subscription."""
Take = Callable[[str, bytes], Awaitable[None]]
"""Hands in what a server answered, for a source; raises as the door does."""
Fetch = Callable[["Followed", int, int | None], bytes]
"""Asks a server for events from a number through another; may block, raises OSError."""
log = structlog.stdlib.get_logger()


class Followed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscription whose server can be asked.

    Attributes:
        source: that its notifications come from.
        id: of the Subscription at its server.
        server: base of its FHIR addresses.
        heartbeat_s: how often it promises a sign of life; 0 for never.
        token_file: with what the server wants to see as a bearer token.
    """

    source: str
    id: str
    server: str
    heartbeat_s: float = 0
    token_file: Path | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    subscription: list[Followed]


class _Row:
    def __init__(self, numbers: Numbers, heard_s: float) -> None:
        self.numbers, self.heard_s = numbers, heard_s
        self.missing_since_s: float | None = None
        self.ask_at_s, self.pause_s = 0.0, FIRST_PAUSE_S
        self.silent = self.heard = False

    def lacks(self, now_s: float) -> bool:
        """Whether an event is missing for longer than events may overtake each other."""
        return self.missing_since_s is not None and now_s - self.missing_since_s >= GRACE_S


class Catching:
    """Follows the numbers of subscriptions; used by one event loop."""

    def __init__(
        self,
        followed: list[Followed],
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        marks: Path | None,
        fetch: Fetch | None = None,
    ) -> None:
        """Begin where the last life ended.

        Args:
            followed: subscriptions whose servers can be asked.
            metrics: where notifications, gaps and silences are counted.
            clock: monotonic seconds.
            marks: a file that keeps through which number all is held; None keeps nothing.
            fetch: asks a server; None by HTTP.
        """
        self._followed = {(one.source, one.id): one for one in followed}
        self._metrics, self._clock, self._marks = metrics, clock, marks
        self._fetch = fetch or fetched
        kept = _read(marks)
        self._rows = {
            name: _Row(Numbers(kept.get("/".join(name))), clock()) for name in self._followed
        }
        self._written = dict(kept)
        metrics.gauge("subscription_gaps").set_function(self._gaps)
        metrics.gauge("silent_subscriptions").set_function(self._silences)

    def count(self, source: str, said: Notification) -> None:
        """Count a notification; one that carries nothing new is handed on all the same.

        Behind this door a reading counts once by its id and version, and a server that numbers
        anew without a handshake loses nothing.
        """
        row = self._row((source, said.subscription))
        again = row is not None and row.numbers.known(said)
        outcome = "repeated" if again else said.kind if said.kind in _KINDS else "other"
        self._metrics.counter("notifications_total", outcome=outcome).inc()

    def hold(self, source: str, said: Notification) -> None:
        """Note that what a notification carries is durably held."""
        row = self._row((source, said.subscription))
        if row is None:
            return
        row.numbers.hold(said)
        row.heard_s, row.heard, row.silent = self._clock(), True, False
        self._see(row)

    def _row(self, name: Name) -> _Row | None:
        if name not in self._rows and len(self._rows) < MOST:
            self._rows[name] = _Row(Numbers(), self._clock())
        return self._rows.get(name)

    def _see(self, row: _Row) -> None:
        if row.numbers.missing() is None:
            row.missing_since_s, row.pause_s = None, FIRST_PAUSE_S
        elif row.missing_since_s is None:
            row.missing_since_s = self._clock()
            row.ask_at_s = row.missing_since_s + GRACE_S

    def _gaps(self) -> int:
        now = self._clock()
        return sum(row.lacks(now) for row in self._rows.values())

    def _silences(self) -> int:
        return sum(row.silent for row in self._rows.values())

    def stands(self) -> dict[tuple[str, str], int]:
        """Say by matter and source how many subscriptions have a gap, and how many are silent.

        Of a source of which this life has heard and seen nothing, nothing is said: what an earlier
        life told of it stands.
        """
        now, found = self._clock(), dict[tuple[str, str], int]()
        for (source, _), row in self._rows.items():
            for matter, so in (
                (SUBSCRIPTION_GAP, row.lacks(now)),
                (SUBSCRIPTION_SILENT, row.silent),
            ):
                if so or row.heard:
                    found[matter, source] = found.get((matter, source), 0) + so
        return found

    async def watch(self, take: Take) -> None:
        """Ask for what is missing, for ever.

        Args:
            take: hands in what a server answered.
        """
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                for name, one in self._followed.items():
                    await self._look(one, self._rows[name], take)
                await asyncio.to_thread(self.keep)
            except Exception as error:  # noqa: BLE001 - a full disk must not end the watch
                log.error("not followed", because=type(error).__name__)  # noqa: TRY400 - no values

    async def _look(self, one: Followed, row: _Row, take: Take) -> None:
        now = self._clock()
        if one.heartbeat_s and now - row.heard_s > LATE * one.heartbeat_s and not row.silent:
            row.silent, row.ask_at_s = True, now
        missing = row.numbers.missing()
        if (missing is None and not row.silent) or now < row.ask_at_s:
            return
        row.ask_at_s, row.pause_s = now + row.pause_s, min(2 * row.pause_s, LONGEST_PAUSE_S)
        first, last = missing or ((row.numbers.through or 0) + 1, None)
        try:
            answer = await asyncio.to_thread(self._fetch, one, first, last)
            await take(one.source, answer)
        except (OSError, http.client.HTTPException, Rejected, Retry) as error:
            self._metrics.counter("notifications_total", outcome="not_answered").inc()
            log.warning("not answered", because=type(error).__name__, subscription=one.id)
            return
        self._asked(row, notification_of(answer))

    def _asked(self, row: _Row, said: Notification | None) -> None:
        self._metrics.counter("notifications_total", outcome="asked").inc()
        if said is not None:
            row.numbers.hold(said)
            self._see(row)

    def keep(self) -> None:
        """Write through which numbers all is held, if that has changed; may block."""
        marks = {
            "/".join(name): row.numbers.through
            for name, row in list(self._rows.items())
            if row.numbers.through is not None and name in self._followed
        }
        if self._marks is None or marks == self._written:
            return
        new = self._marks.with_suffix(".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(marks))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._marks)
        self._written = dict(marks)


_KINDS: Final = frozenset({HANDSHAKE, HEARTBEAT, "event-notification", "query-event"})


def read_followed(text: bytes) -> list[Followed]:
    """Read a list of subscriptions: `[[subscription]]` tables of TOML.

    Raises:
        ValueError: it is malformed, or an address is none.
    """
    found = msgspec.toml.decode(text, type=_File).subscription
    if any(urlsplit(one.server).scheme not in ("http", "https") for one in found):
        raise ValueError("the server of a subscription is no http or https address")
    return found


def fetched(one: Followed, first: int, last: int | None) -> bytes:
    """Ask a server for events, both ends included; may block for ANSWER_S.

    Raises:
        OSError: there is no answer, or none that can be used.
    """
    base = urlsplit(one.server)
    asked = {"eventsSinceNumber": str(first), "content": "full-resource"}
    if last is not None:
        asked["eventsUntilNumber"] = str(last)
    headers = {"Accept": FHIR}
    if one.token_file:
        headers["Authorization"] = f"Bearer {one.token_file.read_text().strip()}"
    kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
    wire = kind(base.netloc, timeout=ANSWER_S)
    try:
        path = f"{base.path.rstrip('/')}/Subscription/{one.id}/$events?{urlencode(asked)}"
        wire.request("GET", path, headers=headers)
        answer = wire.getresponse()
        body = answer.read(MAX_BYTES + 1)
    finally:
        wire.close()
    if answer.status != http.HTTPStatus.OK or len(body) > MAX_BYTES:
        raise OSError(f"answered {answer.status}")
    return body


def _read(marks: Path | None) -> dict[str, int]:
    if marks is None or not marks.exists():
        return {}
    return msgspec.json.decode(marks.read_bytes(), type=dict[str, int])
