"""The course of the demo: start the stack, let patients stream in, take account, stop it all."""

import asyncio
import json
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from services.cli.demo.account import Vigil
from services.cli.demo.listener import Listener
from services.local.home import Home
from services.local.stack import Stack
from services.runtime.settings import KafkaSettings
from services.simulator.delivery import Pace, Sent
from services.simulator.feeder import feed

SPEED: Final = 3600.0
"""Event seconds per second: an hour of the ward passes in a second."""


class Stream(msgspec.Struct, frozen=True):
    """What streams in: who, how many messages at most, and the messages."""

    name: str
    patients: int | None
    messages: Any


class Course(msgspec.Struct, kw_only=True):
    """What the demo found out."""

    sent: dict[str, Any]
    milestones_s: dict[str, float]
    latency_ms: dict[str, float]
    counts: dict[str, dict[str, int]]
    verify: Any
    verified: bool
    reconcile: Any
    reconciled: bool


class Demo:
    """One run on a stack of its own, whose data are made anew."""

    def __init__(
        self,
        home: Home,
        given: Mapping[str, str],
        *,
        tell: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """Prepare a run.

        Args:
            home: of the demo's stack alone; what an earlier demo left there is removed.
            given: the environment of the one who asks.
            tell: takes a line about the progress.
            clock: seconds, monotonic.
        """
        self._home, self._tell, self._clock = home, tell, clock
        self._stack = Stack(home=home, given=given, tell=tell)
        self._given = dict(given)
        self._began = clock()
        self._milestones: dict[str, float] = {}

    def run(self, stream: Stream, seconds: float, progress: Callable[[Sent], None]) -> Course:
        """Do it all; whatever happens, nothing is left running.

        Raises:
            CommandError: the stack does not start, or a command of the account fails.
            KeyboardInterrupt: at Ctrl-C, after everything was stopped.
        """
        self._stack.down()
        shutil.rmtree(self._home.root, ignore_errors=True)
        try:
            self._stack.up()
            self._reach("ready")
            environ = self._given | self._told()
            sent, listener = self._stream(environ, stream, seconds, progress)
            return self._account(Vigil(environ), sent, listener)
        finally:
            self._tell("stopping everything")
            self._stack.down()

    def _told(self) -> dict[str, str]:
        path = self._home.run / "environment.json"
        return dict(json.loads(path.read_text()))

    def _stream(
        self,
        environ: Mapping[str, str],
        stream: Stream,
        seconds: float,
        progress: Callable[[Sent], None],
    ) -> tuple[Sent, Listener]:
        kafka = KafkaSettings(bootstrap_servers=environ["KAFKA_BOOTSTRAP_SERVERS"])
        schemas = Path(environ["VIGIL_SCHEMAS"])
        gateway = f"http://127.0.0.1:{environ['VIGIL_GATEWAY_PORT']}"
        self._tell(f"{stream.name}: an hour of theirs in a second of ours")
        with Listener(kafka.client_options(), schemas, self._reach) as listener:
            sent = asyncio.run(_feed(stream.messages, gateway, seconds, progress))
            self._reach("all sent")
            self._tell("waiting until every offset is accounted for")
            self._drained, self._reconcile = Vigil(environ).drained()
            self._reach("all accounted for")
        return sent, listener

    def _account(self, vigil: Vigil, sent: Sent, listener: Listener) -> Course:
        self._tell("proving the ledger")
        code, verify = vigil.ask("ledger", "verify")
        self._reach("ledger proved")
        return Course(
            sent=sent.summary(),
            milestones_s=self._milestones,
            latency_ms=_percentiles(listener.latencies_ms),
            counts=vigil.counts() | {"alerts seen outside": dict(listener.steps)},
            verify=verify,
            verified=code == 0,
            reconcile=self._reconcile,
            reconciled=self._drained,
        )

    def _reach(self, milestone: str) -> None:
        self._milestones[milestone] = round(self._clock() - self._began, 1)
        self._tell(f"{milestone} after {self._milestones[milestone]} s")


async def _feed(
    messages: Any, gateway: str, seconds: float, progress: Callable[[Sent], None]
) -> Sent:
    stop, interrupted = asyncio.Event(), asyncio.Event()

    def interrupt() -> None:
        interrupted.set()
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupt)
    timer = loop.call_later(seconds, stop.set)
    try:
        sent = await feed(messages, gateway, pace=Pace(speed=SPEED), stop=stop, progress=progress)
    finally:
        timer.cancel()
        loop.remove_signal_handler(signal.SIGINT)
    if interrupted.is_set():
        raise KeyboardInterrupt
    return sent


def _percentiles(latencies_ms: list[float]) -> dict[str, float]:
    if not latencies_ms:
        return {}
    values = np.percentile(latencies_ms, [50, 99])
    return {"p50": round(float(values[0]), 1), "p99": round(float(values[1]), 1)}
