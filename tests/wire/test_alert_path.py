"""The alert path under kills: nothing lost, nothing twice, and the same as if nothing had been."""

import itertools
import json
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lives import until
from whole_path import INGESTED, NOTICES, WholePath

from services.audit.rows import TABLES
from services.local.home import REPO
from services.local.roster import SERVICES
from services.runtime.topics.files import read_topics
from services.simulator.delivery import Pace
from services.simulator.messages import START
from services.simulator.people import identifiers
from services.simulator.ward import Ward

pytestmark = [pytest.mark.wire, pytest.mark.slow]

BEDS = 340  # each sends about one Bundle a second, which is one event
ROUNDS = 3
AWAY_S = 10.0
WINDOW = 8
CHUNK = 1 << 22


class Hurt(WholePath):
    """A path that was hurt while a ward streamed through it."""

    ward: Ward
    rate: float = 0.0
    open_transactions: int = 0
    taken_meanwhile: int = 0
    taken_since: int = 0


def a_ward() -> Ward:
    """The ward whose messages are sent; now and then it damages one on purpose."""
    return Ward(np.random.default_rng(7), START, beds=BEDS)


def is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def hurt(jar_cache: Path) -> Iterator[Hurt]:
    """Three times kill -9 of scoring, ingest and audit, then of Kafka; at last all at rest."""
    path = Hurt(jar_cache)
    try:
        path.start()
        path.ward = a_ward()
        path.feed(path.ward.messages(10_000), Pace(speed=3600))
        for victim in ("scoring", "ingest", "audit") * ROUNDS:
            goal = path.accepted() + BEDS
            until(lambda goal=goal: path.accepted() >= goal)  # type: ignore[misc]  # bound now
            hurt_one(path, victim)
        be_without_a_broker(path)
        path.enough.set()
        sent = path.fed()
        assert sent.accepted + sent.refused.total() == sent.sent
        path.rate = sent.accepted / sent.elapsed_s
        path.settle()
        yield path
    finally:
        path.stop()


def hurt_one(path: Hurt, victim: str) -> None:
    if victim == "audit":
        path.kill(victim)
        return
    topic = {"scoring": "predictions.v1", "ingest": "vitals.v1"}[victim]
    path.kill_inside_a_transaction(victim, topic)
    path.open_transactions += 1


def be_without_a_broker(path: Hurt) -> None:
    """Kill -9 of Kafka; nothing is done when it comes back but wait for what is taken then."""
    before = path.accepted()
    path.broker.kill()
    back_at = time.monotonic() + AWAY_S
    until(lambda: time.monotonic() >= back_at and path.accepted() >= before + BEDS)
    path.taken_meanwhile = path.accepted() - before
    path.broker.start()
    again = path.accepted()
    until(lambda: path.accepted() >= again + BEDS)
    path.taken_since = path.accepted() - again


def test_the_kills_came_in_flight_while_a_transaction_was_open(hurt: Hurt) -> None:
    assert hurt.open_transactions == 2 * ROUNDS
    sys.stderr.write(f"killed under {hurt.rate:.0f} events/s\n")


def test_messages_were_taken_during_ten_seconds_without_a_broker_and_after(hurt: Hurt) -> None:
    assert hurt.taken_meanwhile >= BEDS
    assert hurt.taken_since >= BEDS
    assert hurt.sent is not None
    sent = itertools.islice(a_ward().messages(10_000), hurt.sent.sent)
    damaged = sum(not is_json(message.body) for message in sent)
    assert hurt.sent.refused == Counter({400: damaged} if damaged else {})


def test_every_accepted_message_is_in_the_log_at_least_once(hurt: Hurt) -> None:
    assert hurt.sent is not None
    raw = sum(1 for _ in hurt.records(["fhir.raw.v1"]))
    assert raw >= hurt.sent.accepted + hurt.sent.ticks
    assert raw <= hurt.sent.accepted + hurt.sent.ticks + hurt.sent.repeated


def test_ingest_wrote_what_an_undisturbed_run_writes(hurt: Hurt) -> None:
    expected = hurt.ingested_undisturbed()
    explicit = {(topic, key): partition for topic, partition, key, _ in expected}
    written = Counter(
        (
            r.topic,
            r.partition if explicit.get((r.topic, r.key)) is not None else None,
            r.key,
            r.value,
        )
        for r in hurt.records([*INGESTED, NOTICES])
    )
    assert not expected - written
    assert {topic for topic, *_ in written - expected} <= {NOTICES}


