"""One stay as labelling knows it, and the row of the changelog in which that survives."""

from typing import Final

import msgspec

from services.core.evidence import Settled
from services.core.labels import Known, RaisedAlert, first_of, hour_of
from services.core.windows import HOUR, WEEK
from services.labelling.hours import Columns, Hours
from services.labelling.reading import Cohorts

REACH: Final = WEEK
"""So long after its last hour a stay is still restated."""
NEVER: Final = 1 << 62
MARK_BYTES: Final = 8
"""Of an answer's or outcome's name, and of its content, so many bytes of a hash are kept."""


class StayRow(msgspec.Struct, array_like=True):
    """What is written; the columns of the hours among it."""

    began: int
    last: int
    models: list[tuple[str, str]]
    cohorts: list[Cohorts]
    hours: bytes
    scores: bytes
    thresholds: bytes
    revisions: bytes
    places: bytes
    alerts: list[RaisedAlert]
    settled: Settled | None
    heard: bytes  # name and content mark of each answer and outcome that was taken


class Stay:
    """Hours with their scores, alerts with their answers, and the outcome in force."""

    __slots__ = ("alerts", "began", "heard", "last", "scores", "settled")

    def __init__(self) -> None:
        self.began, self.last = NEVER, -NEVER
        """First and last hour in which something was measured, µs."""
        self.scores = Hours()
        self.alerts: dict[str, RaisedAlert] = {}
        self.settled: Settled | None = None
        self.heard: dict[bytes, bytes] = {}

    def known(self) -> Known:
        """Give what labels are made from."""
        return Known(self.began, self.scores, self.alerts.values(), self.settled)

    def seen(self, at: int) -> bool:
        """Hear that something was measured at a time, and tell whether that moves the ends."""
        hour = hour_of(at)
        moved = hour < self.began or hour > self.last
        self.began, self.last = min(self.began, hour), max(self.last, hour)
        return moved

    def awaits_onset(self, hour: int) -> bool:
        """Tell whether a score of an hour changes what is known of others: where onset is seen."""
        onset_at = self.settled.onset_at if self.settled else None
        return onset_at is not None and hour <= onset_at

    def bearing(self, hour: int) -> list[int]:
        """Give the hours of which something else may be said after an alert in one.

        It shows in that hour, and in that of the first alert, which it may take the place of.
        Where there is an onset, leads change, and where the stay began decides on each hour.
        """
        if self.settled is not None and self.settled.onset_at is not None:
            return self.scores.told()
        first = first_of(self.alerts.values())
        return [hour] if first is None else [hour, hour_of(first.measured_at)]

    def over(self, watermark: int) -> bool:
        """Tell whether the stay is beyond reach."""
        return beyond_reach(self.last, watermark)

    def pack(self) -> bytes:
        """Write the stay as a row of the changelog."""
        row = StayRow(
            self.began,
            self.last,
            *self.scores.columns(),
            alerts=list(self.alerts.values()),
            settled=self.settled,
            heard=b"".join(name + content for name, content in self.heard.items()),
        )
        return msgspec.msgpack.encode(row)

    @classmethod
    def unpack(cls, data: bytes) -> "Stay":
        """Read a row of the changelog."""
        row = msgspec.msgpack.decode(data, type=StayRow)
        stay = cls()
        stay.began, stay.last, stay.settled = row.began, row.last, row.settled
        stay.alerts = {alert.alert_id: alert for alert in row.alerts}
        stay.heard = _heard(row.heard)
        stay.scores = Hours(Columns._make(getattr(row, name) for name in Columns._fields))
        return stay


def beyond_reach(hour: int, watermark: int | None) -> bool:
    """Tell whether an hour, given by its begin, is no longer labelled or restated."""
    return watermark is not None and hour + HOUR + REACH <= watermark


def _heard(marks: bytes) -> dict[bytes, bytes]:
    step = 2 * MARK_BYTES
    cuts = [marks[at : at + step] for at in range(0, len(marks), step)]
    return {mark[:MARK_BYTES]: mark[MARK_BYTES:] for mark in cuts}
