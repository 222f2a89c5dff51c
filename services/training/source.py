"""Recorded stays in the shape of the PhysioNet 2019 challenge: Parquet or a folder of PSV."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.core.cohorts import OLDEST
from services.core.errors import CommandError
from services.core.faults import Fault
from services.core.vitals import USUAL, VARIABLE_INDEX, VARIABLES

TIME_COLUMNS: Final = ("ICULOS", "Unit1", "Unit2", "HospAdmTime")
"""Columns that tell where and since when, and that the shipped model never sees."""

_NEEDED: Final = (*VARIABLES, "Age", "Gender", "ICULOS", "SepsisLabel")


_TELL_EVERY: Final = 1000  # files

Say = Callable[[str], None]
"""Takes one line of progress for the person at the terminal."""


def silent(_: str) -> None:
    """Nobody is at the terminal."""


class Stays(NamedTuple):
    """Stays of P patients with R hours in all; rows of a patient follow each other in time.

    Attributes:
        ids: P patient ids.
        starts: (P + 1,) first row of each patient, and R.
        hour: (R,) hours since the patient's first row, 0 for that row.
        values: (R, 34) float32, NaN where not measured or not usable by the model.
        age: (R,) years, from OLDEST on told as OLDEST, as the stream tells them; NaN if unknown.
        sex: (R,) 0 female, 1 male, NaN if unknown.
        label: (R,) 1 from six hours before onset, else 0.
        context: (R, 4) float32, the TIME_COLUMNS, NaN where unknown.
        digest: sha256 of the file, or of the sha256s of the folder's files in order, hex.
    """

    ids: tuple[str, ...]
    starts: NDArray[np.int64]
    hour: NDArray[np.int64]
    values: NDArray[np.float32]
    age: NDArray[np.float32]
    sex: NDArray[np.float32]
    label: NDArray[np.int8]
    context: NDArray[np.float32]
    digest: str

    @property
    def patient(self) -> NDArray[np.int64]:
        """(R,) the place in `ids` of each row's patient."""
        return np.repeat(np.arange(len(self.ids)), np.diff(self.starts))

    def only(self, members: NDArray[np.bool_]) -> "Stays":
        """Some of the patients, (P,), with all of their rows."""
        rows = members[self.patient]
        return self._replace(
            ids=tuple(name for name, member in zip(self.ids, members, strict=True) if member),
            starts=np.append(0, np.cumsum(np.diff(self.starts)[members])),
            hour=self.hour[rows],
            values=self.values[rows],
            age=self.age[rows],
            sex=self.sex[rows],
            label=self.label[rows],
            context=self.context[rows],
        )


def read(path: Path, *, say: Say = silent) -> Stays:
    """Read stays from a Parquet file or from a folder of `<patient>.psv` files.

    Args:
        path: the file or the folder.
        say: told of progress.

    Raises:
        CommandError: the data are missing (CONFIGURATION) or not of this shape (REFUSED).
    """
    say(f"reading {path.name}")
    if path.is_dir():
        files = sorted(path.glob("*.psv"))
        table = _read_folder(files, say) if files else None
    elif path.is_file():
        files, table = [path], _read_parquet(path)
    else:
        raise CommandError(
            f"{path} is neither a file nor a folder.",
            "Give a Parquet file or a folder of .psv files.",
            Fault.NO_TRAINING_DATA,
        )
    if table is None or table.is_empty():
        raise _refused("There is no patient in the data.")
    if table["patient_id"].null_count():
        raise _refused("A row has no patient_id.")
    return _stays(table, _digest(files))


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise _refused(f"{path.name} is not a Parquet file.") from error
    if "patient_id" not in table.columns:
        raise _refused("The column patient_id is missing.")
    return _shaped(table)


def _read_folder(files: list[Path], say: Say) -> pl.DataFrame:
    tables = []
    for number, file in enumerate(files, start=1):
        tables.append(_read_psv(file, number))
        if number % _TELL_EVERY == 0:
            say(f"read {number} of {len(files)} files")
    return pl.concat(tables)


def _read_psv(path: Path, number: int) -> pl.DataFrame:
    # The file is named after the patient, so an error tells its number.
    try:
        table = pl.read_csv(path, separator="|", null_values=["NaN"], infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise _refused(f"The .psv file number {number}, by name, cannot be read.") from error
    return _shaped(table.with_columns(patient_id=pl.lit(path.stem)))


def _shaped(table: pl.DataFrame) -> pl.DataFrame:
    """Bring the columns into one order and type; NaN is missing."""
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise _refused(f"Columns are missing: {', '.join(missing)}.")
    numbers = dict.fromkeys([*VARIABLES, "Age", "Gender", *TIME_COLUMNS, "SepsisLabel"])
    table = table.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in numbers if name not in table.columns
    )
    try:
        return table.select(
            pl.col("patient_id").cast(pl.String), pl.col(*numbers).cast(pl.Float64)
        )
    except pl.exceptions.PolarsError as error:
        raise _refused("A column holds something that is not a number.") from error


def _stays(table: pl.DataFrame, digest: str) -> Stays:
    table = table.sort("patient_id", "ICULOS", maintain_order=True)
    ids, first, count = np.unique(
        table["patient_id"].to_numpy(), return_index=True, return_counts=True
    )
    starts = np.append(first, len(table))
    clock = _column(table, "ICULOS")
    label = _column(table, "SepsisLabel")
    hour = clock - np.repeat(clock[first], count)
    _check(hour, label, starts)
    return Stays(
        ids=tuple(ids.tolist()),
        starts=starts,
        hour=hour.astype(np.int64),
        values=_usable(table.select(VARIABLES).to_numpy()),
        age=np.minimum(_column(table, "Age"), OLDEST).astype(np.float32),
        sex=_column(table, "Gender").astype(np.float32),
        label=label.astype(np.int8),
        context=table.select(TIME_COLUMNS).to_numpy().astype(np.float32),
        digest=digest,
    )


def _column(table: pl.DataFrame, name: str) -> NDArray[np.float64]:
    return table[name].to_numpy().astype(np.float64)


def _check(
    hour: NDArray[np.float64], label: NDArray[np.float64], starts: NDArray[np.int64]
) -> None:
    step = np.diff(hour)
    step[starts[1:-1] - 1] = 1
    if not np.all(step >= 1) or not np.all(hour == np.rint(hour)):
        raise _refused("ICULOS must be whole hours that rise from row to row of a patient.")
    if not np.all(np.isin(label, (0, 1))):
        raise _refused("SepsisLabel must be 0 or 1 in every row.")


def _usable(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Drop what the stream keeps from the model too: unusual values, systolic below diastolic."""
    low, high = np.array([USUAL[name] for name in VARIABLES]).T
    usable = (values >= low) & (values <= high)
    systolic, diastolic = VARIABLE_INDEX["SBP"], VARIABLE_INDEX["DBP"]
    crossed = values[:, systolic] < values[:, diastolic]
    usable[crossed, systolic] = usable[crossed, diastolic] = False
    return np.where(usable, values, np.nan).astype(np.float32)


def _digest(files: list[Path]) -> str:
    """The file's sha256; of several files, the sha256 of theirs in order of name."""
    digests = [hashlib.sha256(file.read_bytes()) for file in files]
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def _refused(what: str) -> CommandError:
    return CommandError(
        what, "Use data in the shape of the PhysioNet 2019 challenge.", Fault.TRAINING_DATA
    )
