"""What labelling is told at its start."""

from pydantic import Field

from services.runtime.settings import ServiceSettings


class LabellingSettings(ServiceSettings):
    """The settings of labelling; names in the environment begin with VIGIL_."""

    label_lag_h: float = Field(
        default=72,
        ge=0,
        le=24 * 365,
        description="hours after the horizon in which a complete source may still be late",
    )
