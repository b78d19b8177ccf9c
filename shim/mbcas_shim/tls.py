"""The encrypted way to the server: channel credentials, and why a handshake failed.

gRPC says of a failed handshake only that there was one, in words of its TLS library. So a second
handshake is tried with Python's own, whose error codes tell what is wrong.
"""

import asyncio
import ssl
from pathlib import Path

import grpc

from mbcas_shim.errors import ConfigurationError

_HANDSHAKE_SECONDS = 5.0


def channel_credentials(ca_file: Path) -> grpc.ChannelCredentials:
    """Reads the authorities that may vouch for the server.

    Raises:
        ConfigurationError: The file cannot be read, or holds no certificate.
    """
    try:
        authorities = ca_file.read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=authorities.decode("ascii")
        )
    except (OSError, UnicodeDecodeError, ssl.SSLError, ValueError) as error:
        raise ConfigurationError(f"server_ca: {ca_file} cannot be used: {error}") from error
    return grpc.ssl_channel_credentials(authorities)


async def explain_handshake(address: str, ca_file: Path, server_name: str | None) -> str:
    """Tells what is wrong with the server's certificate, and what to do; empty where nothing is."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    name = server_name or host
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
        context.set_alpn_protocols(["h2"])
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            _, writer = await asyncio.open_connection(
                host, int(port), ssl=context, server_hostname=name
            )
        writer.close()
    except ssl.SSLCertVerificationError as error:
        return _advice(error, name, ca_file)
    except ssl.SSLError:
        return f"{address} does not speak TLS: is it this port, and has the server a certificate?"
    except (OSError, ValueError, TimeoutError):
        return ""  # Nobody is there, or not now: what gRPC said is all there is.
    return ""


def _advice(error: ssl.SSLCertVerificationError, name: str, ca_file: Path) -> str:
    said = f"the server's certificate is refused: {error.verify_message}"
    match error.verify_code:
        case 10:  # X509_V_ERR_CERT_HAS_EXPIRED, as all of these of OpenSSL's x509_vfy.h.
            return f"{said}; renew it, or have the server read the renewed one"
        case 9:  # X509_V_ERR_CERT_NOT_YET_VALID
            return f"{said}; is this node's clock right?"
        case 62 | 64:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            return f"{said}; it must be for {name}, or give the name it is for with --server-name"
        case _:
            return f"{said}; --server-ca {ca_file} must hold the authority that signed it"
