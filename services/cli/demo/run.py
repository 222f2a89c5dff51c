"""The course of the demo: start the stack, let patients stream in, take account, stop it all."""

import asyncio
import json
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from services.cli.demo.account import Course, percentiles
from services.cli.demo.asking import Vigil
from services.cli.demo.listener import Listener
from services.cli.demo.play import Play
from services.cli.demo.talk import Talk
from services.cli.demo.watching import Watched, watched
from services.core.errors import CommandError
from services.local.conditions import deaf_to_ctrl_c
from services.local.environment import remember
from services.local.home import Home
from services.local.ports import free_port
from services.local.stack import Stack
from services.runtime.settings import KafkaSettings
from services.simulator.delivery import Pace, Sent
from services.simulator.feeder import feed
from services.simulator.messages import Message

SPEED: Final = 3600.0
"""Event seconds per second: an hour of the ward passes in a second."""
ELSEWHERE: Final = ("KAFKA_", "CLICKHOUSE_", "VIGIL_SOURCES_FILE")
"""Variables that would lead the demo's patients into somebody's own cluster and ledger."""


class Stream(NamedTuple):
    """Who streams in, and how long.

    Attributes:
        name: of those who stream in.
        messages: in order of their time.
        play: what is played with them.
        until: the milestone at which it ends, one of `listener.MILESTONES`; empty: with the time.
    """

    name: str
    messages: Iterable[Message]
    play: Play | None = None
    until: str = ""


class Demo:
    """One run on a stack of its own, whose data are made anew."""

    def __init__(
        self, base: Home, given: Mapping[str, str], *, talk: Talk, clock: Callable[[], float]
    ) -> None:
        """Prepare a run.

        Args:
            base: beside which the demo keeps its own; what an earlier one left is removed.
            given: the environment of the one who asks.
            talk: tells about the progress.
            clock: seconds, monotonic.
        """
        self.home = Home(root=base.root / "demo" / "stack", cache=base.cache)
        """Of its stack; data and logs stay there until the next run."""
        self._given = {
            name: value for name, value in given.items() if not name.startswith(ELSEWHERE)
        }
        self._stack = Stack(home=self.home, given=self._given)
        self._talk, self._clock = talk, clock
        self._began = clock()
        self._milestones: dict[str, float] = {}
        self._sent: Sent | None = None

    def run(self, stream: Stream, seconds: float, report: Path) -> Course:
        """Do it all; whatever happens, nothing is left running.

        Args:
            stream: who streams in.
            seconds: how long, at most.
            report: where the page for clinical leadership goes.

        Raises:
            CommandError: the stack does not start, or a command of the account fails.
            KeyboardInterrupt: at Ctrl-C, after everything was stopped.
        """
        try:
            self._start()
            environ = self._given | self._told()
            course = self._observe(stream, seconds, environ)
            self._report(Vigil(environ), report)
            return course
        finally:
            with deaf_to_ctrl_c(), self._talk.busy("stopping everything"):
                self._stack.down()

    def _start(self) -> None:
        self._stack.down()
        shutil.rmtree(self.home.root, ignore_errors=True)
        self.home.root.mkdir(parents=True)
        # The usual ports are left to the stack that is to stay.
        remember(self.home, {each.name: free_port() for each in self._stack.programs})
        line = "starting Kafka, ClickHouse and the services (the first time, Kafka is fetched)"
        with self._talk.busy(line):
            self._stack.up()
        self._reach("ready")

    def _told(self) -> dict[str, str]:
        path = self.home.run / "environment.json"
        return dict(json.loads(path.read_text()))

    def _observe(self, stream: Stream, seconds: float, environ: Mapping[str, str]) -> Course:
        kafka = KafkaSettings(bootstrap_servers=environ["KAFKA_BOOTSTRAP_SERVERS"])
        schemas, vigil = Path(environ["VIGIL_SCHEMAS"]), Vigil(environ)
        if stream.play:
            with self._talk.busy("putting the baseline of the unchanged ward into use"):
                stream.play.use_baseline(vigil)
            self._reach("baseline in use")
        with Listener(kafka.client_options(), schemas, self._reach) as listener:
            with self._played(stream, kafka, environ):
                sent = self._stream(stream, seconds, environ)
            with self._talk.busy("waiting until every offset is accounted for"):
                reconcile = vigil.drained()
            self._reach("all accounted for")
            watching = self._watched(stream, vigil, listener, sent)
        with self._talk.busy("proving the ledger: every hash and every row is computed anew"):
            verify, counts = vigil.ask("ledger", "verify"), vigil.counts()
        self._reach("ledger proved")
        return Course(
            sent=sent.summary(),
            milestones_s=self._milestones,
            latency_ms=percentiles(listener.latencies_ms),
            counts=counts,
            heard=dict(sorted(listener.steps.items())),
            verify=verify,
            reconcile=reconcile,
            watching=watching,
            until=stream.until,
        )

    def _report(self, vigil: Vigil, file: Path) -> None:
        """Write the page; a stream of less than an hour has none, and that is no failure."""
        file.unlink(missing_ok=True)
        try:
            with self._talk.busy("writing the report"):
                vigil.ask("report", "--out", str(file))
        except CommandError as error:
            self._talk.say(f"no report: {error.what}")
        else:
            self._reach("report written")

    @contextmanager
    def _played(
        self, stream: Stream, kafka: KafkaSettings, environ: Mapping[str, str]
    ) -> Iterator[None]:
        """Let clinicians answer while patients stream in."""
        if stream.play is None:
            yield
            return
        with stream.play.clinicians(kafka.client_options(), environ, lambda: self._sent):
            yield

    def _watched(
        self, stream: Stream, vigil: Vigil, listener: Listener, sent: Sent
    ) -> Watched | None:
        """Take account of the watching; None where there was no whole day to watch."""
        days = stream.play and stream.play.whole_days(sent)
        if not stream.play or not days:
            return None
        with self._talk.busy("computing every metric once more, from the ledger"):
            found = watched(
                vigil, stream.play, days, raised=listener.raised, signals=listener.signals
            )
        self._reach("metrics recomputed")
        return found

    def _stream(self, stream: Stream, seconds: float, environ: Mapping[str, str]) -> Sent:
        gateway = f"http://127.0.0.1:{environ['VIGIL_GATEWAY_PORT']}"
        ends = (
            f"until the {stream.until}, at most {seconds:.0f} s"
            if stream.until
            else (f"for {seconds:.0f} s")
        )
        self._talk.say(f"{stream.name}, an hour of theirs in a second, {ends}")
        with self._talk.streaming(seconds) as hear:

            def heard(sent: Sent) -> bool:
                self._sent = sent
                hear(sent)
                return stream.until in self._milestones

            return asyncio.run(_feed(stream.messages, gateway, seconds, heard))

    def _reach(self, milestone: str) -> None:
        self._milestones[milestone] = round(self._clock() - self._began, 1)
        self._talk.say(f"{milestone} after {self._milestones[milestone]} s")


async def _feed(
    messages: Iterable[Message], gateway: str, seconds: float, hear: Callable[[Sent], bool]
) -> Sent:
    """Send until the time is over, or until who hears of the progress says that it is enough."""
    stop, interrupted = asyncio.Event(), asyncio.Event()

    def interrupt() -> None:
        interrupted.set()
        stop.set()

    def progress(sent: Sent) -> None:
        if hear(sent):
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
