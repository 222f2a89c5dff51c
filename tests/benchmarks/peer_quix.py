"""Quix Streams, exactly-once, doing the bare loop's work with a dict for its state.

python peer_quix.py BOOTSTRAP SOURCE SINK EVENTS ONNX NAMES WIDTH
"""

import logging
import sys
import tempfile
from pathlib import Path

from quixstreams import Application  # type: ignore[import-not-found]  # it is not installed here
from trivial import OneByOne, Stopwatch

COMMIT_S = 0.1
"""As long as the longest transaction of Vigil; the default of 5 s would not end in this time."""


def main() -> None:
    bootstrap, source, sink, events, onnx, names, width = sys.argv[1:]
    work = OneByOne(Path(onnx), names.split(","), int(width))
    watch = Stopwatch(int(events))
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        app = Application(
            broker_address=bootstrap,
            consumer_group="peer-quix",
            processing_guarantee="exactly-once",
            auto_offset_reset="earliest",
            auto_create_topics=False,
            commit_interval=COMMIT_S,
            state_dir=folder,
            loglevel=logging.WARNING,
        )
        topic = app.topic(source, value_deserializer="bytes", key_deserializer="bytes")
        out = app.topic(sink, value_serializer="bytes", key_serializer="bytes")

        def predict(value: bytes) -> bytes:
            told = work.predict(value)
            if watch.passed():
                app.stop()
            return told

        app.dataframe(topic).apply(predict).to_topic(out)
        app.run()
    watch.tell()


if __name__ == "__main__":
    main()
