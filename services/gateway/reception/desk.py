"""The desk: turns a request into the record that must be stored, or says why it cannot be."""

from collections.abc import Callable, Mapping
from typing import Final

from services.gateway.reception.answers import FHIR, Rejected
from services.gateway.reception.body import check_object, media_type
from services.gateway.reception.credentials import Source
from services.gateway.reception.hearing import Arrival
from services.gateway.reception.records import TICK, Envelope, affinity, ingest_id
from services.gateway.reception.sources import Sources
from services.gateway.reception.times import declared_at, tick_of, ticked_at
from services.runtime.ports import Output

MOST_SOURCES: Final = 1000
"""Sources that may be heard of in one life, so that made-up names cannot fill the memory."""

Clock = Callable[[], int]
Headers = Mapping[str, str]
Admitted = tuple[str, Output]
"""The ingest id that the sender is told, and the record to store before."""


class Desk:
    """Receives requests; remembers which sources it heard, for their ticks."""

    def __init__(
        self, sources: Sources, key: bytes, *, clock: Clock, randomness: Callable[[int], bytes]
    ) -> None:
        """Open the desk.

        Args:
            sources: who may send.
            key: the pseudonym key; here only for affinity.
            clock: the real clock, microseconds since the epoch.
            randomness: gives so many random bytes.
        """
        self._sources, self._key = sources, key
        self._clock, self._randomness = clock, randomness
        self._heard: dict[str, Source] = {}

    def identify(self, headers: Headers, certificate: str = "") -> Source:
        """Say who sends, from headers (lower-case names) alone, before a body is read.

        Args:
            headers: of the request.
            certificate: SHA-256 of the client's in hex; empty where none was verified.

        Raises:
            Rejected: nobody known, or no body of theirs could be taken.
        """
        media_type(headers)
        return self._bounded(self._sources.of(headers, at=self._clock(), certificate=certificate))

    def facility(self, name: str, *, token: str, certificate: str) -> Source:
        """Say who sends a message of HL7 v2; arguments as for `Sources.of_facility`.

        Raises:
            Rejected: nobody known.
        """
        return self._bounded(
            self._sources.of_facility(name, token=token, at=self._clock(), certificate=certificate)
        )

    def _bounded(self, source: Source) -> Source:
        if source.id not in self._heard and len(self._heard) >= MOST_SOURCES:
            raise Rejected(403, "too many sources: list them in VIGIL_SOURCES_FILE")
        return source

    def fhir(self, source: Source, headers: Headers, body: bytes) -> Admitted:
        """Receive a resource or a Bundle.

        Args:
            source: that sent it.
            headers: of the request.
            body: one JSON object, as `check_object` requires.

        Raises:
            Rejected: the declared time is none.
        """
        received_at = _declared(source, headers)
        self._hear(source)
        envelope = self._envelope(source, media_type(headers), received_at=received_at)
        key = affinity(body, self._key, source=source.id) or envelope.ingest_id.encode()
        return envelope.ingest_id, envelope.around(body, key=key)

    def translated(self, source: Source, bundle: bytes, *, declared: str | None) -> Admitted:
        """Receive what a message of HL7 v2 became.

        Args:
            source: that sent it.
            bundle: what it became.
            declared: when it was received by the clock of a source that declares its time.

        Raises:
            Rejected: the declared time is none.
        """
        received_at = None if declared is None else declared_at(declared, "MSH^1^7")
        self._hear(source)
        envelope = self._envelope(source, FHIR, received_at=received_at)
        key = affinity(bundle, self._key, source=source.id) or envelope.ingest_id.encode()
        return envelope.ingest_id, envelope.around(bundle, key=key)

    def arrival(self, source: Source, headers: Headers) -> Arrival:
        """Say when something came that is no message about a patient's state.

        Its source is not heard of by it: who only answers has no feed that could fall silent.

        Raises:
            Rejected: the declared time is none.
        """
        now, declared = self._clock(), _declared(source, headers)
        return Arrival(source.id, now if declared is None else declared, now)

    def tick(self, source: Source, body: bytes) -> Admitted:
        """Receive the time of a source.

        Raises:
            Rejected: it is no time, or the clock of this source is the gateway's.
        """
        check_object(body)
        received_at = ticked_at(body)
        declaring = self._sources.declaring(source)
        self._hear(declaring)
        return self._tick(declaring, body, received_at=received_at)

    def due_ticks(self) -> list[Output]:
        """Give a tick of each source that was heard and whose clock is the gateway's."""
        now = self._clock()
        listening = [s for s in self._heard.values() if s.clock == "gateway"]
        return [self._tick(source, tick_of(now), received_at=now)[1] for source in listening]

    def _tick(self, source: Source, body: bytes, *, received_at: int) -> Admitted:
        envelope = self._envelope(source, TICK, received_at=received_at)
        return envelope.ingest_id, envelope.around(body, key=source.id.encode())

    def _envelope(self, source: Source, content_type: str, *, received_at: int | None) -> Envelope:
        now = self._clock()
        return Envelope(
            ingest_id=ingest_id(now, self._randomness),
            source=source.id,
            content_type=content_type,
            received_at=now if received_at is None else received_at,
            accepted_at=now,
        )

    def _hear(self, source: Source) -> None:
        known = self._heard.get(source.id)
        # A source that once declared its time never gets the gateway's.
        if known is None or known.clock == "gateway":
            self._heard[source.id] = source


def _declared(source: Source, headers: Headers) -> int | None:
    declared = headers.get("vigil-time") if source.clock == "declared" else None
    return None if declared is None else declared_at(declared)
