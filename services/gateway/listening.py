"""The sockets on which the gateway listens."""

import errno
import socket
from typing import Final

from services.core.errors import CommandError
from services.core.faults import Fault

BACKLOG: Final = 2048


def listen(host: str, port: int, name: str) -> socket.socket:
    """Open a door.

    Args:
        host: an address of this machine.
        port: 0 for any that is free.
        name: of the door, as in its settings.

    Raises:
        CommandError: something else uses the port.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CommandError(
            f"port {port} cannot be opened: {error.strerror}",
            f"end what uses it, or set VIGIL_{name}_PORT",
            # Who took it while the gateway was away may leave again: the supervisor tries anew.
            Fault.PORT_TAKEN if error.errno == errno.EADDRINUSE else Fault.GATEWAY_PORT,
        ) from None
