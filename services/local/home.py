"""Where the local stack keeps its own: data, keys, logs, and a cache that may be shared."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Home:
    """The folder `.vigil/` of one local stack.

    Args:
        root: absolute path of the folder.
        cache: absolute path of the downloaded jars; several homes may share it.
    """

    root: Path
    cache: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """`VIGIL_HOME` and `VIGIL_CACHE`, else `.vigil` here and `.vigil/cache` of the project."""
        root = Path(environ.get("VIGIL_HOME") or ".vigil").absolute()
        cache = Path(environ.get("VIGIL_CACHE") or REPO / ".vigil" / "cache").absolute()
        return cls(root=root, cache=cache)

    @property
    def kafka(self) -> Path:
        """Topics, and what Kafka's configuration became."""
        return self.root / "kafka"

    @property
    def clickhouse(self) -> Path:
        """The ledger's tables."""
        return self.root / "clickhouse"

    @property
    def keys(self) -> Path:
        """Key files, readable by their owner alone."""
        return self.root / "keys"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What is true only while the stack is up: socket, pid, generated configuration."""
        return self.root / "run"


def here() -> Home:
    """The home that this process was started with."""
    return Home.of(os.environ)
