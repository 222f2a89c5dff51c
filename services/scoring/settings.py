"""What scoring is told at its start."""

from pathlib import Path

from services.core.events import Role
from services.runtime.settings import ServiceSettings


class ScoringSettings(ServiceSettings):
    """The settings of scoring; names in the environment begin with VIGIL_."""

    model: Path = Path("models/sepsis/1.0.0")
    """Scores until people put another one into use."""
    models: Path = Path("models")
    """Where the bundles lie that people may put into use, `<name>/<version>` each."""
    role: Role = Role.SHOWN
