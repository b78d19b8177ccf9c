"""Scenario files: YAML that describes a node by the generators that the catalog is made of.

    scenario: my-shop                 # Lower case with hyphens.
    title: Two web servers and a cron job
    seconds: 3600
    node_cpus: 8
    containers:
      - name: web
        count: 2                      # web-0, web-1: drawn independently.
        request_millicores: 1500
        limit_millicores: 1500
        load: {kind: levels, mean_millicores: {from: 400, to: 800}, spread: 0.3,
               shortest_seconds: 30, longest_seconds: 120}
        noise: {kind: gamma, cv: {choose: [0.1, 0.3, 0.5]}}
      - name: cron
        request_millicores: 2500
        limit_millicores: 2500
        load: {kind: periodic, low_millicores: 200, high_millicores: 2000, period_seconds: 300,
               peak_seconds: 45, phase_seconds: {from: 0, to: 300}}
        noise: {kind: gamma, cv: 0.2}

Any number of a load or a noise is itself, or is drawn for each container and seed: uniformly with
`{from: A, to: B}`, or as one of `{choose: [A, B, C]}`. The units are in the names and there are no
others: 1500 is one and a half cores, `1500m` is refused. An error names file, line and field.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from mbcas_core.events import PriorityClass
from mbcas_core.units import MAX_MILLICORES
from mbcas_loadtest.simulation.world import Faults
from mbcas_loadtest.workloads import file_loads
from mbcas_loadtest.workloads.amounts import Amount, Closed, Number
from mbcas_loadtest.workloads.noise import GammaWork, Noise, PoissonRequests
from mbcas_loadtest.workloads.scenario import (
    HOUR_SECONDS,
    WARMUP_SECONDS,
    Container,
    Dice,
    Node,
    Scenario,
    Tier,
)
from mbcas_loadtest.workloads.yaml_lines import Document, ScenarioFileError, read_document

CONTAINERS_MAX = 220
"""As many as a large node has; a world of an hour then takes 32 MB a seed."""
SECONDS_MAX = 86_400
REASONS_MAX = 20
"""Of why a file cannot be used; nobody reads more of them at once."""
_NAME = r"^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$"


def _tuple(given: object) -> object:
    return tuple(_tuple(one) for one in given) if isinstance(given, list) else given


def _ascends(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] >= span[1]:
        raise ValueError(f"from {span[0]:g} to {span[1]:g}: must ascend")
    return span


Name = Annotated[str, Field(pattern=_NAME)]
Millicores = Annotated[int, Field(ge=1, le=MAX_MILLICORES)]
Span = Annotated[tuple[Number, Number], AfterValidator(_ascends)]
Spans = Annotated[tuple[Span, ...], BeforeValidator(_tuple), Field(max_length=1_000)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
CV_MAX = 5.0


class GammaNoise(Closed):
    """Independent Gamma work every 100 ms."""

    kind: Literal["gamma"]
    cv: Amount

    def draw(self, generator: np.random.Generator) -> GammaWork:
        return GammaWork(cv=self.cv.draw(generator))


class PoissonNoise(Closed):
    """Poisson requests; `request_usec` of the container is what one costs."""

    kind: Literal["poisson"]
    cost_cv: Amount

    def draw(self, generator: np.random.Generator, request_usec: float) -> PoissonRequests:
        return PoissonRequests(request_usec=request_usec, cost_cv=self.cost_cv.draw(generator))


class FileContainer(Closed):
    """A container, or `count` of them."""

    name: Name
    count: int = Field(default=1, ge=1, le=CONTAINERS_MAX)
    request_millicores: Millicores
    limit_millicores: Millicores | None = None
    """Left out: there is none."""
    priority: Literal["critical", "normal", "low"] = "normal"
    batch: bool = False
    threads: int = Field(default=4, ge=1, le=1_024)
    request_usec: Amount = Amount(choose=(5_000.0,))
    """CPU time of one request."""
    concurrency: int | None = Field(default=None, ge=1, le=1_000_000)
    """Requests under way at most; left out: an open loop."""
    slo_delay_seconds: Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)] | None = None
    absent_seconds: Spans = ()
    load: file_loads.FileLoad
    noise: Annotated[GammaNoise | PoissonNoise, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.limit_millicores is not None and self.limit_millicores < self.request_millicores:
            raise ValueError(
                f"limit_millicores is {self.limit_millicores}, below request_millicores, "
                f"{self.request_millicores}"
            )
        spread = self.noise.cv if isinstance(self.noise, GammaNoise) else self.noise.cost_cv
        least = 0.0 if isinstance(self.noise, GammaNoise) else 0.01
        if not least <= spread.least <= spread.most <= CV_MAX:
            raise ValueError(f"noise: a CV must be from {least:g} to {CV_MAX:g}")
        if self.request_usec.least < 1:
            raise ValueError("request_usec must be at least 1")
        return self

    def draw(self, generator: np.random.Generator, name: str) -> Container:
        request_usec = self.request_usec.draw(generator)
        noise: Noise
        if isinstance(self.noise, PoissonNoise):
            noise = self.noise.draw(generator, request_usec)
        else:
            noise = self.noise.draw(generator)
        return Container(
            name=name,
            load=file_loads.draw_load(self.load, generator),
            noise=noise,
            request_millicores=self.request_millicores,
            limit_millicores=self.limit_millicores or 0,
            priority=PriorityClass[self.priority.upper()],
            is_batch=self.batch,
            threads=self.threads,
            request_usec=request_usec,
            max_backlog_usec=np.inf
            if self.concurrency is None
            else self.concurrency * request_usec,
            slo_delay_seconds=self.slo_delay_seconds or np.nan,
            absent_seconds=self.absent_seconds,
        )


class FileFaults(Closed):
    """What goes wrong; as in `simulation.world.Faults`."""

    shim_lost_seconds: Spans = ()
    server_restart_seconds: Annotated[
        tuple[Number, ...], BeforeValidator(_tuple), Field(max_length=1_000)
    ] = ()
    api_down_seconds: Spans = ()
    deferred_ratio: Ratio = 0.0
    deferred_seconds: Annotated[Span, BeforeValidator(_tuple)] = (10.0, 60.0)
    report_loss_ratio: Ratio = 0.0
    clock_skew_seconds: Annotated[float, Field(ge=-86_400, le=86_400, allow_inf_nan=False)] = 0.0

    def build(self) -> Faults:
        return Faults(**{name: getattr(self, name) for name in type(self).model_fields})


class ScenarioFile(Closed):
    """A whole file."""

    scenario: Name
    title: str = Field(default="", max_length=200)
    shows: str = Field(default="", max_length=500)
    seconds: int = Field(default=HOUR_SECONDS, ge=60, le=SECONDS_MAX)
    warmup_seconds: int = Field(default=WARMUP_SECONDS, ge=0, le=SECONDS_MAX)
    node_cpus: int = Field(ge=1, le=1_024)
    containers: Annotated[tuple[FileContainer, ...], BeforeValidator(_tuple)] = Field(min_length=1)
    faults: FileFaults = FileFaults()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = self.container_names()
        if len(names) > CONTAINERS_MAX:
            raise ValueError(f"containers: {len(names)} of them, {CONTAINERS_MAX} at most")
        if len(set(names)) < len(names):
            raise ValueError("containers: two have one name")
        if self.warmup_seconds >= self.seconds:
            raise ValueError(
                f"warmup_seconds is {self.warmup_seconds}, must be below seconds, {self.seconds}"
            )
        return self

    def container_names(self) -> list[str]:
        return [
            one.name if one.count == 1 else f"{one.name}-{i}"
            for one in self.containers
            for i in range(one.count)
        ]

    def draw_node(self, dice: Dice, seconds: int) -> Node:
        del seconds
        kinds = [one for one in self.containers for _ in range(one.count)]
        named = zip(kinds, self.container_names(), strict=True)
        return Node(
            containers=tuple(
                one.draw(dice.of_container(i), name) for i, (one, name) in enumerate(named)
            ),
            cpus=self.node_cpus,
            faults=self.faults.build(),
        )


def read_scenario(path: Path) -> Scenario:
    """Reads a scenario file; what it describes is drawn like a scenario of the catalog.

    Raises:
        ScenarioFileError: It cannot be used; one line for each reason.
    """
    document = read_document(path)
    try:
        file = ScenarioFile.model_validate(document.content)
    except ValidationError as error:
        details = error.errors(include_url=False)
        found = [_explain(document, one) for one in details if not _follows(one, details)]
        reasons = list(dict.fromkeys(found))
        if len(reasons) > REASONS_MAX:
            more = len(reasons) - REASONS_MAX
            reasons[REASONS_MAX:] = [f"{path}: and {more} mistakes more"]
        raise ScenarioFileError("\n".join(reasons)) from error
    return Scenario(
        name=file.scenario,
        tier=Tier.CUSTOM,
        title=file.title or file.scenario,
        shows=file.shows,
        seconds=file.seconds,
        warmup_seconds=file.warmup_seconds,
        draw_node=file.draw_node,
    )


def _follows(detail: ErrorDetails, details: Sequence[ErrorDetails]) -> bool:
    """Tells whether a list is called too short only because what is in it was refused."""
    loc = detail["loc"]
    others = (one["loc"] for one in details if one is not detail)
    return detail["type"] == "too_short" and any(one[: len(loc)] == loc for one in others)


def _explain(document: Document, detail: ErrorDetails) -> str:
    line, field = document.locate(detail["loc"])
    what = detail["msg"].removeprefix("Value error, ")
    missing = str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] == "missing":
        what = f"has no {missing}"
    elif detail["type"] == "extra_forbidden":
        similar = difflib.get_close_matches(missing, _known_names(), n=1)
        what = "is not known here" + (f"; is {similar[0]} meant?" if similar else "")
    elif detail["type"] in _NUMBER_ERRORS:
        what = f"{what}; numbers are plain, without a unit: it is in the name"
    return f"{document.path}:{line}: {field or 'the file'}: {what}"


_NUMBER_ERRORS = ("float_type", "int_type", "int_from_float", "is_instance_of")


def _known_names() -> list[str]:
    models: tuple[type[Closed], ...] = (
        ScenarioFile,
        FileContainer,
        FileFaults,
        GammaNoise,
        PoissonNoise,
        *file_loads.KINDS,
    )
    return sorted({name for model in models for name in model.model_fields})
