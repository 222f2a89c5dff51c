"""docker-compose.yml as tests read it."""

import re
from typing import Any

import yaml

from services.local.home import REPO
from services.local.roster import SERVICES

FILE = REPO / "docker-compose.yml"
DOCKERFILE = (REPO / "infra" / "docker" / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
ALL: dict[str, dict[str, Any]] = COMPOSE["services"]
"""Every container, by name."""
OURS = {name: it for name, it in ALL.items() if it["image"].startswith("vigil:")}
"""Those that run our image."""
PROGRAMS = {program.name: program for program in SERVICES}
"""What the local stack runs, by name."""
IN_IMAGE = dict(re.findall(r"(VIGIL_\w+)=(\S+)", DOCKERFILE))
"""Variables that the image sets."""


def kafka_properties() -> dict[str, str]:
    """What Kafka's image makes of its variables, as apache/kafka says: `_` is `.`, `__` is `_`."""
    told = ALL["kafka"]["environment"]
    names = [name for name in told if name.startswith("KAFKA_") and not name.endswith("_OPTS")]
    return {
        name.removeprefix("KAFKA_").lower().replace("_", ".").replace("..", "_"): told[name]
        for name in names
    }
