"""What a model is worth on recorded stays: as a whole, by sex and by age band."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.core.cohorts import age_band
from services.core.stats.budget import threshold_within
from services.core.stats.intervals import poisson_weights
from services.core.stats.sketches import SMALLEST_CELL
from services.runtime.bundle import Bundle
from services.runtime.model import OnnxModel
from services.training.card import holds
from services.training.estimates import Scored, Weights
from services.training.matrix import matrix
from services.training.measures import measures
from services.training.served import Abstention, as_served
from services.training.source import Say, Stays, silent


def evaluate(
    bundle: Bundle,
    stays: Stays,
    *,
    share: float | None = None,
    abstention: Abstention | None = None,
    say: Say = silent,
) -> dict[str, Any]:
    """Score stays with the service's features and graph, and report.

    Args:
        bundle: the model.
        stays: whom it meets.
        share: of the hours that may be alerted; without it the threshold is the bundle's own.
        abstention: of the service, to measure what it would have said, as `as_served`, beside
            the challenge's figures, which score every hour.
        say: told of progress.
    """
    say(f"scoring {len(stays.hour)} hours of {len(stays.ids)} patients")
    score = OnnxModel(bundle).score(bundle.select(matrix(stays))).astype(np.float64)
    threshold = float(np.float32(bundle.policy["threshold"]))  # with the precision of scores
    if share is not None:
        threshold = threshold_within(score, share)
    scored = Scored(stays, score, score >= threshold, threshold)
    return {
        "model": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        "data": {
            "sha256": stays.digest,
            # Patients that the model was trained on flatter it.
            "trained_on": holds(bundle.manifest["data"]["sha256"], stays.digest),
        },
        "threshold_from": "bundle" if share is None else f"scores, {share:g} of the hours",
        **report(scored, abstention=abstention, say=say),
    }


def report(
    scored: Scored, *, abstention: Abstention | None = None, by_group: bool = True, say: Say
) -> dict[str, Any]:
    """Measures of all stays and, if asked for, of the subgroups by sex and age band.

    Utility counts the challenge's own hours, `challenge_*` all hours; every other measure of
    hours leaves out those at or after onset. Cells under SMALLEST_CELL patients are not shown.
    """
    weights = poisson_weights([name.encode() for name in scored.stays.ids])
    say("measuring all patients")
    whole = measures(scored, weights)
    served = {} if abstention is None else {"as_served": as_served(scored, weights, abstention)}
    return {
        "unit_of_analysis": "hour, if a measure does not say first_alert",
        "label": "physionet-2019: onset within 6 h; alerts by threshold alone",
        "threshold": scored.threshold,
        "all": whole,
        **served,
        "subgroups": {
            dimension: _subgroups(scored, weights, members, say=say)
            for dimension, members in _cohorts(scored.stays).items()
            if by_group
        },
    }


def _subgroups(
    scored: Scored, weights: Weights, members: NDArray[np.str_], *, say: Say
) -> dict[str, Any]:
    found = {}
    for name in sorted(set(members.tolist())):
        say(f"measuring {name}")
        found[name] = _subgroup(scored, weights, members == name)
    return found


def _subgroup(scored: Scored, weights: Weights, members: NDArray[np.bool_]) -> dict[str, Any]:
    if np.count_nonzero(members) < SMALLEST_CELL:
        return {"patients": f"<{SMALLEST_CELL}"}
    rows = members[scored.stays.patient]
    part = Scored(
        scored.stays.only(members), scored.score[rows], scored.alert[rows], scored.threshold
    )
    return measures(part, weights[members])


def _cohorts(stays: Stays) -> dict[str, NDArray[np.str_]]:
    first = stays.starts[:-1]
    sexes = {0.0: "female", 1.0: "male"}
    ages = [None if np.isnan(age) else float(age) for age in stays.age[first]]
    return {
        "sex": np.array([sexes.get(float(sex), "unknown") for sex in stays.sex[first]]),
        "age_band": np.array([age_band(age) for age in ages]),
    }
