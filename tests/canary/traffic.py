"""Traffic in which whatever can hold a text holds a canary: good, bad, and by every door."""

import json
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
from bad_inputs import REFUSED
from builders import Resource, blood_pressure, bundle, encounter, observation, patient, quantity
from canary.messages import ANSWER, MESSAGE, OUTCOME, PLACES, poisoned
from canary.needles import REAL

NOW = datetime(2026, 1, 5, 8, 0, 30, tzinfo=UTC)
FHIR = "application/fhir+json"
SIGNS = (
    *(("8867-4", 140, "/min"), ("9279-1", 38, "/min"), ("8310-5", 40.1, "Cel")),
    *(("2708-6", 84, "%"),),
)


class Canaries:
    """Gives canaries, each once, in the forms that fields ask for."""

    def __init__(self) -> None:
        self.given = 0

    def text(self) -> str:
        return f"{REAL.letters} {REAL.letters.upper()} ü {self._number()}"

    def identifier(self) -> str:
        """As FHIR wants an id."""
        return f"{REAL.letters}-{self._number()}"

    def digits(self) -> str:
        return f"{REAL.digits}{self._number()}"

    def word(self) -> str:
        """In small letters, as a source, a language or a code may be."""
        return f"{REAL.letters.lower()}{self._number()}"

    def any(self) -> Iterator[str]:
        yield from (self.text(), self.identifier(), self.digits(), self.word())

    def _number(self) -> int:
        self.given += 1
        return self.given


