"""A ward that is always full: beds, the stays in them, and the messages they give, in order."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from heapq import merge
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec
import numpy as np

from services.simulator import fhir, people, rendering
from services.simulator.charting import draw_chart
from services.simulator.hospital import HOSPITAL, TOWN, Bed, Hospital, furnish
from services.simulator.messages import Message, instant
from services.simulator.people import Person
from services.simulator.physiology import Illness, draw_illness, true_hours
from services.simulator.rendering import Stay
from services.simulator.scenario import Place, Strike
from services.simulator.trouble import Plan, Sending, Trouble, plan

_SHORTEST_H: Final = 24
_LONGEST_H: Final = 8 * 24
_STAY_SPREAD: Final = 0.5
_SEPTIC_LONGER_H: Final = 36
_LOOKALIKE_SHARE: Final = 0.15
_EMPTY_H: Final = 2.0
"""Mean hours that a bed stays empty."""


class Course(NamedTuple):
    """What is true of one stay, known to the simulator alone.

    Attributes:
        patient: the patient's logical id.
        encounter: the encounter's logical id.
        unit: the care unit.
        admitted_at: event-world time.
        ended_at: event-world time.
        onset_at: when sepsis was full-blown, None for never.
        severity: of the sepsis, 0 for none.
    """

    patient: str
    encounter: str
    unit: str
    admitted_at: datetime
    ended_at: datetime
    onset_at: datetime | None
    severity: float


class Ward:
    """A seeded ward: the same arguments give the same messages, byte for byte.

    Args:
        rng: draws everything.
        start: event-world time at which the first patients arrive.
        beds: how many; nearly all are taken at any time after the first hour.
        source: the id of the sender.
        strike: a scenario and the hour at which it strikes; everything it leaves alone is the
            same as without it.
        trouble: how often things go wrong.
        hospital: units and habits.
    """

    def __init__(  # noqa: PLR0913 - a hospital has as many sides
        self,
        rng: np.random.Generator,
        start: datetime,
        *,
        beds: int = 40,
        source: str = "ward",
        strike: Strike | None = None,
        trouble: Trouble | None = None,
        hospital: Hospital = HOSPITAL,
    ) -> None:
        furniture, self._chance = rng.spawn(2)
        self.beds = furnish(furniture, hospital, beds)
        self.courses: list[Course] = []
        """The truth about every stay that has begun."""
        self.people: list[Person] = []
        """Everybody who was ever admitted."""
        self._start = start
        self._source = source
        self._strike = strike
        self._trouble = trouble or Trouble()
        self._hospital = hospital

    def messages(self, hours: float) -> Iterator[Message]:
        """Give all messages of the first so many hours, in order of time; to be taken once."""
        streams = [self._of_bed(bed, rng, hours) for bed, rng in self._beds()]
        return merge(*streams, key=attrgetter("time"))

    def stays(self, hours: float) -> Iterator[tuple[Stay, Course, Plan]]:
        """Give every stay that begins in the first so many hours, bed by bed; instead of messages.

        The last ones of each bed may end later.
        """
        for bed, rng in self._beds():
            yield from self._in_bed(bed, rng, hours)

    def _beds(self) -> list[tuple[Bed, np.random.Generator]]:
        return list(zip(self.beds, self._chance.spawn(len(self.beds)), strict=True))

    def _in_bed(
        self, bed: Bed, rng: np.random.Generator, hours: float
    ) -> Iterator[tuple[Stay, Course, Plan]]:
        free_h = rng.uniform(0, 1)
        while free_h < hours:
            stay, course, planned = self._admit(bed, rng.spawn(1)[0], free_h)
            yield stay, course, planned
            free_h += _hours_of(course) + rng.exponential(_EMPTY_H) + 0.5

    def _of_bed(self, bed: Bed, rng: np.random.Generator, hours: float) -> Iterator[Message]:
        end = self._start + timedelta(hours=hours)
        for stay, course, planned in self._in_bed(bed, rng, hours):
            for message in self._of_stay(stay, course, planned):
                if message.time >= end:
                    return
                yield message

    def _admit(
        self, bed: Bed, rng: np.random.Generator, admitted_h: float
    ) -> tuple[Stay, Course, Plan]:
        who, body, noting, wrong, struck = rng.spawn(5)
        admitted = self._start + timedelta(seconds=round(admitted_h * 3600))
        person = people.draw_person(who, TOWN, admitted)
        local = admitted + timedelta(hours=self._hospital.utc_offset_h)
        place = Place(bed, person, admitted_h, local.hour + local.minute / 60)
        stay_h, illnesses = self._fate(body, place)
        truth = true_hours(
            body, stay_h, first_local_hour=place.first_local_hour, illnesses=illnesses
        )
        chart = draw_chart(noting, self._hospital, bed=bed, truth=truth, illnesses=illnesses)
        if self._strike:
            chart = self._strike.changed(chart, place, struck)
        planned = plan(wrong, self._trouble, chart, stay_h * 3600 - 1)
        course = _course(place, admitted, stay_h, illnesses)
        self.people.append(person)
        self.courses.append(course)
        return (
            Stay(place, admitted, chart, self._hospital.utc_offset_h, self._strike),
            course,
            planned,
        )

    def _fate(self, rng: np.random.Generator, place: Place) -> tuple[int, list[Illness]]:
        unit = place.bed.unit
        drawn, lookalike = rng.random(2)
        usual = rng.lognormal(np.log(unit.stay_days * 24), _STAY_SPREAD)
        times = self._strike.sepsis_times(place) if self._strike else 1.0
        septic = drawn < unit.septic_share * times
        stay_h = int(np.clip(usual + _SEPTIC_LONGER_H * septic, _SHORTEST_H, _LONGEST_H))
        course = rng.spawn(1)[0]
        if septic:
            return stay_h, [draw_illness(course, stay_h, septic=True)]
        if lookalike < _LOOKALIKE_SHARE:
            return stay_h, [draw_illness(course, stay_h, septic=False)]
        return stay_h, []

    def _of_stay(self, stay: Stay, course: Course, planned: Plan) -> Iterator[Message]:
        person = stay.place.person
        arrival = [*people.resources(person), _encounter(stay, course, ended=False)]
        yield self._message(person, course.admitted_at, arrival)
        for sending in planned.sendings:
            at = course.admitted_at + timedelta(seconds=sending.at_s)
            if sending.kind == "bad":
                body = rendering.unusable(stay, sending.row, sending.detail)
                yield self._raw(person, at, body)
            else:
                yield self._message(person, at, _written(stay, planned, sending))
        yield self._message(person, course.ended_at, [_encounter(stay, course, ended=True)])

    def _message(self, person: Person, at: datetime, resources: list[fhir.Resource]) -> Message:
        return Message(
            source=self._source,
            time=at,
            lane=person.identity,
            body=msgspec.json.encode(fhir.bundle(resources)),
            entries=len(resources),
            observations=sum(r["resourceType"] == "Observation" for r in resources),
        )

    def _raw(self, person: Person, at: datetime, body: bytes) -> Message:
        return Message(source=self._source, time=at, lane=person.identity, body=body, entries=1)


def _hours_of(course: Course) -> float:
    return (course.ended_at - course.admitted_at) / timedelta(hours=1)


def _course(place: Place, admitted: datetime, stay_h: int, illnesses: list[Illness]) -> Course:
    septic = [illness for illness in illnesses if illness.septic]
    return Course(
        patient=place.person.identity,
        encounter=place.person.encounter,
        unit=place.bed.unit.name,
        admitted_at=admitted,
        ended_at=admitted + timedelta(hours=stay_h),
        onset_at=admitted + timedelta(hours=septic[0].onset_h) if septic else None,
        severity=septic[0].severity if septic else 0.0,
    )


_STATUS: Final = {"correction": "amended", "retraction": "entered-in-error"}


def _written(stay: Stay, planned: Plan, sending: Sending) -> list[fhir.Resource]:
    if sending.kind in _STATUS:
        status = _STATUS[sending.kind]
        return [rendering.second_version(stay, sending.row, sending.detail, status)]
    return rendering.chart_row(
        stay,
        sending.row,
        mistyped=planned.mistyped.get(sending.row, ""),
        extra=sending.row in planned.extra,
    )


def _encounter(stay: Stay, course: Course, *, ended: bool) -> fhir.Resource:
    period = {"start": instant(course.admitted_at)}
    if ended:
        period["end"] = instant(course.ended_at)
    return fhir.encounter(
        course.encounter,
        course.patient,
        status="finished" if ended else "in-progress",
        period=period,
        unit=stay.place.bed.unit.name,
        since=instant(course.admitted_at),
    )
