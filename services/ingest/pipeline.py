"""From raw records to events: read, name, encrypt, encode. Each record stands alone.

Notices of sources are another matter: what stood before decides what one of them leads to.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from services.core.cohorts import only_payer
from services.core.errors import Reason, Refusal, Stop
from services.core.events import (
    DeadLetter,
    Fate,
    Identity,
    Kind,
    Notice,
    Patient,
    Receipt,
    ReceiptEntry,
    Vitals,
    partition_of,
)
from services.core.notices import PATIENT_MERGE
from services.core.notices import TICK as TIME
from services.core.terminology.book import Terminology
from services.ingest.glance import Glance, Seen
from services.ingest.normalise.assemble import Assembler
from services.ingest.normalise.envelope import FHIR, TICK, message_of, unnamed
from services.ingest.normalise.findings import Message
from services.ingest.normalise.message import CLOCK_SKEW, WHOLE, Reader, Refused, read_tick
from services.ingest.normalise.strict import MAX_BYTES
from services.ingest.standing import Sources
from services.ingest.wire import Wire
from services.runtime.codec import Codec
from services.runtime.envelope import signal_output
from services.runtime.ports import Output, Record, Row
from services.runtime.vault import Vault

RAW: Final = "fhir.raw.v1"
VITALS: Final = "vitals.v1"
RECEIPTS: Final = "receipts.v1"
IDENTITY: Final = "identity.v1"
PATIENTS: Final = "patients.v1"
DEAD_LETTERS: Final = "dlq.v1"
COVERAGE: Final = "coverage"
NOTICES: Final = "notices.v1"
_REMEMBERED: Final = 8192
_OBSERVATION: Final = Kind.OBSERVATION
_TAKEN: Final = [ReceiptEntry(index=0, fate=Fate.VITALS)]
_SKEWED: Final = [ReceiptEntry(index=0, fate=Fate.VITALS, detail=CLOCK_SKEW)]

OnReceipts = Callable[[Sequence[Receipt]], None]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one record said: its events, what became of its entries, and what was refused."""

    entries: Sequence[ReceiptEntry]
    refused: Sequence[Refused] = ()
    events: Sequence[Vitals] = ()
    subjects: Sequence[tuple[str, bytes]] = ()
    """Id and pseudonym of each patient that the events are about."""


