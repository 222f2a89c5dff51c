"""`make bench NAME=state`: what a patient costs in memory, and what many patients cost an event.

Patients are charted hourly, each variable in the share of hours in which the patients of
PhysioNet 2019 have it: 168 readings in 24 h, nearly every one a resource of its own. They stayed
for two days, so the past is full. Fifty are told to a ward, message by message; their rows of the
changelog, under other names, are restored in a fresh process per size. Then patients are charted
on, the sizes by turns, through everything that a partition does with an event, in memory: no
broker, and no alert, as whoever has few patients would be spared the explanations of many first
ones. In the end what the changelog holds by then is restored.

Resident is what the process took more; counted what its objects and blocks say of themselves.
"""

import argparse
import gc
import hashlib
import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from progress import say
from report import line

from services.core.events import (
    MICROSECONDS_PER_HOUR,
    Demographics,
    Kind,
    Role,
    Stay,
    Vitals,
    packed,
)
from services.local.home import REPO
from services.runtime.codec import Codec
from services.runtime.ports import Record, Row
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.scoring.__main__ import engine
from services.scoring.counting import counting
from services.scoring.crew import Alone
from services.scoring.outputs import VITALS
from services.scoring.patients.journal import MESSAGES, PER_PATIENT
from services.scoring.patients.slots import Slots
from services.scoring.patients.store import BLOCK_BYTES, MANY_FREE
from services.scoring.patients.ward import Ward
from services.scoring.pipeline import Scorer, Scoring
from services.scoring.warm import warm

CHARTED: Final = (
    ("HR", 0.92, 78),
    ("O2Sat", 0.88, 97.5),
    ("Temp", 0.34, 36.8),
    ("SBP", 0.85, 122),
    ("MAP", 0.9, 84),
    ("DBP", 0.52, 64),
    ("Resp", 0.9, 16),
    ("EtCO2", 0.0, 33),
    ("BaseExcess", 0.1, 0),
    ("HCO3", 0.08, 24.2),
    ("FiO2", 0.14, 0.3),
    ("pH", 0.11, 7.4),
    ("PaCO2", 0.09, 40),
    ("SaO2", 0.05, 97),
    ("AST", 0.01, 30),
    ("BUN", 0.08, 15),
    ("Alkalinephos", 0.01, 70),
    ("Calcium", 0.05, 8.9),
    ("Chloride", 0.08, 104),
    ("Creatinine", 0.07, 0.9),
    ("Bilirubin_direct", 0.0, 0.2),
    ("Glucose", 0.12, 118),
    ("Lactate", 0.03, 1.2),
    ("Magnesium", 0.08, 2),
    ("Phosphate", 0.05, 3.4),
    ("Potassium", 0.11, 4.1),
    ("Bilirubin_total", 0.01, 0.6),
    ("TroponinI", 0.0, 0.1),
    ("Hct", 0.12, 34),
    ("Hgb", 0.09, 11.5),
    ("PTT", 0.05, 30),
    ("WBC", 0.07, 8.5),
    ("Fibrinogen", 0.01, 300),
    ("Platelets", 0.07, 210),
)
"""Of each variable, the share of hours in which it was charted, and a healthy value."""
SHARES: Final = np.array([share for _, share, _ in CHARTED])
VALUES: Final = np.array([value for *_, value in CHARTED])
PRESSURES: Final = (3, 5)
"""Systolic and diastolic come in one resource."""
START: Final = 1_767_254_400_000_000
HOURS: Final = 48
DISTINCT: Final = 50
EVENTS: Final = 24_000
ROUNDS: Final = 5
PARTS: Final = 24
"""A machine that is faster or slower for a second is so for all sizes."""
BATCH: Final = 500
COUNTED: Final = 1_000
"""Fewer patients are lost in what a process takes and gives back otherwise."""
KIB: Final = 1024
MEMORY_KB, RESTORED_PER_10_S, SLOWER = 4.0, 100_000, 0.2


def named(number: int) -> bytes:
    """Name a patient or an encounter."""
    return hashlib.sha256(number.to_bytes(8, "little", signed=True)).digest()[:16]


def charted(who: int, hour: int) -> Vitals:
    """Chart an hour of a patient: values with one decimal, at some time of that hour."""
    random = np.random.default_rng([who, hour])
    variables = np.flatnonzero(random.random(len(CHARTED)) < SHARES)
    many = len(variables)
    ids = random.integers(0, 1 << 63, many)
    ids[np.isin(variables, PRESSURES)] = ids[:1].sum() + 1
    at = START + hour * MICROSECONDS_PER_HOUR + int(random.integers(0, MICROSECONDS_PER_HOUR))
    return Vitals(
        kind=Kind.OBSERVATION,
        source="west",
        pseudonym=named(who),
        encounter=named(-1 - who),
        measured_at=at,
        received_at=at,
        accepted_at=at,
        ingest_id="0" * 32,
        raw_partition=0,
        raw_offset=hour,
        entries=packed(range(many), "<u2"),
        variables=variables.astype("u1").tobytes(),
        values=packed((VALUES[variables] * random.normal(1, 0.02, many)).round(1), "<f8"),
        flags=packed([0] * many, "<u2"),
        ids=packed(ids, "<u8"),
        versions=packed([1] * many, "<i8"),
        codes=["8867-4"] * many,
        units=["/min"] * many,
        devices=[""] * many,
        terminology="2026.1",
    )


