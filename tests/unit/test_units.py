"""What a number with its unit becomes: the vital signs and the common labs by name, then all."""

import csv
import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
from builders import SCHEMAS, terminology
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import Reason, Refusal
from services.core.events import Flag
from services.core.terminology.book import UCUM, Concept
from services.core.vitals import UNITS, VARIABLES
from services.ingest.normalise import quantities
from services.ingest.normalise.findings import Reading
from services.ingest.normalise.resources import Quantity

VITAL, LAB = "vital-signs", "laboratory"


def read(code: str, value: float, unit: str, *, category: str = LAB) -> Reading:
    concept = terminology().concept([code], [category])
    return quantities.reading(
        Quantity(value=value, system=UCUM, code=unit), concept, terminology()
    )


def vital(code: str, value: float, unit: str) -> Reading:
    return read(code, value, unit, category=VITAL)


def usual(reading: Reading, name: str, value: float) -> bool:
    """Whether it is this value of this variable, and the model may use it."""
    right = VARIABLES[reading.variable] == name and math.isclose(
        reading.value, value, rel_tol=1e-6
    )
    return right and not reading.flags & Flag.UNUSABLE


def refused(call: Callable[[], Reading]) -> Reason:
    with pytest.raises(Refusal) as caught:
        call()
    assert caught.value.place in ("value", "code")
    return caught.value.reason


def test_heart_rate_is_per_minute_from_0_to_300_and_0_is_flagged() -> None:
    assert usual(vital("8867-4", 80, "/min"), "HR", 80)
    assert usual(vital("8889-8", 80, "{beats}/min"), "HR", 80)
    assert usual(vital("8867-4", 300, "/min"), "HR", 300)
    assert vital("8867-4", 0, "/min").flags == Flag.UNUSUAL
    assert refused(lambda: vital("8867-4", 300.1, "/min")) is Reason.RANGE
    assert refused(lambda: vital("8867-4", -1, "/min")) is Reason.RANGE


def test_oxygen_saturation_is_a_percentage_and_a_fraction_is_converted() -> None:
    assert usual(vital("59408-5", 97, "%"), "O2Sat", 97)
    assert usual(vital("2708-6", 97, "%"), "O2Sat", 97)
    assert usual(vital("59408-5", 0.97, "1"), "O2Sat", 97)
    assert vital("59408-5", 49.9, "%").flags == Flag.UNUSUAL
    assert vital("59408-5", 0, "%").flags == Flag.UNUSUAL
    assert refused(lambda: vital("59408-5", 1, "%")) is Reason.UNIT_IMPLAUSIBLE
    assert refused(lambda: vital("59408-5", 100.1, "%")) is Reason.RANGE


def test_temperature_is_celsius_and_fahrenheit_is_converted() -> None:
    assert usual(vital("8310-5", 37, "Cel"), "Temp", 37)
    assert vital("8310-5", 98.6, "[degF]").value == 37.0
    assert usual(vital("8331-1", 310.15, "K"), "Temp", 37)
    assert vital("8310-5", 31.9, "Cel").flags == Flag.UNUSUAL
    assert vital("8310-5", 44.1, "Cel").flags == Flag.UNUSUAL
    assert refused(lambda: vital("8310-5", 6932, "Cel")) is Reason.RANGE
    assert refused(lambda: vital("8310-5", 98.6, "Cel")) is Reason.UNIT_IMPLAUSIBLE


@pytest.mark.parametrize(
    ("code", "name", "low", "high", "top"),
    [("8480-6", "SBP", 40, 300, 400), ("8462-4", "DBP", 20, 200, 300)],
)
def test_a_pressure_is_in_millimetres_of_mercury_and_kilopascal_is_converted(
    code: str, name: str, low: float, high: float, top: float
) -> None:
    assert usual(vital(code, 16, "kPa"), name, 16 * 7.50062)
    assert usual(vital(code, low, "mm[Hg]"), name, low)
    assert usual(vital(code, high, "mm[Hg]"), name, high)
    assert vital(code, low - 1, "mm[Hg]").flags == Flag.UNUSUAL
    assert vital(code, top, "mm[Hg]").flags == Flag.UNUSUAL
    assert refused(lambda: vital(code, top + 1, "mm[Hg]")) is Reason.RANGE
    assert refused(lambda: vital(code, 16_070, "mm[Hg]")) is Reason.RANGE
    assert refused(lambda: vital(code, 80, "kPa")) is Reason.UNIT_IMPLAUSIBLE


