"""A subscriber that hears of committed records as soon as they are there."""

import threading
from collections.abc import Callable, Sequence
from typing import Final, Self

from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.client import Options
from services.runtime.kafka.reader import Reader
from services.runtime.ports import Record

READ_S: Final = 0.01


class Listening:
    """Hands committed records to a callback, from the beginning, in a thread of its own."""

    def __init__(
        self, options: Options, topics: Sequence[str], heard: Callable[[list[Record]], None]
    ) -> None:
        """Begin to listen when it is entered.

        Args:
            options: of the cluster.
            topics: that are read.
            heard: hears of the records of one reading, at least one; what it raises ends the
                thread and is raised again where this is left.
        """
        self._reader = Reader(options, dict.fromkeys(partitions_of(options, [*topics]), 0))
        self._heard, self._ending = heard, threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._listen, name="listening", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._reader.close()
        if self._failure is not None and kind is None:
            raise self._failure

    def _listen(self) -> None:
        try:
            while not self._ending.is_set():
                if records := self._reader.read(READ_S):
                    self._heard(records)
        except Exception as error:  # noqa: BLE001 - raised again in the thread of the caller
            self._failure = error
