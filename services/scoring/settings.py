"""What scoring is told at its start."""

from pathlib import Path

from services.core.events import Role
from services.runtime.settings import ServiceSettings


class ScoringSettings(ServiceSettings):
    """The settings of scoring; names in the environment begin with VIGIL_."""

    model: Path = Path("models/sepsis/1.0.0")
    role: Role = Role.SHOWN
