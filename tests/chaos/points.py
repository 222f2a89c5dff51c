"""Named moments of the loop, at which a life kills or stops itself."""

import os
import signal
from typing import Any

from confluent_kafka import Consumer, Producer
from typing_extensions import override

from services.runtime.kafka import group, publisher
from services.scoring.outputs import PREDICTIONS

POINTS = ("after-poll", "after-produce", "before-commit", "after-commit")
"""After records were read; when outputs are at the broker and neither state nor offsets are; when
all of it is and only the commit is missing; when the commit has come back."""
AT_BROKER_S = 5.0


class Trigger:
    """Sends this process a signal when it passes a point for the n-th time."""

    def __init__(self, point: str, *, passes: int, number: signal.Signals) -> None:
        assert point in POINTS
        self._point, self._left, self._number = point, passes, number

    def due(self, point: str) -> bool:
        self._left -= point == self._point
        return point == self._point and self._left == 0

    def strike(self) -> None:
        os.kill(os.getpid(), self._number)

    def at(self, point: str) -> None:
        if self.due(point):
            self.strike()


def replace(module: Any, name: str, new: object) -> None:
    """Put something in the place of what a module calls by a name; it must be there."""
    assert hasattr(module, name), f"{module.__name__} has no {name} any more"
    setattr(module, name, new)


def arm(trigger: Trigger) -> None:
    """Let the clients of the loop pass their points."""

    class Reading(Consumer):
        @override
        def poll(self, *given: Any, **named: Any) -> Any:
            message = super().poll(*given, **named)
            if message is not None:
                trigger.at("after-poll")
            return message

    class Writing(Producer):
        @override
        def produce(self, topic: str, *given: Any, **named: Any) -> None:
            super().produce(topic, *given, **named)
            if topic == PREDICTIONS and trigger.due("after-produce"):
                self.flush(AT_BROKER_S)
                trigger.strike()

        @override
        def commit_transaction(self, *given: Any) -> None:
            if trigger.due("before-commit"):
                self.flush(AT_BROKER_S)
                trigger.strike()
            super().commit_transaction(*given)
            trigger.at("after-commit")

    replace(group, "Consumer", Reading)
    replace(publisher, "Producer", Writing)
