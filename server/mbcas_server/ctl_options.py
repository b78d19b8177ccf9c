"""How `mbcasctl` is told where the server is: the same options after every command."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mbcas_server.ctl_client import Connection

DEFAULT_SERVER = "127.0.0.1:7443"


def _given(
    *,
    server: Annotated[
        str,
        typer.Option("--server", envvar="MBCAS_SERVER", help="Where the server is: HOST:PORT."),
    ] = DEFAULT_SERVER,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            envvar="MBCAS_TOKEN_FILE",
            help="File with the bearer token to show. On Kubernetes, kubectl create token NAME "
            "--audience mbcas makes one.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="MBCAS_TOKEN",
            show_envvar=True,
            help="The token itself. Others on this machine can see the options of a command: "
            "rather set the variable.",
        ),
    ] = None,
    server_ca: Annotated[
        Path | None,
        typer.Option(
            "--server-ca",
            "--tls-ca",
            envvar="MBCAS_SERVER_CA",
            help="File with the authority that signed the server's certificate. Implies TLS.",
        ),
    ] = None,
    server_name: Annotated[
        str | None,
        typer.Option(
            "--server-name",
            envvar="MBCAS_SERVER_NAME",
            help="The name in the server's certificate, where it is reached by another one, as "
            "through kubectl port-forward.",
        ),
    ] = None,
    client_cert: Annotated[
        Path | None,
        typer.Option("--client-cert", help="File with a certificate to show, for mTLS."),
    ] = None,
    client_key: Annotated[
        Path | None, typer.Option("--client-key", help="File with its private key.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow plain text to another machine.")
    ] = False,
) -> Connection:
    return Connection(
        server=server,
        token_file=token_file,
        token=token,
        server_ca=server_ca,
        server_name=server_name,
        client_cert=client_cert,
        client_key=client_key,
        insecure=insecure,
    )


def with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command, whose argument `connection` says where to ask, the options for it."""
    own = inspect.signature(command, eval_str=True)
    options = inspect.signature(_given, eval_str=True)

    @functools.wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401 - options are of any type.
        told = {name: given.pop(name) for name in options.parameters if name in given}
        command(**given, connection=_given(**told))

    kept = [each for name, each in own.parameters.items() if name != "connection"]
    keyword = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in (*kept, *options.parameters.values())
    ]
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined] # As typer reads it.
    run.__annotations__ = {each.name: each.annotation for each in keyword}
    return run
