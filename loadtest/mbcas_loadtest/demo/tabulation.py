"""The demo's figures as rows of a table: a container in both phases, and the difference."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from mbcas_loadtest.demo import findings
from mbcas_loadtest.demo.record import ContainerResult, DemoRecord
from mbcas_loadtest.pages import wording

Better = Literal["less", "more", "neither"]
Judgement = Literal["better", "worse", "neither"]
COLUMNS: Mapping[str, str] = {
    "usage": "used",
    "reserved": "reserved",
    "ceiling": "ceiling",
    "throttled": "throttled",
    "p50": "p50 delay",
    "p99": "p99 delay",
}

_Side = TypeVar("_Side")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One figure in both phases and the difference between them, in words."""

    static: str
    mbcas: str
    change: str
    judgement: Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One container, or all of them; a cell for each of `COLUMNS`."""

    name: str
    about: str
    cells: Mapping[str, Cell]


def rows(record: DemoRecord) -> list[Row]:
    """A row for each container of either phase and one for all of them."""
    found = [_container_row(before, after) for before, after in findings.pairs(record)]
    return [*found, _totals_row(record)] if found else []


def _container_row(before: ContainerResult | None, after: ContainerResult | None) -> Row:
    present = before or after
    assert present is not None, "a pair has at least one side"
    sides = _reader(before, after)
    admitted = wording.millicores(present.admitted_millicores)
    return Row(
        name=present.name,
        about=f"{present.role}, {present.priority_class}, admitted {admitted}",
        cells={
            "usage": _core_seconds(
                *sides(lambda c: c.usage_core_seconds),
                better="more" if present.role == "batch" else "neither",
            ),
            "reserved": _core_seconds(*sides(lambda c: c.reserved_core_seconds), better="less"),
            "ceiling": _core_seconds(*sides(lambda c: c.ceiling_core_seconds), better="neither"),
            "throttled": _throttled(*sides(lambda c: c.throttled_fraction)),
            "p50": _delay(*sides(lambda c: c.delay_p50_ms)),
            "p99": _delay(*sides(lambda c: c.delay_p99_ms)),
        },
    )


def _totals_row(record: DemoRecord) -> Row:
    static = findings.phase_named(record, "static")
    mbcas = findings.phase_named(record, "mbcas")
    sides = _reader(
        findings.totals(static) if static else None, findings.totals(mbcas) if mbcas else None
    )
    return Row(
        name="all",
        about="sums; throttled is the mean of the services",
        cells={
            "usage": _core_seconds(*sides(lambda t: t.usage_core_seconds), better="neither"),
            "reserved": _core_seconds(*sides(lambda t: t.reserved_core_seconds), better="less"),
            "ceiling": _core_seconds(*sides(lambda t: t.ceiling_core_seconds), better="neither"),
            "throttled": _throttled(*sides(lambda t: t.services_throttled_ratio)),
            "p50": _delay(None, None),
            "p99": _delay(None, None),
        },
    )


def _reader(
    before: _Side | None, after: _Side | None
) -> Callable[[Callable[[_Side], float | None]], tuple[float | None, float | None]]:
    def read(figure: Callable[[_Side], float | None]) -> tuple[float | None, float | None]:
        return (
            figure(before) if before is not None else None,
            figure(after) if after is not None else None,
        )

    return read


def _core_seconds(before: float | None, after: float | None, *, better: Better) -> Cell:
    return Cell(
        static=wording.fixed(before, 1),
        mbcas=wording.fixed(after, 1),
        change=wording.relative(before, after),
        judgement=_judgement(before, after, better),
    )


def _throttled(before: float | None, after: float | None) -> Cell:
    return Cell(
        static=wording.percent(before),
        mbcas=wording.percent(after),
        change=wording.points(before, after),
        judgement=_judgement(before, after, "less"),
    )


def _delay(before: float | None, after: float | None) -> Cell:
    return Cell(
        static=wording.milliseconds(before),
        mbcas=wording.milliseconds(after),
        change=wording.relative(before, after),
        judgement=_judgement(before, after, "less"),
    )


def _judgement(before: float | None, after: float | None, better: Better) -> Judgement:
    first, second = wording.number(before), wording.number(after)
    if better == "neither" or first is None or second is None:
        return "neither"
    if wording.is_more(second, first):
        return "better" if better == "more" else "worse"
    if wording.is_more(first, second):
        return "better" if better == "less" else "worse"
    return "neither"
