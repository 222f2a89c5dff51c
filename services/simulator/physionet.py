"""Patients of the PhysioNet 2019 challenge, replayed as a hospital would have sent them."""

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.core.errors import CommandError
from services.core.faults import Fault
from services.core.vitals import UNITS, VARIABLES
from services.simulator import fhir
from services.simulator.messages import Message, instant

if TYPE_CHECKING:
    import polars as pl

SPREAD_MINUTES: Final = 24 * 60
"""Recorded patients arrive within this time of the replay's start."""

_STATIC: Final = ("Age", "Gender", "Unit1", "Unit2", "HospAdmTime", "ICULOS")
_COLUMNS: Final = ("patient_id", *VARIABLES, *_STATIC)
_PRESSURES: Final = ("SBP", "DBP")
_SINGLES: Final = tuple(name for name in VARIABLES if name not in _PRESSURES)
_DAYS_PER_YEAR: Final = 365.25

Row = dict[str, Any]


def read(path: Path) -> "pl.DataFrame":
    """Read a parquet file, one PSV file or a folder of PSV files of the challenge.

    Raises:
        CommandError: columns are missing, or the file cannot be read.
    """
    import polars as pl  # noqa: PLC0415 - slow to import, and only needed here

    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else _read_psv(path)
        return table.select(_COLUMNS).with_columns(pl.exclude("patient_id").cast(pl.Float64))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CommandError(
            f"{path} is not data of the PhysioNet 2019 challenge ({type(error).__name__}).",
            f"Give a .parquet or .psv file, or a folder of .psv files, with {_COLUMNS[1]} … "
            f"{_COLUMNS[-1]} as columns.",
            Fault.NOT_RECORDED,
        ) from error


def _read_psv(path: Path) -> "pl.DataFrame":
    import polars as pl  # noqa: PLC0415 - as above

    parts = sorted(path.glob("*.psv")) if path.is_dir() else [path]
    return pl.concat(
        pl.read_csv(part, separator="|", null_values=["NaN"], infer_schema=False).with_columns(
            patient_id=pl.lit(part.stem)
        )
        for part in parts
    )


def admission(patient: str, start: datetime) -> datetime:
    """Say when a recorded patient's first row falls: a minute of the day after `start`.

    The minute is drawn from the patient's id, so that a replay is always the same and the hours
    of many patients overlap. All rows of a patient keep that minute of their hour.
    """
    drawn = int.from_bytes(sha256(patient.encode()).digest()[:8], "big")
    return start + timedelta(minutes=drawn % SPREAD_MINUTES)


def timed(table: "pl.DataFrame", start: datetime) -> "pl.DataFrame":
    """Order the rows as they happen: adds `at`, `hour` (from 0) and `last` (of the patient)."""
    import polars as pl  # noqa: PLC0415 - as above

    hour = pl.col("ICULOS") - pl.col("ICULOS").min().over("patient_id")
    ids = table["patient_id"].unique().to_list()
    anchors = {identity: admission(identity, start) for identity in ids}
    anchor = pl.col("patient_id").replace_strict(anchors, return_dtype=pl.Datetime("us", "UTC"))
    return (
        table.with_columns(hour=hour.cast(pl.Int64))
        .with_columns(at=anchor + pl.duration(hours=pl.col("hour")))
        .with_columns(last=pl.col("hour") == pl.col("hour").max().over("patient_id"))
        .sort("at", "patient_id")
    )


def messages(table: "pl.DataFrame", *, source: str, start: datetime) -> Iterator[Message]:
    """Turn rows into one Bundle per patient and hour, in order of time.

    The first Bundle of a patient brings Patient and Encounter, an hour after the last row the
    Encounter is finished. An hour without any value sends nothing.
    """
    discharges: list[tuple[datetime, Row]] = []
    for row in timed(table, start).iter_rows(named=True):
        while discharges and discharges[0][0] <= row["at"]:
            yield _discharge(*discharges.pop(0), source)
        resources = [*_arrival(row), *_observations(row)]
        if resources:
            yield _message(row["patient_id"], row["at"], source, resources)
        if row["last"]:
            # Rows come in order of time, so the discharges an hour after them do too.
            discharges.append((row["at"] + timedelta(hours=1), row))
    for at, row in discharges:
        yield _discharge(at, row, source)


def _message(patient: str, at: datetime, source: str, resources: list[fhir.Resource]) -> Message:
    measured = sum(resource["resourceType"] == "Observation" for resource in resources)
    return Message(
        source=source,
        time=at,
        lane=patient,
        body=msgspec.json.encode(fhir.bundle(resources)),
        entries=len(resources),
        observations=measured,
    )


def _discharge(at: datetime, row: Row, source: str) -> Message:
    return _message(row["patient_id"], at, source, [_encounter(row, ended=at)])


def _arrival(row: Row) -> Iterable[fhir.Resource]:
    return (_patient(row), _encounter(row)) if row["hour"] == 0 else ()


def _patient(row: Row) -> fhir.Resource:
    age = row["Age"]
    born = row["at"] - timedelta(days=round((age or 0.0) * _DAYS_PER_YEAR))
    gender = {0.0: "female", 1.0: "male"}.get(row["Gender"], "unknown")
    resource = fhir.patient(row["patient_id"], birth_date=born.date().isoformat(), gender=gender)
    if _missing(age):
        del resource["birthDate"]
    return resource


def _encounter(row: Row, ended: datetime | None = None) -> fhir.Resource:
    in_unit = row["at"] - timedelta(hours=row["ICULOS"] - 1)
    before = 0.0 if _missing(row["HospAdmTime"]) else min(row["HospAdmTime"], 0.0)
    period = {"start": instant(in_unit + timedelta(hours=before))}
    if ended:
        period["end"] = instant(ended)
    unit = "MICU" if row["Unit1"] == 1 else "SICU" if row["Unit2"] == 1 else ""
    return fhir.encounter(
        f"{row['patient_id']}-1",
        row["patient_id"],
        status="finished" if ended else "in-progress",
        period=period,
        unit=unit,
        since=instant(in_unit),
    )


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _observations(row: Row) -> Iterator[fhir.Resource]:
    charted = fhir.Charted(
        patient=row["patient_id"],
        encounter=f"{row['patient_id']}-1",
        effective=instant(row["at"]),
    )
    stem = f"{row['patient_id']}-{row['hour']}"
    pressures = {
        name: fhir.quantity(row[name], UNITS[name])
        for name in _PRESSURES
        if not _missing(row[name])
    }
    if pressures:
        yield fhir.blood_pressure(charted, f"{stem}-85354-9", pressures)
    for name in _SINGLES:
        if not _missing(row[name]):
            yield fhir.observation(
                charted, f"{stem}-{fhir.PRIMARY[name]}", name=name, value=row[name]
            )
