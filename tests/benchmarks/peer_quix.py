"""Quix Streams, exactly-once, doing the bare loop's work.

With `dict` the features of patients are in memory and lost with the process; with `store` they are
in its own state, RocksDB with a changelog, which its transactions hold too.

python peer_quix.py dict|store BOOTSTRAP SOURCE SINK EVENTS ONNX NAMES WIDTH
"""

import logging
import sys
import tempfile
from pathlib import Path

from quixstreams import Application, State  # type: ignore[import-not-found]  # not installed here
from trivial import OneByOne, Stopwatch

COMMIT_S = 0.1
"""As long as the longest transaction of Vigil; the default of 5 s would not end in this time."""


def main() -> None:
    kept, bootstrap, source, sink, events, onnx, names, width = sys.argv[1:]
    work = OneByOne(Path(onnx), names.split(","), int(width))
    watch = Stopwatch(int(events))
    with tempfile.TemporaryDirectory(prefix="vigil-") as folder:
        app = Application(
            broker_address=bootstrap,
            consumer_group=f"peer-quix-{kept}",
            processing_guarantee="exactly-once",
            auto_offset_reset="earliest",
            auto_create_topics=kept == "store",  # its changelog
            commit_interval=COMMIT_S,
            state_dir=folder,
            loglevel=logging.WARNING,
        )
        topic = app.topic(source, value_deserializer="bytes", key_deserializer="bytes")
        out = app.topic(sink, value_serializer="bytes", key_serializer="bytes")

        def passed(told: bytes) -> bytes:
            if watch.passed():
                app.stop()
            return told

        def from_dict(value: bytes) -> bytes:
            return passed(work.predict(value))

        def from_store(value: bytes, state: State) -> bytes:
            told, features = work.predict_from(value, state.get_bytes("features"))
            state.set_bytes("features", features)
            return passed(told)

        observed = app.dataframe(topic)
        if kept == "store":
            observed.apply(from_store, stateful=True).to_topic(out)
        else:
            observed.apply(from_dict).to_topic(out)
        app.run()
    watch.tell()


if __name__ == "__main__":
    main()
