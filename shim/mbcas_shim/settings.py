"""The shim's settings: flags over environment over a YAML file over defaults."""

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from mbcas_shim.errors import ConfigurationError
from mbcas_shim.yaml_file import load_mapping

_PROGRAM = "mbcas-shim"
_PREFIX = "MBCAS_"


class Settings(BaseSettings):
    """Reads this node's cgroups, reports to the server, carries out its orders, fails safely.

    Each setting is a flag, an environment variable (MBCAS_ and its name in capitals) or a line of
    the file given by --config; the first of these that is present counts.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=_PREFIX,
        cli_prog_name=_PROGRAM,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        use_attribute_docstrings=True,
    )

    config: Path | None = None
    """YAML file with settings, by the names of the environment variables in lower case without
    MBCAS_ (server_address: ...)."""
    kubernetes: bool = False
    """This machine is a node of a Kubernetes cluster: its pods are watched, and resized through
    the API server."""
    containers_file: Path | None = None
    """YAML file with the node and its containers, where there is no Kubernetes; looked at again
    when it changes."""
    server_address: Annotated[str, Field(min_length=1, max_length=4096)] = "127.0.0.1:7443"
    """Where the server listens: HOST:PORT or unix:PATH. In plain text unless --server-ca is given,
    and then only on this machine unless --insecure."""
    server_ca: Path | None = None
    """PEM file with the authorities that may vouch for the server: the connection is then
    encrypted. Read again at each connection."""
    server_name: Annotated[str | None, Field(min_length=1, max_length=253)] = None
    """The name that the server's certificate must have, where that is not the host of
    server_address."""
    insecure: bool = False
    """Allow a server on another machine although nothing is encrypted; not beside a token."""
    node_name: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        default_factory=socket.gethostname
    )
    """This node's name, 1 to 253 characters; one shim per node. Default: the host's name."""
    cgroup_root: Path = Path("/sys/fs/cgroup")
    """Where cgroups are mounted, version 1 or 2; with --kubernetes also the kubepods group alone
    (of version 1: a folder with cpu and cpuacct, each that controller's kubepods group)."""
    kubelet_cgroup_root: Annotated[str, Field(max_length=4096)] = ""
    """The kubelet's cgroupRoot, where it has one of its own."""
    token_file: Path | None = None
    """File with the bearer token for the server; read again at each connection."""
    kube_api: str | None = None
    """URL of the Kubernetes API server, https://HOST:PORT. Default: as a pod finds it, with its
    service account's authority and token."""
    kube_ca: Path | None = None
    """PEM file with the authorities that may vouch for the Kubernetes API server."""
    kube_token_file: Path | None = None
    """File with the bearer token for the Kubernetes API server; read again at each call."""
    burst: bool = False
    """Write burst credit on Kubernetes, where the kubelet writes the quota: needs cgroups of pods
    that this process may write. Without --kubernetes it is always written."""
    failsafe_after_seconds: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 300.0
    """Without a word from the server for this long, admitted values come back, 1 to 86400. What
    the server says replaces it."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leaves the order to `read_settings`, which names its sources itself."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.kubernetes == (self.containers_file is not None):
            raise ValueError(
                "containers_file: exactly one is needed: --containers-file FILE, or --kubernetes"
            )
        return self

    @model_validator(mode="after")
    def _check_plaintext_stays_here(self) -> Self:
        if self.server_ca is not None or _is_local(self.server_address):
            return self
        if not self.insecure:
            raise ValueError(
                f"server_address: {self.server_address} is not on this machine and nothing is "
                "encrypted; give --server-ca FILE, use a loopback address or unix:PATH, or pass "
                "--insecure"
            )
        if self.token_file is not None:
            raise ValueError(
                f"token_file: the token would travel to {self.server_address} unencrypted; give "
                "--server-ca FILE, or no token"
            )
        return self


def read_settings(arguments: Sequence[str]) -> Settings:
    """Reads and checks all settings.

    Raises:
        ConfigurationError: One line per field that cannot be used.
        SystemExit: --help was asked for (0) or a flag is unknown (2).
    """
    flags = CliSettingsSource(Settings, cli_parse_args=list(arguments))()
    environment = EnvSettingsSource(Settings)()
    config = flags.get("config") or environment.get("config")
    file = {} if config is None else load_mapping(Path(str(config)))
    values: dict[str, Any] = {**file, **environment, **flags}
    try:
        return Settings.model_validate(InitSettingsSource(Settings, init_kwargs=values)())
    except ValidationError as error:
        lines = [_line(dict(problem), file, config) for problem in error.errors()]
        raise ConfigurationError("\n".join(lines)) from error


def _line(problem: dict[str, Any], file: dict[str, Any], config: object) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"{name}: {config} has a setting of this name, which does not exist; see --help"
    ways = f"--{name.replace('_', '-')}, {_PREFIX}{name.upper()} or {name} in the --config file"
    if problem["type"] == "missing":
        return f"{name}: required; give {ways}"
    where = f" ({config})" if name in file else ""
    return f"{name}: {message}, found {problem['input']!r}{where}; set {ways}"


def _is_local(address: str) -> bool:
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """Reads a bearer token.

    Raises:
        ConfigurationError: It cannot be read or cannot stand in a header.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"token_file: {path} cannot be read: {error}") from error
    if not token or not token.isprintable():
        raise ConfigurationError(f"token_file: {path} must hold one printable token")
    return token
