"""A message as segments and fields: split when asked, unescaped when read."""

import re
from typing import Final

from services.gateway.hl7v2.refusal import MISSING, NOT_IN_TABLE, SEQUENCE, TYPE, Answer, NotTaken

MOST_SEGMENTS: Final = 5000
MSH_CHARSET: Final = 18
NULL: Final = '""'
"""Says that there is nothing, where an empty field says nothing."""
_HEX: Final = re.compile(r"X((?:[0-9A-Fa-f]{2}){1,64})")

# HL7 table 0211, in Python's names. Empty is ASCII by the standard; UTF-8 holds it.
CHARSETS: Final = {
    "": "utf-8",
    "ASCII": "ascii",
    "UNICODE UTF-8": "utf-8",
    **{f"8859/{n}": f"iso8859-{n}" for n in (*range(1, 10), 15)},
    "ISO IR6": "ascii",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
}


class Separators:
    """The characters that part a message, as its first segment declares them."""

    def __init__(self, head: str) -> None:
        """Read them.

        Args:
            head: begins with MSH.

        Raises:
            NotTaken: they are missing, repeated, or letters or digits.
        """
        self.field = head[3:4]
        declared = head[4:].split(self.field, 1)[0] if self.field else ""
        # Four are declared; a fifth (truncation) has no meaning for a reader.
        self.component, self.repetition = declared[:1], declared[1:2]
        self.escape, self.sub = declared[2:3], declared[3:4]
        used = [self.field, *declared[:4]]
        usable = all(c.isascii() and c.isprintable() and not c.isalnum() for c in used)
        if len(declared) not in (4, 5) or len(set(used)) < len(used) or not usable:
            raise NotTaken(Answer.REJECTED, SEQUENCE, "MSH^1^2")

    def unescaped(self, text: str) -> str:
        """Put characters in the place of escape sequences; unknown ones are taken out."""
        if self.escape not in text:
            return text
        parts = text.split(self.escape)
        for place in range(1, len(parts), 2):
            parts[place] = self._meant(parts[place])
        return "".join(parts)

    def _meant(self, sequence: str) -> str:
        known = {
            "F": self.field,
            "S": self.component,
            "T": self.sub,
            "R": self.repetition,
            "E": self.escape,
        }
        if sequence in known:
            return known[sequence]
        digits = _HEX.fullmatch(sequence)
        return bytes.fromhex(digits[1]).decode("ascii", "ignore") if digits else ""


class Segment:
    """One line: its fields by their numbers in the standard."""

    __slots__ = ("_fields", "_separators", "name")

    def __init__(self, line: str, separators: Separators) -> None:
        self._separators = separators
        self._fields = line.split(separators.field)
        self.name = self._fields[0]
        if self.name == "MSH":
            self._fields.insert(1, separators.field)

    def raw(self, number: int) -> str:
        """Give a field as it stands there."""
        return self._fields[number] if number < len(self._fields) else ""

    def repetitions(self, number: int) -> list[list[str]]:
        """Give a field as components per repetition; a component is its first subcomponent."""
        field = self.raw(number)
        if not field:
            return []
        return [self._components(part) for part in field.split(self._separators.repetition)]

    def components(self, number: int) -> list[str]:
        """Give the components of a field's first repetition."""
        field = self.raw(number)
        if self._separators.repetition in field:
            field = field.partition(self._separators.repetition)[0]
        return self._components(field)

    def first(self, number: int) -> str:
        """Give the first component of a field."""
        field = self.raw(number)
        # Most are one word: separators and quotes are neither letters nor digits.
        return field if field.isalnum() else self.components(number)[0]

    def whole(self, number: int) -> str:
        """Give a field without parting it further."""
        return self._separators.unescaped(self.raw(number))

    def repeats(self, number: int) -> bool:
        """Whether a field has more than one repetition."""
        return self._separators.repetition in self.raw(number)

    def _components(self, text: str) -> list[str]:
        marks, parts = self._separators, text.split(self._separators.component)
        if marks.sub in text:
            parts = [part.partition(marks.sub)[0] for part in parts]
        if marks.escape in text:
            parts = [marks.unescaped(part) for part in parts]
        if NULL in text:
            parts = ["" if part == NULL else part for part in parts]
        return parts


def component(parts: list[str], number: int) -> str:
    """Give a component by its number in the standard, from 1."""
    return parts[number - 1].strip() if number <= len(parts) else ""


def parted(body: bytes) -> list[Segment]:
    """Take a message apart; the first segment is MSH.

    Raises:
        NotTaken: it is no message, or not in the characters that it declares.
    """
    if not body.startswith(b"MSH") or b"\x00" in body:
        raise NotTaken(Answer.REJECTED, SEQUENCE, "MSH^1")
    text = _decoded(body).replace("\r\n", "\r")
    lines = text.split("\r") if "\r" in text else text.split("\n")
    if len(lines) > MOST_SEGMENTS:
        raise NotTaken(Answer.ERROR, SEQUENCE, reason="TOO_LARGE")
    separators = Separators(lines[0])
    return [Segment(line, separators) for line in lines if line.strip()]


def _decoded(body: bytes) -> str:
    fields = body[: _line_end(body)].split(body[3:4])
    stated = fields[MSH_CHARSET - 1] if len(fields) >= MSH_CHARSET else b""
    # Of several, the first is the one in use; what is switched to comes by escape sequences.
    names = stated.decode("ascii", "replace").split("~")
    name = names[0].strip() or (names[1].strip() if len(names) > 1 else "")
    if name not in CHARSETS:
        raise NotTaken(Answer.ERROR, NOT_IN_TABLE, "MSH^1^18", "ENCODING")
    try:
        return body.decode(CHARSETS[name])
    except UnicodeDecodeError:
        raise NotTaken(Answer.ERROR, TYPE, reason="ENCODING") from None


def _line_end(body: bytes) -> int:
    ends = [place for place in (body.find(b"\r"), body.find(b"\n")) if place > 0]
    return min(ends, default=len(body))


def required(segment: Segment, number: int) -> str:
    """Give the first component of a field that must be there.

    Raises:
        NotTaken: it is not.
    """
    found = segment.first(number).strip()
    if not found:
        raise NotTaken(Answer.ERROR, MISSING, f"{segment.name}^1^{number}")
    return found
