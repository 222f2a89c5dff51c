"""`/livez /readyz /metrics /version`: what they answer, and a server for services without HTTP."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from typing_extensions import override

from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics

LOOPBACK: Final = "127.0.0.1"
JSON: Final = "application/json"

Ready = Callable[[], tuple[bool, str]]
"""Whether the service makes progress, and if not, why; answers at once, from any thread.

It comes from progress (offsets move, or there is no lag), never from "started".
"""


class Answer(msgspec.Struct, frozen=True):
    """A status code, a media type and a body."""

    status: int
    content_type: str
    body: bytes


class Health:
    """Answers the four questions that operators ask every service."""

    def __init__(self, build: Build, metrics: Metrics, ready: Ready) -> None:
        self.build, self._metrics, self._ready = build, metrics, ready

    def answer(self, path: str) -> Answer:
        """Answer `/livez`, `/readyz`, `/metrics` or `/version`; anything else is 404."""
        match path:
            case "/livez":
                return Answer(200, JSON, b'{"live":true}')
            case "/readyz":
                return self._readyz()
            case "/metrics":
                return Answer(200, CONTENT_TYPE_PLAIN_0_0_4, self._metrics.exposition())
            case "/version":
                return Answer(200, JSON, msgspec.json.encode(self.build))
            case _:
                return Answer(404, JSON, b'{"title":"not found","status":404}')

    def _readyz(self) -> Answer:
        ready, why = self._ready()
        self._metrics.gauge("ready").set(ready)
        body = msgspec.json.encode({"ready": ready, "why": why})
        return Answer(200 if ready else 503, JSON, body)


class HealthServer:
    """Serves `Health` on loopback from a daemon thread."""

    def __init__(self, health: Health, port: int) -> None:
        """Take the port and begin to answer.

        Args:
            health: what answers.
            port: of 127.0.0.1; 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = health.answer(self.path)
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: a scrape every few seconds is no news."""

        self._server = ThreadingHTTPServer((LOOPBACK, port), Handler)
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
