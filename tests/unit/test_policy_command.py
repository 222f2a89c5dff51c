"""What `vigil policy` says of a policy, and what it takes for a change."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.cli.policy import Shown, difference, kind_of, seat_of, under, words
from services.core.errors import CommandError
from services.core.faults import Fault
from services.core.lineup import AS_CONFIGURED, LineUp, Seat
from services.core.policy import Abstain, Policy, Transfer

BASE = Policy(version="1", threshold=0.5, clear_below=0.4)
FULL = Policy(
    version="2",
    threshold=0.5,
    units={"MICU": 0.7, "ED": 0.6},
    severity=[0.75, 0.9],
    persistence=2,
    clear_below=0.4,
    refractory_h=8,
    transfer=Transfer(to=["*ICU", "OR"], silent_h=4),
    valid_for_h=5,
    abstain=Abstain(min_vitals=2, max_age_h=3),
)
SEAT = Seat(name="sepsis", version="1.0.0", digest="ab" * 32)


def written(path: Path, policy: Any) -> str:
    path.write_bytes(msgspec.json.encode(policy))
    return str(path)


def check(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["policy", "check", *arguments])


def test_every_rule_of_a_policy_is_said_in_words() -> None:
    assert list(words(FULL)) == [
        "raises at 0.5, after 2 score(s) that reach it",
        "  in ED at 0.6",
        "  in MICU at 0.7",
        "clears below 0.4",
        "expires 5 h after it was told",
        "silent for 8 h after it was raised",
        "  unless the score reaches 0.75 for the first time: then it tells again",
        "  unless the score reaches 0.9 for the first time: then it tells again",
        "silent for 4 h after a transfer to *ICU, OR",
        "no score without 2 vital signs of the last 3 h",
    ]


def test_a_sound_policy_is_checked_and_read_back(tmp_path: Path) -> None:
    file = written(tmp_path / "policy.json", FULL)
    assert check(file).output.splitlines() == ["2 can be used", *words(FULL)]
    told = json.loads(check(file, "--json").output)
    assert (told["schema"], told["version"]) == ("vigil.policy.check/1", "2")
    assert msgspec.convert(told["policy"], Policy) == FULL


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"version": "1", "threshold": 0.5, "clear_below": 0.6}, "clear_below must be at most"),
        ({"version": "1", "threshold": 0.5, "clear_below": 0.4, "treshold": 1}, "treshold"),
        ([], "Expected `object`"),
    ],
)
def test_a_policy_that_may_not_be_used_ends_with_the_reason_and_code_5(
    tmp_path: Path, content: Any, reason: str
) -> None:
    done = check(written(tmp_path / "policy.json", content))
    assert done.exit_code == 5
    assert "VGL-5405 policy.json: " in done.stderr
    assert reason in done.stderr


def test_a_file_that_is_not_there_ends_with_code_3(tmp_path: Path) -> None:
    done = check(str(tmp_path / "none.json"))
    assert (done.exit_code, "VGL-3405" in done.stderr) == (3, True)


def test_a_change_says_rule_by_rule_what_was_and_what_shall_be() -> None:
    after = msgspec.structs.replace(BASE, version="2", severity=[0.75])
    assert difference(BASE, after) == ['version: "1" → "2"', "severity: [] → [0.75]"]
    assert difference(BASE, BASE) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"threshold": 0.6}, "threshold"),
        ({"units": {"ED": 0.6}, "clear_below": 0.3}, "threshold"),
        ({"persistence": 2}, "policy"),
        ({"threshold": 0.6, "severity": [0.75]}, "policy"),
        ({"abstain": Abstain(min_vitals=1)}, "policy"),
    ],
    ids=str,
)
def test_a_change_of_thresholds_alone_is_called_one(change: dict[str, Any], kind: str) -> None:
    assert kind_of(BASE, msgspec.structs.replace(BASE, version="2", **change)) == kind


def test_a_policy_is_that_of_one_model_and_leaves_the_others_theirs() -> None:
    canary = msgspec.structs.replace(SEAT, digest="cd" * 32)
    line_up = LineUp(champion=SEAT, canary=canary, share=10)
    after = under(line_up, Shown.CANARY, seat_of(line_up, Shown.CANARY), BASE)
    assert after == LineUp(
        champion=SEAT, canary=msgspec.structs.replace(canary, policy=BASE), share=10
    )
    assert under(after, Shown.CHAMPION, SEAT, FULL).canary == after.canary


def test_who_is_not_in_use_has_no_policy_to_change() -> None:
    with pytest.raises(CommandError) as refused:
        seat_of(AS_CONFIGURED, Shown.CANARY)
    assert refused.value.fault is Fault.NOT_IN_USE


def test_a_shadow_raises_no_alert_and_has_no_policy_to_change() -> None:
    assert CliRunner().invoke(app, ["policy", "show", "--role", "shadow"]).exit_code == 2
