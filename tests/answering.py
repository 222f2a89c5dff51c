"""A gateway for tests of those who send: slow, busy or away, or one that says no."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Answer = Callable[[str, dict[str, str], bytes], Awaitable[tuple[int, dict[str, str]] | None]]


class Gateway:
    """Records what arrives and in which order it is answered; `answer` None hangs up."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.arrived: list[tuple[str, str, bytes]] = []
        self.answered: list[tuple[str, str, bytes]] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        path = first.split(" ")[1]
        self.arrived.append((path, headers["vigil-time"], body))
        answer = await self.answer(path, headers, body)
        if answer is None:
            return False
        status, more = answer
        extra = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        if status == 202:
            self.answered.append((path, headers["vigil-time"], body))
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 2\r\n{extra}\r\n".encode())
        await asyncio.sleep(0.001)  # a body may come in a packet of its own
        writer.write(b"{}")
        await writer.drain()
        return True

    def bodies(self) -> list[str]:
        return [body.decode() for path, _, body in self.answered if path == "/fhir"]


@asynccontextmanager
async def gateway(answer: Answer, port: int = 0) -> AsyncIterator[tuple[Gateway, str]]:
    served = Gateway(answer)
    server = await asyncio.start_server(served.serve, "127.0.0.1", port)
    try:
        yield served, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
