"""Programs for tests, kept alive as the supervisor keeps them, and waits that tell how they fared.

Services are crash-only: one that finds a door shut ends, and its next life tries again. On a
machine that stalls every wait for a service is a wait for its lives.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from services.core.errors import ExitCode, Retry
from services.local.home import REPO
from services.local.launch import wait_s

PATIENCE_S: Final = 180.0
"""Only what never comes takes so long."""
STEP_S: Final = 0.05
GONE_S: Final = 60.0
TO_BEGIN_S: Final = (0, 1, 2, 4, 8)
LAST_WORDS: Final = 2000
FINAL: Final = (ExitCode.OK, ExitCode.CONFIGURATION, ExitCode.STOP)
_begun: list["Lives"] = []
"""What the tests have begun and not closed, for a wait that fails, wherever it is."""


class Lives:
    """One program; a life that ended by itself is followed by the next, unless its end is final.

    Args:
        name: of the program, for whoever reads why a test failed.
        words: its command line.
        log: file to which all lives of it say what they say.
        environ: its environment; that of the test when None.
    """

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        log: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._name, self._words, self._log, self._environ = name, words, log, environ
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self.codes: list[int] = []
        """How each life ended, the first one first; after the last of them another may live."""

    def start(self) -> Self:
        """Begin the first life, and let others follow."""
        _begun.append(self)
        self._begin()
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill what still lives; what pytest shows of a failed test tells how lives ended."""
        if self not in _begun:
            return
        self.kill()
        _begun.remove(self)
        sys.stderr.write(f"{self.told()}\n")

    def kill(self) -> None:
        """kill -9, and no other life."""
        self._over.set()
        self.send(signal.SIGKILL)
        self._thread.join(GONE_S)
        assert not self._thread.is_alive(), f"{self._name} outlives a kill -9"

    def end(self) -> int:
        """SIGTERM, and give the code with which it ended; no other life.

        A life for which a door was shut on its way out is followed by one that is told the same.
        """
        code = int(ExitCode.CRASH)
        for to_begin_s in TO_BEGIN_S:
            self._over.wait(to_begin_s)
            until(lambda: self._process.poll() is None, f"a life of {self._name}")
            life = self._process
            life.send_signal(signal.SIGTERM)
            code = life.wait(PATIENCE_S)
            if code not in {ExitCode.CRASH, -signal.SIGTERM}:
                break
        self.kill()
        return code

    def ends(self) -> int:
        """Wait until a life ends by itself, and give its code."""
        until(lambda: bool(self.codes), f"{self._name} ends by itself")
        return self.codes[0]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the life that is, if one is."""
        with self._lock:
            self._process.send_signal(number)

    def said(self) -> str:
        """All that its lives have said."""
        return self._log.read_text(errors="replace")

    def told(self) -> str:
        """How its lives ended, and its last words."""
        now = "one lives" if self._process.poll() is None else "none lives"
        ended = ", ".join(str(code) for code in self.codes)
        return (
            f"{self._name}: ended with [{ended}], {now}; said last:\n{self.said()[-LAST_WORDS:]}"
        )

    def _begin(self) -> bool:
        with self._lock, self._log.open("ab") as log:
            if self._over.is_set():
                return False
            self._process = subprocess.Popen(
                self._words, cwd=REPO, env=self._environ, stdout=log, stderr=log
            )
            return True

    def _keep(self) -> None:
        while True:
            code = self._process.wait()
            over = self._over.is_set() or code in FINAL
            self.codes.append(code)
            if over or self._over.wait(wait_s(len(self.codes))) or not self._begin():
                return


def until(condition: Callable[[], bool], what: str = "it", seconds: float = PATIENCE_S) -> None:
    """Poll a condition; a broker that does not answer yet is asked again.

    Raises:
        AssertionError: it did not come; tells how the lives of all programs fared.
    """
    deadline, shut = time.monotonic() + seconds, ""
    while True:
        try:
            if condition():
                return
        except Retry as error:
            shut = f" ({error})"
        if time.monotonic() > deadline:
            told = "\n".join(lives.told() for lives in _begun)
            raise AssertionError(f"not in time: {what}{shut}\n{told}")
        time.sleep(STEP_S)
