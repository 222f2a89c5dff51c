"""What must hold before a start, and whether a store answers after it."""

import fcntl
import json
import os
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from services.core.errors import CommandError
from services.core.faults import Fault


def refuse_full_disk(path: Path, needed_bytes: int) -> None:
    """Stops before a store would write half of something.

    Raises:
        CommandError: less than that is free.
    """
    free = shutil.disk_usage(path).free
    if free < needed_bytes:
        raise CommandError(
            f"the disk of {path} has {free >> 20} MiB left and {needed_bytes >> 20} are needed",
            "make room, or set VIGIL_HOME to another disk",
            Fault.DISK_FULL,
        )


def pings(url: str) -> bool:
    """Whether a ClickHouse answers there."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/ping", timeout=2.0) as answer:  # noqa: S310 - the operator's own address
            return bool(answer.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def why_not_ready(port: int) -> str:
    """What keeps a service from working, in the words of its `/readyz`; empty when nothing."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2.0):
            return ""
    except urllib.error.HTTPError as answer:
        with answer:
            return _why(answer.read())
    except (urllib.error.URLError, OSError):
        return "it does not answer yet"


def _why(body: bytes) -> str:
    try:
        return str(json.loads(body)["why"])
    except (ValueError, KeyError, TypeError):
        return "it does not say why"


@contextmanager
def alone(root: Path, who: str = "vigil up") -> Iterator[None]:
    """One command of a name at a time; the lock is on the folder, so that nothing is left of it.

    Raises:
        CommandError: another one is at work.
    """
    handle = os.open(root, os.O_RDONLY)
    try:
        _lock(handle, who)
        yield
    finally:
        os.close(handle)


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Cleaning up is not to be interrupted by the impatience that caused it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _lock(handle: int, who: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CommandError(
            f"another `{who}` is at work here",
            "wait for it, or end it with Ctrl-C",
            Fault.AT_WORK,
        ) from None
