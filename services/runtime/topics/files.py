"""Topic files: `schemas/topics/*.yaml` as values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from services.core.errors import CommandError
from services.core.faults import Fault


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a topic is for, and how a cluster must hold it."""

    topic: str
    description: str
    key: str
    event: str | None  # name of a schema in schemas/events; None: bytes of another kind
    partitioned_by: Literal["patient", "key", "none"]
    phi: bool
    producers: list[str]
    consumers: list[str]
    config: dict[str, str | int]
    partitions: int | None = None  # only where it differs from that of every other topic

    def settings(self) -> Mapping[str, str]:
        """Give the topic's settings as a cluster writes them."""
        return {name: str(value) for name, value in self.config.items()}


def read_topics(schemas: Path) -> list[Topic]:
    """Read every topic file, by name.

    Args:
        schemas: the folder that holds `topics/`.

    Raises:
        CommandError: there is none, or one is malformed.
    """
    topics = [_read(path) for path in sorted((schemas / "topics").glob("*.yaml"))]
    if not topics:
        raise CommandError(
            f"there are no topic files in {schemas / 'topics'}",
            "start in the project's folder, or set VIGIL_SCHEMAS to its schemas",
            Fault.NO_CONTRACTS,
        )
    return topics


def _read(path: Path) -> Topic:
    try:
        topic = msgspec.yaml.decode(path.read_bytes(), type=Topic)
    except (OSError, msgspec.MsgspecError) as error:
        raise CommandError(
            f"{path} is no topic file: {error}",
            "correct it after the example of its neighbors",
            Fault.TOPIC_FILE,
        ) from None
    if topic.topic != path.stem:
        raise CommandError(
            f"{path} describes the topic {topic.topic}",
            "name the file after its topic",
            Fault.TOPIC_FILE,
        )
    return topic
