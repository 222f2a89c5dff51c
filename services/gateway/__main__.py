"""`python -m services.gateway`: takes FHIR over HTTP and answers when it is durably in Kafka."""

import os
import signal
import ssl
import sys
from collections.abc import Callable
from functools import partial
from time import time
from typing import Final

import structlog
import uvicorn
from pydantic import ValidationError

from services.core.errors import CommandError, ExitCode, Stop
from services.core.faults import Fault
from services.core.pseudonyms import parse_key
from services.gateway.catching import read_followed
from services.gateway.depot import Depot
from services.gateway.journal import Journal
from services.gateway.listening import listen
from services.gateway.mllp import Mllp
from services.gateway.outbox import Outbox
from services.gateway.pipeline import Following, assemble
from services.gateway.reception.credentials import Source
from services.gateway.reception.records import TOPIC
from services.gateway.reception.sources import Sources, read_sources
from services.gateway.reception.spent import Spent
from services.gateway.settings import GatewaySettings
from services.gateway.tls import KnowingClients, context
from services.gateway.tokens import UsedTokens
from services.runtime.codec import Codec
from services.runtime.kafka.admin import partitions_of
from services.runtime.kafka.client import Options
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.shipping import Shipper
from services.runtime.settings import KafkaSettings
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.health import is_loopback
from services.runtime.telemetry.logs import configure
from services.runtime.vault import KeyFile

DELIVERY_TIMEOUT_S: Final = 5.0
LINGER_MS: Final = 5
GRACE_S: Final = 8
SEE: Final = "set it as docs/gateway.md says; `vigil up` sets all of them"

log = structlog.stdlib.get_logger()


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    configure("gateway", "info")
    try:
        settings = GatewaySettings()  # type: ignore[call-arg]  # the environment gives the rest
        configure("gateway", settings.log_level)
        return _serve(settings, KafkaSettings())
    except Stop as error:
        log.error("not started", because=str(error))  # noqa: TRY400 - our logs tell no values
        return ExitCode.STOP
    except ValidationError as error:
        prefix = "KAFKA_" if error.title == KafkaSettings.__name__ else "VIGIL_"
        names = ", ".join(prefix + str(wrong["loc"][0]).upper() for wrong in error.errors())
        log.error("not started", because=f"{names} missing or wrong", what_to_do=SEE)  # noqa: TRY400 - our logs tell no values
    except CommandError as error:
        log.error("not started", because=error.told)  # noqa: TRY400 - our logs tell no values
        return error.exit_code
    return ExitCode.CONFIGURATION


