"""Settings: a flag wins over the environment, that over the YAML file, that over the default.

One name everywhere: `round_period_seconds` in the file, `--round-period-seconds` as a flag,
`MBCAS_ROUND_PERIOD_SECONDS` in the environment.
"""

import argparse
import difflib
import inspect
import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
)
from pydantic_settings.exceptions import SettingsError

from mbcas_core.errors import InvalidInputError
from mbcas_server.annotations import PRIORITY_CLASSES, SYSTEM_CLASSES, PriorityBounds
from mbcas_server.kube_settings import KubeSettings

PROGRAM = "mbcas-server"
PORT_MAX = 65_535
Seconds = float
LogLevel = Literal["debug", "info", "warning", "error"]
PriorityName = Literal["critical", "normal", "low"]
PRIORITY_CLASSES_MAX = 1_000


def _read_priority_classes(given: object) -> object:
    """Reads NAME=CLASS,NAME=CLASS; what is a mapping already stays as it is."""
    if not isinstance(given, str):
        return given
    pairs = [part.split("=") for part in given.split(",") if part.strip()]
    named = {pair[0].strip(): pair[-1].strip() for pair in pairs if len(pair) == 2}  # noqa: PLR2004 - a pair.
    if len(named) < len(pairs):
        raise _refusal(
            "priority_classes",
            f"is {given!r}, must be NAME=CLASS with commas between, each name once",
        )
    return named


def _allow_system_classes() -> dict[str, PriorityName]:
    return dict.fromkeys(SYSTEM_CLASSES, "critical")


PriorityClassNames = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=253)], PriorityName],
    NoDecode,
    BeforeValidator(_read_priority_classes),
    Field(max_length=PRIORITY_CLASSES_MAX),
]


class SettingsInvalidError(Exception):
    """The settings cannot be used; the message has one line for each reason."""


