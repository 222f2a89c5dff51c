"""One stay as labelling knows it, and the row of the changelog in which that survives."""

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np

from services.core.events import packed
from services.core.evidence import Settled
from services.core.labels import Known, RaisedAlert, Score, hour_of
from services.core.windows import HOUR, WEEK
from services.labelling.reading import Cohorts

REACH: Final = WEEK
"""So long after its last hour a stay is still restated."""
NEVER: Final = 1 << 62
MARK_BYTES: Final = 8
"""Of an answer's or outcome's name, and of its content, so many bytes of a hash are kept."""


class StayRow(msgspec.Struct, array_like=True):
    """What is written. Columns have one element per hour with a score."""

    began: int
    last: int
    models: list[tuple[str, str]]
    cohorts: list[Cohorts]
    hours: bytes  # <i4, hours since the epoch
    scores: bytes  # <f4
    thresholds: bytes  # <f4
    revisions: bytes  # <i4
    places: bytes  # <u2 each: of the model, of the cohorts
    alerts: list[RaisedAlert]
    settled: Settled | None
    heard: bytes  # name and content mark of each answer and outcome that was taken


class Stay:
    """Hours with their scores, alerts with their answers, and the outcome in force."""

    __slots__ = ("alerts", "began", "heard", "last", "scores", "settled")

    def __init__(self) -> None:
        self.began, self.last = NEVER, -NEVER
        """First and last hour in which something was measured, µs."""
        self.scores: dict[int, Score] = {}
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

    def told(self) -> Iterable[int]:
        """Give the hours of which something was said already."""
        return [hour for hour, score in self.scores.items() if score.revision >= 0]

    def over(self, watermark: int) -> bool:
        """Tell whether the stay is beyond reach."""
        return beyond_reach(self.last, watermark)

    def pack(self) -> bytes:
        """Write the stay as a row of the changelog."""
        scores = sorted(self.scores.items())
        models = list(dict.fromkeys(score.model for _, score in scores))
        cohorts = list(dict.fromkeys(score.cohorts for _, score in scores))
        places = [(models.index(s.model), cohorts.index(s.cohorts)) for _, s in scores]
        row = StayRow(
            began=self.began,
            last=self.last,
            models=models,
            cohorts=cohorts,
            hours=packed([hour // HOUR for hour, _ in scores], "<i4"),
            scores=packed([score.score for _, score in scores], "<f4"),
            thresholds=packed([score.threshold for _, score in scores], "<f4"),
            revisions=packed([score.revision for _, score in scores], "<i4"),
            places=packed(places, "<u2"),
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
        stay.scores = _scores(row)
        return stay


def beyond_reach(hour: int, watermark: int | None) -> bool:
    """Tell whether an hour, given by its begin, is no longer labelled or restated."""
    return watermark is not None and hour + HOUR + REACH <= watermark


def _scores(row: StayRow) -> dict[int, Score]:
    hours, revisions = np.frombuffer(row.hours, "<i4"), np.frombuffer(row.revisions, "<i4")
    scores, thresholds = np.frombuffer(row.scores, "<f4"), np.frombuffer(row.thresholds, "<f4")
    columns = (hours.tolist(), scores.tolist(), thresholds.tolist(), revisions.tolist())
    places = np.frombuffer(row.places, "<u2").reshape(-1, 2).tolist()
    return {
        hour * HOUR: Score(score, threshold, row.models[model], row.cohorts[cohorts], revision)
        for hour, score, threshold, revision, (model, cohorts) in zip(
            *columns, places, strict=True
        )
    }


def _heard(marks: bytes) -> dict[bytes, bytes]:
    step = 2 * MARK_BYTES
    cuts = [marks[at : at + step] for at in range(0, len(marks), step)]
    return {mark[:MARK_BYTES]: mark[MARK_BYTES:] for mark in cuts}
