"""Made-up stays in the shape of the 2019 challenge, for tests of training."""

from pathlib import Path

import numpy as np
import polars as pl

from services.core.vitals import VARIABLES

COLUMNS = (*VARIABLES, "Age", "Gender", "Unit1", "Unit2", "HospAdmTime", "ICULOS", "SepsisLabel")


def made_up(patients: int, seed: int = 0) -> pl.DataFrame:
    """Stays of 10 to 60 hours; every fourth is septic, and its heart rate says so in time."""
    random = np.random.default_rng(seed)
    return pl.concat([_stay(random, number) for number in range(patients)])


def write_parquet(path: Path, patients: int, seed: int = 0) -> Path:
    made_up(patients, seed).write_parquet(path)
    return path


def write_psv(folder: Path, stays: pl.DataFrame) -> Path:
    folder.mkdir()
    for (name,), stay in stays.group_by("patient_id"):
        table = stay.select(COLUMNS)
        table.write_csv(folder / f"{name}.psv", separator="|", null_value="NaN")
    return folder


def _stay(random: np.random.Generator, number: int) -> pl.DataFrame:
    hours = int(random.integers(20, 61))
    septic = number % 4 == 0
    switch = int(random.integers(8, hours - 5)) if septic else hours + 99
    clock = np.arange(hours)
    columns: dict[str, object] = {"patient_id": [f"patient-{number:04d}"] * hours}
    for name in VARIABLES:
        values = random.normal(80, 10, hours).round(1)
        if name == "HR":
            values += 25 * (clock > switch - 8)
        missing = random.random(hours) < (0.3 if name in VARIABLES[:7] else 0.9)
        columns[name] = [
            None if gone else float(v) for v, gone in zip(values, missing, strict=True)
        ]
    columns["EtCO2"] = [None] * hours
    columns |= {
        "Age": [float(random.integers(18, 90))] * hours,
        "Gender": [int(random.integers(0, 2))] * hours,
        "Unit1": [1.0] * hours,
        "Unit2": [0.0] * hours,
        "HospAdmTime": [-3.5] * hours,
        "ICULOS": clock + 1,
        "SepsisLabel": (clock >= switch).astype(np.int8),
    }
    return pl.DataFrame(columns, schema_overrides=dict.fromkeys(VARIABLES, pl.Float64))