def told(who: int) -> Iterator[Vitals]:
    """Tell of a patient who was admitted and stayed."""
    first = charted(who, 0)
    person = Demographics(age=20.0 + who, sex="female", race="white", language="en")
    yield Vitals(**_without_readings(first, Kind.PATIENT), demographics=person)
    stay = Stay(status="in-progress", unit="micu", admitted_at=first.measured_at)
    yield Vitals(**_without_readings(first, Kind.ENCOUNTER), stay=stay)
    yield from (charted(who, hour) for hour in range(HOURS))


def _without_readings(event: Vitals, kind: Kind) -> dict[str, Any]:
    names = ("source", "pseudonym", "encounter", "measured_at", "received_at", "accepted_at")
    more = {name: getattr(event, name) for name in (*names, "ingest_id", "raw_partition")}
    return more | {"kind": kind, "raw_offset": 0, "entries": b"\0\0"}


def rows() -> list[bytes]:
    """Give the rows of DISTINCT patients."""
    ward = Ward()
    for who in range(DISTINCT):
        for event in told(who):
            ward.apply(event)
    return [row for _, row in ward.whole([*ward.patients], 0)]


def counted_kb(some: Sequence[bytes], patients: int) -> float:
    """Count what a patient takes of blocks, of a slot, and of Python's objects."""
    ward = Ward()
    for who in range(patients):
        ward.load(named(who), some[who % DISTINCT])
    store = ward.slots.store
    blocks = (len(store.after) - int(store.free[MANY_FREE])) * (BLOCK_BYTES + 4)
    slot = sum(int(column[0].nbytes) for column in store[3:])
    seen = dict[int, Any]()
    found: list[Any] = [ward.patients]
    while found:
        each = found.pop()
        if id(each) not in seen and not isinstance(each, type | Slots):
            seen[id(each)] = each
            found += gc.get_referents(each)
    objects = sum(map(sys.getsizeof, seen.values()))
    return (blocks + patients * slot + objects) / patients / KIB


def going_on(codec: Codec, patients: int) -> Iterator[list[Record]]:
    """Chart patients on for ever, one after the other, each in its own next hour; in batches."""
    order = np.random.default_rng(1).permutation(patients).tolist()
    told: dict[tuple[int, int], bytes] = {}
    for first in count(0, BATCH):
        batch = []
        for number in range(first, first + BATCH):
            who, hour = order[number % patients], HOURS + number // patients
            like = who % DISTINCT
            if (like, hour) not in told:
                told[like, hour] = codec.encode(charted(like, hour))
            value = told[like, hour].replace(named(like), named(who), 1)
            batch.append(Record(VITALS, 0, number, 0, None, value))
        yield batch


