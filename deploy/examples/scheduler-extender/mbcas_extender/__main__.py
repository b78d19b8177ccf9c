"""Runs the extender: `python -m mbcas_extender`."""

import argparse
import asyncio
import ipaddress
import logging
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter

from mbcas_extender.market import CALLS_MAX, DEADLINE_SECONDS, Connection, Market
from mbcas_extender.web import Extender, Web

EXIT_FAILED, EXIT_USAGE = 1, 2
DEFAULT_LISTEN = "127.0.0.1:7481"
DEFAULT_SERVER = "127.0.0.1:7443"
DEADLINE_MAX_SECONDS = 10.0  # Well below what a connection is given.

logger = logging.getLogger(__name__)


class OptionError(Exception):
    """An option cannot be used; the message names it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT.

    Exits with 0 after an orderly end, 1 where it cannot listen, 2 where an option is unusable.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    try:
        asyncio.run(_run(options))
    except OptionError as error:
        sys.stderr.write(f"mbcas_extender: {error}\n")
        sys.exit(EXIT_USAGE)
    except OSError as error:
        sys.stderr.write(f"mbcas_extender: cannot listen at {options.listen_address}: {error}\n")
        sys.exit(EXIT_FAILED)


async def _run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(options) as port:
        logger.info("ready listen_port=%d server=%s", port, options.server)
        await stop.wait()
    logger.info("stopped")


@asynccontextmanager
async def serving(options: argparse.Namespace) -> AsyncIterator[int]:
    """Starts everything and yields the port it listens at.

    Raises:
        OptionError: An option cannot be used.
        OSError: The address cannot be listened at.
    """
    address, tls = _listening(options)
    connection = _connection(options)
    registry = CollectorRegistry()
    answers = Counter(
        "mbcas_extender_allocate_total", "Nodes asked about", ["result"], registry=registry
    )
    clock = time.monotonic  # noqa: TID251 - the machine's clock enters here alone.
    async with Market(connection, answers=answers, now_seconds=clock) as market:
        extender = Extender(
            market,
            registry=registry,
            deadline_seconds=connection.deadline_seconds,
            body_max_bytes=options.body_max_mib << 20,
        )
        web = Web(address, extender, tls=tls)
        web.start()
        try:
            yield web.port
        finally:
            await web.stop()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses options as the command line has them."""
    return _parser().parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mbcas_extender", description=__doc__)
    add = parser.add_argument
    add(
        "--listen-address",
        default=DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help="where kube-scheduler reaches this (%(default)s); port 0 takes any free one",
    )
    add("--https-cert", type=Path, metavar="FILE", help="certificate chain to listen with, PEM")
    add("--https-key", type=Path, metavar="FILE", help="its private key, PEM")
    add(
        "--https-client-ca",
        type=Path,
        metavar="FILE",
        help="authorities whose client certificates are asked for: only kube-scheduler may ask",
    )
    add(
        "--server",
        default=os.environ.get("MBCAS_SERVER", DEFAULT_SERVER),
        metavar="HOST:PORT",
        help="where mbcas-server is (MBCAS_SERVER, else %(default)s)",
    )
    token_file = os.environ.get("MBCAS_TOKEN_FILE")
    add(
        "--token-file",
        type=Path,
        default=Path(token_file) if token_file else None,
        metavar="FILE",
        help="its bearer token (MBCAS_TOKEN_FILE)",
    )
    add("--tls-ca", type=Path, metavar="FILE", help="authority that signed its certificate, PEM")
    add(
        "--insecure",
        action="store_true",
        help="allow plain text beyond this machine, on both sides",
    )
    add(
        "--deadline-seconds",
        type=float,
        default=DEADLINE_SECONDS,
        help="for all calls about one pod (%(default)s); less than the extender's httpTimeout",
    )
    add(
        "--calls-max",
        type=int,
        default=CALLS_MAX,
        help="candidates beyond these stay neutral (%(default)s)",
    )
    add("--body-max-mib", type=int, default=16, help="a larger question is refused (%(default)s)")
    return parser


def _connection(options: argparse.Namespace) -> Connection:
    if not 0 < options.deadline_seconds <= DEADLINE_MAX_SECONDS:
        raise OptionError(
            f"--deadline-seconds is {options.deadline_seconds:g}, must be above 0 and at most "
            f"{DEADLINE_MAX_SECONDS:g}"
        )
    for name in ("calls_max", "body_max_mib"):
        if getattr(options, name) < 1:
            option, given = name.replace("_", "-"), getattr(options, name)
            raise OptionError(f"--{option} is {given}, must be at least 1")
    if not (options.tls_ca or options.insecure or _is_loopback(options.server)):
        raise OptionError(
            f"--server {options.server} is another machine: give --tls-ca FILE, or --insecure to "
            "speak plain text with it"
        )
    if options.token_file is not None:
        _read(options.token_file, "--token-file")
    return Connection(
        server=options.server,
        token_file=options.token_file,
        tls_ca=None if options.tls_ca is None else _read(options.tls_ca, "--tls-ca"),
        deadline_seconds=options.deadline_seconds,
        calls_max=options.calls_max,
    )


def _listening(options: argparse.Namespace) -> tuple[tuple[str, int], ssl.SSLContext | None]:
    host, _, port = options.listen_address.rpartition(":")
    if not host or not port.isdecimal() or int(port) >= 1 << 16:
        raise OptionError(f"--listen-address is {options.listen_address!r}, must be HOST:PORT")
    address = (host.strip("[]"), int(port))
    if (options.https_cert is None) != (options.https_key is None):
        raise OptionError("--https-cert and --https-key: give both or neither")
    if options.https_cert is None:
        if options.https_client_ca is not None:
            raise OptionError("--https-client-ca: needs --https-cert and --https-key")
        if not (options.insecure or _is_loopback(options.listen_address)):
            raise OptionError(
                f"--listen-address {options.listen_address} is open to other machines: give "
                "--https-cert and --https-key, or --insecure for plain text"
            )
        return address, None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.https_cert, options.https_key)
        if options.https_client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(options.https_client_ca)
    except OSError as error:  # What OpenSSL refuses is one, too.
        raise OptionError(
            f"--https-cert, --https-key or --https-client-ca cannot be used: {error}"
        ) from error
    return address, context


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OptionError(f"{option}: cannot read {path}: {error}") from error


if __name__ == "__main__":
    main()