class Sending(NamedTuple):
    """One request."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    method: str = "POST"


def person(canaries: Canaries) -> Resource:
    """A patient whose every word is a canary, and who is read all the same."""
    name = canaries.identifier()
    born = {"birthDate": REAL.day}
    return patient(
        id=name,
        name=[{"family": canaries.text(), "given": [canaries.text()]}],
        identifier=[{"system": canaries.text(), "value": canaries.digits()}],
        telecom=[{"value": canaries.digits()}],
        address=[{"line": [canaries.text()], "postalCode": canaries.digits()}],
        extension=[{"url": canaries.text(), "valueString": canaries.text()}],
        **born,
    )


def course(canaries: Canaries) -> Iterator[Sending]:
    """A patient who gets worse, hour by hour, so that scores and alerts come of it."""
    who, stay = person(canaries), canaries.identifier()
    about = {"subject": {"reference": f"Patient/{who['id']}", "display": canaries.text()}}
    of_stay = {**about, "encounter": {"reference": f"Encounter/{stay}"}}
    place = [{"location": {"reference": "Location/x", "display": canaries.identifier()}}]
    arrived = encounter(id=stay, location=place, **about)
    for hour in range(10):
        at = NOW + timedelta(hours=hour)
        when = {**of_stay, "effectiveDateTime": at.isoformat()}
        seen = [
            observation(
                code,
                id=canaries.identifier(),
                valueQuantity=quantity(value, unit),
                device={"reference": f"Device/{canaries.identifier()}"},
                note=[{"text": canaries.text()}],
                **when,
            )
            for code, value, unit in SIGNS
        ]
        seen.append(blood_pressure(72, 38, id=canaries.identifier(), **when))
        content = bundle(*([who, arrived] if hour == 0 else []), *seen)
        yield fhir(content, at)


def fhir(content: Resource | bytes, at: datetime = NOW, path: str = "/fhir") -> Sending:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Sending(path, body, {"Content-Type": FHIR, "Vigil-Time": at.isoformat()})


def everywhere(canaries: Canaries) -> Iterator[Sending]:
    """Two messages per text of a message, with a canary in its place, of each form in turn."""
    for number, place in enumerate(PLACES):
        forms = list(canaries.any())
        for canary in (forms[0], forms[1 + number % 3]):
            yield fhir(poisoned([place], canary))


def bad(canaries: Canaries) -> Iterator[Sending]:
    """What is refused for each reason, about canaries."""
    for case in REFUSED:
        raw = case.content if isinstance(case.content, bytes) else dumped(case.content)
        for old in (b'"o-1"', b'"vital-signs"'):
            yield fhir(raw.replace(old, json.dumps(canaries.identifier()).encode(), 1))
        yield fhir(raw.replace(b"p-1", canaries.identifier().encode()))
    text = canaries.text()
    yield fhir(f'{{"resourceType": "Patient", "{text}": '.encode())
    yield fhir(text.encode("utf-16"))
    yield fhir(json.dumps([text]).encode())
    yield fhir(dumped({**MESSAGE, text: text}) + text.encode())


def dumped(content: Any) -> bytes:
    return json.dumps(content).encode()


def doors(canaries: Canaries) -> Iterator[Sending]:
    """Canaries in addresses, queries and headers."""
    body = dumped(poisoned([], ""))
    for canary in (canaries.identifier(), canaries.word(), canaries.digits()):
        for path in (
            f"/fhir?patient={canary}",
            f"/fhir/Patient/{canary}",
            f"/fhir/{canary}/",
            f"/fhir/?{canary}={canary}",
            f"/{canary}?name={canary}",
            f"/metrics?{canary}",
            f"/ticks/?{canary}",
        ):
            for method in ("POST", "PUT", "GET", "DELETE"):
                yield Sending(path, body, {"Content-Type": FHIR}, method)
        for name in (
            *("Vigil-Source", "Vigil-Time", "Authorization", "User-Agent", "Cookie", "Referer"),
            *("traceparent", "tracestate", "X-Request-Id", "Content-Encoding", "If-None-Exist"),
        ):
            yield Sending("/fhir", body, {"Content-Type": FHIR, name: canary})
        yield Sending("/fhir", body, {"Content-Type": f"{FHIR}; charset={canary}"})
        yield Sending("/fhir", body, {"Content-Type": f"{FHIR}; name={canary}"})
        yield Sending("/fhir", body, {"Content-Type": FHIR, "Authorization": f"Bearer {canary}"})
        yield Sending("/ticks", dumped({"time": canary}), {"Content-Type": "application/json"})


def answers(canaries: Canaries) -> Iterator[Sending]:
    """Canaries in answers to alerts and in outcomes."""
    headers = {"Content-Type": "application/json", "Vigil-Time": NOW.isoformat()}
    for path, form in (("/feedback", ANSWER), ("/outcomes", OUTCOME)):
        for name in (*form, "comment"):
            for canary in canaries.any():
                yield Sending(path, dumped({**form, name: canary}), headers)
        yield Sending(path, dumped({**form, canaries.text(): canaries.text()}), headers)


def tick(hour: int) -> Sending:
    """Let event time go on, so that windows close."""
    at = NOW + timedelta(hours=hour)
    return Sending(
        "/ticks", dumped({"time": at.isoformat()}), {"Content-Type": "application/json"}
    )


def segments(canaries: Canaries, token: str) -> Iterator[bytes]:
    """Messages of HL7 v2 with a canary in one field each; some are read and some refused."""
    message = [
        f"MSH|^~\\&|LAB|WEST|VIGIL|HOSP|20260105090000+0000|{token}|ORU^R01^ORU_R01|1|P|2.5.1",
        "PID|1||4711^^^WEST^MR||Doe^Jane||19600229|F|||1 Way^^Town||555-1234",
        "PV1|1|I|MICU^2^1||||1^Doc||||||||||||V100",
        "OBR|1|P1|F1|24323-8^CMP^LN|||20260105085500",
        "OBX|1|NM|8867-4^Heart rate^LN||80|/min^^UCUM|||||F|||20260105085500",
        "NTE|1||note",
    ]
    for row, line in enumerate(message):
        fields = line.split("|")
        for place in range(2 if row == 0 else 1, len(fields)):
            poisonous = canaries.text() if place % 2 else canaries.identifier()
            changed = "|".join([*fields[:place], poisonous, *fields[place + 1 :]])
            yield "\r".join([*message[:row], changed, *message[row + 1 :]]).encode()
    yield canaries.text().encode()


class Sender:
    """Sends, and keeps whatever is said in answer but to what was taken."""

    def __init__(self, gateway: str, token: str, mllp_port: int) -> None:
        self._client = httpx.Client(base_url=gateway, timeout=30)
        self._token, self._mllp_port = token, mllp_port
        self.taken, self.errors = 0, list[bytes]()

    def close(self) -> None:
        self._client.close()

    def send(self, sending: Sending) -> None:
        headers = {"Authorization": f"Bearer {self._token}", **sending.headers}
        told = self._client.request(
            sending.method, sending.path, content=sending.body, headers=headers
        )
        if told.is_success:
            self.taken += 1
        else:
            self.errors.append(dumped(dict(told.headers)) + told.content)

    def send_hl7(self, message: bytes) -> None:
        """By MLLP, one connection each: what breaks one frame ends its connection."""
        with socket.create_connection(("127.0.0.1", self._mllp_port), timeout=30) as door:
            door.sendall(b"\x0b" + message + b"\x1c\r")
            said = b""
            while not said.endswith(b"\x1c\r") and (part := door.recv(4096)):
                said += part
        self.taken += b"MSA|AA" in said
        # MSH and MSA repeat the message's own name to its sender, as HL7 wants it.
        self.errors += [
            line for line in said.split(b"\r") if line[:4] not in (b"\x0bMSH", b"MSA|")
        ]
