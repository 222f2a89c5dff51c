"""What Java keeps of one start of Kafka: every later one takes half of the processor's time."""

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from services.local import jars
from services.local.kafka import JAVA, await_answer, prepare
from services.local.ports import free_port

ENDS_S = 300.0  # Java writes it down when it ends


def learned(cache: Path, folder: Path) -> Path:
    """Give the file that Java takes as `-XX:AOTCache`; it ignores one that does not fit.

    Args:
        cache: of the jars; the file is kept in it, and learned once by all who share it.
        folder: for the broker that it is learned from.
    """
    path = cache / f"kafka-{_edition(jars.class_path(cache, jars=jars.locked()))}.aot"
    with (cache / "learning").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _learn(path, folder)
    return path


def _edition(found: Sequence[Path]) -> str:
    files = [file.resolve() for file in (JAVA, *found)]
    told = [f"{file} {file.stat().st_mtime_ns}\n" for file in files]
    return hashlib.sha256("".join(told).encode()).hexdigest()[:16]


def _learn(path: Path, folder: Path) -> None:
    port, draft, log = free_port(), path.with_suffix(".new"), folder / "kafka.log"
    command = prepare(folder, port, cache=path.parent)
    options = f"{os.environ.get('JDK_JAVA_OPTIONS', '')} -XX:AOTCacheOutput={draft}"
    environ = {**os.environ, "JDK_JAVA_OPTIONS": options}
    with (
        log.open("ab") as told,
        subprocess.Popen(command, env=environ, stdout=told, stderr=told) as node,
    ):
        try:
            await_answer(f"127.0.0.1:{port}", alive=lambda: node.poll() is None, log=log)
            node.terminate()
            node.wait(ENDS_S)
        finally:
            node.kill()
    for old in path.parent.glob("kafka-*.aot"):
        old.unlink()
    draft.replace(path)
