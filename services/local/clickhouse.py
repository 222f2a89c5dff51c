"""The HTTP interface of ClickHouse on loopback, in front of the engine inside this process."""

import argparse
import gzip
import json
import os
import select
import signal
import socket
import sys
import time
import zlib
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, urlsplit

import lz4.frame  # type: ignore[import-untyped]  # no stubs exist
from typing_extensions import override

from services.core.errors import ExitCode
from services.local.engine import Answer, Engine, EngineError
from services.local.statement import form, statement

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OPENERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": zstd.decompress,
}
# HTTP status of an engine error, as the server itself answers; what is not here is 500.
STATUSES: Final = {
    **dict.fromkeys((6, 26, 27, 36, 38, 41, 53, 62, 69, 72, 117, 162, 167, 168, 321, 457), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 80, 81, 115, 116, 152, 153, 161, 184), 404),
    164: 403,
    48: 501,
    159: 504,
}
IDLE_S: Final = 300.0


class Handler(BaseHTTPRequestHandler):
    """One connection, kept alive; each request is one statement."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout: ClassVar[float | None] = IDLE_S
    engine: Engine
    version: str

    def do_GET(self) -> None:
        """Answers `/ping`, else a query that may change nothing."""
        if urlsplit(self.path).path in ("/ping", "/replicas_status"):
            self._send(200, b"Ok.\n")
        else:
            self._answer(read_only=True)

    def do_POST(self) -> None:
        """Runs a query or an insert."""
        self._answer(read_only=False)

    def _answer(self, *, read_only: bool) -> None:
        fields = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = self._body()
        if self.headers.get("Origin"):
            # A page in a browser must not reach the ledger just because it runs on this machine.
            self._send(403, b"pages of a browser are not served\n")
            return
        content_type = self.headers.get("Content-Type", "")
        if content_type.startswith("multipart/form-data"):
            fields |= form(content_type, body)
            body = b""
        try:
            asked = statement(fields, self._opened(body), read_only=read_only)
            answer = self.engine.run(asked, self._client_waits)
            self._found(answer, fields.get("query_id", ""), asked.format)
        except EngineError as error:
            self._refuse(error)

    def _client_waits(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        try:
            return not readable or bool(self.connection.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _opened(self, body: bytes) -> bytes:
        encoding = self.headers.get("Content-Encoding", "")
        try:
            return OPENERS[encoding](body)
        except KeyError:
            raise EngineError(
                f"Code: 48. DB::Exception: Encoding {encoding} is not known"
            ) from None
        except (OSError, RuntimeError, zlib.error, zstd.ZstdError):
            raise EngineError(f"Code: 36. DB::Exception: Body is not {encoding}") from None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(iter(self._chunk, b""))
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def _found(self, answer: Answer, query_id: str, fmt: str) -> None:
        moved = {"read_rows": answer.rows_read, "written_rows": answer.rows_written}
        summary = {name: str(value) for name, value in moved.items()}
        headers = {
            "X-ClickHouse-Summary": json.dumps(summary),
            "X-ClickHouse-Query-Id": "".join(c for c in query_id if c.isprintable()),
            "X-ClickHouse-Format": fmt,
            "X-ClickHouse-Timezone": "UTC",
        }
        self._send(200, answer.body, headers)

    def _refuse(self, error: EngineError) -> None:
        body = f"{error} (version {self.version})\n".encode(errors="backslashreplace")
        headers = {"X-ClickHouse-Exception-Code": str(error.code)}
        self._send(STATUSES.get(error.code, 500), body, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        lines = {"Content-Length": str(len(body)), **(headers or {})}
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        # Header and body in one send: in two, the client's delayed acknowledgment costs 40 ms.
        self.wfile.write(head.encode("latin-1", "replace") + body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a query may hold what must not be in a log."""


class Server(ThreadingHTTPServer):
    """Many clients, each with its thread; the engine takes them in turn."""

    request_queue_size = 256
    daemon_threads = True

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Names the error of a connection and no byte of what was on it."""
        sys.stderr.write(f"connection ended by {sys.exc_info()[0].__name__}\n")  # type: ignore[union-attr]  # called in an except block only


def serve(engine: Engine, port: int) -> Server:
    """A server on 127.0.0.1 that is bound and not yet serving.

    Raises:
        OSError: the port is taken.
    """
    handler = type("BoundHandler", (Handler,), {"engine": engine, "version": engine.version})
    return Server(("127.0.0.1", port), handler)


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m services.local.clickhouse")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        engine = Engine(arguments.data.absolute())
        server = serve(engine, arguments.port)
    except (EngineError, OSError) as error:
        sys.stderr.write(f"ClickHouse cannot start: {error}\n")
        raise SystemExit(ExitCode.UNREACHABLE) from error
    _until_asked_to_end(server)
    engine.close()


def _until_asked_to_end(server: Server) -> None:
    def end(*_: object) -> None:
        raise SystemExit(ExitCode.OK)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        server.serve_forever(poll_interval=0.1)
    except SystemExit:
        server.server_close()


if __name__ == "__main__":
    main()