def test_mean_pressure_may_be_a_little_below_zero_where_a_line_was_not_leveled() -> None:
    assert usual(vital("8478-0", 65, "mm[Hg]"), "MAP", 65)
    assert usual(vital("8478-0", 0, "mm[Hg]"), "MAP", 0)
    assert vital("8478-0", -20, "mm[Hg]").flags == Flag.UNUSUAL
    assert refused(lambda: vital("8478-0", -21, "mm[Hg]")) is Reason.RANGE
    assert refused(lambda: vital("8478-0", 351, "mm[Hg]")) is Reason.RANGE


def test_respiratory_rate_is_flagged_above_60_and_refused_above_120() -> None:
    assert usual(vital("9279-1", 16, "{breaths}/min"), "Resp", 16)
    assert usual(vital("9279-1", 60, "/min"), "Resp", 60)
    assert vital("9279-1", 61, "/min").flags == Flag.UNUSUAL
    assert refused(lambda: vital("9279-1", 20_147, "/min")) is Reason.RANGE


def test_end_tidal_carbon_dioxide_as_a_share_of_gas_is_converted_and_only_under_its_code() -> None:
    assert usual(vital("19891-1", 38, "mm[Hg]"), "EtCO2", 38)
    assert usual(vital("19889-5", 5, "%"), "EtCO2", 35.5)
    assert refused(lambda: vital("19891-1", 5, "%")) is Reason.UNIT_DIMENSION
    assert refused(lambda: vital("19889-5", 38, "mm[Hg]")) is Reason.UNIT_DIMENSION
    assert refused(lambda: vital("19889-5", 38, "%")) is Reason.UNIT_IMPLAUSIBLE


def test_lactate_is_in_millimoles_and_milligrams_are_converted() -> None:
    assert usual(read("2524-7", 1.8, "mmol/L"), "Lactate", 1.8)
    assert usual(read("32693-4", 18.02, "mg/dL"), "Lactate", 2)
    assert read("2524-7", 31, "mmol/L").flags == Flag.UNUSUAL
    assert refused(lambda: read("2524-7", 51, "mmol/L")) is Reason.UNIT_IMPLAUSIBLE


def test_creatinine_is_in_milligrams_and_micromoles_are_converted() -> None:
    assert usual(read("2160-0", 1.1, "mg/dL"), "Creatinine", 1.1)
    assert usual(read("14682-9", 88.42, "umol/L"), "Creatinine", 1)
    assert refused(lambda: read("2160-0", 0, "mg/dL")) is Reason.RANGE


def test_white_cells_are_in_thousands_per_microlitre() -> None:
    assert usual(read("6690-2", 8, "10*3/uL"), "WBC", 8)
    assert usual(read("26464-8", 8, "10*9/L"), "WBC", 8)
    assert usual(read("6690-2", 8000, "/uL"), "WBC", 8)
    assert read("6690-2", 501, "10*3/uL").flags == Flag.UNUSUAL
    assert refused(lambda: read("6690-2", 8000, "10*3/uL")) is Reason.UNIT_IMPLAUSIBLE


def test_platelets_are_in_thousands_per_microlitre() -> None:
    assert usual(read("777-3", 250, "10*3/uL"), "Platelets", 250)
    assert usual(read("26515-7", 250_000, "/uL"), "Platelets", 250)
    assert refused(lambda: read("777-3", 250, "g/dL")) is Reason.UNIT_DIMENSION


def test_bilirubin_is_in_milligrams_and_micromoles_are_converted() -> None:
    assert usual(read("1975-2", 1.2, "mg/dL"), "Bilirubin_total", 1.2)
    assert usual(read("14631-6", 17.1, "umol/L"), "Bilirubin_total", 1)
    assert usual(read("14629-0", 17.1, "umol/L"), "Bilirubin_direct", 1)


