"""TLS of the doors, and the certificate by which a client is known."""

import asyncio
import hashlib
import ssl
from pathlib import Path
from typing import Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CERTIFICATE: Final = "certificate"
"""Under this name the state of a request holds SHA-256 of the client's certificate, in hex."""


def context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """Make what both doors speak TLS with.

    Args:
        certificate: of this gateway, PEM.
        key: of the certificate.
        client_ca: that signs certificates of clients; None where none are asked for.

    Raises:
        OSError: a file cannot be read, or is none.
    """
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(certificate, key)
    if client_ca:
        made.verify_mode = ssl.CERT_OPTIONAL  # a token does as well
    return made


class KnowingClients(HttpToolsProtocol):
    """HTTP that keeps who the other side has proved to be."""

    _certificate = ""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Keep the certificate that was verified in the handshake."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True) if tls else None
        self._certificate = hashlib.sha256(shown).hexdigest() if shown else ""

    @override
    def on_message_begin(self) -> None:
        """Begin a request: its state holds the certificate."""
        super().on_message_begin()
        self.scope["state"][CERTIFICATE] = self._certificate
