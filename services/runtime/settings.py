"""Settings that several services share; each service's own `settings.py` adds its own."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseSettings):
    """How to reach Kafka; the names are those that every Kafka tool knows."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_")

    bootstrap_servers: str = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password_file: Path | None = None
    ssl_ca_file: Path | None = None

    def client_options(self) -> dict[str, str | int]:
        """Give the options that every client of this cluster is made with.

        Raises:
            OSError: the password file cannot be read.
        """
        options: dict[str, str | int] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
        }
        if self.ssl_ca_file:
            options["ssl.ca.location"] = str(self.ssl_ca_file)
        if self.sasl_password_file:
            password = SecretStr(self.sasl_password_file.read_text().strip())
            options["sasl.mechanism"] = self.sasl_mechanism
            options["sasl.username"] = self.sasl_username
            options["sasl.password"] = password.get_secret_value()
        return options


class ServiceSettings(BaseSettings):
    """What every service is told: where its files are and where it shows its metrics."""

    model_config = SettingsConfigDict(env_prefix="VIGIL_")

    schemas: Path = Path("schemas")
    metrics_port: int = Field(default=0, ge=0, le=65535, description="0 takes a free port")
    metrics_host: str = Field(default="127.0.0.1", description="another address needs a token")
    metrics_token_file: Path | None = None
    instance: int = Field(default=0, ge=0, description="ordinal of this replica of the service")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def metrics_token(self) -> str:
        """Read what one must show to see `/metrics`; empty when nobody need show anything.

        Raises:
            OSError: the file cannot be read.
        """
        return self.metrics_token_file.read_text().strip() if self.metrics_token_file else ""
