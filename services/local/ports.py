"""Ports on loopback: which are free, and what took the others."""

import socket


def free_port() -> int:
    """A port that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen there now; ends of old connections do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def chosen(usual: int, taken: frozenset[int] = frozenset()) -> int:
    """The usual port, or a free one in its place."""
    return usual if usual not in taken and is_free(usual) else free_port()
