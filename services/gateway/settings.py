"""What the gateway is told, as `VIGIL_*` variables."""

from pathlib import Path

from pydantic import Field

from services.runtime.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Where the gateway listens, whom it takes messages from, and its key."""

    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(default=8400, ge=0, le=65535)
    pseudonym_key_file: Path
    sources_file: Path | None = None
    payload_key_file: Path = Path(".vigil/keys/payload.key")
    outbox_folder: Path | None = Field(
        default=None, description="where records wait while Kafka is away; of this replica alone"
    )
    outbox_max_bytes: int = Field(default=1 << 30, ge=1 << 20)
    mllp_host: str = "127.0.0.1"
    mllp_port: int | None = Field(
        default=None, ge=0, le=65535, description="HL7 v2 over MLLP; none without it"
    )
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    subscriptions_file: Path | None = Field(
        default=None, description="FHIR Subscriptions whose servers are asked for missing events"
    )
