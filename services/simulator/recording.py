"""What can be replayed: patients of the PhysioNet 2019 challenge, and FHIR files as they are."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from services.core.errors import CommandError
from services.core.faults import Fault
from services.simulator import physionet
from services.simulator.messages import START, Message


class _Resource(msgspec.Struct, frozen=True):
    resourceType: Any = None  # noqa: N815 - FHIR's own name


class _Entry(msgspec.Struct):
    resource: _Resource = _Resource()


class _Bundle(msgspec.Struct):
    resourceType: Any = None  # noqa: N815 - FHIR's own name
    entry: list[msgspec.Raw] = []


_BUNDLE: Final = msgspec.json.Decoder(_Bundle)
_ENTRY: Final = msgspec.json.Decoder(_Entry)


class Recording(NamedTuple):
    """Something to replay.

    Attributes:
        kind: `physionet` or `fhir`.
        patients: how many patients it has; None when the files would have to be read to know.
        messages: how many messages it has at most; None as above.
        stream: the messages in order of their time, to be taken once.
    """

    kind: str
    patients: int | None
    messages: int | None
    stream: Iterator[Message]


def open_recording(
    path: Path,
    source: str,
    *,
    now: Callable[[], datetime],
    start: datetime = START,
    limit: int | None = None,
) -> Recording:
    """Open a file or folder for replay.

    Args:
        path: `.parquet`, `.psv` or a folder of `.psv`: recorded patients; `.json`, `.ndjson` or
            a folder of them: FHIR resources and Bundles.
        source: the id of the sender.
        now: the clock by which FHIR files are received.
        start: when recorded patients begin to arrive.
        limit: take only the first so many recorded patients, in order of their id.

    Raises:
        CommandError: there is nothing there that can be replayed.
    """
    if path.exists() and _is_physionet(path):
        return _physionet(path, source, start=start, limit=limit)
    return Recording("fhir", None, None, _fhir_messages(_fhir_files(path), source, now))


def _is_physionet(path: Path) -> bool:
    return path.suffix in {".parquet", ".psv"} or (path.is_dir() and any(path.glob("*.psv")))


def _physionet(path: Path, source: str, *, start: datetime, limit: int | None) -> Recording:
    table = physionet.read(path)
    ids = table["patient_id"].unique().sort()[:limit]
    table = table.filter(table["patient_id"].is_in(ids.implode()))
    stream = physionet.messages(table, source=source, start=start)
    return Recording("physionet", len(ids), len(table) + len(ids), stream)


def _fhir_files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else sorted(path.glob("*.*"))
    files = [file for file in found if file.suffix in {".json", ".ndjson"}]
    if not files:
        raise CommandError(
            f"There is nothing to replay at {path}.",
            "Give a .parquet, .psv, .json or .ndjson file, or a folder of such files.",
            Fault.NOT_RECORDED if path.exists() else Fault.NO_RECORDING,
        )
    return files


def _fhir_messages(
    files: list[Path], source: str, now: Callable[[], datetime]
) -> Iterator[Message]:
    for file in files:
        for body in _bodies(file):
            entries, observations = _counts(body)
            yield Message(
                source=source,
                time=now(),
                lane=file.name,
                body=body,
                entries=entries,
                observations=observations,
            )


def _bodies(file: Path) -> Iterator[bytes]:
    if file.suffix == ".json":
        yield file.read_bytes()
        return
    with file.open("rb") as lines:
        yield from (line for line in (line.strip() for line in lines) if line)


def _counts(body: bytes) -> tuple[int, int]:
    """Count entries and Observations; what cannot be read counts as one entry."""
    try:
        bundle = _BUNDLE.decode(body)
        kinds = [_ENTRY.decode(entry).resource.resourceType for entry in bundle.entry]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return 1, 0  # it is sent all the same: the receiver judges
    if bundle.resourceType != "Bundle":
        return 1, int(bundle.resourceType == "Observation")
    return len(kinds), kinds.count("Observation")
