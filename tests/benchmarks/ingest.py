"""`make bench NAME=ingest`: FHIR Observations to events: single, in Bundles, by fhir.resources.

In one run: what a process takes in transactions on a real broker, what the work costs in memory at
the batch sizes of a live feed, and what the same work costs where fhir.resources parses and
validates. Costs are CPU time of this process.
"""

import argparse
import gc
import json
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import builders
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.observation import Observation
from msgspec.structs import replace
from report import line, spread
from scoring import SIZE, WARM_ROUNDS, Counting

from services.core.events import Fate, Kind, Receipt, Vitals
from services.ingest.__main__ import counting
from services.ingest.glance import Glance
from services.ingest.normalise.assemble import Assembler
from services.ingest.normalise.findings import Finding, Measured, Message
from services.ingest.normalise.message import Reader
from services.ingest.normalise.quantities import reading
from services.ingest.normalise.resources import Quantity
from services.ingest.pipeline import OnReceipts
from services.ingest.wire import Wire
from services.local.home import here
from services.local.kafka import Broker
from services.local.ports import free_port
from services.runtime.kafka.admin import create_topic
from services.runtime.kafka.publisher import Publisher
from services.runtime.ports import Output, Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.runtime.topics.files import read_topics
from services.runtime.worker import Plan, Worker
from services.simulator import fhir

PARTITIONS = 4
IN_A_BUNDLE = 100
PATIENTS = 400
OFTENER = 10
NAMES = ("HR", "O2Sat", "Resp", "Temp", "MAP", "Lactate", "Creatinine", "WBC")
VALUES = {"HR": 81.0, "O2Sat": 97.0, "Resp": 16.0, "Temp": 37.1, "MAP": 80.0}
EXAMPLES = builders.REPO.parent / "shared" / "data" / "fhir"


class Transacted(NamedTuple):
    """Observations a second, CPU of each, and which share of them became vitals."""

    per_s: float
    cpu_us: float
    share: float


def observation(number: int, patient: int) -> fhir.Resource:
    """One value of one patient, as a bedside gateway sends it (600 bytes)."""
    name = NAMES[number % len(NAMES)]
    charted = fhir.Charted(
        patient=f"p-{patient % PATIENTS:06d}",
        encounter=f"e-{patient % PATIENTS:06d}",
        effective=f"2026-01-05T07:{number // PATIENTS % 60:02d}:00+00:00",
        device=f"monitor-{number % 60}",
    )
    return fhir.observation(charted, f"o-{number:08d}", name=name, value=VALUES.get(name, 2.0))


def singles(count: int) -> list[bytes]:
    return [json.dumps(observation(n, n)).encode() for n in range(count)]