class Ingest:
    """Turns raw records into events; knows nothing of earlier ones.

    All it remembers is which signals stand of the sources whose notices it reads. Duplicates,
    versions and open encounters are settled downstream, where a patient's events meet: records of
    one patient may stand in several partitions here.
    """

    def __init__(
        self,
        *,
        terminology: Terminology,
        pseudonym_key: bytes,
        vault: Callable[[], Vault],
        codec: Codec,
        partitions: int,
        on_receipts: OnReceipts,
    ) -> None:
        """Make the task of one partition.

        Args:
            terminology: codes, units and ranges.
            pseudonym_key: 32 bytes.
            vault: gives what seals dead letters and identities; asked once per batch.
            codec: encodes events.
            partitions: how many partitions patient-keyed topics have.
            on_receipts: hears of each batch what became of its records; must not raise.
        """
        self._terminology, self._key = terminology, pseudonym_key
        self._keys, self._codec, self._wire = vault, codec, Wire(codec)
        self._vault = vault()
        self._partitions, self._on_receipts = partitions, on_receipts
        self._glance = Glance(terminology, pseudonym_key, self._wire)
        self._sources = Sources()
        # What is remembered could be computed again: a ward writes about the same patients.
        self._partition = lru_cache(_REMEMBERED)(lambda name: partition_of(name, partitions))
        self._identity = lru_cache(_REMEMBERED)(self._sealed_identity)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take a row of what stands of a source."""
        self._sources.load(key, value)

    def changes(self) -> Iterable[Row]:
        """Give what stands of each source of which that changed."""
        return self._sources.changes()

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        """Turn records into outputs; one that cannot be used becomes a dead letter."""
        self._vault = self._keys()
        outputs: list[Output] = []
        receipts: list[Receipt] = []
        for record in records:
            if record.topic == NOTICES:
                outputs += self._noticed(record)
                continue
            found, receipt = self._handle(record)
            outputs += found
            receipts.append(receipt)
        self._on_receipts(receipts)
        return outputs

    def _noticed(self, record: Record) -> list[Output]:
        try:
            steps = self._sources.hear(self._codec.decode(record.value or b"", Notice))
        except Refusal as refusal:
            at = {"partition": record.partition, "offset": record.offset}
            message = unnamed(record.value, record.timestamp_ms, **at)
            dead = _dead(message, refusal.reason, refusal.place).refused
            return [
                self._dead_letter(
                    record, message, refused, hashlib.sha256(refused.payload).digest()
                )
                for refused in dead
            ]
        return [signal_output(self._codec, step, by="ingest") for step in steps]

    def _handle(self, record: Record) -> tuple[list[Output], Receipt]:
        at = {"partition": record.partition, "offset": record.offset}
        message: Message | None = None
        try:
            media_type, message = message_of(record.headers, record.value, **at)
            seen = self._glance.look(message) if media_type in FHIR else None
            if seen:
                return self._seen(record, message, seen)
            return self._outputs(record, message, self._read(media_type, message))
        except Refusal as refusal:
            reason, place = refusal.reason, refusal.place
        except Stop:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one record provokes, the next goes on
            reason, place = Reason.UNEXPECTED, type(error).__name__
        message = message or unnamed(record.value, record.timestamp_ms, **at)
        return self._outputs(record, message, _dead(message, reason, place))

    def _seen(self, record: Record, message: Message, seen: Seen) -> tuple[list[Output], Receipt]:
        """Give what `_outputs` would of an event that was seen at a glance."""
        whose, epoch = seen.whose, self._vault.epoch_at(message.accepted_at)
        digest = hashlib.sha256(message.body).digest()
        receipt = _receipt(record, message, digest, _SKEWED if seen.skewed else _TAKEN)
        written = self._wire.receipt_of(seen.message, receipt)
        return [
            Output(VITALS, whose.pseudonym, seen.event, self._partition(whose.pseudonym)),
            self._identity(message.source, whose.identifier, whose.pseudonym, epoch),
            Output(RECEIPTS, message.ingest_id.encode(), written),
        ], receipt

    def _read(self, media_type: str, message: Message) -> Result:
        assembler = Assembler(message, self._key, self._terminology.version)
        if media_type == TICK:
            event = assembler.tick(read_tick(message))
            return Result(entries=[ReceiptEntry(index=0, fate=Fate.TICK)], events=[event])
        if media_type not in FHIR:
            raise Refusal(Reason.HEADER, "content-type")
        reader = Reader(message, self._terminology)
        entries = reader.entries()
        findings = [(i, entry.finding) for i, entry in enumerate(entries) if entry.finding]
        return Result(
            entries=[
                ReceiptEntry(index=i, fate=entry.fate, detail=entry.detail)
                for i, entry in enumerate(entries)
            ],
            refused=reader.refused,
            events=assembler.events(findings),
            subjects=list(assembler.subjects.items()),
        )

    def _outputs(
        self, record: Record, message: Message, result: Result
    ) -> tuple[list[Output], Receipt]:
        """Encode a result, in an order that does not depend on anything else."""
        outputs: list[Output] = []
        for event in result.events:
            outputs += self._event(event)
        if result.subjects:
            epoch = self._vault.epoch_at(message.accepted_at)
            for subject, pseudonym in result.subjects:
                outputs.append(self._identity(message.source, subject, pseudonym, epoch))
        digest = hashlib.sha256(message.body).digest()
        for refused in result.refused:
            whole = refused.payload is message.body
            part = digest if whole else hashlib.sha256(refused.payload).digest()
            outputs.append(self._dead_letter(record, message, refused, part))
        receipt = _receipt(record, message, digest, list(result.entries))
        outputs.append(Output(RECEIPTS, message.ingest_id.encode(), self._wire.receipt(receipt)))
        merges = sum(refused.reason is Reason.PATIENT_MERGE for refused in result.refused)
        if merges:
            seen = Notice(
                kind=PATIENT_MERGE, source=message.source, at=message.received_at, count=merges
            )
            outputs.append(self._notice(seen))
        return outputs, receipt

    def _event(self, event: Vitals) -> list[Output]:
        value = self._wire.vitals(event)
        if event.kind is _OBSERVATION:  # nearly all
            return [Output(VITALS, event.pseudonym, value, self._partition(event.pseudonym))]
        if event.kind is Kind.TICK:
            key = event.source.encode()
            told = Notice(kind=TIME, source=event.source, at=event.measured_at)
            written = [Output(VITALS, key, value, p) for p in range(self._partitions)]
            return [*written, self._notice(told)]
        partition = self._partition(event.pseudonym)
        written = [Output(VITALS, event.pseudonym, value, partition)]
        if event.kind in (Kind.PATIENT, Kind.ENCOUNTER):
            written.append(self._view(event, partition))
        return written

    def _notice(self, notice: Notice) -> Output:
        """Write a notice where all of its source meet."""
        return Output(NOTICES, notice.source.encode(), self._codec.encode(notice))

    def _view(self, event: Vitals, partition: int) -> Output:
        """Write the part of a patient's view that an event tells."""
        view = Patient(
            pseudonym=event.pseudonym,
            updated_at=event.measured_at,
            demographics=event.demographics,
            encounter=event.encounter,
            stay=event.stay,
        )
        told = event.demographics
        half = COVERAGE if told and only_payer(told) else event.kind
        key = event.pseudonym + b"/" + half.encode()
        return Output(PATIENTS, key, self._codec.encode(view), partition)

    def _sealed_identity(
        self, source: str, identifier: str, pseudonym: bytes, epoch: int
    ) -> Output:
        """Write who a pseudonym is.

        With every record: the topic is compacted, and so nothing that earlier records did decides
        what this one gives.
        """
        reference = {"source": source, "reference": f"Patient/{identifier}"}
        identity = Identity(
            pseudonym=pseudonym,
            key_epoch=epoch,
            ciphertext=self._vault.seal(msgspec.json.encode(reference), pseudonym, epoch),
        )
        return Output(
            IDENTITY, pseudonym, self._codec.encode(identity), self._partition(pseudonym)
        )

    def _dead_letter(
        self, record: Record, message: Message, refused: Refused, digest: bytes
    ) -> Output:
        kept = len(refused.payload) <= MAX_BYTES
        epoch = self._vault.epoch_at(message.accepted_at)
        letter = DeadLetter(
            reason=refused.reason,
            place=refused.place,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            entry=refused.entry,
            source=message.source,
            received_at=message.received_at,
            length=len(refused.payload),
            sha256=digest,
            key_epoch=epoch,
            payload=self._vault.seal(refused.payload, digest, epoch) if kept else b"",
        )
        key = record.key or message.ingest_id.encode()
        return Output(DEAD_LETTERS, key, self._codec.encode(letter))


def _receipt(
    record: Record, message: Message, digest: bytes, entries: list[ReceiptEntry]
) -> Receipt:
    return Receipt(
        ingest_id=message.ingest_id,
        source=message.source,
        raw_partition=record.partition,
        raw_offset=record.offset,
        received_at=message.received_at,
        accepted_at=message.accepted_at,
        length=len(message.body),
        sha256=digest,
        entries=entries,
    )


def _dead(message: Message, reason: Reason, place: str) -> Result:
    return Result(
        entries=[ReceiptEntry(index=0, fate=Fate.DEAD, detail=reason)],
        refused=[Refused(entry=WHOLE, reason=reason, place=place, payload=message.body)],
    )
