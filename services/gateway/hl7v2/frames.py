"""Frames of MLLP, however what comes is cut into pieces."""

from typing import Final

from services.core.errors import Reason

START: Final = b"\x0b"
END: Final = b"\x1c\r"
BETWEEN: Final = b"\r\n"
MOST_BETWEEN: Final = 15
"""Line ends that may stand before a frame."""
NO_FRAME: Final = "NO_FRAME"


class Frames:
    """Puts pieces together and cuts frames out of them.

    Attributes:
        broken: why nothing can be understood any more; empty while all is well.
        begun: whether a frame has begun that has not ended.
    """

    def __init__(self, most_bytes: int) -> None:
        """Begin; a longer message breaks the row of frames."""
        self.broken, self.begun = "", False
        self._most_bytes = most_bytes
        self._held = bytearray()
        self._between = self._searched = 0

    def cut(self, piece: bytes) -> list[bytes]:
        """Give the messages that are whole now, in order."""
        found: list[bytes] = []
        if self.broken:
            return found
        self._held += piece
        at = 0
        while (begin := self._begin(at)) is not None:
            at = begin
            end = self._held.find(END, max(at, self._searched))
            if (len(self._held) if end < 0 else end) - at > self._most_bytes:
                self.broken = Reason.TOO_LARGE
            if self.broken or end < 0:
                break
            found.append(bytes(self._held[at:end]))
            self.begun, at = False, end + len(END)
        del self._held[:at]
        # The first half of an end may be the last byte of this piece.
        self._searched = max(0, len(self._held) - 1)
        return found

    def _begin(self, at: int) -> int | None:
        """Say where the next message begins; None where nothing has come of it."""
        if self.begun:
            return at
        for place in range(at, len(self._held)):
            sign = self._held[place : place + 1]
            if sign == START:
                self.begun, self._between = True, 0
                return place + 1
            self._between += 1
            if sign not in BETWEEN or self._between > MOST_BETWEEN:
                self.broken = NO_FRAME
                return None
        self._held.clear()
        return None