def test_glucose_is_in_milligrams_and_millimoles_are_converted() -> None:
    assert usual(read("2345-7", 100, "mg/dL"), "Glucose", 100)
    assert usual(read("14749-6", 5, "mmol/L"), "Glucose", 90.08)


def test_potassium_is_in_millimoles_and_has_one_charge() -> None:
    assert usual(read("2823-3", 4.1, "mmol/L"), "Potassium", 4.1)
    assert usual(read("6298-4", 4.1, "meq/L"), "Potassium", 4.1)
    assert refused(lambda: read("2823-3", 4.1, "mg/dL")) is Reason.UNIT_DIMENSION


def test_urea_nitrogen_is_no_urea_by_mass_but_is_by_amount() -> None:
    assert usual(read("3094-0", 14, "mg/dL"), "BUN", 14)
    assert usual(read("22664-7", 5, "mmol/L"), "BUN", 14.005)
    assert refused(lambda: read("22664-7", 30, "mg/dL")) is Reason.UNIT_DIMENSION


def test_hemoglobin_is_in_grams_per_decilitre() -> None:
    assert usual(read("718-7", 13.5, "g/dL"), "Hgb", 13.5)
    assert usual(read("718-7", 135, "g/L"), "Hgb", 13.5)
    assert usual(read("59260-0", 8, "mmol/L"), "Hgb", 12.888)


def test_ph_is_a_ph_and_nothing_else() -> None:
    assert usual(read("2744-1", 7.4, "[pH]"), "pH", 7.4)
    assert refused(lambda: read("2744-1", 7.4, "1")) is Reason.UNIT_DIMENSION
    assert refused(lambda: read("2744-1", 74, "[pH]")) is Reason.RANGE


def test_base_excess_may_be_negative() -> None:
    assert usual(read("1925-7", -8, "mmol/L"), "BaseExcess", -8)
    assert usual(read("11555-0", 0, "meq/L"), "BaseExcess", 0)


def test_inspired_oxygen_is_a_fraction_and_a_percentage_is_converted() -> None:
    assert usual(vital("3150-0", 0.5, "1"), "FiO2", 0.5)
    assert usual(vital("19994-3", 50, "%"), "FiO2", 0.5)
    assert refused(lambda: vital("3150-0", 50, "1")) is Reason.UNIT_IMPLAUSIBLE
    assert refused(lambda: vital("3150-0", 0.5, "%")) is Reason.UNIT_IMPLAUSIBLE
    assert refused(lambda: vital("3150-0", 0.14, "1")) is Reason.RANGE


def test_high_sensitivity_troponin_is_in_nanograms_per_litre() -> None:
    assert usual(read("10839-9", 0.04, "ng/mL"), "TroponinI", 0.04)
    assert usual(read("89579-7", 40, "ng/L"), "TroponinI", 0.04)


class Primary(NamedTuple):
    name: str
    code: str
    value: float


# A value of a healthy adult for each variable, under the first code of the contract.
PRIMARY = (
    *(
        Primary("HCO3", "1963-8", 24),
        Primary("PaCO2", "2019-8", 40),
        Primary("SaO2", "2713-6", 97),
    ),
    *(Primary("AST", "1920-8", 25), Primary("Alkalinephos", "6768-6", 70)),
    *(Primary("Calcium", "17861-6", 9.5), Primary("Chloride", "2075-0", 102)),
    *(Primary("Bilirubin_direct", "1968-7", 0.2), Primary("Magnesium", "19123-9", 2)),
    *(Primary("Phosphate", "2777-1", 3.5), Primary("Hct", "4544-3", 42)),
    *(Primary("PTT", "14979-9", 30), Primary("Fibrinogen", "3255-7", 300)),
)


@pytest.mark.parametrize("primary", PRIMARY, ids=lambda p: p.name)
def test_a_usual_value_in_the_models_unit_is_read_as_it_is(primary: Primary) -> None:
    reading = read(primary.code, primary.value, UNITS[primary.name])
    assert usual(reading, primary.name, primary.value)
    assert reading.flags == Flag.NONE