class Settings(KubeSettings):
    """The market server.

    Each setting below is also an environment variable (MBCAS_ROUND_PERIOD_SECONDS) and a line of
    the file that --config names (round_period_seconds). A flag wins over the environment, that
    over the file, that over the default.
    """

    config: Path | None = None
    """YAML file with settings by these names, in snake_case."""

    listen_address: str = "127.0.0.1:7443"
    """Where gRPC listens: HOST:PORT, [IPv6]:PORT or unix:/PATH. Port 0 takes any free one."""
    http_address: str = "127.0.0.1:7480"
    """Where /metrics and /healthz are served, in plain HTTP: HOST:PORT, or empty for nowhere."""
    insecure: bool = False
    """Allow gRPC without TLS beyond loopback. Anybody on the network can then read and write."""
    tls_cert: Path | None = None
    """File with the server's certificate chain, PEM. Together with tls_key. All three files are
    read again for the next connection after one has changed."""
    tls_key: Path | None = None
    """File with its private key, PEM."""
    tls_client_ca: Path | None = None
    """File with the authorities whose client certificates are asked for and accepted, PEM."""
    token_file: Path | None = None
    """File whose first line every caller must show as a bearer token. Unset: no token is asked (on
    Kubernetes, one that the API server knows). It is read again when it changes."""
    server_epoch: int = Field(default=0, ge=0)
    """Shims ignore a server with a lower epoch than they have seen; 0 takes the time of start, on
    Kubernetes how often the Lease has changed hands."""
    checkpoint_path: Path | None = None
    """File that what was learned is written to, and read from at the start. Unset: nowhere."""
    checkpoint_period_seconds: Seconds = Field(default=60.0, ge=1, le=3_600)
    """Time between two writes of it; it is also written at the end."""
    record_path: Path | None = None
    """File to write down everything in that the core is told and answers, for
    `mbcas-loadtest replay-decisions`: to find out why something was decided. It is replaced at the
    start, slows every tick, and holds the names of pods."""
    record_max_bytes: int = Field(default=1 << 30, ge=1 << 16, le=1 << 40)
    """Recording ends at this size."""

    heartbeat_seconds: Seconds = Field(default=5.0, ge=0.5, le=60)
    """Time between two heartbeats, each sent after a completed tick, 0.5 to 60."""
    tick_spacing_seconds: Seconds = Field(default=0.25, ge=0.01, le=10)
    """Reports bring the next tick forward, but no closer to the last one than this, and only while
    ticks take less than a twentieth of the time. At or above the tick period: never."""

    hot_interval_seconds: Seconds = Field(default=1.0, ge=0.1, le=5)
    """Shims: time between reports while a container is hot, 0.1 to 5."""
    busy_interval_seconds: Seconds = Field(default=2.0, ge=0.1, le=5)
    """Shims: the same while one is busy."""
    calm_interval_seconds: Seconds = Field(default=5.0, ge=0.1, le=5)
    """Shims: the same while all are calm."""
    hot_usage_ratio: float = Field(default=0.9, ge=0, le=1)
    """Shims: above this share of its quota a container is hot."""
    calm_usage_ratio: float = Field(default=0.7, ge=0, le=1)
    """Shims: below this share of its quota, and not throttled, it is calm after a while."""
    calm_after_seconds: Seconds = Field(default=10.0, ge=0, le=600)
    """Shims: how long that while is."""
    failsafe_after_seconds: Seconds = Field(default=300.0, ge=1, le=86_400)
    """Shims: without a directive for this long they give back admitted values."""
    failsafe_spread_seconds: Seconds | None = Field(default=None, ge=0, le=600)
    """Shims: they first wait a random time up to this. Unset: 0 where they write cgroups, else
    min(600, containers / 20)."""

    message_max_bytes: int = Field(default=4 << 20, ge=1 << 16, le=64 << 20)
    """A larger message from outside ends its call with RESOURCE_EXHAUSTED."""
    first_report_seconds: Seconds = Field(default=60.0, ge=0.1, le=600)
    """A shim that has not reported this long after it connected is turned away. After a restart
    all shims come at once, and a large cluster's inventories take their time."""
    reports_per_second_max: float = Field(default=10.0, ge=1, le=1000)
    """A shim that reports more often than this is read no faster."""
    inbox_samples_max: int = Field(default=4, ge=1, le=100)
    """Reports' worth of samples a node's inbox keeps between ticks; the oldest go first."""
    outbox_orders_max: int = Field(default=2_000, ge=1, le=100_000)
    """Orders that wait for one slow shim; more are dropped and counted."""
    write_stall_seconds: Seconds = Field(default=30.0, ge=0.1, le=600)
    """A shim or watcher that takes nothing in for this long loses its stream."""
    watchers_max: int = Field(default=100, ge=0, le=10_000)
    """Streams of WatchMarkets at one time."""

    max_priority: PriorityName = "normal"
    """The highest priority class that a pod may claim where neither `max-priority` of its namespace
    nor its PriorityClass says anything. At critical, claiming it costs nobody anything."""
    priority_classes: PriorityClassNames = Field(default_factory=_allow_system_classes)
    """What Kubernetes PriorityClasses allow their pods to claim, as NAME=CLASS, with commas between
    (in the file: a mapping). Classes that are not named here say nothing."""

    metrics_containers_max: int = Field(default=500, ge=0, le=1_000_000)
    """Containers that have metrics of their own; 0 switches those off."""
    stop_grace_seconds: Seconds = Field(default=5.0, ge=0, le=600)
    """At the end, calls that still run get this long."""
    log_level: LogLevel = "info"
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
        """Reads nothing but what `load_settings` hands over."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @model_validator(mode="after")
    def _check_addresses(self) -> Self:
        if not (self.listen_address.startswith("unix:/") or _has_port(self.listen_address)):
            raise _refusal(
                "listen_address",
                f"is {self.listen_address!r}, must be HOST:PORT, [IPv6]:PORT or unix:/PATH",
            )
        if self.http_address and not _has_port(self.http_address):
            raise _refusal(
                "http_address",
                f"is {self.http_address!r}, must be HOST:PORT, [IPv6]:PORT or empty",
            )
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_cert"
            raise _refusal(missing, "is missing: give both tls_cert and tls_key, or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise _refusal("tls_client_ca", "needs tls_cert and tls_key beside it")
        if not (self.tls_cert or self.insecure or is_local(self.listen_address)):
            raise _refusal(
                "listen_address",
                f"{self.listen_address} is not loopback: give tls_cert and tls_key, or allow "
                "plain text with insecure",
            )
        return self

    @model_validator(mode="after")
    def _check_callers(self) -> Self:
        if self.kubernetes and self.token_file is not None:
            raise _refusal(
                "token_file", "must not be given with kubernetes: callers show tokens of their own"
            )
        return self

    @model_validator(mode="after")
    def _check_intervals(self) -> Self:
        if (
            not self.hot_interval_seconds
            <= self.busy_interval_seconds
            <= (self.calm_interval_seconds)
        ):
            raise _refusal("busy_interval_seconds", "must lie between the hot and the calm one")
        if self.calm_usage_ratio > self.hot_usage_ratio:
            raise _refusal("calm_usage_ratio", "must not be above hot_usage_ratio")
        return self

    def priority_bounds(self) -> PriorityBounds:
        """Returns how much priority pods may claim."""
        return PriorityBounds(
            max_priority=PRIORITY_CLASSES[self.max_priority],
            of_class={name: PRIORITY_CLASSES[word] for name, word in self.priority_classes.items()},
        )

    @model_validator(mode="after")
    def _check_core(self) -> Self:
        try:
            self.parameters()
        except InvalidInputError as error:
            # An entry of a table is a setting of its own: tau.low of the core is tau_low here.
            lines = [f"{each.field.replace('.', '_')}: {each.reason}" for each in error.errors]
            raise ValueError("\n".join(lines)) from error
        return self

    def describe(self) -> str:
        """Returns every setting as ``key=value``; files are named, their contents are not read."""
        return " ".join(f"{name}={getattr(self, name)}" for name in type(self).model_fields)


def is_local(address: str) -> bool:
    """Returns whether only this machine can reach the address."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_port(address: str) -> bool:
    # gRPC would take a port modulo 65,536.
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not bracketed):
        return False
    return port.isascii() and port.isdecimal() and int(port) <= PORT_MAX


