"""The server's certificate and the authorities of its callers, read again when the files change.

gRPC asks for them before each handshake. Connections that are there already keep what they have.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from mbcas_server.metrics import Metrics

logger = logging.getLogger(__name__)
_Stamp = tuple[tuple[int, int, int], ...]


class TlsFilesError(Exception):
    """The files cannot be used; the message names the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where certificate, key and, for mTLS, the authorities of clients are."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(filter(None, (self.certificate, self.key, self.client_authorities)))

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Returns what the files say.

        Raises:
            TlsFilesError: They are unreadable, or do not fit each other.
        """
        try:
            # gRPC would only say that no handshake succeeds.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key)
            authorities = None
            if self.client_authorities is not None:
                context.load_verify_locations(self.client_authorities)
                authorities = self.client_authorities.read_bytes()
            return grpc.ssl_server_certificate_configuration(
                [(self.key.read_bytes(), self.certificate.read_bytes())], authorities
            )
        except OSError as error:  # An SSLError is one, too.
            names = "tls_cert, tls_key or tls_client_ca"
            raise TlsFilesError(f"{names}: cannot be used: {error}") from error


class _Reloading:
    """Hands gRPC new files once they are there, whole and fit each other."""

    def __init__(self, files: TlsFiles, metrics: Metrics) -> None:
        self._files = files
        self._metrics = metrics
        self._stamp = _stamp(files)
        self._refused: _Stamp | None = None

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """Runs in a thread of gRPC; None means that nothing has changed."""
        stamp = _stamp(self._files)
        if stamp in {self._stamp, self._refused}:
            return None
        try:
            configuration = self._files.read()
        except TlsFilesError as error:
            # Half of a change, perhaps: once they change again, they are looked at again.
            self._refused = stamp
            self._metrics.certificate_reloads.labels(result="refused").inc()
            logger.warning("certificate kept, the new files are refused: %s", error)
            return None
        self._stamp, self._refused = stamp, None
        self._metrics.certificate_reloads.labels(result="taken").inc()
        logger.info("certificate read again")
        return configuration


def _stamp(files: TlsFiles) -> _Stamp | None:
    """Returns what differs once a file was replaced or written; None while one is missing."""
    try:
        found = [path.stat() for path in files.paths]
    except OSError:
        return None
    return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in found)


def reloading_credentials(files: TlsFiles, metrics: Metrics) -> grpc.ServerCredentials:
    """Returns credentials that follow the files.

    Raises:
        TlsFilesError: They cannot be used now.
    """
    reloading = _Reloading(files, metrics)
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        reloading,  # type: ignore[arg-type] # Its stub forgets that None means no change.
        files.client_authorities is not None,
    )
