"""What ingest is told."""

from pathlib import Path

from services.runtime.settings import ServiceSettings


class IngestSettings(ServiceSettings):
    """Settings of ingest, from `VIGIL_*`."""

    pseudonym_key_file: Path = Path(".vigil/keys/pseudonym.key")
    payload_key_file: Path = Path(".vigil/keys/payload.key")
    site_terminology: Path | None = None
    """The site's own rows; without one `terminology/site` in the schemas, where there is one."""
