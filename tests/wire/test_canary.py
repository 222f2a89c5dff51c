"""Nobody's identity leaks: canaries in all that is sent, and a search of everything else."""

import hashlib
import itertools
import re
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from allowed import EVENTS, PHI, strangers
from canary import traffic
from canary.needles import ENCODINGS, PLANTED, REAL
from canary.packing import PACK
from canary.scanner import Scanner
from canary.sinks import Sinks
from canary.traffic import Canaries, Sender
from lives import until
from whole_path import INGESTED, NOTICES, WholePath

from services.core import events as messages
from services.core.events import Change, DeadLetter, Identity
from services.core.pseudonyms import patient_pseudonym
from services.local.ports import free_port
from services.runtime.codec import Codec
from services.runtime.kafka.publisher import Publisher
from services.runtime.ports import Output
from services.runtime.vault import Vault, read_keys

pytestmark = [pytest.mark.wire, pytest.mark.slow]

TOKEN = "t0ken-of-the-ward"  # noqa: S105 - of this test alone
SOURCES = """
[[source]]
id = "ward"
clock = "declared"
token_sha256 = "{digest}"
timezone = "UTC"
"""
OUT = re.compile(rb"^vigil_outbox_records(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class Searched(WholePath):
    """A stack through which canaries went, and what was found of them afterwards."""

    canaries: Canaries
    sender: Sender
    sinks: Sinks
    taken: Counter[str]
    found: dict[tuple[str, str], tuple[frozenset[str], frozenset[str]]]
    """Per sink and place: encodings of what was planted, and of what came with traffic."""


@pytest.fixture(scope="module")
def searched(jar_cache: Path) -> Iterator[Searched]:
    """Good traffic, bad traffic, a new key, a broker that is away, a kill; then the search."""
    path = Searched(jar_cache)
    with pytest.MonkeyPatch.context() as patch:
        try:
            begin(path, patch)
            with closing(path.sender):
                stream(path)
            path.sinks.commands += commands(path)
            path.sinks.plant()
            search(path)
            yield path
        finally:
            path.stop()


def begin(path: Searched, patch: pytest.MonkeyPatch) -> None:
    mllp_port = free_port()
    (sources := path.folder / "sources.toml").write_text(
        SOURCES.format(digest=hashlib.sha256(TOKEN.encode()).hexdigest())
    )
    patch.setenv("VIGIL_SOURCES_FILE", str(sources))
    patch.setenv("VIGIL_OUTBOX_FOLDER", str(path.home.root / "outbox"))
    patch.setenv("VIGIL_MLLP_PORT", str(mllp_port))
    path.start()
    path.canaries, path.sinks, path.taken = Canaries(), Sinks(path), Counter()
    path.sender = Sender(path.gateway, TOKEN, mllp_port)
    path.sinks.answers = path.sender.errors


def stream(path: Searched) -> None:
    """Send a part, rotate the key, send while Kafka is away, kill ingest, send the rest."""
    canaries, sender = path.canaries, path.sender
    parts = {
        "course": traffic.course(canaries),
        "everywhere": traffic.everywhere(canaries),
        "bad": traffic.bad(canaries),
        "doors": traffic.doors(canaries),
        "answers": traffic.answers(canaries),
    }
    for share in (0.5, 0.25, 0.25):
        for name, part in parts.items():
            before = sender.taken
            for sending in itertools.islice(part, int(share * SENT[name])):
                sender.send(sending)
            path.taken[name] += sender.taken - before
        before = sender.taken
        for message in traffic.segments(canaries, TOKEN):
            sender.send_hl7(message)
        path.taken["hl7"] += sender.taken - before
        if share == 0.5:
            between(path)
    stray(path)
    for hour in range(12):
        sender.send(traffic.tick(hour))
    path.kill("ingest")
    path.settle()


SENT = {"course": 20, "everywhere": 220, "bad": 290, "doors": 129, "answers": 70}
"""More than there is, or as many."""


def between(path: Searched) -> None:
    """A new key, then a few messages of every kind while Kafka is away."""
    code, _ = path.vigil("keys", "rotate", "--yes", "--after", "1")
    assert code == 0
    due = time.monotonic() + 1
    until(lambda: time.monotonic() > due)
    path.broker.kill()
    for part in (traffic.course, traffic.everywhere, traffic.bad, traffic.answers):
        for sending in itertools.islice(part(path.canaries), 8):
            path.sender.send(sending)
    path.broker.start()
    until(lambda: outbox_of(path) == 0)


def outbox_of(path: Searched) -> float:
    with urllib.request.urlopen(f"{path.gateway}/metrics") as answer:  # noqa: S310 - our own
        found = OUT.search(answer.read())
    assert found
    return float(found[1])


def stray(path: Searched) -> None:
    """A record that did not come by the gateway: nothing but text.

    Its key would stand in dlq.v1, in the zone: ours are hashes.
    """
    held: list[bool] = []
    text = path.canaries.text().encode()
    headers = {
        "content-type": b"application/fhir+json",
        "source": b"ward",
        "received_at": b"1767600030000000",
        "accepted_at": b"1767600030000000",
        "ingest_id": b"0" * 32,
    }
    publisher = Publisher(path.options)
    publisher.send(
        Output("fhir.raw.v1", bytes(16), text, headers=tuple(headers.items())), held.append
    )
    assert publisher.flush(30) == 0
    assert held == [True]


def commands(path: Searched) -> list[bytes]:
    """What commands say on both streams, of a file with a canary for its name, too."""
    strange = path.folder / f"{path.canaries.identifier()}.ndjson"
    strange.write_text(path.canaries.text() + "\n")
    told = [
        path.said("dlq", "list"),
        path.said("status"),
        path.said("dashboards", "build", "--yes", "--to", str(path.sinks.boards)),
        path.said("replay", str(strange)),
        path.said("report", "--to", str(path.sinks.boards / "report.html")),
    ]
    strange.unlink()
    letters = path.vigil("dlq", "list")[1]["letters"]
    reasons = {letter["reason"]: letter["letter"] for letter in letters}
    shown = path.said_of_each(*(("dlq", "show", letter) for letter in reasons.values()))
    assert all(reason.encode() in shown for reason in reasons)
    return [*told, shown]


def search(path: Searched) -> None:
    planted, real = Scanner(PLANTED), Scanner(REAL)
    path.found = {
        (found.sink, found.place): (planted.found(found.data), real.found(found.data))
        for found in path.sinks.everything()
    }


def test_the_traffic_was_full_of_canaries(searched: Searched) -> None:
    raw = b"".join((r.key or b"") + (r.value or b"") for r in searched.records(["fhir.raw.v1"]))
    assert raw.lower().count(REAL.letters.lower().encode()) > 1000
    assert all(searched.taken[kind] for kind in ("course", "everywhere", "bad", "answers", "hl7"))
    assert len([said for said in searched.sender.errors if said]) > 100
    letters = [event for _, event in decoded(searched, "dlq.v1")]
    assert len({letter.reason for letter in letters}) > 10
    sys.stderr.write(f"{searched.canaries.given} canaries, {dict(searched.taken)} taken\n")


@pytest.mark.parametrize("sink", Sinks.GROUPS)
def test_the_search_finds_what_was_planted_in_every_encoding(
    searched: Searched, sink: str
) -> None:
    planted = [names for (at, _), (names, _) in searched.found.items() if at == sink]
    # A store that compresses holds most of it only inside of what it has compressed.
    found = [f"/{name}" for name in frozenset().union(*planted)]
    wanted = {*ENCODINGS, *(f"{container}/plain" for container in PACK)}
    assert {name for name in wanted if not any(n.endswith(f"/{name}") for n in found)} == set()


def test_a_store_is_searched_inside_of_what_it_compresses(searched: Searched) -> None:
    for sink, packed in (("clickhouse", ("lz4", "zstd")), ("kafka", PACK)):
        planted = [names for (at, _), (names, _) in searched.found.items() if at == sink]
        found = frozenset().union(*planted)
        for outer in packed:
            assert {f"{outer}/base64", f"{outer}/gzip/plain"} <= found, (sink, outer)


def test_no_canary_stands_outside_the_clinical_zone(searched: Searched) -> None:
    assert {where: real for where, (_, real) in searched.found.items() if real} == {}


def decoded(path: WholePath, topic: str) -> list[tuple[Any, Any]]:
    codec = Codec(Path(path.environ["VIGIL_SCHEMAS"]))
    kind = getattr(messages, EVENTS[topic])
    return [(r, codec.decode(r.value, kind)) for r in path.records([topic]) if r.value]


def test_every_text_outside_the_zone_has_the_form_that_the_list_gives(searched: Searched) -> None:
    told = Counter(
        amiss
        for topic in EVENTS.keys() - PHI
        for _, event in decoded(searched, topic)
        for amiss in strangers(topic, event)
    )
    assert told == Counter()


def test_keys_of_both_epochs_sealed_and_nothing_is_unreadable(searched: Searched) -> None:
    vault = Vault(read_keys(Path(searched.environ["VIGIL_PAYLOAD_KEY_FILE"])))
    epochs = set()
    for _, who in decoded(searched, "identity.v1"):
        assert isinstance(who, Identity)
        assert b"Patient/" in vault.open(who.key_epoch, who.ciphertext, who.pseudonym)
        epochs.add(who.key_epoch)
    for _, letter in decoded(searched, "dlq.v1"):
        assert isinstance(letter, DeadLetter)
        if letter.payload:
            vault.open(letter.key_epoch, letter.payload, letter.sha256)
            epochs.add(letter.key_epoch)
    assert epochs == {1, 2}


def test_what_ingest_wrote_is_written_again_to_the_byte_with_both_keys(searched: Searched) -> None:
    expected = searched.ingested_undisturbed()
    again = Counter((t, k, v) for t, _, k, v in expected.elements())
    written = Counter((r.topic, r.key, r.value) for r in searched.records([*INGESTED, NOTICES]))
    assert not again - written
    assert {topic for topic, *_ in written - again} <= {NOTICES}


def test_a_pseudonym_is_shown_to_who_has_the_key_file_and_to_nobody_else(
    searched: Searched,
) -> None:
    (record, _), *_ = decoded(searched, "identity.v1")
    asked = ("--requested-by", "M. Okafor", "--reason", "a call")
    code, told = searched.vigil("identity", "show", record.key.hex(), *asked)
    assert code == 0
    key = read_keys(Path(searched.environ["VIGIL_PSEUDONYM_KEY_FILE"]))[0]
    name = told["reference"].removeprefix("Patient/")
    assert patient_pseudonym(key, told["source"], name) == record.key
    changes = [event for _, event in decoded(searched, "changes.v1")]
    entry = next(c for c in changes if isinstance(c, Change) and c.kind == "access")
    assert entry.subject == f"identity/{record.key.hex()}"
    assert (entry.requested_by, entry.reason) == ("M. Okafor", "a call")
    assert name not in str(entry)
    assert b"VGL-5503" in searched.said("identity", "show", "00" * 16, *asked)
