"""What Faust and aiokafka may say in our log: little, seldom, and never what they quote."""

import logging
from collections.abc import Callable
from typing import Final

from typing_extensions import override

TALKERS: Final = (
    "faust",
    "aiokafka",
    "mode",
    "asyncio",
    "services.monitoring.agents",  # Faust lets what is derived from it talk under its own name
    "services.monitoring.transport",
)
EVERY_S: Final = 60.0


class Quiet(logging.Filter):
    """Lets one warning of each line of their code through a minute, without its arguments.

    An outage of 40 s makes 1,450 lines otherwise, and some of them print records.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, int], float] = {}

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(TALKERS):
            return True
        line, now = (record.pathname, record.lineno), self._clock()
        if record.levelno < logging.WARNING or now - self._said.get(line, -EVERY_S) < EVERY_S:
            return False
        self._said[line] = now
        record.msg, record.args = f"{record.name}, line {record.lineno}", None
        return True


def quieten(clock: Callable[[], float]) -> None:
    """Put the filter before everything that this process writes to its log."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(Quiet(clock))
