"""Stories of one patient in words, and what the hospital was told, in words again.

A story is a list of `<hour>h <what>`: a score such as `.70`, `to MICU`, `somewhere` (a message of
the encounter that names no unit), `retract 0h`, `correct 0h .40`, `tick`, `discharge`, `new stay`,
or `silent`, a value that cannot be used. Told is `<hour>h <alert> <step> <cause>`, alerts by
letter in the order in which they were raised; behind a raising or an escalation stands its
severity where it has one.
"""

from collections.abc import Iterable

import msgspec
from wards import HOUR, START, admitted, measured, person, retracted, tick

from services.core.events import Alert, Flag, Step, Vitals

WHO = "p"


def events_of(story: str) -> list[Vitals]:
    """Make the events of a story; everything is sent at its hour."""
    stay, made = 1, list[Vitals]()
    for entry in story.split(","):
        hour, what = entry.strip().split("h ", 1)
        stay += what == "new stay"
        made.append(_event(START + round(float(hour) * HOUR), what.split(), f"e{stay}"))
    return made


def _event(at: int, what: list[str], stay: str) -> Vitals:
    match what:
        case ["tick"]:
            return tick(at)
        case ["to", unit]:
            return admitted(WHO, at, stay, unit=unit)
        case ["new", "stay"] | ["somewhere"]:
            return admitted(WHO, at, stay)
        case ["discharge"]:
            return admitted(WHO, at, stay, "finished")
        case _:
            return msgspec.structs.replace(_observed(at, what), encounter=person(stay))


def _observed(at: int, what: list[str]) -> Vitals:
    match what:
        case ["silent"]:
            return measured(WHO, at, _rate("0"), flags=int(Flag.ABSENT))
        case ["retract", hour]:
            return retracted(WHO, _at(hour), ["HR"], received_at=at)
        case ["correct", hour, score]:
            return measured(WHO, _at(hour), _rate(score), received_at=at, version=2)
        case [score]:
            return measured(WHO, at, _rate(score))
        case _:
            raise ValueError(what)


def _rate(score: str) -> dict[str, float]:
    """The heart rate that the model of `wards` scores so."""
    return {"HR": 200 * float(score)}


def _at(hour: str) -> int:
    return START + round(float(hour.removesuffix("h")) * HOUR)


def told(alerts: Iterable[Alert]) -> str:
    """Say what the hospital was told."""
    letters: dict[str, str] = {}
    return ", ".join(_words(alert, letters) for alert in alerts)


def _words(alert: Alert, letters: dict[str, str]) -> str:
    letter = letters.setdefault(alert.alert_id, "ABCDEFGH"[len(letters)])
    hour = (alert.received_at - START) / HOUR
    told_of = alert.step in {Step.RAISED, Step.ESCALATED} and alert.severity
    severity = f" {alert.severity}" if told_of else ""
    return f"{hour:g}h {letter} {alert.step}{severity} {alert.cause}"
