"""Each entry read with care: what the short way is held against."""

from collections.abc import Sequence
from typing import Any

from builders import PSEUDONYM_KEY, codec, ingest, record, terminology
from typing_extensions import override

from services.core.events import ReceiptEntry
from services.ingest.glance import Glance, Result
from services.ingest.normalise.assemble import Assembler
from services.ingest.normalise.findings import Message
from services.ingest.normalise.forms import Plain, alone, several
from services.ingest.normalise.message import Reader
from services.ingest.pipeline import Ingest
from services.ingest.wire import Wire
from services.runtime.ports import Record


def plain(body: bytes) -> Sequence[Plain | None] | None:
    """What is plain in a message, alone or in a Bundle."""
    seen = alone(body, bytearray())
    return [seen] if seen else several(body, bytearray())


class Careful(Glance):
    """Parses all of a message, and makes its events one by one."""

    @override
    def read(self, message: Message) -> Result:
        reader, at = Reader(message, terminology()), terminology().version
        assembler, entries = Assembler(message, PSEUDONYM_KEY, at), reader.entries()
        return Result(
            entries=[
                ReceiptEntry(index=i, fate=entry.fate, detail=entry.detail)
                for i, entry in enumerate(entries)
            ],
            refused=reader.refused,
            events=assembler.events((i, e.finding) for i, e in enumerate(entries) if e.finding),
            subjects=assembler.subjects,
        )


class Both:
    """The same task twice, once with care."""

    def __init__(self) -> None:
        self._told: tuple[list[Any], list[Any]] = [], []
        self.quick, self.careful = (ingest(told.extend) for told in self._told)
        self.careful._glance = Careful(terminology(), PSEUDONYM_KEY, Wire(codec()))

    def agree(self, *records: Record) -> bool:
        """Whether records lead to the same outputs, byte for byte, and the same is counted."""
        same = self._of(self.quick, records) == self._of(self.careful, records)
        return same and self._told[0] == self._told[1]

    def agree_on(self, content: Any) -> bool:
        """Whether both say the same of one message."""
        for told in self._told:
            told.clear()
        return self.agree(record(content))

    @staticmethod
    def _of(task: Ingest, records: tuple[Record, ...]) -> list[Any]:
        return list(task.handle(records))
