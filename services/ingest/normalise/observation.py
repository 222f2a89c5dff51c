"""An Observation becomes readings, takes earlier ones back, or is refused with a reason."""

import hashlib
import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from services.core.errors import Reason, Refusal
from services.core.events import Flag, Kind
from services.core.terminology.book import Concept, Terminology
from services.core.terminology.codes import NOT_OURS, PANEL
from services.core.vitals import VITALS
from services.ingest.normalise import moments, quantities, resources, strict
from services.ingest.normalise.findings import Measured, OutOfScope, Reading
from services.ingest.normalise.links import Links, check_id
from services.ingest.normalise.resources import Component, Observation

UNKNOWN_VARIABLE: Final = 255
"""Retracts every reading of the resource, whatever its variable was."""
LATE_US: Final = 3_600_000_000
"""A vital sign that comes so long after it was measured may come from a wrong clock: 1 h."""
_USED: Final = frozenset({"final", "amended", "corrected", "preliminary"})
_TAKEN_BACK: Final = frozenset({"entered-in-error", "cancelled"})
_NOT_YET: Final = frozenset({"registered", "unknown"})
_VALUES: Final = frozenset(
    f"value{kind}"
    for kind in (
        *("Quantity", "CodeableConcept", "String", "Boolean", "Integer", "Range", "Ratio"),
        *("SampledData", "Time", "DateTime", "Period", "Attachment", "Reference"),
    )
)
_OTHER_VALUES: Final = _VALUES - {"valueQuantity"}
_FEW, _SHORT = 12, 100
_TOO_LONG: Final = len(str(1 << 63))
VITAL_SIGNS: Final = len(VITALS)
"""Variables before this one are vital signs."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is known around one entry of a message."""

    terminology: Terminology
    links: Links
    received_at: int
    original: Callable[[], bytes]
    """Gives the entry as it was received; costs a second look at the message."""


def read_observation(content: dict[str, Any], scene: Scene) -> Measured | OutOfScope:
    """Read a parsed Observation.

    A status that is neither used nor taken back (registered, unknown) is out of scope, and so is
    a code that the tables do not have.

    Raises:
        Refusal: for every fault that `terminology.md` and `bad_inputs.tsv` name.
    """
    seen = resources.read(content, Observation)
    if seen.modifierExtension:
        raise Refusal(Reason.MODIFIER_EXT, "modifierExtension")
    if seen.id is not None:
        check_id(seen.id, "id")
    if seen.status in _TAKEN_BACK:
        return _retraction(seen, scene)
    if seen.status in _NOT_YET:
        return OutOfScope(f"status {seen.status}")
    if seen.status not in _USED:
        raise Refusal(Reason.FHIR_STATUS, "status")
    concept = _concept(seen, scene, seen.category)
    if concept.variable == NOT_OURS or "valueSampledData" in content:
        return OutOfScope(scene.terminology.told(concept.code))
    readings = _readings(seen, content, concept, scene)
    if not readings:
        return OutOfScope(concept.code)
    return _measured(Kind.OBSERVATION, seen, _measured_at(seen, scene), readings, scene)


def _measured(
    kind: Kind, seen: Observation, measured_at: int, readings: list[Reading], scene: Scene
) -> Measured:
    return Measured(
        kind=kind,
        patient=scene.links.patient(resources.target(seen.subject), "subject.reference"),
        encounter=scene.links.encounter(resources.target(seen.encounter)),
        measured_at=measured_at,
        identifier=seen.id or hashlib.sha256(scene.original()).hexdigest(),
        without_id=seen.id is None,
        version=version_of(seen.meta),
        device=resources.target(seen.device) or "",
        skewed=is_skewed(seen.issued, measured_at, readings[0].variable, scene.received_at),
        readings=readings,
    )


def is_skewed(issued: object, measured_at: int, variable: int, received_at: int) -> bool:
    """Say whether a clock seems wrong: issued before measured, or a vital sign an hour late."""
    if received_at - measured_at >= LATE_US and variable < VITAL_SIGNS:
        return True
    if not isinstance(issued, str):
        return False
    try:
        return moments.instant(issued) < measured_at
    except ValueError:
        return False  # it is not read: what is wrong with it is nobody's harm


def version_of(meta: resources.Meta | None) -> int:
    """Order the versions of a resource: a greater number is later, 0 is unknown.

    `meta.versionId` where it is a whole number, else `meta.lastUpdated` in microseconds since the
    epoch. A source keeps to one of the two; where it changes from numbers to times, the times are
    later, because they are greater than any count of versions.
    """
    if meta is None:
        return 0
    given = meta.versionId or ""
    if given.isascii() and given.isdecimal() and len(given) < _TOO_LONG:
        return int(given)
    try:
        return max(0, moments.instant(meta.lastUpdated or ""))
    except ValueError:
        return 0


def _concept(
    seen: Observation | Component, scene: Scene, categories: tuple[resources.Concept, ...]
) -> Concept:
    """Say what an Observation, or a component of one, is about."""
    if seen.code is None or not seen.code.coding:
        raise Refusal(Reason.FHIR_CODE, "code")
    key = (seen.code, categories)
    known = scene.terminology.known(key)
    if known is not None:
        return known
    found = meaning(seen.code, categories, scene.terminology)
    if found.variable != NOT_OURS and _is_short(key):
        scene.terminology.remember(key, found)
    return found