def test_scoring_wrote_what_an_undisturbed_run_writes(hurt: Hurt) -> None:
    written = scored(hurt)
    expected = hurt.scored_undisturbed()
    assert sorted(written) == sorted(expected)
    for place, lines in expected.items():
        assert written[place] == lines, place


def test_each_vitals_offset_has_one_prediction(hurt: Hurt) -> None:
    vitals = {(r.partition, r.offset) for r in hurt.records(["vitals.v1"])}
    rows = hurt.ask("SELECT partition, vitals_offset FROM predictions")
    assert Counter(rows) == Counter(vitals)


def test_the_ledger_holds_each_record_once_and_is_proved(hurt: Hurt) -> None:
    # What labelling and monitoring say of the last hours may still be on its way.
    until(lambda: in_ledger(hurt) == in_kafka(hurt))
    assert {topic for topic, _, _ in in_ledger(hurt)} >= {*INGESTED, "labelled.v1", "alerts.v1"}
    code, answer = hurt.vigil("ledger", "verify")
    assert code == 0, answer


def in_kafka(path: Hurt) -> Counter[tuple[str, int, int]]:
    kept = [t.topic for t in read_topics(REPO / "schemas") if "audit" in t.consumers]
    return Counter((r.topic, r.partition, r.offset) for r in path.records(kept))


def in_ledger(path: Hurt) -> Counter[tuple[str, int, int]]:
    return Counter(path.ask("SELECT topic, partition, offset FROM ledger"))


def test_no_identifier_leaves_the_clinical_zone(hurt: Hurt) -> None:
    strings = {s.encode() for person in hurt.ward.people for s in identifiers(person)}
    searched = 0
    for place, text in places_to_search(hurt):
        assert not any_of(strings, text), place
        searched += len(text)
    assert searched > 1_000_000, "there was something to search"
    raw = b"".join(r.value or b"" for r in hurt.records(["fhir.raw.v1"]))
    assert any_of(strings, raw), "the search finds what is there"


def any_of(strings: set[bytes], text: bytes) -> bool:
    """Tell whether one of thousands of strings occurs, by the first eight bytes of each.

    An alternation of so many in a regular expression takes minutes for as many megabytes.
    """
    starts = {s[:WINDOW] for s in strings}
    assert min(map(len, starts)) == WINDOW
    wanted = np.array(sorted(int.from_bytes(s, "little") for s in starts), np.uint64)
    opening = np.zeros((256, 256), bool)
    for first, second, *_ in starts:
        opening[first, second] = True
    for begin in range(0, len(text), CHUNK):
        part = np.frombuffer(text[begin : begin + CHUNK + WINDOW], np.uint8)
        if len(part) < WINDOW:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(part, WINDOW)
        # Few places of a text begin with two bytes with which one of the strings begins.
        likely = np.flatnonzero(opening[windows[:, 0], windows[:, 1]])
        numbers = np.ascontiguousarray(windows[likely]).view("<u8")[:, 0]
        places = np.searchsorted(wanted, numbers).clip(max=len(wanted) - 1)
        for at in likely[wanted[places] == numbers]:
            start = begin + int(at)
            if any(text.startswith(s, start) for s in strings):
                return True
    return False


def places_to_search(path: Hurt) -> Iterator[tuple[str, bytes]]:
    for log in path.home.logs.iterdir():
        yield log.name, log.read_bytes()
    for topic in (t.topic for t in read_topics(REPO / "schemas") if t.topic != "fhir.raw.v1"):
        records = path.records([topic])
        yield (
            topic,
            b"".join(
                (r.key or b"") + (r.value or b"") + repr(r.headers).encode() for r in records
            ),
        )
    for name in ("ledger", *TABLES):
        yield name, path.raw(name)
    for service in (program.name for program in SERVICES):
        port = path.port(service)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            yield f"{service} metrics", answer.read()


def scored(path: WholePath) -> dict[str, list[str]]:
    return path.exploded(
        (r.topic, r.partition, r.value or b"")
        for r in path.records(["predictions.v1", "alerts.v1"])
    )
