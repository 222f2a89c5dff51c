"""Dead letters on their way back into fhir.raw.v1, in the order in which their messages stood."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Self

from services.cli.letters import AGAIN, RAW, Fate, again_as, fate, handed_in, order
from services.core.errors import Retry
from services.core.events import DeadLetter
from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.client import Options
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.reader import scan
from services.runtime.ports import Output, Record
from services.runtime.vault import Vault

PATIENCE_S: Final = 10.0
AT_A_TIME: Final = 500
"""So many records are confirmed before the next are sent."""
Letters = Iterable[tuple[Record, DeadLetter]]


class Redelivery:
    """Opens letters with the payload key and writes them durably."""

    def __init__(self, options: Options, vault: Vault) -> None:
        self._options, self._vault = options, vault

    @classmethod
    def from_settings(cls) -> Self:
        """Read where Kafka and the payload key are.

        Raises:
            CommandError: the key file cannot be used.
        """
        from services.ingest.settings import IngestSettings
        from services.runtime.settings import KafkaSettings

        vault = Vault.from_file(IngestSettings().payload_key_file)
        return cls(KafkaSettings().client_options(), vault)

    def send(self, letters: Letters, *, dry_run: bool) -> Mapping[str, int]:
        """Hand letters in, and say how many met which fate.

        Raises:
            CommandError: a payload cannot be opened; nothing was sent.
            Retry: Kafka is away. Handing them in again sends what is missing.
        """
        chosen = sorted(letters, key=lambda pair: order(*pair))
        known = self._known(chosen)
        fates = [fate(record, letter, known) for record, letter in chosen]
        wanted = [pair for pair, met in zip(chosen, fates, strict=True) if met is Fate.SENT]
        outputs = [self._output(record, letter) for record, letter in wanted]
        if not dry_run:
            self._write(outputs)
        counted = Counter(fates)
        return {met.value: counted[met] for met in Fate}

    def _known(self, chosen: list[tuple[Record, DeadLetter]]) -> frozenset[str]:
        """Find which of these letters were handed in since the first of them was written."""
        if not chosen:
            return frozenset()
        since_ms = min(record.timestamp_ms for record, _ in chosen)
        places = partitions_of(self._options, [RAW])
        raw = scan(self._options, places, patience_s=PATIENCE_S, since_ms=since_ms)
        named = {name for record in raw if (name := _name_of(record)).startswith(AGAIN)}
        return frozenset(named & {again_as(*pair) for pair in chosen})

    def _output(self, record: Record, letter: DeadLetter) -> Output:
        payload = self._vault.open(letter.key_epoch, letter.payload, letter.sha256)
        return handed_in(record, letter, payload, time.time_ns() // 1000)

    def _write(self, outputs: list[Output]) -> None:
        publisher = Publisher(self._options)
        for start in range(0, len(outputs), AT_A_TIME):
            lost: list[bool] = []
            for output in outputs[start : start + AT_A_TIME]:
                publisher.send(output, lambda held, lost=lost: None if held else lost.append(held))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            if publisher.flush(PATIENCE_S) or lost:
                raise Retry("Kafka: not every letter was confirmed; ask for the same once more")


def _name_of(record: Record) -> str:
    found = dict(record.headers).get("ingest_id") or b""
    return found.decode(errors="replace")
