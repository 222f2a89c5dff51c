"""Faust as it comes, doing the bare loop's work: an agent, a message at a time, `acks=all`.

python peer_faust.py BOOTSTRAP SOURCE SINK EVENTS ONNX NAMES WIDTH
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faust
from trivial import OneByOne, Stopwatch


async def run(arguments: Sequence[str], folder: str) -> Stopwatch:
    bootstrap, source, sink, events, onnx, names, width = arguments
    work = OneByOne(Path(onnx), names.split(","), int(width))
    watch, done = Stopwatch(int(events)), asyncio.Event()
    app = faust.App(
        "peer-faust",
        broker=f"kafka://{bootstrap}",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=folder,
    )
    topic = app.topic(source, value_type=bytes, value_serializer="raw")
    out = app.topic(sink, value_type=bytes, value_serializer="raw")

    async def predict(stream: Any) -> None:
        async for value in stream:
            # Nobody waits for each to be delivered; Faust does before it commits.
            _ = await out.send(value=work.predict(value))
            if watch.passed():
                done.set()

    app.agent(topic)(predict)
    app.finalize()
    await app.maybe_start()
    await done.wait()
    await app.stop()
    return watch


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        asyncio.run(run(sys.argv[1:], folder)).tell()


if __name__ == "__main__":
    main()
