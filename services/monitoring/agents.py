"""The agents, of a few lines each, and how the desk writes to the cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import faust
from faust.types import EventT, StreamT

from services.monitoring.desk import Desk, StateRow
from services.monitoring.transport import CommittedApp, append, run_of
from services.runtime.ports import Output, Record

if TYPE_CHECKING:
    from faust.streams import Stream

Fail = Callable[[Exception], None]


class FaustWire:
    """Writes by Faust's producer: outputs to their topics, rows to changelogs."""

    def __init__(self, app: faust.App, changelogs: Mapping[str, str], prefix: str) -> None:
        """Prepare to write.

        Args:
            app: whose producer writes.
            changelogs: per source topic the topic that keeps the rows of its tasks.
            prefix: of every topic that is written but the changelogs.
        """
        self._app, self._changelogs, self._prefix = app, changelogs, prefix

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Write outputs; their keys choose partitions as Java's client would."""
        producer = await self._app.maybe_start_producer()
        promises: list[Awaitable[Any]] = [
            await producer.send(
                self._prefix + output.topic,
                output.key,
                output.value,
                partition=output.partition,
                timestamp=None,
                headers=list(output.headers),
            )
            for output in outputs
        ]
        await asyncio.gather(*promises)

    async def keep(self, rows: Sequence[StateRow]) -> None:
        """Write rows to the partition numbers of their places."""
        promises = []
        for place, share in groupby(rows, key=lambda row: row.place):
            pairs = ((row.key, row.value) for row in share)
            promises += await append(self._app, self._changelogs[place[0]], place[1], pairs)
        await asyncio.gather(*promises)


def add_agents(app: CommittedApp, desk: Desk, *, prefix: str, fail: Fail) -> None:
    """Give the app one agent per topic of the desk.

    Args:
        app: that is not started yet.
        desk: that handles.
        prefix: of every topic.
        fail: hears what a task raised; Faust itself would acknowledge the record and go on.
    """

    async def work(stream: StreamT[Any]) -> None:
        try:
            async for event in cast("Stream[bytes]", stream).noack().events():
                if not app.holds(event.message):
                    continue
                desk.take(records_of(event, prefix), event.ack)
                if desk.full:
                    await desk.settle()
        except Exception as error:  # noqa: BLE001 - `fail` ends the process with it
            fail(error)

    for topic in sorted(desk.topics):
        source = app.topic(
            prefix + topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            allow_empty=True,
        )
        app.agent(source, name=topic)(work)


def records_of(event: EventT[Any], prefix: str) -> list[Record]:
    """Copy the run that Faust read into the shape that tasks know."""
    return [
        Record(
            topic=read.topic.removeprefix(prefix),
            partition=read.partition,
            offset=read.offset,
            timestamp_ms=read.timestamp,
            key=read.key,
            value=read.value,
            headers=tuple(read.headers),
            timestamp_type=read.timestamp_type,
        )
        for read in run_of(event.message)
    ]
