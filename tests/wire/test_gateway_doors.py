"""HL7 v2 over MLLP and TLS at both doors, with the gateway as its own process and real Kafka."""

import base64
import contextlib
import datetime as dt
import hashlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from gateways import DEADLINE_S, Gateway, get, log_of, post, prepare
from lives import until

from services.gateway.noticing import NOTICES
from services.gateway.reception.records import TOPIC
from services.local.ports import free_port
from services.runtime.ports import Record

pytestmark = pytest.mark.wire
OBSERVATION = {"resourceType": "Observation", "subject": {"reference": "Patient/made-up-1"}}
SECRET = "Mxyzptlk"  # noqa: S105 - a name that must never be repeated
MESSAGE = "\r".join(
    (
        "MSH|^~\\&|LAB|West Wing|VIGIL|HOSP|20260101090000+0000||ORU^R01|{name}|P|2.5.1",
        f"PID|1||{SECRET}^^^WEST^MR",
        "OBR|1|P1|F1|24323-8^CMP^LN|||20260101085500+0000",
        "OBX|1|NM|8867-4^Heart rate^LN||80|/min^^UCUM|||||F",
    )
)


class Sender:
    """One connection that sends frames and reads answers."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        wire.settimeout(DEADLINE_S)

    def send(self, data: bytes) -> None:
        self._wire.sendall(data)

    def say(self, name: str) -> list[str]:
        self.send(b"\x0b" + MESSAGE.format(name=name).encode() + b"\x1c\r")
        return self.hear()

    def hear(self) -> list[str]:
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            more = self._wire.recv(4096)
            assert more, "the door closed without an answer"
            answer += more
        return answer[1:-2].decode().split("\r")

    def ended(self) -> bool:
        with contextlib.suppress(ConnectionError):
            return self._wire.recv(1) == b""
        return True


@contextlib.contextmanager
def connected(port: int, tls: ssl.SSLContext | None = None) -> Iterator[Sender]:
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as wire:
        if tls is None:
            yield Sender(wire)
            return
        with tls.wrap_socket(wire, server_hostname="localhost") as sealed:
            yield Sender(sealed)


class Opened(NamedTuple):
    gateway: Gateway
    port: int


@pytest.fixture(scope="module")
def opened(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    prepare(kafka, [TOPIC, NOTICES])
    port = free_port()
    folder = tmp_path_factory.mktemp("mllp")
    with Gateway(kafka, folder, VIGIL_MLLP_PORT=str(port)) as gateway:
        gateway.await_ready()
        yield Opened(gateway, port)
        assert SECRET not in gateway.said.read_text()


def sent_by(kafka: str, source: str) -> list[Record]:
    return [r for r in log_of(kafka) if dict(r.headers)["source"] == source.encode()]


def test_messages_of_one_connection_are_answered_in_order_and_are_all_there(
    kafka: str, opened: Opened
) -> None:
    names = [f"M{n}" for n in range(20)]
    with connected(opened.port) as sender:
        sender.send(b"".join(b"\x0b" + MESSAGE.format(name=n).encode() + b"\x1c\r" for n in names))
        answers = b""
        while answers.count(b"\x1c\r") < len(names):
            answers += sender._wire.recv(65_536)
    told = [part.split("\r")[1] for part in answers.decode().split("\x0b")[1:]]
    assert told == [f"MSA|AA|{name}" for name in names]
    assert SECRET.encode() not in answers
    held = sent_by(kafka, "west-wing")
    assert len(held) == len(names)
    (entry,) = json.loads(held[0].value or b"")["entry"]
    assert entry["resource"]["valueQuantity"]["value"] == 80
    assert len({record.partition for record in held}) == 1


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x0bMSH" + b"x" * (1 << 20) + b"\x1c\r", b"\r\n" * 20]
)
def test_what_is_no_frame_or_too_long_ends_the_connection_and_no_other(
    opened: Opened, noise: bytes
) -> None:
    with connected(opened.port) as other, connected(opened.port) as sender:
        with contextlib.suppress(ConnectionError):
            sender.send(noise)
            if noise[:1] == b"\x0b":
                assert sender.hear()[1].startswith("MSA|AR|")
        assert sender.ended()
        assert other.say("after")[1] == "MSA|AA|after"


def test_a_message_that_is_refused_is_followed_by_one_that_is_taken(opened: Opened) -> None:
    with connected(opened.port) as sender:
        sender.send(b"\x0bMSH|^~\\&|LAB|W|||20260101||ADT^A40|m1|P|2.5\rPID|1||1\x1c\r")
        told = sender.hear()
        assert told[1] == "MSA|AR|m1"
        assert "PATIENT_MERGE" in told[2]
        assert sender.say("next")[1] == "MSA|AA|next"


def test_a_gateway_without_kafka_answers_ae(tmp_path: Path) -> None:
    port = free_port()
    with Gateway("127.0.0.1:9", tmp_path, VIGIL_MLLP_PORT=str(port)) as gateway:
        until(lambda: b"mllp_port" in gateway.said.read_bytes(), "the door opens")
        with connected(port) as sender:
            told = sender.say("early")
    assert told[1] == "MSA|AE|early"
    assert "SEND_AGAIN" in told[2]


class Issued(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key


def issued(name: str, by: Issued | None = None) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(by.key if by else key, hashes.SHA256())
    )
    return Issued(made, key)


def test_a_certificate_opens_both_doors_and_nothing_opens_neither(
    kafka: str, tmp_path: Path
) -> None:
    prepare(kafka)
    authority = issued("authority")
    ours, theirs = issued("localhost", authority), issued("east", authority)
    trusted, _ = authority.write(tmp_path, "authority")
    certificate, key = ours.write(tmp_path, "gateway")
    digest = hashlib.sha256(
        theirs.certificate.public_bytes(serialization.Encoding.DER)
    ).hexdigest()
    sources, port = tmp_path / "sources.toml", free_port()
    sources.write_text(f'[[source]]\nid = "east"\ncertificate_sha256 = "{digest}"\n')
    anybody = ssl.create_default_context(cafile=str(trusted))
    east = ssl.create_default_context(cafile=str(trusted))
    east.load_cert_chain(*theirs.write(tmp_path, "east"))
    settings = {
        "VIGIL_SOURCES_FILE": str(sources),
        "VIGIL_MLLP_PORT": str(port),
        "VIGIL_TLS_CERTIFICATE_FILE": str(certificate),
        "VIGIL_TLS_KEY_FILE": str(key),
        "VIGIL_TLS_CLIENT_CA_FILE": str(trusted),
    }
    with Gateway(kafka, tmp_path, **settings) as gateway:
        url = gateway.url.replace("http://127.0.0.1", "https://localhost")
        with httpx.Client(verify=anybody, timeout=DEADLINE_S) as stranger:
            until(lambda: ready(stranger, url), "the gateway becomes ready")
            assert stranger.post(f"{url}/fhir", json=OBSERVATION).status_code == 401
            with connected(port, anybody) as sender:
                assert sender.say("x")[1] == "MSA|AR|x"
            with httpx.Client(verify=east, timeout=DEADLINE_S) as known:
                assert known.post(f"{url}/fhir", json=OBSERVATION).status_code == 202
            with connected(port, east) as sender:
                assert sender.say("y")[1] == "MSA|AA|y"
            events = stranger.get(f"{url}/metrics").text
    assert 'security_events_total{reason="CREDENTIAL_MISSING",service="gateway"} 2.0' in events
    assert len(sent_by(kafka, "east")) == 2


def ready(client: httpx.Client, url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get(f"{url}/readyz").status_code == 200
    return False


def token_of(signer: Ed25519PrivateKey) -> str:
    """Sign a token that counts once and ends in a minute."""
    now_s = int(time.time())
    said = {"jti": SECRET, "iat": now_s, "exp": now_s + 60}
    parts = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "EdDSA", "kid": "north"}, said)
    )
    signature = base64.urlsafe_b64encode(signer.sign(parts.encode())).rstrip(b"=").decode()
    return f"{parts}.{signature}"


def test_a_one_time_token_that_opened_a_door_opens_none_after_the_gateway_was_killed(
    kafka: str, tmp_path: Path
) -> None:
    prepare(kafka)
    signer, port = Ed25519PrivateKey.generate(), free_port()
    public = signer.public_key().public_bytes_raw().hex()
    (tmp_path / "sources.toml").write_text(f'[[source]]\nid = "north"\npublic_key = "{public}"\n')
    (payload := tmp_path / "payload.key").write_text("7c" * 32)
    payload.chmod(0o600)
    settings = {
        "VIGIL_SOURCES_FILE": str(tmp_path / "sources.toml"),
        "VIGIL_MLLP_PORT": str(port),
        "VIGIL_OUTBOX_FOLDER": str(tmp_path / "outbox"),
        "VIGIL_PAYLOAD_KEY_FILE": str(payload),
    }
    token = token_of(signer)
    headers = {"Authorization": f"Bearer {token}"}
    with Gateway(kafka, tmp_path, **settings) as gateway:
        gateway.await_ready()
        assert post(f"{gateway.url}/fhir", json=OBSERVATION, headers=headers).is_success
        gateway.kill()
        gateway.start()
        gateway.await_ready()
        again = post(f"{gateway.url}/fhir", json=OBSERVATION, headers=headers)
        assert again.status_code == 401
        with connected(port) as sender:
            replayed = MESSAGE.format(name="x").replace("+0000||ORU", f"+0000|{token}|ORU")
            sender.send(b"\x0b" + replayed.encode() + b"\x1c\r")
            assert sender.hear()[1] == "MSA|AR|x"
        events = get(f"{gateway.url}/metrics").text
        assert SECRET not in gateway.said.read_text()
        # The life that was killed may have left it on the disk.
        until(lambda: bool(sent_by(kafka, "north")), "the record does not come")
    assert 'security_events_total{reason="CREDENTIAL_REPLAYED",service="gateway"} 2.0' in events
    assert len(sent_by(kafka, "north")) == 1
