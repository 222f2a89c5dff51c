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
        asleep, roused, alerts = self._asleep(run, low), set[bytes](), list[Alert]()
        for place, (number, seat) in enumerate(turns):
            name = run.messages.names[place]
            if asleep[place] and name not in roused and place not in run.notes:
                continue
            if self._is_quiet(run, place, low=bool(low[place])):
                continue
            share = owners[number]
            roused.add(name)
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

    def _asleep(self, run: Run, low: npt.NDArray[np.bool_]) -> list[bool]:
        """Tell of each entry whether it is quiet as long as nothing rouses its patient."""
        (places,) = np.nonzero(low)
        asleep = np.zeros(len(low), np.bool_)
        asleep[places] = ~self._ward.slots.store.wakeful[run.slots[places]]
        found: list[bool] = asleep.tolist()
        return found

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
