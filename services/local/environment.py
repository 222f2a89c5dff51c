"""What the processes of the stack are told: addresses, files, ports, keys."""

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from services.local.home import REPO, Home
from services.local.ports import chosen
from services.local.roster import Program

KEYS: Final = ("pseudonym", "payload")
KEY_BYTES: Final = 32
KEY_MODE: Final = 0o600


def ports(home: Home, programs: Iterable[Program]) -> dict[str, int]:
    """A port for each program: the one of last time, else the usual one, else any that is free."""
    known = remembered_ports(home)
    for program in programs:
        taken = frozenset(port for name, port in known.items() if name != program.name)
        known[program.name] = chosen(known.get(program.name, program.port), taken)
    remember(home, known)
    return known


def remember(home: Home, ports: Mapping[str, int]) -> None:
    """Keeps the ports for the next `up`."""
    (home.root / "ports.json").write_text(json.dumps(ports, indent=2) + "\n")


def remembered_ports(home: Home) -> dict[str, int]:
    """The ports of the last `up`, by program."""
    path = home.root / "ports.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def environment(home: Home, ports: Mapping[str, int], given: Mapping[str, str]) -> dict[str, str]:
    """The variables that every service gets; an address or file that is given stays as it is.

    Args:
        home: of this stack.
        ports: of its programs, by name.
        given: the variables that `vigil up` was started with.
    """
    fixed = {
        "VIGIL_HOME": str(home.root),
        "VIGIL_CACHE": str(home.cache),
        "VIGIL_GATEWAY_PORT": str(ports.get("gateway", 0)),
    }
    usual = {
        "VIGIL_SCHEMAS": str(REPO / "schemas"),
        "VIGIL_MODEL": str(REPO / "models" / "sepsis" / "1.0.0"),
        "VIGIL_MODELS": str(REPO / "models"),
        "VIGIL_OUTBOX_FOLDER": str(home.root / "outbox"),
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{ports.get('kafka', 0)}",
        "CLICKHOUSE_URL": f"http://127.0.0.1:{ports.get('clickhouse', 0)}",
    }
    keys = {f"VIGIL_{name.upper()}_KEY_FILE": str(home.keys / f"{name}.key") for name in KEYS}
    told = {name: given.get(name) or value for name, value in {**usual, **keys}.items()}
    return {**told, **fixed}


def make_keys(home: Home) -> None:
    """Makes the key files that do not exist yet; a key is never replaced."""
    home.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in KEYS:
        _make_key(home.keys / f"{name}.key")


def _make_key(path: Path) -> None:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, KEY_MODE)
    except FileExistsError:
        return
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(KEY_BYTES) + "\n")
