"""What `vigil models` knows of bundles and line-ups: whether they may, and what they say."""

import os
from pathlib import Path
from typing import Any, Final

from services.core.errors import CommandError, Refusal
from services.core.faults import Fault
from services.core.lineup import History, LineUp, Part, Proposal, Seat, Standing, seated
from services.core.metrics import PREFIX
from services.local.environment import remembered_ports
from services.local.home import here
from services.local.meters import meters
from services.runtime import bundle
from services.runtime.model import OnnxModel
from services.scoring.settings import ScoringSettings

UNCHANGED: Final = "the bundle that scoring was started with"


def ready(name: str, digest: str = "") -> bundle.Bundle:
    """Load a bundle as scoring will, and let it rehearse.

    Args:
        name: a folder, or name/version; only the name where a digest says which.
        digest: of the bundle; empty: any.

    Raises:
        CommandError: it cannot be used, or does not lie where scoring looks (REFUSED).
    """
    models = ScoringSettings().models
    try:
        if digest:
            path = bundle.find(models, name, digest)
        else:
            path = Path(name) if (Path(name) / bundle.MANIFEST).exists() else models / name
        loaded = bundle.load(path)
        bundle.policy_of(loaded)
        OnnxModel(loaded).rehearse(thoroughly=True)
        bundle.find(models, loaded.name, loaded.digest)
    except bundle.BundleRefused as refused:
        remedy = f"Nothing was changed. Bundles lie in {models}, as <name>/<version>."
        raise CommandError(refused.what, remedy, Fault.BUNDLE_REFUSED) from None
    return loaded


def at_work() -> set[tuple[str, str, str]] | None:
    """Ask scoring which models are at work: part, name and version; None when it does not say."""
    port = remembered_ports(here()).get("scoring", 0)
    found = meters(port, os.environ).samples.get(f"{PREFIX}model_info", []) if port else []
    labels = ("outcome", "model", "version")
    told = [tuple(sample.labels[label] for label in labels) for sample in found]
    return {(part, name, version) for part, name, version in told} or None


def since(history: History, part: Part, seat: Seat) -> Standing:
    """Give the change by which a model has its part."""
    standing = history.standing[::-1]
    place = next(
        (n for n, step in enumerate(standing) if (part, seat) not in step.line_up.seats()),
        len(standing),
    )
    return standing[place - 1]


def proposed(history: History, seat: Seat, part: Part, share: int) -> Proposal:
    """Propose a line-up in which a model has a part; raises CommandError where it may not."""
    try:
        return history.propose(seated(history.now, seat, part, share))
    except Refusal as refusal:
        what = f"{seat.name} {seat.version} cannot become {part}: {refusal.place} forbids it."
        remedy = "`vigil models list` shows what holds; docs/models.md says what may stand beside."
        raise CommandError(what, remedy, Fault.BUNDLE_REFUSED) from None


def difference(before: LineUp, after: LineUp) -> list[str]:
    """Say what a line-up has that another has not, a line each."""
    old, new = _lines(before), _lines(after)
    gone, come = [o for o in old if o not in new], [n for n in new if n not in old]
    return [*(f"- {line}" for line in gone), *(f"+ {line}" for line in come)]


def _lines(line_up: LineUp) -> list[str]:
    champion = [] if line_up.champion else [f"champion {UNCHANGED}"]
    shares = {Part.CANARY: f" for {line_up.share} % of the patients"}
    return champion + [
        f"{part} {seat.name} {seat.version} {seat.digest[:12]}{shares.get(part, '')}"
        + (f", policy {seat.policy.version}" if seat.policy else "")
        for part, seat in line_up.seats()
    ]


def row_of(
    history: History, part: Part, seat: Seat, loaded: set[tuple[str, str, str]] | None
) -> dict[str, Any]:
    """Tell all of a model that has a part."""
    change = since(history, part, seat).change
    row = {"role": part, "name": seat.name, "version": seat.version, "digest": seat.digest}
    row["policy"] = seat.policy.version if seat.policy else "of the bundle"
    more = {"at_work": None if loaded is None else known(row) in loaded, "since": change.made_at}
    names = ("requested_by", "approved_by", "reason", "change_id")
    return row | more | {name: getattr(change, name) for name in names}


def known(row: dict[str, Any]) -> tuple[str, str, str]:
    """Name a row as scoring does."""
    return (str(row["role"]), row["name"], row["version"])
