"""The scoreboard as one self-contained HTML page that works without scripts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mbcas_loadtest.evaluation.drawings import frontier_svg
from mbcas_loadtest.evaluation.family import Test
from mbcas_loadtest.evaluation.figures import QUANTITIES
from mbcas_loadtest.evaluation.registration import Kind
from mbcas_loadtest.evaluation.report import Report
from mbcas_loadtest.evaluation.standings import ScenarioStandings, Standing
from mbcas_loadtest.evaluation.statistics import Paired
from mbcas_loadtest.evaluation.validity import PlantValidity
from mbcas_loadtest.pages import svg, wording
from mbcas_loadtest.pages.template import template

SHOWN_IN_SCENARIO = ("waste", "throttled", "p99_seconds", "changes_per_hour", "settling_seconds")
SECONDARY = (
    "peak_throttled",
    "reservation_waste",
    "jain",
    "useful",
    "denied",
    "starved",
    "unfunded",
)
BUDGET = ("waste", "throttled", "patches_per_hour", "unfunded")
"""What a cluster's size can change."""
SHARING = ("mbcas-kelly", "mbcas-vcg", "mbcas-karma", "max-min-truth", "oracle-contention")
"""Who share a node by another rule, or by the truth; shown where a node is short of CPU."""
_LEAST_WITHOUT_DECIMALS = 100
_TIMES = "\u00d7"
_LOG_OF_A_FACTOR = math.log(10.0)
"""From ten times as much on, a factor says more than a percentage."""
_KINDS: Mapping[Kind, str] = {
    Kind.PREREGISTERED: "Preregistered: endpoints, systems, knobs, margins and seeds were frozen "
    "before these seeds ran.",
    Kind.EXPLORATORY: "Exploratory: not the registered evaluation. Nothing here is a claim.",
    Kind.TUNING: "Tuning: these seeds are for choosing knobs. Nothing here is a result.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPanel:
    """One run over time, a drawing for each container."""

    title: str
    about: str
    drawings: Sequence[tuple[str, str]]


def page_html(
    report: Report, *, validity: PlantValidity | None = None, panels: Sequence[SeriesPanel] = ()
) -> str:
    """The whole page; every text is escaped."""
    judged = [target for target in report.targets if target.is_reached is not None]
    return template("mbcas_loadtest.evaluation", "evaluation.html.j2").render(
        report=report,
        kind_sentence=_KINDS[report.kind],
        verdict=_verdict(report),
        missed=[target for target in judged if not target.is_reached],
        reached=[target for target in judged if target.is_reached],
        open_targets=[target for target in report.targets if target.is_reached is None],
        worse=[test for test in report.tests if test.is_better is False],
        summary_systems=[
            name
            for name in report.main_systems
            if any(_find(one, name) for one in report.scenarios)
        ],
        errors=_errors(report),
        find=_find,
        test_row=_test_row,
        frontier=lambda found: Markup(  # noqa: S704  Written by matplotlib, titles escaped there.
            frontier_svg(found, main=report.main_systems, share=report.matched_throttled_ratio)
        ),
        panels=[
            (panel, [(name, Markup(drawing)) for name, drawing in panel.drawings])  # noqa: S704  As above.
            for panel in panels
        ],
        validity=validity,
        colours=svg.DARK_COLOURS,
        wording=wording,
        quantities=QUANTITIES,
        sharing=(*report.main_systems, *SHARING),
        shown=SHOWN_IN_SCENARIO,
        secondary=SECONDARY,
        value=value,
        difference=difference,
        interval=interval,
        best_point=_best_point,
        cell=_cell,
        seed_count=_seed_count,
        budget=BUDGET,
        cluster_sizes=sorted({nodes for row in report.clusters for nodes in row.figures}),
        seeds=seeds_text(report.seeds),
        rate=lambda seconds: wording.fixed(60.0 / seconds, 0) if seconds > 0 else wording.DASH,
    )


def value(quantity: str, number: float | None) -> str:
    """A figure in the words of its quantity."""
    known, about = wording.number(number), QUANTITIES[quantity]
    if about.unit == "%":
        return wording.percent(known, about.decimals)
    if about.unit == "s" and known is not None and known < 1.0 and about.decimals:
        return wording.milliseconds(known * 1000)
    unit = {"/h": "/h", "s": " s"}.get(about.unit, "")
    return wording.fixed(known, _decimals(known, about.decimals), unit)


def difference(paired: Paired | None, *, compared: str = "difference", unit: str = "%") -> str:
    """A mean difference, signed."""
    if paired is None or not math.isfinite(paired.mean_difference):
        return wording.DASH
    return _signed(paired.mean_difference, compared, unit)


def interval(
    ends: tuple[float, float] | None, *, compared: str = "difference", unit: str = "%"
) -> str:
    """The ends of an interval, signed."""
    if ends is None or not all(math.isfinite(end) for end in ends):
        return wording.DASH
    low, high = (_signed(end, compared, unit) for end in ends)
    suffix = _suffix(compared, unit)
    return f"{low.removesuffix(suffix) if high.endswith(suffix) else low} … {high}"


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds as people write them."""
    if len(seeds) > 1 and tuple(seeds) == tuple(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(str(seed) for seed in seeds)


def _seed_count(paired: Paired) -> str:
    return f"{paired.seeds} {'seed' if paired.seeds == 1 else 'seeds'}"


def _signed(number: float, compared: str, unit: str) -> str:
    if compared == "ratio":
        # Beyond e^14 a logarithm is a difference of many powers of ten: the figure says enough.
        if number > _LOG_OF_A_FACTOR:
            return f"{_TIMES}{math.exp(min(number, 14.0)):,.0f}"
        shown, decimals = math.expm1(number) * 100, 0
    else:
        shown = number * (100.0 if unit == "%" else 1.0)
        decimals = _decimals(shown, 1)
    return f"{shown:+,.{decimals}f}{_suffix(compared, unit)}".replace("-", wording.MINUS)


def _suffix(compared: str, unit: str) -> str:
    return " %" if compared == "ratio" else {"%": " pt", "s": " s"}.get(unit, unit)


def _decimals(number: float | None, most: int) -> int:
    """Returns as many as leave about three digits."""
    if number is None or abs(number) < 1:
        return most
    return min(most, 1 if abs(number) < _LEAST_WITHOUT_DECIMALS else 0)


def _verdict(report: Report) -> str:
    judged = [target for target in report.targets if target.is_reached is not None]
    if not judged:
        return "No target was measured in this run"
    missed = sum(not target.is_reached for target in judged)
    of = f"{len(judged)} targets measured"
    return f"{missed} of {of} {'was' if missed == 1 else 'were'} not reached"


def _errors(report: Report) -> list[tuple[str, list[str]]]:
    """Returns the runs that failed by what they failed of: one cause often stops many."""
    found: dict[str, list[str]] = {}
    for label, error in report.failed.items():
        found.setdefault(error, []).append(label)
    return list(found.items())


def _find(found: ScenarioStandings, system: str) -> Standing | None:
    return next((one for one in found.standings if one.system == system), None)


def _best_point(standing: Standing) -> dict[str, float]:
    """Figures at the best knob; empty where it did not run there."""
    for point in standing.points:
        if point.knob == standing.best_knob:
            return point.figures
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _TestRow:
    """A test in words."""

    rival: str
    endpoint: str
    difference: str
    t_interval: str
    bca_interval: str
    d_z: str
    hedges_g: str
    p_holm: str
    p_welch: str
    verdict: str
    css: str
    not_inferior: str


def _test_row(test: Test) -> _TestRow:
    scale = {"compared": test.endpoint.compared, "unit": QUANTITIES[test.endpoint.name].unit}
    verdict, css = {True: ("better", "better"), False: ("worse", "worse"), None: ("open", "")}[
        test.is_better
    ]
    inferior = {True: "yes", False: "no", None: wording.DASH}[test.is_not_inferior]
    return _TestRow(
        rival=test.rival,
        endpoint=QUANTITIES[test.endpoint.name].title,
        difference=difference(test.found, **scale),
        t_interval=interval(test.found.t_interval, **scale),
        bca_interval=interval(test.found.bca_interval, **scale),
        d_z=wording.fixed(test.found.d_z, 1),
        hedges_g=wording.fixed(test.found.hedges_g, 1),
        p_holm=_probability(test.p_holm),
        p_welch=_probability(test.found.p_welch),
        verdict=verdict,
        css=css,
        not_inferior=inferior,
    )


def _probability(p: float | None) -> str:
    if p is None:
        return wording.DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004 - as it is printed.


def _cell(found: tuple[float, float, float | None] | None) -> str:
    """A cell of the first table: efficiency / throttled / changes per hour."""
    if found is None:
        return wording.DASH
    efficiency, throttled, changes = found
    text = f"{efficiency:.2f}/{throttled:.2f}"
    return text if changes is None else f"{text}/{changes:.0f}"