def _serve(settings: GatewaySettings, kafka: KafkaSettings) -> int:
    known, key, token = _known(settings), _key(settings), _token(settings)
    _refuse_open_door(settings, Sources(known))
    codec, tls = _codec(settings), _tls(settings)
    door = listen(settings.gateway_host, settings.gateway_port, "GATEWAY")
    options = kafka.client_options()
    publisher = Publisher(options, delivery_timeout_s=DELIVERY_TIMEOUT_S, linger_ms=LINGER_MS)
    make_depot, used = _depot(settings, options), _used(settings)
    sources = Sources(known, Spent(used.before, used.note) if used else None)
    mllp_door = (
        listen(settings.mllp_host, settings.mllp_port, "MLLP")
        if settings.mllp_port is not None
        else None
    )
    build = Build.of("gateway")
    ending = [ExitCode.OK]

    def stop(code: ExitCode) -> None:
        ending[0] = code
        server.should_exit = True

    server = uvicorn.Server(
        uvicorn.Config(
            assemble(
                sources,
                key,
                codec,
                publisher,
                ask=partial(partitions_of, options),
                build=build,
                token=token,
                stop=stop,
                abandon=os._exit,
                make_depot=make_depot,
                used=used,
                followed=_followed(settings),
                open_mllp=partial(Mllp.open, door=mllp_door, tls=tls) if mllp_door else None,
            ),
            http=KnowingClients if tls else "httptools",
            ssl_context_factory=(lambda *_: tls) if tls else None,
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # nobody is believed who the client is
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server raises the signal again when it has ended: by then it has been obeyed.
        signal.signal(number, lambda *_: None)
    ports = {"port": door.getsockname()[1]}
    if mllp_door:
        ports["mllp_port"] = mllp_door.getsockname()[1]
    log.info("started", version=build.version, **ports)
    server.run(sockets=[door])
    return ExitCode.CRASH if publisher.broken else ending[0]


def _depot(settings: GatewaySettings, options: Options) -> Callable[[Outbox], Depot] | None:
    """Open the journal, where one is wanted, and give the maker of what writes it."""
    if settings.outbox_folder is None:
        return None
    keys = KeyFile(settings.payload_key_file)
    try:
        journal = Journal(settings.outbox_folder, keys.vault)
    except OSError as error:
        raise _unusable(error) from None
    return lambda outbox: Depot(
        outbox,
        journal,
        lambda name: Shipper(options, name=name, topic=TOPIC),
        most_bytes=settings.outbox_max_bytes,
    )


def _used(settings: GatewaySettings) -> UsedTokens | None:
    """Open what remembers one-time tokens; the journal, opened before, has locked the folder."""
    try:
        return UsedTokens(settings.outbox_folder, time) if settings.outbox_folder else None
    except OSError as error:
        raise _unusable(error) from None


def _unusable(error: OSError) -> CommandError:
    return CommandError(
        f"VIGIL_OUTBOX_FOLDER cannot be used: {error.strerror}",
        "name a folder of this gateway alone, on a disk that stays",
        Fault.OUTBOX_FOLDER,
    )


def _key(settings: GatewaySettings) -> bytes:
    try:
        return parse_key(settings.pseudonym_key_file.read_text())
    except (OSError, ValueError):
        raise CommandError(
            "the pseudonym key cannot be read from VIGIL_PSEUDONYM_KEY_FILE",
            "name a file that holds one line of 64 hex digits: this key does not rotate",
            Fault.KEY_FILE,
        ) from None


def _token(settings: GatewaySettings) -> str:
    try:
        return settings.metrics_token()
    except OSError:
        raise CommandError(
            "the token cannot be read from VIGIL_METRICS_TOKEN_FILE",
            "name a file that this service may read, or none",
            Fault.TOKEN_FILE,
        ) from None


def _codec(settings: GatewaySettings) -> Codec:
    try:
        return Codec(settings.schemas)
    except (OSError, ValueError):
        raise CommandError(
            "the schemas cannot be read from VIGIL_SCHEMAS",
            "start in the project's folder, or name its schemas; `vigil up` does",
            Fault.NO_CONTRACTS,
        ) from None


def _known(settings: GatewaySettings) -> list[Source] | None:
    path = settings.sources_file
    if path is None:
        return None
    try:
        known = read_sources(path.read_bytes(), is_json=path.suffix == ".json")
        Sources(known)  # which refuses a list that cannot be kept to
    except (OSError, ValueError) as error:
        raise CommandError(
            f"VIGIL_SOURCES_FILE cannot be used: {error}",
            "list the sources as docs/gateway.md shows",
            Fault.SOURCES_FILE,
        ) from None
    return known


def _followed(settings: GatewaySettings) -> Following:
    folder, path = settings.outbox_folder, settings.subscriptions_file
    if path is None:
        return [], None
    try:
        found = read_followed(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CommandError(
            f"VIGIL_SUBSCRIPTIONS_FILE cannot be used: {error}",
            "list the subscriptions as docs/gateway.md shows",
            Fault.SUBSCRIPTIONS_FILE,
        ) from None
    return found, folder / "subscriptions.json" if folder else None


def _refuse_open_door(settings: GatewaySettings, sources: Sources) -> None:
    for name, host in (("GATEWAY", settings.gateway_host), ("MLLP", settings.mllp_host)):
        if not is_loopback(host) and not sources.guarded:
            raise CommandError(
                "the gateway would listen beyond this machine and know nobody",
                "give each source a token in VIGIL_SOURCES_FILE, "
                f"or set VIGIL_{name}_HOST=127.0.0.1",
                Fault.OPEN_GATEWAY,
            )


def _tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None and key is None and settings.tls_client_ca_file is None:
        return None
    try:
        if certificate is None or key is None:
            raise FileNotFoundError("VIGIL_TLS_CERTIFICATE_FILE or VIGIL_TLS_KEY_FILE is missing")
        return context(certificate, key, settings.tls_client_ca_file)
    except OSError as error:
        raise CommandError(
            f"TLS cannot be used: {error}",
            "set VIGIL_TLS_CERTIFICATE_FILE, VIGIL_TLS_KEY_FILE and perhaps "
            "VIGIL_TLS_CLIENT_CA_FILE to PEM files",
            Fault.TLS_FILES,
        ) from None


if __name__ == "__main__":
    sys.exit(main())
