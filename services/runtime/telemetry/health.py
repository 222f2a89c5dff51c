"""`/livez /readyz /metrics /version`: what they answer, and a server for services without HTTP."""

import errno
import hmac
import ipaddress
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from typing_extensions import override

from services.core.errors import CommandError, Retry
from services.core.faults import Fault
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics

LOOPBACK: Final = "127.0.0.1"
JSON: Final = "application/json"
GUARDED: Final = ("/metrics", "/version")
"""What a token is asked for, where there is one."""

Ready = Callable[[], tuple[bool, str]]
"""Whether the service makes progress, and if not, why; answers at once, from any thread.

It comes from progress (offsets move, or there is no lag), never from "started".
"""


def is_loopback(host: str) -> bool:
    """Whether nobody beyond this machine can reach a server there.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Answer(msgspec.Struct, frozen=True):
    """A status code, a media type and a body."""

    status: int
    content_type: str
    body: bytes


class Health:
    """Answers the four questions that operators ask every service."""

    def __init__(self, build: Build, metrics: Metrics, ready: Ready, token: str = "") -> None:
        """Know what to answer.

        Args:
            build: which program this is.
            metrics: of the service.
            ready: whether it makes progress.
            token: what one must show to see metrics and version; empty: nothing.
        """
        self.build, self._metrics, self._ready, self._token = build, metrics, ready, token

    @property
    def guarded(self) -> bool:
        """Whether metrics and version are for those alone who show the token."""
        return bool(self._token)

    def answer(self, path: str, authorization: str = "") -> Answer:
        """Answer `/livez`, `/readyz`, `/metrics` or `/version`; anything else is 404.

        Args:
            path: of the request.
            authorization: its header of that name. Probes have none: what they ask is open.
        """
        if path in GUARDED and not self._lets_in(authorization):
            return Answer(401, JSON, b'{"title":"unauthorized","status":401}')
        match path:
            case "/livez":
                return Answer(200, JSON, b'{"live":true}')
            case "/readyz":
                return self._readyz()
            case "/metrics":
                self._metrics.gauge("ready").set(self._ready()[0])
                return Answer(200, CONTENT_TYPE_PLAIN_0_0_4, self._metrics.exposition())
            case "/version":
                return Answer(200, JSON, msgspec.json.encode(self.build))
            case _:
                return Answer(404, JSON, b'{"title":"not found","status":404}')

    def _lets_in(self, authorization: str) -> bool:
        expected = f"Bearer {self._token}".encode()
        return not self._token or hmac.compare_digest(authorization.encode(), expected)

    def _readyz(self) -> Answer:
        ready, why = self._ready()
        body = msgspec.json.encode({"ready": ready, "why": why})
        return Answer(200 if ready else 503, JSON, body)


class HealthServer:
    """Serves `Health` from a daemon thread, on loopback unless it asks for a token."""

    def __init__(self, health: Health, port: int, host: str = LOOPBACK) -> None:
        """Take the port and begin to answer.

        Args:
            health: what answers.
            port: 0 takes a free one.
            host: address to listen at.

        Raises:
            CommandError: others could reach it and need show nothing.
            Retry: the port is taken: it may be free a moment later.
            OSError: the address is none that can be listened at.
        """
        if not (is_loopback(host) or health.guarded):
            raise CommandError(
                "the metrics would be shown beyond this machine to whoever asks.",
                "Name a file with a token in VIGIL_METRICS_TOKEN_FILE, or keep"
                " VIGIL_METRICS_HOST=127.0.0.1.",
                Fault.TOKEN_NEEDED,
            )

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = health.answer(self.path, self.headers.get("Authorization", ""))
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: a scrape every few seconds is no news."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise Retry(f"another program holds port {port} of the metrics") from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is served."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop answering and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
