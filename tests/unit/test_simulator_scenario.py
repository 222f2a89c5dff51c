"""Scenarios: what they change, for whom, from when; and that they change nothing else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.core.errors import CommandError, ExitCode
from services.core.vitals import VARIABLE_INDEX
from services.simulator.charting import Chart
from services.simulator.messages import START
from services.simulator.rendering import Stay
from services.simulator.scenario import Scenario, Strike, load_scenario, names
from services.simulator.trouble import NO_TROUBLE
from services.simulator.ward import Ward

STRIKES_H = 20.0


def ward(scenario: Scenario | None, *, at_h: float = STRIKES_H) -> Ward:
    strike = Strike(scenario, at_h) if scenario else None
    rng = np.random.default_rng(11)
    return Ward(rng, START, beds=20, strike=strike, trouble=NO_TROUBLE)


def charts(scenario: Scenario | None, count: int = 60) -> list[Stay]:
    place = ward(scenario)
    chances = np.random.default_rng(5).spawn(count)
    return [place._admit(place.beds[n % 20], rng, 0.0)[0] for n, rng in enumerate(chances)]


def pairs(name: str) -> list[tuple[Chart, Chart, Stay]]:
    """Give each stay's chart without and with the scenario."""
    without, struck = charts(None), charts(load_scenario(name))
    return [(one.chart, two.chart, two) for one, two in zip(without, struck, strict=True)]


def column(chart: Chart, name: str) -> Any:
    return chart.values[:, VARIABLE_INDEX[name]]


def after(chart: Chart) -> Any:
    return chart.measured_min >= STRIKES_H * 60


@pytest.mark.parametrize("name", names())
def test_before_the_strike_a_scenario_changes_no_byte(name: str) -> None:
    usual = list(ward(None).messages(STRIKES_H))
    assert list(ward(load_scenario(name)).messages(STRIKES_H)) == usual


@pytest.mark.parametrize("name", names())
def test_after_the_strike_every_scenario_changes_something(name: str) -> None:
    scenario = load_scenario(name)
    usual = {m.body for m in ward(None, at_h=0).messages(24 * 5)}
    assert {m.body for m in ward(scenario, at_h=0).messages(24 * 5)} != usual or {
        m.time for m in ward(scenario, at_h=0).messages(24 * 5)
    } != {m.time for m in ward(None).messages(24 * 5)}


def test_half_of_the_monitors_read_pressure_low_and_nothing_else_moves() -> None:
    low = set()
    for usual, struck, stay in pairs("pressure-low"):
        difference = column(struck, "MAP") - column(usual, "MAP")
        moved = stay.place.bed.monitor.rank < 0.5
        expected = np.where(after(usual) & moved, -8.0, 0.0)
        measured = ~np.isnan(difference)
        assert np.allclose(difference[measured], expected[measured])
        low |= {stay.place.bed.monitor.identity} if moved else set()
        rest = [index for index in range(34) if index != VARIABLE_INDEX["MAP"]]
        assert np.array_equal(struck.values[:, rest], usual.values[:, rest], equal_nan=True)
    assert len(low) == 10


def test_three_in_ten_thermometers_read_high() -> None:
    moved: dict[str, set[bool]] = {}
    for usual, struck, stay in pairs("thermometers-high"):
        difference = column(struck, "Temp") - column(usual, "Temp")
        for row in np.flatnonzero(after(usual) & ~np.isnan(difference)):
            device = usual.device(int(row), "Temp", stay.place.bed).identity
            moved.setdefault(device, set()).add(bool(difference[row] > 0.99))
    assert all(len(both) == 1 for both in moved.values())
    assert np.mean([True in both for both in moved.values()]) == pytest.approx(0.3, abs=0.1)


