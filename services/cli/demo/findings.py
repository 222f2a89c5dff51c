"""What watching found, as rows of the demo's table."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from services.cli.demo.truth import Share
from services.cli.demo.watching import Found, Watched

Row = tuple[str, str]
FIRST_ALERT: Final = "first_alert"
WORDS: Final = {"sensitivity": "sensitivity of first alerts", "ppv": "PPV of first alerts"}


def signals(seen: Watched) -> Iterator[Row]:
    """Tell what struck, and what was signalled about it and about other things."""
    few, many = min(seen.patients, default=0), max(seen.patients, default=0)
    yield "windows of a day judged", f"{len(seen.patients)}, of {few} to {many} patients"
    yield f"what struck at hour {seen.scenario['at_h']:.0f}", str(seen.scenario["name"])
    drift = [each for each in seen.signals if each.kind == "drift"]
    about = [each for each in drift if each.of_the_story]
    before = [each for each in drift if each.after_h <= 0]
    others = [each for each in drift if each.after_h > 0 and not each.of_the_story]
    groups = [each for each in seen.signals if each.kind == "fairness"]
    yield "  first signal about it", _first(about)
    yield "  first alarm about it", _first(each for each in about if each.severity == "alarm")
    yield "  drift signalled before it: false", _counted(before)
    yield "  drift of anything else since: false", _counted(others)
    yield "groups that differ in alerts", _groups(groups)


def labels(seen: Watched) -> Iterator[Row]:
    """Tell how alerts were answered, and how well they were aimed, beside the truth."""
    answered = sum(seen.answered.values())
    share = f" ({answered / seen.raised:.0%})" if seen.raised else ""
    yield "alerts answered", f"{answered:,} of {seen.raised:,}{share}"
    hours = seen.labels.get("hour", {}).get("label_maturity", {})
    yield "hours with a label", f"{hours.get('hours') or 0:,}"
    yield "  of them final", _percent(hours.get("value"))
    for metric, words in WORDS.items():
        found = seen.labels.get(FIRST_ALERT, {}).get(metric, {})
        yield words, _estimate(found)
        yield "  in truth", _true(seen.truth[metric])
    differing = f"{seen.differences:,} numbers differ" if seen.differences else "all numbers equal"
    yield "windows computed once more", f"{seen.windows}: {differing}"


def _first(signals: Iterable[Found]) -> str:
    first = min(signals, key=lambda each: each.after_h, default=None)
    if first is None:
        return "none"
    return f"{first.feature}, {first.after_h:.0f} h after"


def _groups(signals: Iterable[Found]) -> str:
    return ", ".join(sorted({each.cohort.partition("=")[2] for each in signals})) or "none"


def _counted(signals: list[Found]) -> str:
    alarms = sum(each.severity == "alarm" for each in signals)
    watches = len(signals) - alarms
    return f"{alarms} alarm, {watches} watch" if signals else "none"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"


def _estimate(found: dict[str, Any]) -> str:
    """A number with its interval and its state; the state says whether to believe it."""
    if found.get("value") is None:
        return str(found.get("why") or "unknown")
    told = f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
    return told if found["state"] == "ok" else f"{told} {found['state']}"


def _true(share: Share) -> str:
    return "unknown" if share.value is None else f"{share.value:.2f} ({share.above}/{share.below})"
