"""From recorded stays to a bundle: read, cross-validate, train on everything, describe, write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.core.features import FEATURES
from services.training.booster import SEED
from services.training.card import card, data_of
from services.training.estimates import Scored
from services.training.evaluate import report
from services.training.folds import FOLDS, THINNING
from services.training.graph import graph
from services.training.matrix import matrix
from services.training.pack import as_json, pack
from services.training.reference import reference
from services.training.source import Say, read
from services.training.study import STUDY, Columns, Course, Judged, course, judge, learn

_CLEAR_SHARE: Final = 0.75  # of the threshold, below which an alert ends


class Trained(NamedTuple):
    """What training gave: the bundle's digest, and a report for each set of columns."""

    digest: str
    rows: dict[str, dict[str, Any]]


def train(
    data: Path,
    out: Path,
    *,
    made_by: dict[str, Any],
    sets: Sequence[Columns] = STUDY,
    say: Say,
) -> Trained:
    """Train a bundle and write it to `<name>/<version>`; takes minutes.

    The same data, code and libraries give the same bytes, but for `made_by`.

    Args:
        data: as `services.training.source.read` takes it.
        out: the bundle's folder.
        made_by: code and libraries, for the manifest (`pack.provenance`).
        sets: of columns to cross-validate; the one named `shipped` becomes the bundle.
        say: told of progress.

    Raises:
        CommandError: the data cannot be used, or the bundle not be written.
    """
    given = _given(data, say)
    (shipped,) = (columns for columns in sets if columns.name == "shipped")
    judged = {columns.name: judge(given, columns, say=say) for columns in sets}
    rows = {name: _row(given, each, name, say) for name, each in judged.items()}
    say("training on all patients")
    model = learn(given, shipped)
    contents = _contents(given, judged["shipped"], model, rows, _identity(out))
    say(f"writing {out}")
    facts = _facts(given, sets, _identity(out)) | made_by
    return Trained(pack(out, contents, facts), rows)


def study(data: Path, sets: Sequence[Columns], *, say: Say) -> dict[str, dict[str, Any]]:
    """Cross-validate sets of columns without making a bundle; the rows that `train` gives."""
    given = _given(data, say)
    return {
        columns.name: _row(given, judge(given, columns, say=say), columns.name, say)
        for columns in sets
    }


def _given(data: Path, say: Say) -> Course:
    stays = read(data, say=say)
    say(f"computing {len(FEATURES)} features of {len(stays.hour)} hours")
    return course(stays, matrix(stays))


def _row(given: Course, judged: Judged, name: str, say: Say) -> dict[str, Any]:
    def about(line: str) -> None:
        say(f"{name}: {line}")

    scored = Scored(given.stays, judged.score, judged.alert, judged.threshold)
    return report(scored, by_group=name == "shipped", say=about)


def _identity(out: Path) -> dict[str, str]:
    folder = out.resolve()
    return {"name": folder.parent.name, "version": folder.name}


def _contents(
    given: Course,
    judged: Judged,
    model: str,
    rows: dict[str, dict[str, Any]],
    identity: dict[str, str],
) -> dict[str, bytes]:
    census = {
        "sha256": given.stays.digest,
        "patients": len(given.stays.ids),
        "hours": len(given.stays.hour),
        "septic_patients": rows["shipped"]["all"]["septic_patients"],
    }
    return {
        "model.onnx": graph(model, judged.line),
        "model.txt": model.encode(),
        "features.json": as_json(_features()),
        "reference.json": as_json(reference(given, judged)),
        "policy.json": as_json(_policy(judged, identity)),
        "card.json": as_json(card(identity, rows, judged, census)),
    }


def _features() -> dict[str, Any]:
    return {
        "schema": "vigil.features/1",
        "features": [{**feature._asdict()} for feature in FEATURES],
    }


def _policy(judged: Judged, identity: dict[str, str]) -> dict[str, Any]:
    return {
        "version": f"{identity['name']}-{identity['version']}-default",
        "threshold": judged.threshold,
        "units": {},
        "persistence": 1,
        "clear_below": round(_CLEAR_SHARE * judged.threshold, 6),
        "refractory_h": 6.0,
        "valid_for_h": 6.0,
        "abstain": {"min_vitals": 3, "max_age_h": 6.0},
    }


def _facts(given: Course, sets: Sequence[Columns], identity: dict[str, str]) -> dict[str, Any]:
    described = data_of(given.stays.digest)
    return {
        **identity,
        "data": {
            "sha256": given.stays.digest,
            "name": described["name"],
            "license": described["license"],
        },
        "seed": SEED,
        "training": {
            "folds": FOLDS,
            "thinning": THINNING,
            "recipes": {
                columns.name: {
                    "trees": columns.recipe.trees,
                    "other_hands": columns.other_hands,
                    "signed": columns.signed,
                    "early_h": columns.early_h,
                    **columns.recipe.parameters,
                }
                for columns in sets
            },
        },
    }
