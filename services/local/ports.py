"""Ports on loopback: which are free, and what took the others."""

import secrets
import socket
from typing import Final

from services.core.errors import CommandError
from services.core.faults import Fault

LOWEST: Final = 12_000
BEYOND: Final = 32_000
"""Above lie the ports that a system lends to connections: one of those is lent again before its
server starts, or while it restarts."""


def free_port() -> int:
    """A port that nobody holds at this moment, and that no connection will be given."""
    while not is_free(port := LOWEST + secrets.randbelow(BEYOND - LOWEST)):
        pass
    return port


def is_free(port: int) -> bool:
    """Whether a server could listen there now; ends of old connections do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def refuse_taken(port: int, what: str) -> None:
    """Stops a server before it fails to listen in its own words.

    Raises:
        CommandError: somebody holds the port.
    """
    if not is_free(port):
        raise CommandError(
            f"{what}: port {port} is taken by another program",
            "end that program, or `vigil down` and `vigil up` to choose another port",
            Fault.PORT_TAKEN,
        )


def chosen(usual: int, taken: frozenset[int] = frozenset()) -> int:
    """The usual port, or a free one in its place."""
    return usual if usual not in taken and is_free(usual) else free_port()
