"""The agents, of a few lines each, the tables behind them, and how both reach the desk."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import faust
from faust.types import EventT, StreamT
from typing_extensions import override

from services.monitoring.desk import Desk, StateRow, newer
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
        await self._write([(self._prefix + output.topic, output) for output in outputs])

    async def keep(self, rows: Sequence[StateRow]) -> None:
        """Write each row to the partition number of its source, then to the table in memory."""
        written = [
            (table.changelog_topic_name, Output("", row.key, row.value, row.place[1]))
            for row in rows
            for table in (self._tables[row.place[0]],)
        ]
        await self._write(written)
        for row in rows:
            store = self._tables[row.place[0]].data
            if row.value is None:
                store.pop(row.key, None)
            else:
                store[row.key] = row.value

    async def _write(self, written: Sequence[tuple[str, Output]]) -> None:
        producer = await self._app.maybe_start_producer()
        promises: list[Awaitable[Any]] = [
            await producer.send(
                topic,
                output.key,
                output.value,
                partition=output.partition,
                timestamp=None,
                headers=list(output.headers),
            )
            for topic, output in written
        ]
        await asyncio.gather(*promises)


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
