"""Where chaos happens: a broker with our topics, and lives of the real scoring service on it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from lives import FINAL, until

from services.local.home import REPO
from services.local.kafka import Broker
from services.runtime.kafka.admin import create_topic
from services.runtime.kafka.client import QUIET
from services.runtime.topics.files import read_topics
from services.scoring.outputs import VITALS

PARTITIONS = 4
GROUP = "scoring"
GONE_S = 60.0


class Ground:
    """Topics as their files say, and the environment in which a life of scoring finds them."""

    def __init__(self, broker: Broker, folder: Path, model: Path) -> None:
        self.broker, self.folder = broker, folder
        self.options = {"bootstrap.servers": broker.bootstrap}
        self.environ = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "VIGIL_SCHEMAS": str(REPO / "schemas"),
            "PYTHONPATH": str(REPO / "tests"),
        }
        self.use(model)
        self.sow()

    def _admin(self) -> AdminClient:
        """Give a client for one question, to be kept until the answer: one that knew a broker
        that was killed may wait for an answer for ever.
        """
        return AdminClient({**self.options, **QUIET})

    def use(self, model: Path) -> None:
        """Let the lives that begin from now on have another bundle."""
        self.model = model
        self.environ["VIGIL_MODEL"] = str(model)

    def sow(self) -> None:
        """Make every topic."""
        wanted = read_topics(REPO / "schemas")
        for topic in wanted:
            many = topic.partitions or PARTITIONS
            create_topic(self.options, topic.topic, partitions=many, config=topic.settings())

    def clear(self) -> None:
        """Begin anew: other topics of the same names, and with them a group without offsets."""
        admin = self._admin()
        for asked in admin.delete_topics(sorted(self._topics())).values():
            asked.result(GONE_S)
        until(lambda: not self._topics())
        self.sow()

    def members(self) -> int:
        """How many members of the group hold partitions."""
        admin = self._admin()
        found = admin.describe_consumer_groups([GROUP])[GROUP].result(GONE_S)
        return sum(bool(member.assignment.topic_partitions) for member in found.members)

    def committed(self) -> dict[int, int]:
        """The group's next offset of each partition of vitals.v1, no transaction pending on it."""
        places = [TopicPartition(VITALS, p) for p in range(PARTITIONS)]
        asked = [ConsumerGroupTopicPartitions(GROUP, places)]
        admin = self._admin()
        found = admin.list_consumer_group_offsets(asked, require_stable=True)[GROUP]
        try:
            return {p.partition: p.offset for p in found.result(GONE_S).topic_partitions or ()}
        except (KafkaException, TimeoutError):  # it waits for a transaction, or for a broker
            return {}

    def _topics(self) -> set[str]:
        known = self._admin().list_topics(timeout=GONE_S).topics
        return {name for name in known if not name.startswith("__")}


class Instance:
    """An instance of scoring that is started again whenever it dies, as a supervisor would."""

    def __init__(self, ground: Ground, number: int = 0, *, bug: str = "") -> None:
        self._ground, self._number = ground, number
        self.bug = bug
        self._always = ("--bug", bug) if bug else ()
        self._lock = threading.Lock()
        self._ending = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._strikes: list[tuple[str, ...]] = []
        self._armed: tuple[str, ...] = ()
        self.codes: list[int] = []
        """How each life ended."""

    def start(self, *points: str, passes: int = 1, number: str = "SIGKILL") -> None:
        """Begin a life, which strikes itself at the first point, the next at the second."""
        with self._lock:
            self._ending = False
        words = ("--passes", str(passes), "--signal", number)
        self._strikes = [("--point", point, *words) for point in points]
        self._begin()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """kill -9, and no other life."""
        if self._thread is not None:
            self._last(signal.SIGKILL)
            self._thread.join(GONE_S)

    @property
    def killed(self) -> int:
        """How many lives ended by kill -9, whoever sent it."""
        return self.codes.count(-signal.SIGKILL)

    @property
    def pid(self) -> int:
        with self._lock:
            assert self._process is not None
            return self._process.pid

    def send(self, number: signal.Signals) -> None:
        with self._lock:
            assert self._process is not None
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9; another life begins."""
        lives = len(self.codes)
        self.send(signal.SIGKILL)
        until(lambda: len(self.codes) > lives, "the death of a life")

    def stop(self) -> int:
        """SIGTERM, and wait; give the exit code."""
        assert self._thread is not None
        self._last(signal.SIGTERM)
        self._thread.join(GONE_S)
        assert not self._thread.is_alive(), "the service does not end"
        return self.codes[-1]

    def stopped(self) -> bool:
        """Whether the life stands still after a SIGSTOP."""
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def _last(self, number: signal.Signals) -> None:
        with self._lock:
            self._ending = True
            assert self._process is not None
            self._process.send_signal(number)

    def _begin(self) -> None:
        hurt = self._armed = self._strikes.pop(0) if self._strikes else ()
        program = ("-m", "chaos.life", *self._always, *hurt)
        plain = ("-m", "services.scoring")
        words = program if self._always or hurt else plain
        log = self._ground.folder / f"scoring-{self._number}.log"
        with log.open("ab") as told, self._lock:
            if self._ending:
                return
            self._process = subprocess.Popen(
                [sys.executable, *words],
                cwd=REPO,
                env={**self._ground.environ, "VIGIL_INSTANCE": str(self._number)},
                stdout=told,
                stderr=told,
            )

    def _arm_again(self, code: int) -> None:
        # On a busy machine a life may end by itself before it comes to its point.
        if "SIGKILL" in self._armed and code != -signal.SIGKILL:
            self._strikes.insert(0, self._armed)

    def _keep(self) -> None:
        while True:
            assert self._process is not None
            code = self._process.wait()
            ending = self._ending or code in FINAL
            if not ending:
                self._arm_again(code)
                self._begin()
            self.codes.append(code)
            if ending:
                return
