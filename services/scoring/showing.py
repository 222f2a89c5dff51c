"""What is decided on the scores that are shown, each by the policy of its model."""

import numpy as np
import numpy.typing as npt

from services.core.events import Alert, Contribution, Role
from services.scoring.alerting import TOP_CONTRIBUTIONS, Alerting
from services.scoring.crew import Crew
from services.scoring.entries import Entry
from services.scoring.horizon import Horizon
from services.scoring.patients.ward import Ward
from services.scoring.shares import Run, Scored, Share


class Showing:
    """The policies of the champion and the canary of one partition."""

    def __init__(self, partition: int, ward: Ward, horizon: Horizon) -> None:
        """Prepare.

        Args:
            partition: of the vitals.
            ward: the patients, who remember what the policies decided.
            horizon: how far event time had come where the log waited.
        """
        self._partition, self._ward, self._horizon = partition, ward, horizon
        self._crew: Crew | None = None
        self._alerting: dict[bool, Alerting] = {}
        self._shares: dict[bool, Share] = {}

    def judge(self, run: Run, said: Scored, crew: Crew) -> list[Alert]:
        """Give the alerts of all that is shown, in the order of the log."""
        if crew is not self._crew:
            self._crew, self._alerting = crew, {}
        owners, turns = said.owners, said.turns
        self._shares = {share.steady: share for share in owners}
        low = np.empty(len(turns), np.bool_)
        for share in owners:
            low[share.places] = share.low()
        alerts, asked = list[Alert](), self._asked(run, low)
        for place, (number, seat) in zip(asked, turns[asked].tolist(), strict=True):
            name = run.messages.names[place]
            if self._is_quiet(run, place, low=bool(low[place])):
                continue
            share = owners[number]
            if name:
                self._ward.touched(name)
            entry = share.entry(run, seat)
            alerting = self._alerting.get(share.steady) or self._alerting_of(share)
            steps = list(alerting.step(entry))
            share.verdicts.decisions[seat] = entry.decision
            if steps and share.engine.model.role is Role.SHOWN:
                share.alerts += steps
                alerts += steps
        return alerts

    def _asked(self, run: Run, low: npt.NDArray[np.bool_]) -> list[int]:
        """Give the places of entries of which a policy may make something, and few others.

        The rest have low scores, of patients of whom a policy remembers nothing that those could
        change, and whom no entry of the run rouses.
        """
        awake = ~low
        awake[low] = self._ward.slots.store.wakeful[run.slots[low]]
        awake[list(run.notes)] = True
        roused = set(run.slots[awake].tolist())
        return [place for place, slot in enumerate(run.slots.tolist()) if slot in roused]

    def _is_quiet(self, run: Run, place: int, *, low: bool) -> bool:
        """Tell whether an entry says nothing to the policy, as most do.

        A score below the threshold, of a patient of whom the policy remembers nothing that it
        could change, changes nothing.
        """
        if not low or place in run.notes:
            return False
        state = self._ward.patients[run.messages.names[place]].policy
        return state.alert is None and state.streak == 0

    def _alerting_of(self, share: Share) -> Alerting:
        engine, steady = share.engine, share.steady
        found = self._alerting[steady] = Alerting(
            engine.policy,
            engine.model,
            self._ward,
            partition=self._partition,
            explain=lambda entry: self._explain(entry, self._shares[steady]),
            horizon=self._horizon,
        )
        return found

    def _explain(self, entry: Entry, share: Share) -> list[Contribution]:
        found = share.engine.onnx.contributions(share.input_of(entry.seat), TOP_CONTRIBUTIONS)
        return [
            Contribution(
                feature=name,
                value=None if np.isnan(value) else value,
                contribution=contribution,
            )
            for name, value, contribution in found
        ]
