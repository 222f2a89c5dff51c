"""What monitoring is told at its start."""

from pydantic import Field

from services.runtime.settings import ServiceSettings


class MonitoringSettings(ServiceSettings):
    """The settings of monitoring; names in the environment begin with VIGIL_."""

    monitoring_static: bool = Field(
        default=True,
        description="right for one worker that is restarted in place: it goes on within 2 s; "
        "false where workers come and go: a static one that leaves is missed for 10 s",
    )
    monitoring_flush_s: float = Field(
        default=5.0, gt=0, le=60, description="how often state is written, real time"
    )
