"""The judge of late labels: a window's tallies in, its performance out."""

from collections.abc import Iterable, Sequence
from functools import reduce

from services.core.events import Labelled, Measurement, Tally
from services.core.folds.labels import REACH, check, family_of, line_of, tally_of
from services.core.judge.performance import performance
from services.core.judge.verdict import Earlier, Verdict
from services.core.label_tallies import LAYOUT, LabelTally, decode, merged
from services.core.windows import DAY, Window


class LabelJudge:
    """Says what the labels of a window say of the model; satisfies `judge.verdict.Judge`.

    Args:
        length: of each window, µs, whole hours.
        reach: how long after its end a window is restated, µs.
    """

    layout = LAYOUT
    remembers = 0

    def __init__(self, *, length: int = DAY, reach: int = REACH) -> None:
        self.family = family_of(length)
        self.reach = reach

    def check(self, body: bytes) -> None:
        """Raise Refusal where a body of this layout is malformed."""
        decode(body)

    def judge(
        self, window: Window, tallies: Sequence[Tally], earlier: Sequence[Earlier]
    ) -> Verdict:
        """Judge a window by its tallies alone."""
        del earlier
        nothing: LabelTally = {}
        whole = reduce(merged, (decode(tally.body) for tally in tallies), nothing)
        return Verdict(measurements=performance(whole, window))


def measured(labels: Iterable[Labelled], window: Window) -> list[Measurement]:
    """Measure a whole period from the labels in it, in whatever order they come.

    Args:
        labels: any number of revisions of the hours; those outside the period are left out.
        window: the period.

    Raises:
        Refusal: one of them cannot be used.
    """
    latest: dict[tuple[bytes, bytes, int], Labelled] = {}
    for event in labels:
        if not event.pseudonym or not window.start <= event.hour < window.end:
            continue
        check(event)
        key = event.pseudonym, event.encounter, event.hour
        if key not in latest or latest[key].revision <= event.revision:
            latest[key] = event
    tally = tally_of(line_of(each) for each in latest.values() if each.now is not None)
    return performance(tally, window)