class Changelog:
    """The latest row of each key, in a file: they are no memory of the task, as on a broker."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process lives
        self._places = dict[bytes, tuple[int, int]]()
        self._gone = set[bytes]()
        self._end = 0

    def take(self, rows: Iterable[Row]) -> None:
        """Write rows, each over the one before where it is no longer: the file stays small."""
        for key, row in rows:
            if row is None:
                self._gone.add(key)
                continue
            self._gone.discard(key)
            at, before = self._places.get(key, (self._end, 0))
            if len(row) > before:
                at, self._end = self._end, self._end + len(row)
            self._places[key] = at, len(row)
            self._file.seek(at)
            self._file.write(row)

    def rows(self) -> Iterator[Row]:
        """Give all rows, in the order in which their keys first came."""
        for key, (at, length) in self._places.items():
            self._file.seek(at)
            row = None if key in self._gone else self._file.read(length)
            # A copy: what a consumer reads is nobody else's.
            yield bytes(bytearray(key)), row


def measure(patients: int, some: Sequence[bytes], model: Path, told: Connection) -> None:
    """Restore so many patients, chart them on when asked to, and restore what that left.

    Each word that comes is the number of events to be charted, and is answered by the CPU that the
    task took, s; 0 ends it, and is answered by what was found.
    """
    codec = Codec(REPO / "schemas")
    warm(codec)
    metrics = Metrics(Build(service="scoring", version="0", revision="", python=""))
    made = engine(model, role=Role.SHOWN, topic_id="0" * 32)
    calm = msgspec.structs.replace(made.policy, threshold=1.0, units={}, severity=[])
    made = made._replace(policy=calm)
    scorer = Scorer(codec, Alone(made), counting(metrics, Role.SHOWN))
    batches = going_on(codec, patients)
    pay_what_every_process_pays(scorer, some, next(batches))
    changelog = Changelog()
    changelog.take((named(who), some[who % DISTINCT]) for who in range(patients))
    before_kb = resident_kb()
    task, restored_s = restored(scorer, changelog)
    kb = (resident_kb() - before_kb) / patients
    # Not before the journal's ring is full does a message cost what it costs from then on.
    chart_on(task, batches, max(MESSAGES, PER_PATIENT * patients) + BATCH, changelog)
    told.send(0.0)
    while events := told.recv():
        told.send(chart_on(task, batches, events, changelog))
    del task
    _, full_ring_s = restored(scorer, changelog)
    told.send(
        {
            "patients": patients,
            "resident_kb_per_patient": round(kb, 2) if patients >= COUNTED else None,
            "restored_per_10_s": round(10 * patients / restored_s),
            "restored_with_a_full_ring_in_s": round(full_ring_s, 2),
        }
    )


class Wards:
    """A process for each number of patients; their turns follow each other."""

    def __init__(self, sizes: Sequence[int], some: Sequence[bytes], model: Path) -> None:
        self.sizes = sizes
        spawn = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        for size in sizes:
            ours, theirs = spawn.Pipe()
            spawn.Process(target=measure, args=(size, some, model, theirs), daemon=True).start()
            theirs.close()
            say(f"restoring {size:,} patients, and charting them on until the ring is full")
            ours.recv()
            self._ends.append(ours)

    def round(self, events: int) -> list[float]:
        """Chart on, a part of each size after the other; gives µs of CPU an event of each size.

        Patients who are charted in turn are written whole in turn, so a round has a whole turn of
        all patients, and so many events at least.
        """
        parts = [
            -(-max(events, (PER_PATIENT + 1) * size) // (PARTS * BATCH)) * BATCH
            for size in self.sizes
        ]
        spent_s = [0.0] * len(parts)
        for _ in range(PARTS):
            for place, (end, many) in enumerate(zip(self._ends, parts, strict=True)):
                end.send(many)
                spent_s[place] += end.recv()
        found = [1e6 * s / (PARTS * many) for s, many in zip(spent_s, parts, strict=True)]
        say("a round, us of CPU an event: " + ", ".join(f"{us:.1f}" for us in found))
        return found

    def ended(self) -> list[dict[str, Any]]:
        """Give what else was found of each size."""
        found = []
        for end in self._ends:
            end.send(0)
            found.append(end.recv())
        return found


def restored(scorer: Scorer, changelog: Changelog) -> tuple[Scoring, float]:
    """Restore a task, and say what that took."""
    task, began = Scoring(0, scorer), time.process_time()
    for key, row in changelog.rows():
        task.load(key, row)
    list(task.changes())
    spent_s = time.process_time() - began
    gc.collect()
    return task, spent_s


def chart_on(
    task: Scoring,
    batches: Iterator[list[Record]],
    events: int,
    changelog: Changelog,
) -> float:
    """Let a task handle so many events, keep what it writes, and say what the task took."""
    spent_s = 0.0
    for records in islice(batches, -(-events // BATCH)):
        began = time.process_time()
        list(task.handle(records))
        written = list(task.changes())
        spent_s += time.process_time() - began
        changelog.take(written)
    return spent_s


def resident_kb() -> float:
    """Say how much memory this process has."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return float(found[1])


def pay_what_every_process_pays(
    scorer: Scorer, some: Sequence[bytes], records: Sequence[Record]
) -> None:
    """Let buffers grow that one task of any size needs."""
    task = Scoring(0, scorer)
    for who, row in enumerate(some):
        task.load(named(who), row)
    list(task.handle(records))
    list(task.changes())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 10_000, 100_000])
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--model", type=Path, default=REPO / "models" / "sepsis" / "1.0.0")
    given = parser.parse_args()
    some = rows()
    wards = Wards(given.sizes, some, given.model)
    rounds = [wards.round(given.events) for _ in range(given.rounds)]
    found = wards.ended()
    for each, costs in zip(found, zip(*rounds, strict=True), strict=True):
        each["events_per_cpu_s"] = round(1e6 / float(np.median(costs)))
    falls = [1 - first / last for first, *_, last in rounds]
    slower = float(np.median(falls))
    readings = sum(len(charted(0, hour).variables) for hour in range(HOURS - 24, HOURS))
    figures = {
        "changelog_bytes": float(np.median([len(row) for row in some])),
        "counted_kb_per_patient": round(counted_kb(some, COUNTED), 2),
        "state": found,
    }
    memory = max(each["resident_kb_per_patient"] or 0 for each in found)
    restored = min(each["restored_per_10_s"] for each in found[1:] or found)
    bars = {
        "resident_kb_per_patient": {"bar": MEMORY_KB, "reached": memory <= MEMORY_KB},
        "restored_per_10_s": {
            "bar": RESTORED_PER_10_S,
            "reached": restored >= RESTORED_PER_10_S,
        },
        "slower_at_the_largest": {"bar": SLOWER, "reached": slower <= SLOWER},
    }
    did = f"hourly charting, {readings} readings in 24 h, {given.events} events or a turn"
    ratios = {
        "slower_at_the_largest": round(slower, 3),
        "slower_in_each_round": [round(fall, 3) for fall in falls],
    }
    print(line("state", figures, ratios, bars=bars, did=did, repetitions=given.rounds))


if __name__ == "__main__":
    main()
