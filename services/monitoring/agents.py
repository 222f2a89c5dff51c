"""The agents, of a few lines each, the tables behind them, and how both reach the desk."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import faust
from faust.types import EventT, StreamT
from typing_extensions import override

from services.monitoring.desk import Desk, StateRow, newer
from services.monitoring.transport import append
from services.runtime.ports import Output, Record

if TYPE_CHECKING:
    from faust.streams import Stream

Fail = Callable[[Exception], None]


class Rows(faust.Table[bytes, bytes]):
    """A table whose rows begin with the offset they were counted through."""

    @override
    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Take rows of the changelog over, the one counted furthest of each key."""
        for event in batch:
            key, value = event.message.key, event.message.value
            if value is None:
                self.data.pop(key, None)
            elif newer(self.data.get(key), value):
                self.data[key] = value

    def forget(self, kept: Callable[[bytes], bool]) -> None:
        """Drop the rows of partitions that are no longer held."""
        for key in [key for key in self.data if not kept(key)]:
            self.data.pop(key)


class FaustWire:
    """Writes by Faust's producer: outputs to their topics, rows to the changelogs of tables."""

    def __init__(self, app: faust.App, tables: Mapping[str, Rows], prefix: str) -> None:
        """Prepare to write.

        Args:
            app: whose producer writes.
            tables: per source topic the table of its tasks.
            prefix: of every topic.
        """
        self._app, self._tables, self._prefix = app, tables, prefix

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
        """Write rows to the partition numbers of their places, then to the tables in memory."""
        promises = []
        for place, share in groupby(rows, key=lambda row: row.place):
            topic = self._tables[place[0]].changelog_topic_name
            pairs = ((row.key, row.value) for row in share)
            promises += await append(self._app, topic, place[1], pairs)
        await asyncio.gather(*promises)
        for row in rows:
            store = self._tables[row.place[0]].data
            if row.value is None:
                store.pop(row.key, None)
            else:
                store[row.key] = row.value


def add_agents(app: faust.App, desk: Desk, *, prefix: str, fail: Fail) -> None:
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
                desk.take(record_of(event, prefix), event.ack)
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


def record_of(event: EventT[Any], prefix: str) -> Record:
    """Copy what Faust read into the shape that tasks know."""
    message = event.message
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return Record(
        topic=message.topic.removeprefix(prefix),
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=int((message.timestamp or 0) * 1000),
        key=message.key,
        value=message.value,
        headers=tuple(pairs),
        timestamp_type=message.timestamp_type,
    )
