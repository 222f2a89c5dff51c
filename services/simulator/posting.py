"""One request after another to the gateway, each until it is answered for good."""

import asyncio
from typing import Final

import aiohttp

from services.core.errors import CommandError
from services.core.faults import Fault

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0
_COME_BACK: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Answers after which the same body is sent again."""
_AWAY: Final = (aiohttp.ClientError, TimeoutError)
_TIMEOUT: Final = aiohttp.ClientTimeout(connect=30, sock_connect=30, sock_read=30)


class Given(Exception):  # noqa: N818 - it is an end, not a fault
    """The caller asked to stop while a request was still unanswered."""


class Door:
    """One connection to the gateway, opened again when it breaks; one request at a time.

    It stands on aiohttp, whose parser and writer are compiled: the sender shares two cores with
    what it feeds.

    Args:
        gateway: its address, such as `http://127.0.0.1:8080`.
        patience_s: how long one request is repeated while the gateway is away or busy.
        stop: when set, a request that must be repeated is given up.
    """

    def __init__(self, gateway: str, *, patience_s: float, stop: asyncio.Event) -> None:
        self._gateway = gateway.rstrip("/")
        self._session = _session()
        self._patience_s = patience_s
        self._stop = stop
        self.repeated = 0

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        """Send a body until it is answered; return the HTTP status.

        A request whose answer was lost is repeated too: the gateway may then hold it twice, and
        the receiver tells by id and version.

        Raises:
            CommandError: no answer within the patience.
            Given: the caller asked to stop.
        """
        deadline = asyncio.get_running_loop().time() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            status, asked_s = await self._try(path, body, headers)
            if status not in _COME_BACK:
                return status
            wait_s = min(max(pause_s, asked_s), _LONGEST_PAUSE_S)
            if asyncio.get_running_loop().time() + wait_s > deadline:
                raise self._lost(status)
            await self._rest(wait_s)
            self.repeated += 1
            pause_s *= 2

    async def _try(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, float]:
        try:
            async with self._session.post(
                self._gateway + path, data=body, headers=headers, allow_redirects=False
            ) as answer:
                await answer.read()  # the connection is of use again when all was read
                asked = answer.headers.get("Retry-After", "")
                return answer.status, float(asked) if asked.isdigit() else 0.0
        except _AWAY:
            return 503, 0.0

    async def _rest(self, wait_s: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), wait_s)
        except TimeoutError:
            return
        raise Given

    def _lost(self, status: int) -> CommandError:
        return CommandError(
            f"The gateway at {self._gateway} took nothing for {self._patience_s:.0f} s "
            f"(last answer {status}).",
            "See `vigil status` and `vigil logs gateway`; then send again: what arrived twice "
            "is recognized.",
            Fault.GATEWAY_SILENT,
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._session.close()


def _session() -> aiohttp.ClientSession:
    """One connection, and no header that nobody asked for."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1),
        timeout=_TIMEOUT,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    )
