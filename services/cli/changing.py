"""How models and policies change: read what holds, propose what shall, write it, see it taken."""

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from services.core.errors import CommandError
from services.core.faults import Fault

if TYPE_CHECKING:
    from services.core.events import Change
    from services.core.lineup import History, Proposal
    from services.runtime.codec import Codec
    from services.runtime.kafka.client import Options

RequestedBy = Annotated[str, typer.Option(help="Who asks for it.")]
ApprovedBy = Annotated[str, typer.Option(help="Who answers for it.")]
Reason = Annotated[str, typer.Option(help="Why.")]

TOPIC: Final = "changes.v1"
PATIENCE_S: Final = 10.0


class Asked(NamedTuple):
    """Who wants a change, who answers for it, and why."""

    requested_by: str
    approved_by: str
    reason: str

    def checked(self) -> "Asked":
        """Give it back; raises BadParameter where something is left unsaid."""
        if not all(text.strip() for text in self):
            raise typer.BadParameter("who asks, who approves and why must be said")
        return self


class Log:
    """The changes of models and policies, as Kafka has them now."""

    def __init__(self) -> None:
        """Read them; raises Retry when Kafka does not answer."""
        from services.runtime.codec import Codec
        from services.runtime.settings import KafkaSettings, ServiceSettings

        self._options: Options = KafkaSettings().client_options()
        self._codec: Codec = Codec(ServiceSettings().schemas)
        self.history: History = self._read()

    def publish(self, change: "Change") -> None:
        """Write a change, and see that it was taken.

        Raises:
            CommandError: somebody else's came in between, so that nothing was changed.
            Retry: Kafka does not say whether it was written.
        """
        write(change, self._options, self._codec)
        self.history = self._read()
        if change.change_id not in self.history.taken:
            what = "Somebody else's change came first, and this one was not taken."
            raise CommandError(
                what, "Look at `vigil models list` and decide anew.", Fault.OVERTAKEN
            )

    def _read(self) -> "History":
        from services.core.errors import Refusal
        from services.core.events import Change
        from services.core.lineup import KINDS, History
        from services.runtime.kafka.admin import partitions_of
        from services.runtime.kafka.reader import scan

        found = History()
        places = partitions_of(self._options, [TOPIC])
        for record in scan(self._options, places, patience_s=PATIENCE_S):
            try:
                change = self._codec.decode(record.value or b"", Change)
                if change.kind in KINDS:
                    found.take(change, record.offset)
            except Refusal:
                continue  # as scoring does
        return found


def write(change: "Change", options: "Options", codec: "Codec") -> None:
    """Write any change; raises Retry when Kafka does not say whether it did."""
    from services.core.errors import Retry
    from services.runtime.kafka.publisher import Publisher
    from services.runtime.ports import Output

    written: list[bool] = []
    publisher = Publisher(options)
    publisher.reach(TOPIC, PATIENCE_S)
    output = Output(TOPIC, change.subject.encode(), codec.encode(change), 0)
    publisher.send(output, written.append)
    if publisher.flush(PATIENCE_S) or written != [True]:
        raise Retry(f"Kafka: it is not known whether {TOPIC} took the change")


def change_of(
    proposal: "Proposal", asked: Asked, *, kind: str, subject: str, before: str, after: str
) -> "Change":
    """Make the change that carries a proposal.

    Args:
        proposal: of `History.propose` or `History.undo`.
        asked: by whom.
        kind: deployment, policy or threshold.
        subject: what it is about, such as `model/champion`.
        before: digest, or version of the policy, that held.
        after: the same that shall hold.
    """
    from services.cli.moment import microseconds
    from services.core.events import Change
    from services.core.lineup import encode

    now = microseconds(dt.datetime.now(dt.UTC))
    return Change(
        change_id=str(uuid.uuid4()),
        kind=kind,
        subject=subject,
        made_at=now,
        effective_from=now,
        requested_by=asked.requested_by,
        approved_by=asked.approved_by,
        reason=asked.reason,
        before=before,
        after=after,
        content=encode(proposal),
    )