def meaning(
    code: resources.Concept, categories: tuple[resources.Concept, ...], terminology: Terminology
) -> Concept:
    """Say what the codings of a code mean in these categories; raises as `Terminology.concept`."""
    named = [terminology.loinc_of(c.system, c.code) for c in code.coding]
    filed = [c.code for category in categories for c in category.coding if c.code]
    return terminology.concept([name for name in named if name], filed)


def _is_short(key: tuple[resources.Concept, tuple[resources.Concept, ...]]) -> bool:
    """Say whether codings take little room: nothing that is sent fills the memory."""
    code, categories = key
    codings = [c for concept in (code, *categories) for c in concept.coding]
    return len(codings) <= _FEW and all(
        len(c.system or "") <= _SHORT and len(c.code or "") <= _SHORT for c in codings
    )


def _measured_at(seen: Observation, scene: Scene) -> int:
    """Say when it was measured; a period counts by its end."""
    text, place = seen.effectiveDateTime, "effectiveDateTime"
    if text is None or seen.effectiveInstant is not None or seen.effectivePeriod is not None:
        text, place = _other_time(seen)
    return moments.not_after(moments.moment(text, place), scene.received_at, place)


def _other_time(seen: Observation) -> tuple[str, str]:
    """Give an instant or the end of a period, and its place, where nothing else is told."""
    end = seen.effectivePeriod.end or "" if seen.effectivePeriod else None
    given = [
        (text, place)
        for text, place in (
            (seen.effectiveDateTime, "effectiveDateTime"),
            (seen.effectiveInstant, "effectiveInstant"),
            (end, "effectivePeriod.end"),
        )
        if text is not None
    ]
    if len(given) != 1:
        raise Refusal(Reason.TIME_FORMAT, "effective[x]")
    return given[0]


def _readings(
    seen: Observation, content: dict[str, Any], concept: Concept, scene: Scene
) -> list[Reading]:
    """Read the Observation's own value and those of its components."""
    found = []
    if concept.variable != PANEL and (
        not (seen.component or "hasMember" in content) or _has_value(seen, content)
    ):
        found.append(_reading(seen, content, concept, scene))
    for index, given in enumerate(seen.component):
        found += _component(resources.read(given, Component), seen, index, scene)
    if len(found) > 1 and len({reading.variable for reading in found}) != len(found):
        raise Refusal(Reason.CODE_CONFLICT, "component")
    if seen.status == "preliminary":
        return [msgspec.structs.replace(r, flags=r.flags | Flag.PRELIMINARY) for r in found]
    return found


def _component(part: Component, whole: Observation, index: int, scene: Scene) -> list[Reading]:
    place = f"component[{index}]"
    try:
        concept = _concept(part, scene, whole.category)
        if concept.variable < 0:
            return []
        return [_reading(part, whole.component[index], concept, scene)]
    except Refusal as refusal:
        raise Refusal(refusal.reason, f"{place}.{refusal.place}") from None


def _has_value(seen: Observation, content: dict[str, Any]) -> bool:
    return seen.dataAbsentReason is not None or not _VALUES.isdisjoint(content)


def _reading(
    seen: Observation | Component, content: dict[str, Any], concept: Concept, scene: Scene
) -> Reading:
    """Read one value; `content` is the Observation or component as parsed."""
    quantity, absent = seen.valueQuantity, seen.dataAbsentReason is not None
    if quantity is None or absent or not _OTHER_VALUES.isdisjoint(content):
        return _unmeasured(content, concept, absent=absent)
    if not quantity.value:
        # Zero is asystole: make sure that it was written so and did not shrink to it.
        strict.inspect(scene.original())
    try:
        return quantities.reading(quantity, concept, scene.terminology)
    except Refusal as refusal:
        raise Refusal(refusal.reason, f"valueQuantity.{refusal.place}") from None


def _unmeasured(content: dict[str, Any], concept: Concept, *, absent: bool) -> Reading:
    """Read what is absent with a reason; refuse what is there in another form, or twice."""
    given = _VALUES.intersection(content)
    if len(given) + absent != 1:
        raise Refusal(Reason.VALUE_CHOICE, "value[x]")
    if absent:
        return quantities.absent(concept)
    bare = "valueInteger" in given
    raise Refusal(Reason.UNIT_UNKNOWN if bare else Reason.VALUE_TYPE, next(iter(given)))


def _retraction(seen: Observation, scene: Scene) -> Measured | OutOfScope:
    """Name what is taken back: by id, one reading per variable that the resource still names."""
    if seen.id is None:
        raise Refusal(Reason.FHIR_ID, "id")
    concepts = _named(seen, scene)
    if concepts and all(concept.variable == NOT_OURS for concept in concepts):
        return OutOfScope(scene.terminology.told(concepts[0].code))
    named = {c.variable: c.code for c in concepts if c.variable >= 0} or {UNKNOWN_VARIABLE: ""}
    readings = [Reading(variable, math.nan, 0, code, "") for variable, code in named.items()]
    try:
        measured_at = _measured_at(seen, scene)
    except Refusal:
        measured_at = scene.received_at  # what is taken back is found by its id
    return _measured(Kind.RETRACTION, seen, measured_at, readings, scene)


def _named(seen: Observation, scene: Scene) -> list[Concept]:
    """Give the concepts of a resource whose faults do not matter any more."""
    found = []
    parts: list[Observation | Component] = [seen]
    parts += [resources.read(part, Component) for part in seen.component]
    for part in parts:
        try:
            found.append(_concept(part, scene, seen.category))
        except Refusal:
            continue
    return found