def load_settings(arguments: list[str]) -> Settings:
    """Reads the settings from flags, environment and file.

    Raises:
        SettingsInvalidError: Something in them cannot be used.
        SystemExit: The flags asked for help, or are none of ours (argparse says so itself).
    """
    try:
        flags = CliSettingsSource[Any](
            Settings,
            cli_parse_args=arguments,
            root_parser=argparse.ArgumentParser(
                prog=PROGRAM,
                usage=f"{PROGRAM} [--config FILE] [--SETTING VALUE ...]",
                description=inspect.cleandoc(Settings.__doc__ or ""),
                formatter_class=argparse.RawDescriptionHelpFormatter,
            ),
        )()
        variables = EnvSettingsSource(Settings)()
        path = flags.get("config") or variables.get("config")
        values = (_read_file(Path(path)) if path else {}) | variables | flags
        return Settings(**values)
    except SettingsError as error:
        raise SettingsInvalidError(str(error)) from error
    except ValidationError as error:
        raise SettingsInvalidError("\n".join(_lines(error))) from error


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalidError(f"config: cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        raise SettingsInvalidError(f"config: {path} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsInvalidError(f"config: {path} must hold one mapping of names to values")
    if "config" in content:
        raise SettingsInvalidError(f"config: {path} must not name another file")
    return content


def _lines(error: ValidationError) -> list[str]:
    """Returns one line for each reason: the field, what was found, what is allowed."""
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        match item["type"]:
            case "value_error":
                lines.append(item["msg"].removeprefix("Value error, "))
            case "extra_forbidden":
                known = difflib.get_close_matches(field, Settings.model_fields, n=1)
                hint = f"did you mean {known[0]}?" if known else "--help lists the settings"
                lines.append(f"{field}: no such setting; {hint}")
            case _:
                lines.append(f"{field}: is {item['input']!r}; {item['msg']}")
    return lines


def _refusal(field: str, reason: str) -> ValueError:
    return ValueError(f"{field}: {reason}")
