"""What the audit service is told by its environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime.settings import ServiceSettings


class StoreSettings(BaseSettings):
    """How to reach ClickHouse; the names are those that its tools know."""

    model_config = SettingsConfigDict(env_prefix="CLICKHOUSE_")

    url: str = "http://127.0.0.1:8123/default"
    user: str = ""
    password_file: Path | None = None
    timeout_s: float = Field(default=60.0, gt=0, description="how long a statement may take")
    cluster: str = Field(
        default="",
        pattern=r"^[\w{}.-]*$",
        description="of the servers that keep copies; `vigil ledger migrate` makes tables on all",
    )

    def password(self) -> str:
        """Read the password file, if there is one.

        Raises:
            OSError: it cannot be read.
        """
        return self.password_file.read_text().strip() if self.password_file else ""


class AuditSettings(ServiceSettings):
    """How the ledger is written."""

    home: Path = Field(default=Path(".vigil"), description="holds audit.lock and rebuild.lock")
    block_rows: int = Field(default=30_000, ge=1, description="rows that fill a block")
    block_bytes: int = Field(default=32 << 20, ge=1, description="values that fill a block")
    block_s: float = Field(default=0.8, gt=0, le=1, description="age at which a block is written")
