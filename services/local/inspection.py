"""What the stores of a stack that runs must hold, and how they stand to this program."""

import hashlib
import ipaddress
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from services.core.errors import CommandError, Retry
from services.local.check import FAIL, PASS, WARN, Check
from services.local.command import said, vigil
from services.local.home import REPO
from services.local.meters import Meters
from services.runtime.kafka.admin import access_rules
from services.runtime.kafka.client import Options

Ask = Callable[[str], list[dict[str, Any]]]
TABLES: Final = REPO / "infra" / "clickhouse"
SCHEMA: Final = "SELECT version, name, sha256 FROM schema_version ORDER BY version"
CLOCK: Final = "SELECT toUnixTimestamp64Milli(now64(3)) AS at"
BASELINE: Final = (
    "SELECT after, toString(effective_from) AS since FROM changes WHERE kind = 'baseline'"
    " ORDER BY effective_from DESC, made_at DESC LIMIT 1"
)
PROOF: Final = (
    "SELECT argMax(findings, ended_at) AS found,"
    " dateDiff('day', maxOrNull(if(findings = 0, ended_at, NULL)), now()) AS days"
    " FROM verifications"
)
PROVED_DAYS: Final = 8
"""As long as the alert VigilLedgerUnproved waits."""
SKEW_WARN_S: Final = 2.0
SKEW_FAIL_S: Final = 60.0


def store(ask: Ask, clock_s: Callable[[], float] = time.time) -> Iterator[Check]:
    """Every check that asks the ledger's store.

    Args:
        ask: puts a question to it; raises CommandError when there is no answer.
        clock_s: ours, s since 1970.
    """
    yield _asked("tables", lambda: tables(ask))
    yield _asked("clock", lambda: clock(ask, clock_s))
    yield _asked("baseline", lambda: baseline(ask))
    yield _asked("proof", lambda: proof(ask))


def tables(ask: Ask, folder: Path = TABLES) -> Check:
    """The version of the tables, against the files that make them."""
    files = {p.name: p.read_bytes() for p in sorted(folder.glob("[0-9]*_*.sql"))}
    applied = {row["name"]: row["sha256"] for row in ask(SCHEMA)}
    altered = [n for n in applied if applied[n] != hashlib.sha256(files.get(n, b"")).hexdigest()]
    if altered:
        remedy = "run the version of Vigil that made the tables, or a later one"
        found = f"made by another {altered[0]} than the one here"
        return Check(name="tables", state=FAIL, found=found, remedy=remedy)
    if missing := [name for name in files if name not in applied]:
        found, remedy = f"{', '.join(missing)} not applied", "`vigil ledger migrate`"
        return Check(name="tables", state=FAIL, found=found, remedy=remedy)
    return Check(name="tables", state=PASS, found=f"as {max(files)} says")


def clock(ask: Ask, clock_s: Callable[[], float]) -> Check:
    """The store's clock against ours; what passes while it is asked cannot be told apart."""
    before = clock_s()
    at = ask(CLOCK)[0]["at"] / 1000
    after = clock_s()
    skew = max(before - at, at - after, 0.0)
    if skew <= SKEW_WARN_S:
        found = f"the store's agrees with ours to {after - before + skew:.1f} s"
        return Check(name="clock", state=PASS, found=found)
    found = f"the store's is {skew:.0f} s or more {'ahead of' if at > after else 'behind'} ours"
    state = FAIL if skew >= SKEW_FAIL_S else WARN
    return Check(name="clock", state=state, found=found, remedy="have NTP set both clocks")


def baseline(ask: Ask) -> Check:
    """What windows are held against."""
    if rows := ask(BASELINE):
        found = f"{rows[0]['after'][:12]} from {rows[0]['since'][:19]} on"
        return Check(name="baseline", state=PASS, found=found)
    found = "none in use: drift stays insufficient"
    remedy = "`vigil drift baseline freeze` and `vigil drift baseline use`; docs/drift.md"
    return Check(name="baseline", state=WARN, found=found, remedy=remedy)


def proof(ask: Ask) -> Check:
    """When the ledger was last proved, and what was found."""
    said = ask(PROOF)[0]
    if said["found"]:
        remedy = "change nothing; docs/runbooks/VigilLedgerAltered.md"
        found = f"the last proof found {said['found']} that do not fit"
        return Check(name="proof", state=FAIL, found=found, remedy=remedy)
    if said["days"] is None:
        found, remedy = "the ledger was never proved", "`vigil ledger verify`"
        return Check(name="proof", state=WARN, found=found, remedy=remedy)
    found = f"whole, {said['days']} days ago"
    state = WARN if said["days"] >= PROVED_DAYS else PASS
    remedy = "`vigil ledger verify`, once a week" if state == WARN else ""
    return Check(name="proof", state=state, found=found, remedy=remedy)


def access(options: Options) -> Check:
    """Who may do what in Kafka, as far as this user is shown."""
    try:
        rules = access_rules(options)
    except Retry as error:
        remedy = "let this user describe the cluster, or ask who keeps it"
        return Check(name="acls", state=WARN, found=f"not shown: {error}", remedy=remedy)
    if rules:
        return Check(name="acls", state=PASS, found=f"{rules} can be seen")
    found = "none can be seen"
    if _is_loopback(str(options["bootstrap.servers"])):
        return Check(name="acls", state=PASS, found=f"{found}; only this machine reaches it")
    remedy = "give each service a user of its own, and ACLs for its topics"
    return Check(name="acls", state=WARN, found=found, remedy=remedy)


def boards(env: Mapping[str, str]) -> Check:
    """Grafana's files, against the code that makes them."""
    done = vigil(("dashboards", "diff", "--json"), env)
    if done.returncode == 0:
        return Check(name="dashboards", state=PASS, found="as the boards say")
    try:
        found = f"{len(json.loads(done.stdout)['files'])} files differ from the boards"
        remedy = "`vigil dashboards diff`, then `vigil dashboards build`"
    except (ValueError, KeyError):
        found, remedy = said(done), "`make setup`, where boards are made"
    return Check(name="dashboards", state=WARN, found=found, remedy=remedy)


def registers(meters: Meters) -> Check:
    """What monitoring counted since its start: baselines that it could not use, and windows."""
    refused = int(sum(meters.of("baselines_total", outcome="refused")))
    if refused:
        found = f"{refused} baselines were refused: unreadable, or not what was approved"
        remedy = "`vigil logs monitoring`, then `vigil drift baseline use` again"
        return Check(name="monitoring", state=WARN, found=found, remedy=remedy)
    windows = int(sum(meters.of("windows_total")))
    return Check(name="monitoring", state=PASS, found=f"{windows} windows stated since its start")


def _asked(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except CommandError as error:
        return Check(name=name, state=FAIL, found=error.what, remedy=error.remedy)


def _is_loopback(servers: str) -> bool:
    return all(_is_own(server.rpartition(":")[0]) for server in servers.split(","))


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