def bundles(count: int) -> list[bytes]:
    """As many Observations in Bundles: a round through a ward, eight values of each patient."""
    starts = range(0, count, IN_A_BUNDLE)
    found = [
        fhir.bundle(observation(n, n // len(NAMES)) for n in range(at, at + IN_A_BUNDLE))
        for at in starts
    ]
    return [json.dumps(bundle).encode() for bundle in found]


def examples() -> list[bytes]:
    """The example Observations of HL7, Synthea and US Core that are read."""
    found = []
    for path in sorted(EXAMPLES.glob("*/*.json")):
        content = json.loads(path.read_bytes())
        entries = content.get("entry", []) if content["resourceType"] == "Bundle" else None
        for resource in [content] if entries is None else [e.get("resource") for e in entries]:
            body = json.dumps(resource).encode()
            if (resource or {}).get("resourceType") == "Observation" and _is_read(body):
                found.append(body)
    return found


def _is_read(body: bytes) -> bool:
    (entry,) = Reader(received(body), builders.terminology()).entries()
    return isinstance(entry.finding, Measured) and entry.finding.kind is Kind.OBSERVATION


def received(body: bytes, number: int = 0) -> Message:
    """A message as it comes out of the log: no two have the same name, place and time."""
    given = builders.message(body, received="2030-01-01T00:00:00Z")
    at = given.received_at + 777 * number
    return replace(
        given, received_at=at, accepted_at=at, ingest_id=f"{number:032x}", offset=100_000 + number
    )


def records(bodies: Sequence[bytes]) -> list[Record]:
    return [builders.record(body, offset=offset) for offset, body in enumerate(bodies)]


class Written:
    """Events of messages, as vitals.v1 takes them, by ours and by fhir.resources."""

    def __init__(self) -> None:
        self._wire, self._terminology = Wire(builders.codec()), builders.terminology()
        self._glance = Glance(self._terminology, builders.PSEUDONYM_KEY, self._wire)

    def ours(self, messages: Sequence[Message]) -> list[bytes]:
        """From the body to the events, as the service does it."""
        written: list[bytes] = []
        for message in messages:
            for event in self._glance.read(message).events:
                one = self._wire.vitals(event) if isinstance(event, Vitals) else event[1]
                written.append(one)
        return written

    def theirs(self, messages: Sequence[Message]) -> list[bytes]:
        """The same where fhir.resources parses and validates: as little beside it as can be."""
        written = []
        for message in messages:
            written += self._events(message, list(enumerate(_found(message.body))))
        return written

    def _events(self, message: Message, found: Sequence[tuple[int, Finding]]) -> list[bytes]:
        assembler = Assembler(message, builders.PSEUDONYM_KEY, self._terminology.version)
        return [self._wire.vitals(event) for event in assembler.events(found)]


def _found(body: bytes) -> list[Finding]:
    if body.startswith(b'{"resourceType": "Bundle"'):
        entries = Bundle.model_validate_json(body).entry or []
        return [_measured(entry.resource) for entry in entries]
    return [_measured(Observation.model_validate_json(body))]


def _measured(model: Any) -> Measured:
    terminology = builders.terminology()
    filed = [c.code for category in model.category or [] for c in category.coding or []]
    readings = []
    for part in (model, *(model.component or [])):
        named = [terminology.loinc_of(c.system, c.code) for c in part.code.coding or []]
        concept = terminology.concept([name for name in named if name], filed)
        given = part.valueQuantity
        if given is not None and concept.variable >= 0:
            quantity = Quantity(value=float(given.value), system=given.system, code=given.code)
            readings.append(reading(quantity, concept, terminology))
    at = model.effectiveDateTime or model.effectivePeriod.end
    return Measured(
        kind=Kind.OBSERVATION,
        patient=model.subject.reference.rpartition("/")[2],
        encounter=model.encounter.reference.rpartition("/")[2] if model.encounter else "",
        measured_at=round(at.timestamp() * 1e6),
        identifier=model.id,
        without_id=False,
        version=int(model.meta.versionId or 0) if model.meta else 0,
        device=model.device.reference if model.device else "",
        readings=readings,
    )


def cost(work: Callable[[Sequence[Any]], object], given: Sequence[Any], per: int) -> float:
    """CPU microseconds of each of `per` Observations."""
    began = time.process_time()
    work(given)
    return (time.process_time() - began) / per * 1e6


def counted() -> OnReceipts:
    """What hears of every message in the service: its metrics."""
    return counting(Metrics(Build(service="ingest", version="0", revision="", python="")))


def handling(size: int) -> Callable[[Sequence[Record]], object]:
    """The whole handler, outputs encoded, in batches of a size."""
    task = builders.ingest(counted())

    def work(given: Sequence[Record]) -> None:
        for start in range(0, len(given), size):
            list(task.handle(given[start : start + size]))

    return work


class Share:
    """Which share of the entries became vitals."""

    def __init__(self) -> None:
        self._hear, self._fates = counted(), Counter[Fate]()

    def __call__(self, receipts: Sequence[Receipt]) -> None:
        self._hear(receipts)
        self._fates.update([entry.fate for receipt in receipts for entry in receipt.entries])

    def told(self) -> float:
        return self._fates[Fate.VITALS] / self._fates.total()


def transacted(bootstrap: str, name: str, topic: str, records: int, per: int) -> Transacted:
    """What a group of its own takes from a log that waits, the whole loop around it."""
    stopping, share = threading.Event(), Share()
    meter = Counting(records, stopping)
    plan = Plan(service=name, instance=0, inputs=(topic,))
    options = {"bootstrap.servers": bootstrap}
    Worker(plan, options, lambda _: builders.ingest(share), meter, time.monotonic).run(stopping)
    cpu_us = (meter.cpu_ended - meter.cpu_began) / per * 1e6
    return Transacted(per / (meter.ended - meter.began), cpu_us, share.told())


def round_of(count: int) -> dict[str, Transacted]:
    """Both shapes once, on a broker of their own that has warmed up."""
    shapes = {"single": singles(count), "bundle": bundles(count)}
    found: dict[str, Transacted] = {}
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        broker = Broker(Path(folder), free_port(), cache=here().cache).start()
        try:
            options = {"bootstrap.servers": broker.bootstrap}
            for topic in read_topics(builders.SCHEMAS):
                create_topic(options, topic.topic, partitions=PARTITIONS, config=topic.settings())
            for shape, bodies in shapes.items():
                create_topic(options, shape, partitions=PARTITIONS, config=SIZE)
                _send(broker.bootstrap, shape, records(bodies))
            # A young broker compiles itself for as long as a run takes, on the same cores.
            for name in (*(f"warming-{turn}" for turn in range(WARM_ROUNDS)), ""):
                for shape, bodies in shapes.items():
                    group = f"{name or 'ingest'}-{shape}"
                    found[shape] = transacted(broker.bootstrap, group, shape, len(bodies), count)
        finally:
            broker.stop()
    return found


def _send(bootstrap: str, topic: str, given: Sequence[Record]) -> None:
    publisher, confirmed = Publisher({"bootstrap.servers": bootstrap}), list[bool]()
    for number, record in enumerate(given):
        key = str(number % PATIENTS).encode()
        publisher.send(Output(topic, key, record.value, headers=record.headers), confirmed.append)
    publisher.flush(60)
    assert confirmed == [True] * len(given)


def beside(bodies: Sequence[bytes], per: int, repetitions: int) -> tuple[list[float], list[float]]:
    """Costs of ours and of theirs on the same messages, in turns."""
    messages = [received(body, number) for number, body in enumerate(bodies)]
    written = Written()
    assert written.ours(messages) == written.theirs(messages), "this is not the same work"
    # Ours so often that both run about as long: what is too short is measured by chance.
    costs = [
        (
            cost(written.ours, messages * OFTENER, per * OFTENER),
            cost(written.theirs, messages, per),
        )
        for _ in range(repetitions)
    ]
    return [mine for mine, _ in costs], [other for _, other in costs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=60_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--no-broker", action="store_true", help="only what runs in memory")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of pydantic, about fields of fhir.resources
    gc.freeze()  # as the service does
    figures, ratios = in_memory(given.repetitions)
    if not given.no_broker:
        figures |= on_a_broker(given.observations, given.repetitions)
    did = f"{given.observations} Observations of {PATIENTS} patients, {PARTITIONS} partitions"
    print(line("ingest", figures, ratios, did=did, repetitions=given.repetitions))


def in_memory(repetitions: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What normalizing costs beside fhir.resources, and handling at the batch sizes of a feed."""
    figures: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    shapes = {"single": (singles(2_000), 2_000), "bundle": (bundles(2_000), 2_000)}
    if EXAMPLES.exists():
        found = examples()
        shapes["examples"] = (found * 10, len(found) * 10)
    for name, (bodies, per) in shapes.items():
        mine, other = beside(bodies, per, repetitions)
        figures[f"normalize_{name}_cpu_us"] = spread(mine)
        figures[f"normalize_{name}_per_s"] = spread([1e6 / each for each in mine])
        figures[f"fhir_resources_{name}_cpu_us"] = spread(other)
        ratios[f"fhir_resources_{name}"] = spread(
            [b / a for a, b in zip(mine, other, strict=True)]
        )
        figures[f"{name}_bytes"] = round(sum(map(len, bodies)) / per)
        sys.stderr.write(f"{name}: {figures[f'normalize_{name}_cpu_us']}, {ratios}\n")
    raw = records(shapes["single"][0])
    for size in (1, 5, 20, 100, 500):
        times = [cost(handling(size), raw, len(raw)) for _ in range(repetitions)]
        figures[f"handle_in_batches_of_{size}_cpu_us"] = spread(times)
    return figures, ratios


def on_a_broker(count: int, repetitions: int) -> dict[str, Any]:
    """What one process takes in transactions."""
    rounds = [round_of(count) for _ in range(repetitions)]
    (share,) = {round(each.share, 6) for found in rounds for each in found.values()}
    sys.stderr.write(f"in each of {2 * len(rounds)} runs {share:.0%} became vitals\n")
    figures: dict[str, Any] = {"transacted_became_vitals": share}
    for name in rounds[0]:
        figures[f"transacted_{name}_per_s"] = spread([found[name].per_s for found in rounds])
        figures[f"transacted_{name}_cpu_us"] = spread([found[name].cpu_us for found in rounds])
        sys.stderr.write(f"in transactions, {name}: {figures[f'transacted_{name}_per_s']}\n")
    return figures


if __name__ == "__main__":
    main()
