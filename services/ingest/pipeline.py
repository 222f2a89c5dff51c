"""From raw records to events: read, name, encrypt, encode. Each record stands alone.

But for two things: what stood before decides what a notice of a source leads to, and a patient is
introduced to identity.v1 once a day.
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
from services.ingest.glance import Glance, Result
from services.ingest.introductions import PREFIX as INTRODUCED
from services.ingest.introductions import Introductions
from services.ingest.normalise.assemble import Assembler
from services.ingest.normalise.envelope import FHIR, TICK, message_of, unnamed
from services.ingest.normalise.findings import Message
from services.ingest.normalise.message import WHOLE, Refused, read_tick
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

OnReceipts = Callable[[Sequence[Receipt]], None]


class Ingest:
    """Turns raw records into events; knows nothing of earlier ones.

    All it remembers is which signals stand of the sources whose notices it reads, and whom it has
    introduced today. Duplicates, versions and open encounters are settled downstream, where a
    patient's events meet: records of one patient may stand in several partitions here.
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
        self._sources, self._introductions = Sources(), Introductions()
        # What is remembered could be computed again: a ward writes about the same patients.
        self._partition = lru_cache(_REMEMBERED)(lambda name: partition_of(name, partitions))

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take a row of what is remembered."""
        (self._introductions if key.startswith(INTRODUCED) else self._sources).load(key, value)

    def changes(self) -> Iterable[Row]:
        """Give what stands of each source of which that changed, and who was introduced."""
        yield from self._sources.changes()
        yield from self._introductions.changes()

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
        partition, offset = record.partition, record.offset
        message: Message | None = None
        try:
            media_type, message = message_of(
                record.headers, record.value, partition=partition, offset=offset
            )
            result = self._read(media_type, message)
            return self._outputs(record, message, result)
        except Refusal as refusal:
            reason, place = refusal.reason, refusal.place
        except Stop:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one record provokes, the next goes on
            reason, place = Reason.UNEXPECTED, type(error).__name__
        message = message or unnamed(
            record.value, record.timestamp_ms, partition=partition, offset=offset
        )
        return self._outputs(record, message, _dead(message, reason, place))

    def _read(self, media_type: str, message: Message) -> Result:
        if media_type in FHIR:
            return self._glance.read(message)
        if media_type != TICK:
            raise Refusal(Reason.HEADER, "content-type")
        assembler = Assembler(message, self._key, self._terminology.version)
        event = assembler.tick(read_tick(message))
        return Result(entries=[ReceiptEntry(index=0, fate=Fate.TICK)], events=[event])

    def _outputs(
        self, record: Record, message: Message, result: Result
    ) -> tuple[list[Output], Receipt]:
        """Encode a result, in an order that does not depend on anything else."""
        outputs: list[Output] = []
        for event in result.events:
            if isinstance(event, Vitals):
                outputs += self._event(event)
            else:  # nearly all
                outputs.append(Output(VITALS, event[0], event[1], self._partition(event[0])))
        at = message.accepted_at
        epoch = self._vault.epoch_at(at) if result.subjects else 0
        for subject, pseudonym in result.subjects.items():
            if self._introductions.due(pseudonym, at, epoch):
                outputs.append(self._identity(message.source, subject, pseudonym, epoch))
        digest = hashlib.sha256(message.body).digest()
        for refused in result.refused:
            whole = refused.payload is message.body
            part = digest if whole else hashlib.sha256(refused.payload).digest()
            outputs.append(self._dead_letter(record, message, refused, part))
        receipt = _receipt(record, message, digest, result.entries)
        written = self._wire.receipt(receipt, result.head)
        outputs.append(Output(RECEIPTS, message.ingest_id.encode(), written))
        if result.refused:
            outputs += self._merges(message, result.refused)
        if result.subjects:  # last: a record that fails above has told of nobody
            self._introductions.told(result.subjects.values(), at, epoch)
        return outputs, receipt

    def _event(self, event: Vitals) -> list[Output]:
        value = self._wire.vitals(event)
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

    def _merges(self, message: Message, refused: Sequence[Refused]) -> list[Output]:
        """Tell of merges of patients, if any were refused."""
        count = sum(each.reason is Reason.PATIENT_MERGE for each in refused)
        at, source = message.received_at, message.source
        told = Notice(kind=PATIENT_MERGE, source=source, at=at, count=count)
        return [self._notice(told)] if count else []

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

    def _identity(self, source: str, identifier: str, pseudonym: bytes, epoch: int) -> Output:
        """Write who a pseudonym is."""
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
