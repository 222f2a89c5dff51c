"""Senders of a benchmark: many connections in one event loop, each with one message at a time."""

import asyncio
import gc
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import numpy as np
from typing_extensions import override

from services.simulator.fhir import Charted, bundle, observation

ENTRIES = 100
Ended = Callable[[bytes], bool]
Account = Callable[[], dict[str, float]]
"""Gives processor seconds used so far, by name."""


class Conversation(asyncio.Protocol):
    """One connection: a message at a time, each after the answer to the last."""

    def __init__(self, message: bytes, ended: Ended, accepted: bytes, period_s: float) -> None:
        """Begin.

        Args:
            message: as it is sent each time.
            ended: whether an answer is whole.
            accepted: what an answer holds that says yes.
            period_s: between two messages; 0 for the next at once.
        """
        self.latencies_s, self.late_s, self.refused = array("d"), array("d"), 0
        self._message, self._ended, self._accepted = message, ended, accepted
        self._period_s, self._answer, self._due_s = period_s, b"", 0.0
        self.since_sent_s, self._sent_s = array("d"), 0.0
        self._loop = asyncio.get_running_loop()
        self._wire: Any = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = transport
        # Connections begin spread over the period.
        self._due_s = self._loop.time() + self._period_s * np.random.default_rng().random()
        self._loop.call_at(self._due_s, self._send)

    def _send(self) -> None:
        if not self._wire.is_closing():
            self._sent_s = self._loop.time()
            self.late_s.append(self._sent_s - self._due_s)
            self._wire.write(self._message)

    @override
    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._ended(self._answer):
            return
        now_s = self._loop.time()
        self.latencies_s.append(now_s - self._due_s)
        self.since_sent_s.append(now_s - self._sent_s)
        self.refused += self._accepted not in self._answer
        self._answer = b""
        self._due_s = self._due_s + self._period_s if self._period_s else now_s
        self._loop.call_at(max(self._due_s, now_s), self._send)

    def close(self) -> None:
        self._wire.close()


class Kind(msgspec.Struct, frozen=True):
    """A kind of message: what is sent, where, and how its answer ends and says yes."""

    message: bytes
    port: int
    ended: Ended
    accepted: bytes


def http(body: bytes, port: int) -> Kind:
    head = (
        "POST /fhir HTTP/1.1\r\nHost: vigil\r\nContent-Type: application/fhir+json\r\n"
        f"Vigil-Source: bench\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Kind(head.encode() + body, port, lambda told: told.endswith(b"}"), b" 202 ")


def mllp(port: int) -> Kind:
    segments = (
        "MSH|^~\\&|LAB|BENCH|VIGIL|HOSP|20260101090000+0000||ORU^R01^ORU_R01|1|P|2.5.1",
        "PID|1||made-up-1^^^WEST^MR",
        "PV1|1|I|MICU^2^1||||||||||||||||V100",
        "OBR|1|P1|F1|24323-8^CMP^LN|||20260101085500+0000",
        "OBX|1|NM|8867-4^Heart rate^LN||80|/min^^UCUM|||||F|||20260101085500+0000",
        "OBX|2|NM|59408-5^SpO2^LN||97|%^^UCUM|||||F|||20260101085500+0000",
        "OBX|3|NM|8310-5^Temperature^LN||37.1|Cel^^UCUM|||||F|||20260101085500+0000",
    )
    message = b"\x0b" + "\r".join(segments).encode() + b"\x1c\r"
    return Kind(message, port, lambda told: told.endswith(b"\x1c\r"), b"MSA|AA")


def kinds(port: int, mllp_port: int) -> dict[str, Kind]:
    charted = Charted(patient="made-up-1", encounter="e-1", effective="2026-01-01T08:55:00Z")
    made = [observation(charted, f"o-{n}", name="HR", value=80.0) for n in range(ENTRIES)]
    return {
        "observation": http(msgspec.json.encode(made[0]), port),
        "bundle": http(msgspec.json.encode(bundle(made)), port),
        "hl7v2": mllp(mllp_port),
    }


def _same(conversation: Conversation) -> Conversation:
    return conversation


async def converse(
    kind: Kind, connections: int, seconds: float, *, rate: float, account: Account
) -> dict[str, Any]:
    """Talk for a while; rate 0 is as fast as it goes.

    How late the sender itself was is told beside the times of answers, which hold it.
    """
    gc.collect()
    gc.freeze()  # a full collection in the middle would look like a slow gateway
    loop = asyncio.get_running_loop()
    period_s = connections / rate if rate else 0.0
    held = [
        Conversation(kind.message, kind.ended, kind.accepted, period_s) for _ in range(connections)
    ]
    for conversation in held:
        await loop.create_connection(partial(_same, conversation), "127.0.0.1", kind.port)
    await asyncio.sleep(min(2.0, seconds / 4))
    before = [(len(c.latencies_s), len(c.late_s)) for c in held]
    used, began = account(), loop.time()
    await asyncio.sleep(seconds)
    elapsed, after = loop.time() - began, account()
    answered = [(c, many) for c, (many, _) in zip(held, before, strict=True)]
    latencies = np.concatenate([np.array(c.latencies_s[n:]) for c, n in answered])
    since_sent = np.concatenate([np.array(c.since_sent_s[n:]) for c, n in answered])
    late = np.concatenate([np.array(c.late_s[n:]) for c, (_, n) in zip(held, before, strict=True)])
    for conversation in held:
        conversation.close()
    refused = sum(c.refused for c in held)
    if refused or not len(latencies):
        raise SystemExit(f"{refused} messages were refused, {len(latencies)} answered")
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return {
        "per_s": round(len(latencies) / elapsed),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "since_sent_p99_ms": round(float(np.percentile(since_sent, 99)) * 1000, 2),
        "sender_late_p99_ms": round(float(np.percentile(late, 99)) * 1000, 2),
        "cores": {name: round((after[name] - used[name]) / elapsed, 2) for name in after},
        "gateway_us": round((after["gateway"] - used["gateway"]) / len(latencies) * 1e6),
    }
