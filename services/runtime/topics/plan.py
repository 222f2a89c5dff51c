"""What must change in a cluster so that it holds the topics as their files say."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from services.runtime.topics.files import Topic


class Existing(Protocol):
    """A topic as the cluster has it."""

    @property
    def partitions(self) -> int:
        """How many it has."""

    @property
    def config(self) -> Mapping[str, str]:
        """Its settings that differ from the cluster's defaults."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A topic to create, or settings of one to set; `before` holds None for what was not set."""

    topic: str
    action: Literal["create", "configure"]
    partitions: int
    config: dict[str, str]
    before: dict[str, str | None]


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """What must not be done, and why."""

    subject: str
    why: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that differs; a plan with refusals is not carried out at all."""

    changes: list[Change]
    refused: list[Refused]


def plan(topics: Sequence[Topic], existing: Mapping[str, Existing], *, partitions: int) -> Plan:
    """Compare files with a cluster; pure.

    Args:
        topics: as their files say.
        existing: what the cluster holds, by name; topics without a file are left alone.
        partitions: of every topic whose file states no number of its own, at least 1.
    """
    changes, refused = [], []
    for topic in topics:
        held = existing.get(topic.topic)
        wanted = _wanted(topic, held, partitions)
        if held is not None and held.partitions != wanted:
            refused.append(_more_or_fewer(topic.topic, held.partitions, wanted=wanted))
        elif (change := _change(topic, held, wanted)) is not None:
            changes.append(change)
    return Plan(changes=changes, refused=refused)


def _wanted(topic: Topic, held: Existing | None, partitions: int) -> int:
    """Say how many partitions a topic shall have: as many as it has where more do no harm."""
    wanted = topic.partitions or partitions
    # Such a topic is read together with no other, and its keys are not those of patients.
    may_have_more = topic.partitions is not None and topic.partitioned_by == "key"
    return max(wanted, held.partitions) if held is not None and may_have_more else wanted


def _more_or_fewer(topic: str, held: int, *, wanted: int) -> Refused:
    return Refused(
        subject=topic,
        why=f"it has {held} partitions and {wanted} are asked for: patients would change their "
        f"place in the order; set VIGIL_PARTITIONS={held}, or make a new version of the topic",
    )


def _change(topic: Topic, held: Existing | None, wanted: int) -> Change | None:
    before = {} if held is None else held.config
    differs = {k: v for k, v in topic.settings().items() if before.get(k) != v}
    if held is not None and not differs:
        return None
    return Change(
        topic=topic.topic,
        action="create" if held is None else "configure",
        partitions=wanted,
        config=differs,
        before={} if held is None else {k: before.get(k) for k in differs},
    )
