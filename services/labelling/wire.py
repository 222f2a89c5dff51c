"""Writes labelled hours to the wire; the bytes are those of `runtime.codec` for the same event."""

from struct import Struct
from typing import Final

from services.core.events import HourLabel, Labelled
from services.runtime.avro import NONE, SOME, blob, long, number, text, texts
from services.runtime.codec import Codec

_scores: Final = Struct("<dd???").pack
"""Score, threshold, above, raised, first_alert."""
_FLAG: Final = (b"\x00", b"\x01")


class Wire:
    """Writes events of labelled.v1."""

    def __init__(self, codec: Codec) -> None:
        self._header = codec.header_of(Labelled)

    def labelled(self, told: Labelled) -> bytes:
        """Encode an hour, or the time, by today's schema."""
        return b"".join(
            (
                self._header,
                blob(told.pseudonym),
                blob(told.encounter),
                long(told.hour),
                number(told.revision),
                _label(told.now),
                _label(told.before),
                texts(told.cohort_dimensions),
                texts(told.cohorts),
                text(told.definition),
                text(told.model_digest),
                text(told.policy_version),
                _maybe(told.watermark),
            )
        )


def _label(label: HourLabel | None) -> bytes:
    if label is None:
        return NONE
    return b"".join(
        (
            SOME,
            _scores(label.score, label.threshold, label.above, label.raised, label.first_alert),
            long(label.label),
            _FLAG[label.final],
            _FLAG[label.onset],
            _maybe(label.lead_s),
            _maybe(label.recognition_lead_s),
            _maybe(label.treatment_lead_s),
            _FLAG[label.shown],
            _maybe(label.answered_at),
            text(label.verdict),
            text(label.reason),
            _maybe(label.acted_at),
            text(label.authority),
            _FLAG[label.from_start],
        )
    )


def _maybe(value: int | None) -> bytes:
    return NONE if value is None else SOME + long(value)
