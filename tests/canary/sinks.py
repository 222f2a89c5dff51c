"""Every place outside the PHI zone where something of traffic could be left behind."""

import contextlib
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from canary.needles import PLANTED
from canary.packing import PACK
from canary.plants import blob
from canary.scanner import content
from confluent_kafka import Producer
from whole_path import WholePath

from services.local.roster import SERVICES
from services.runtime.kafka.admin import create_topic
from services.runtime.topics.files import read_topics

RAW = "fhir.raw.v1"
PLANTED_TOPIC = "planted"
PAGES = ("metrics", "readyz", "version")
TABLE = "planted (lz4 String, zstd String CODEC(ZSTD)) ENGINE = MergeTree ORDER BY tuple()"


class Found(NamedTuple):
    """A place and what stands there."""

    sink: str
    place: str
    data: bytes


class Sinks:
    """The places of one stack; the groups are those of `GROUPS`."""

    GROUPS = (
        *("logs", "metrics", "dashboards", "clickhouse", "kafka", "topics", "state"),
        *("answers", "commands"),
    )

    def __init__(self, path: WholePath) -> None:
        self._path = path
        self.answers, self.commands = list[bytes](), list[bytes]()
        self.boards = path.folder / "boards"
        self._urls = [f"http://127.0.0.1:{path.port(s.name)}" for s in SERVICES]

    def plant(self) -> None:
        """Lay a mark, in every encoding, into every one of them."""
        text = blob(PLANTED)
        for folder in (self._path.home.logs, self.boards, self._path.home.root / "outbox"):
            folder.mkdir(exist_ok=True)
            (folder / "planted").write_bytes(text)
        self.answers.append(text)
        self.commands.append(text)
        (metrics := self._path.folder / "metrics").write_bytes(text)
        self._urls.append(metrics.as_uri().removesuffix("/metrics"))
        self._plant_in_kafka(text)
        self._plant_in_clickhouse(text)

    def _plant_in_kafka(self, text: bytes) -> None:
        create_topic(self._path.options, PLANTED_TOPIC, partitions=1, config={})
        for codec in ("none", *PACK):
            producer = Producer({**self._path.options, "compression.type": codec})
            producer.produce(PLANTED_TOPIC, text * 4, key=text, headers=[("planted", text)])
            assert producer.flush(30) == 0

    def _plant_in_clickhouse(self, text: bytes) -> None:
        value = f"unhex('{text.hex()}')"
        rows = f"INSERT INTO planted SELECT {value}, {value} FROM numbers(50)"
        for query in (f"CREATE TABLE {TABLE}", rows):
            url = self._path.environ["CLICKHOUSE_URL"]
            urllib.request.urlopen(url, query.encode()).close()  # noqa: S310 - our own server

    def everything(self) -> Iterator[Found]:
        """Give all of it; the stack runs on meanwhile."""
        home = self._path.home
        yield from _files("logs", home.logs)
        yield from _files("dashboards", self.boards)
        yield from _files("clickhouse", home.clickhouse)
        yield from _files("kafka", self._path.folder / "kafka", but=(f"{RAW}-",))
        yield from _files("state", home.root, but=("logs", "clickhouse", "keys"))
        yield from self._told()
        for number, said in enumerate(self.answers):
            yield Found("answers", str(number), said)
        for number, said in enumerate(self.commands):
            yield Found("commands", str(number), said)
        for topic in self._topics():
            records = self._path.records([topic])
            parts = [(r.key or b"") + (r.value or b"") + _joined(r.headers) for r in records]
            yield Found("topics", topic, b"\n".join(parts))

    def _told(self) -> Iterator[Found]:
        for url in self._urls:
            for page in PAGES if url.startswith("http") else PAGES[:1]:
                yield Found("metrics", f"{url}/{page}", _page(f"{url}/{page}"))

    def _topics(self) -> list[str]:
        named = [topic.topic for topic in read_topics(Path(self._path.environ["VIGIL_SCHEMAS"]))]
        return [*(topic for topic in named if topic != RAW), PLANTED_TOPIC]


def _page(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own, and a file of ours
            return bytes(answer.read())
    except urllib.error.HTTPError as unready:
        with unready:
            return unready.read()


def _joined(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    return b"\n".join(name.encode() + b"=" + (value or b"") for name, value in headers)


def _files(sink: str, folder: Path, but: tuple[str, ...] = ()) -> Iterator[Found]:
    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder)
        if but and any(part.startswith(but) for part in within.parts):
            continue
        if path.is_file():
            with contextlib.suppress(FileNotFoundError):  # stores put files together as they run
                yield Found(sink, str(within), content(path) + b"\n" + str(within).encode())
