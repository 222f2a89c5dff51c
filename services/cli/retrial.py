"""The log once more, its scores as they are on record and judged by other policies.

What corrected, retracted, moved or discharged a patient is found by what finds it in scoring, and
what follows of it is decided by what decides it there; only the scores are not computed again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from services.core.errors import Refusal
from services.core.events import Disposition, Kind, Role
from services.core.features import FEATURES
from services.core.policy import Policy, Tally
from services.runtime.codec import Codec
from services.scoring.alerting import Alerting
from services.scoring.entries import QUIET, Entry, Model, Note
from services.scoring.horizon import Horizon
from services.scoring.patients.message import Messages
from services.scoring.patients.summary import hour_of
from services.scoring.patients.ward import Ward
from services.scoring.patients.wire import Wire
from services.scoring.shades import Shade
from services.scoring.shares import Run
from services.scoring.watermark import Watermark

NO_ROWS: Final = np.empty((0, len(FEATURES)), np.float32)
LINES: Final = 512
"""Messages that are applied at once."""


class Seen(NamedTuple):
    """What the record says of an offset.

    Attributes:
        disposition: SCORED, ABSTAINED, …
        encounter: whose; zeros for none.
        at: event time of the score, µs.
        unit: the patient was in, or `unknown`.
        score: probability, of float32 precision; NaN where not scored.
    """

    disposition: Disposition
    encounter: bytes
    at: int
    unit: str
    score: float


class Line(NamedTuple):
    """A record of the log of vitals."""

    offset: int
    value: bytes


class Retrial:
    """One partition, read again."""

    def __init__(self, codec: Codec, policies: Sequence[Policy], tallies: Sequence[Tally]) -> None:
        """Begin with nobody known.

        Args:
            codec: for events.
            policies: that judge, each with a memory of its own.
            tallies: of each, what it tells.
        """
        self._wire, self._ward, self._watermark = Wire(codec), Ward(), Watermark()
        self._judges = [_Judge(*each) for each in zip(policies, tallies, strict=True)]

    def hear(self, lines: Sequence[Line], seen: Mapping[int, Seen]) -> None:
        """Take records in the order of the log.

        Args:
            lines: those of a time before the trial too, for what they say of patients.
            seen: what is on record, by offset, of those that are to be judged. Ticks are always.
        """
        done = 0
        while done < len(lines):
            some = lines[done : done + LINES]
            messages, notes, ends = self._read(some)
            run = Run([line.offset for line in some[: len(messages)]], messages)
            run.follow(self._ward.follow(messages, NO_ROWS))
            run.notes |= notes
            for judge in self._judges:
                judge.judge(run, seen)
            if ends is not None:
                self._forget(ends)
            self._ward.changed()
            done += len(messages)

    def _read(self, lines: Sequence[Line]) -> tuple[Messages, dict[int, Note], int | None]:
        """Read up to a tick that begins an hour, as scoring does; give notes and that time."""
        messages, notes = self._wire.events([line.value for line in lines]), dict[int, Note]()
        for place, event in messages.odd.items():
            if isinstance(event, Refusal) or event.kind is not Kind.TICK:
                continue
            before = self._watermark.now
            self._watermark.tick(event.source, event.measured_at)
            now = self._watermark.now
            notes[place] = Note(watermark=now)
            if now is not None and (before is None or hour_of(before) != hour_of(now)):
                return messages.first(place + 1), notes, now
        return messages, notes, None

    def _forget(self, now: int) -> None:
        self._ward.evict(now)
        for judge in self._judges:
            judge.shade.forget(self._ward.patients)


class _Judge:
    def __init__(self, policy: Policy, tally: Tally) -> None:
        self._policy, self._tally, self.shade = policy, tally, Shade()
        model = Model(
            name="trial",
            version="",
            digest="0" * 64,
            policy_version=policy.version,
            role=Role.SHADOW,
            vitals_topic_id="0" * 32,
        )
        self._alerting = Alerting(
            policy, model, self.shade, partition=0, explain=lambda _: [], horizon=Horizon()
        )

    def judge(self, run: Run, seen: Mapping[int, Seen]) -> None:
        for entry in self._entries(run, seen):
            if entry.event.pseudonym:
                self.shade.touched(entry.event.pseudonym)
            for alert in self._alerting.step(entry):
                self._tally.step(alert)
            if entry.disposition is Disposition.SCORED:
                self._tally.score(entry.decision, encounter=entry.encounter, at=entry.as_of)
        for _ in self.shade.changes():
            pass

    def _entries(self, run: Run, seen: Mapping[int, Seen]) -> Iterator[Entry]:
        for place, offset in enumerate(run.offsets):
            note = run.notes.get(place, QUIET)
            found = seen.get(offset) or (_TICK if note.watermark is not None else None)
            if found is not None:
                yield self._entry(run, place, note, found)

    def _entry(self, run: Run, place: int, note: Note, found: Seen) -> Entry:
        return Entry(
            offset=run.offsets[place],
            event=run.event(place),
            note=note,
            disposition=found.disposition,
            encounter=found.encounter,
            unit=found.unit,
            as_of=found.at,
            seat=place,
            score=found.score,
            threshold=self._policy.threshold_in(found.unit),
        )


_TICK: Final = Seen(Disposition.STATE_ONLY, b"", 0, "", float("nan"))
"""A tick is told to every model's patients, and on record with one of them."""
