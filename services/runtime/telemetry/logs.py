"""The log of a process: one JSON object a line on stderr, and never a value of a patient."""

import logging
import sys
import threading
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import structlog

from services.core.errors import VigilError

Level = Literal["debug", "info", "warning", "error"]
Event = MutableMapping[str, Any]


def configure(service: str, level: Level) -> None:
    """Send the log of this process to stderr as JSON, those of libraries and uncaught errors too.

    An exception is told by its class and its lines of code; its text only when it is ours, because
    the texts of others quote what they choked on.

    Args:
        service: name of the service, on every line.
        level: the lowest level that is written.
    """

    def named(_: object, __: str, event: Event) -> Event:
        return {"service": service, **event}

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        named,
        _without_values,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    _write_to_stderr(shared, level)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


def _write_to_stderr(shared: list[Any], level: Level) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


def _uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    structlog.stdlib.get_logger("vigil").error("uncaught", exc_info=(kind, error, trace))


def _without_values(_: object, __: str, event: Event) -> Event:
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["at"] = _lines_of_code(error.__traceback__)
        if isinstance(error, VigilError):
            event.setdefault("because", str(error))  # who logs may know more: what to do
    return event


def _lines_of_code(trace: TracebackType | None) -> list[str]:
    lines = []
    while trace is not None:
        lines.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return lines