# Factors of terminology.md, written down a second time.
FACTORS = (
    *(("PaCO2", "2019-8", "kPa", 7.50062), ("AST", "30239-8", "ukat/L", 60)),
    *(("Alkalinephos", "6768-6", "ukat/L", 60), ("Calcium", "2000-8", "mmol/L", 4.008)),
    *(("Magnesium", "2601-3", "mmol/L", 2.431), ("Magnesium", "2601-3", "meq/L", 1.215)),
    *(("Phosphate", "14879-1", "mmol/L", 3.097), ("Hct", "20570-8", "L/L", 100)),
    *(("Fibrinogen", "48664-7", "g/L", 100), ("HCO3", "2028-9", "meq/L", 1)),
    *(("Chloride", "2069-3", "mEq/L", 1), ("AST", "1920-8", "[IU]/L", 1)),
    *(("Bilirubin_direct", "14629-0", "umol/L", 1 / 17.10), ("SaO2", "2713-6", "1", 100)),
)


@pytest.mark.parametrize(("name", "code", "unit", "factor"), FACTORS)
def test_a_conversion_has_the_factor_of_the_contract(
    name: str, code: str, unit: str, factor: float
) -> None:
    reading = read(code, 0.5, unit)
    assert VARIABLES[reading.variable] == name
    assert math.isclose(reading.value, 0.5 * factor)
    assert bool(reading.flags & Flag.CONVERTED) == (factor != 1)


def conversions() -> list[tuple[str, str]]:
    with (SCHEMAS / "terminology" / "units.csv").open() as file:
        rows = [(row["variable"], row["unit"]) for row in csv.DictReader(file)]
    return [row for row in rows if row[0] in VARIABLES]


@given(row=st.sampled_from(conversions()), number=st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_in_any_unit_is_in_the_possible_range_or_refused(
    row: tuple[str, str], number: float
) -> None:
    name, unit = row
    concept = next(
        c for code in codes_of(name) if unit in (c := concept_of(code)).units or not c.units
    )
    quantity = Quantity(value=number, system=UCUM, code=unit)
    try:
        reading = quantities.reading(quantity, concept, terminology())
    except Refusal as refusal:
        assert refusal.reason in (Reason.RANGE, Reason.UNIT_IMPLAUSIBLE, Reason.NUM_RANGE)  # noqa: PT017 - either outcome is right
    else:
        variable = terminology().variables[reading.variable]
        assert variable.possible.holds(reading.value)
        assert bool(reading.flags & Flag.UNUSUAL) != variable.usual.holds(reading.value)


def codes_of(name: str) -> list[str]:
    with (SCHEMAS / "terminology" / "codes.csv").open() as file:
        return [row["loinc"] for row in csv.DictReader(file) if row["variable"] == name]


def concept_of(code: str) -> Concept:
    category = LAB if code == "2708-6" else VITAL
    return terminology().concept([code], [category])


def test_every_variable_has_a_test_of_its_own_here() -> None:
    named = {"HR", "O2Sat", "Temp", "SBP", "DBP", "MAP", "Resp", "EtCO2", "Lactate", "Creatinine"}
    named |= {"WBC", "Platelets", "Bilirubin_total", "Glucose", "Potassium", "BUN", "Hgb", "pH"}
    named |= {"BaseExcess", "FiO2", "TroponinI"}
    assert named | {p.name for p in PRIMARY} == set(VARIABLES)


@pytest.mark.parametrize("value", [1e18, -1e18, 1e300])
def test_a_number_beyond_fhirs_digits_is_out_of_range(value: float) -> None:
    assert refused(lambda: vital("8867-4", value, "/min")) is Reason.NUM_RANGE


def test_a_comparator_is_flagged_and_an_unknown_one_is_refused() -> None:
    concept = terminology().concept(["8867-4"], [VITAL])
    for comparator in ("<", "<=", ">=", ">", "ad"):
        quantity = Quantity(value=80, comparator=comparator, system=UCUM, code="/min")
        assert quantities.reading(quantity, concept, terminology()).flags == Flag.COMPARATOR
    odd = Quantity(value=80, comparator="~", system=UCUM, code="/min")
    with pytest.raises(Refusal):
        quantities.reading(odd, concept, terminology())