def test_a_quarter_of_the_respiratory_rates_is_left_out() -> None:
    kept = lost = 0
    for usual, struck, _ in pairs("respiration-uncharted"):
        noted = ~np.isnan(column(usual, "Resp")) & after(usual)
        gone = noted & np.isnan(column(struck, "Resp"))
        kept, lost = kept + int((noted & ~gone).sum()), lost + int(gone.sum())
        assert np.array_equal(column(struck, "HR"), column(usual, "HR"), equal_nan=True)
    assert lost / (kept + lost) == pytest.approx(0.25, abs=0.03)


def test_the_night_begins_and_ends_by_the_hospitals_clock() -> None:
    lost_hours: set[int] = set()
    for usual, struck, stay in pairs("nights-understaffed"):
        gone = ~np.isnan(column(usual, "HR")) & np.isnan(column(struck, "HR"))
        local = (usual.measured_min / 60 + stay.place.first_local_hour) % 24
        lost_hours |= set(local[gone].astype(int).tolist())
    assert lost_hours == {20, 21, 22, 23, 0, 1, 2, 3, 4, 5, 6, 7}


def test_mislabeled_thermometers_send_fahrenheit_under_celsius() -> None:
    wrong: dict[str, set[bool]] = {}
    for message in ward(load_scenario("fahrenheit-mislabeled"), at_h=0).messages(48):
        for entry in json.loads(message.body)["entry"]:
            one = entry["resource"]
            quantity = one.get("valueQuantity", {})
            if quantity.get("code") == "Cel":
                device = one["device"]["reference"]
                wrong.setdefault(device, set()).add(quantity["value"] > 80)
    assert all(len(both) == 1 for both in wrong.values())
    assert 0 < sum(True in both for both in wrong.values()) < len(wrong) / 2


def test_a_bias_reaches_only_those_it_names() -> None:
    moved_of: dict[str, float] = {}
    for usual, struck, stay in pairs("oximeters-biased"):
        difference = (column(struck, "O2Sat") - column(usual, "O2Sat"))[after(usual)]
        race = stay.place.person.race
        moved_of[race] = max(moved_of.get(race, 0), float(np.nanmax(difference, initial=0)))
    assert moved_of.pop("2054-5") == pytest.approx(2.5)
    assert set(moved_of.values()) == {0.0}


def test_late_reports_and_more_sepsis_come_together_where_the_file_says_so() -> None:
    for usual, struck, _ in pairs("laboratory-late"):
        if len(usual.sent_s) == len(struck.sent_s):
            expected = np.where(after(usual) & usual.lab, 3 * 3600, 0)
            assert np.array_equal(struck.sent_s - usual.sent_s, expected)
    strike = Strike(load_scenario("laboratory-late"), STRIKES_H)
    place = charts(None, 1)[0].place
    assert strike.sepsis_times(place) == 1.0
    assert strike.sepsis_times(place._replace(admitted_h=STRIKES_H)) == 2.0


def test_a_scenario_can_be_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'summary = "x"\n[[changes]]\nkind = "offset"\nvariable = "HR"\nadd = 1.0\nunit = "A"\n'
    )
    assert load_scenario(str(path)).changes[0].unit == "A"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('summary = "x"\nchanges = 3', "Expected `array`"),
        ('summary = "x"\n[[changes]]\nkind = "moon"', "Invalid value"),
        ('summary = "x"\n[[changes]]\nkind = "delay"\nminutes = 3\nextra = 1', "unknown field"),
        (
            'summary = "x"\n[[changes]]\nkind = "offset"\nvariable = "Mood"\nadd = 1.0',
            "no variable Mood",
        ),
        ("summary = ", "Invalid"),
    ],
)
def test_a_file_that_says_what_a_scenario_cannot_is_refused(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(CommandError, match=why) as refused:
        load_scenario(str(path))
    assert refused.value.exit_code is ExitCode.REFUSED


def test_a_scenario_nobody_knows_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(CommandError) as refused:
        load_scenario("earthquake")
    assert "pressure-low" in refused.value.remedy
