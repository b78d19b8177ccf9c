"""The result of a validation: as JSON, as a table with the misses first, and as a picture."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from rich.console import Console
from rich.table import Table

from mbcas_loadtest.pages.svg import MUTED, RULE, STYLE, THROTTLED, USAGE, labelled_svg
from mbcas_loadtest.validation.replay import Compared
from mbcas_loadtest.validation.verdict import (
    DELAY_MOST_RATIO,
    DELAY_MOST_SECONDS,
    THROTTLED_MOST,
    USAGE_MOST_RATIO,
    Off,
    judge,
    regions,
)

SCHEMA = "mbcas.validation.plant/1"
_MS = 1000


def document(results: Sequence[Compared], *, seconds: float, seed: int) -> dict[str, Any]:
    """Returns all figures and what they rest on."""
    judged = [(one, judge(one)) for one in results]
    found = regions((one.point, offs) for one, offs in judged)
    return {
        "schema": SCHEMA,
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "seconds": seconds,
        "seed": seed,
        "allowed": {
            "throttled_share": THROTTLED_MOST,
            "usage_ratio": USAGE_MOST_RATIO,
            "p99_ratio": DELAY_MOST_RATIO,
            "p99_seconds": DELAY_MOST_SECONDS,
        },
        "points": len(judged),
        "valid_points": sum(not any(off.is_missed for off in offs) for _, offs in judged),
        "invalid_regions": [f"{one.name} ({one.words})" for one in found if one.worst],
        "regions": [
            {
                "name": region.name,
                "points": region.points,
                "missed": [off.endpoint for off in region.worst],
                "off": region.words,
            }
            for region in found
        ],
        "results": [
            {"name": one.point.name, **asdict(one), "off": [_off(off) for off in offs]}
            for one, offs in judged
        ],
    }


def show(results: Sequence[Compared], console: Console) -> None:
    """Prints the table: points that miss first, in red, with by how much."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("point", overflow="fold")
    for column in ("throttled %", "usage m", "P99 ms", "by request", "others", "off by"):
        table.add_column(column, justify="left" if column == "off by" else "right")
    judged = [(one, [off for off in judge(one) if off.is_missed]) for one in results]
    for one, missed in sorted(judged, key=lambda pair: not pair[1]):
        kernel, plant, requests = one.kernel, one.plant, one.requests
        table.add_row(
            one.point.name,
            f"{kernel.throttled_share:.1%} {plant.throttled_share:.1%}",
            f"{kernel.usage_millicores:.1f} {plant.usage_millicores:.1f}",
            f"{kernel.p99_seconds * _MS:.0f} {plant.p99_seconds * _MS:.0f}",
            f"{requests.throttled_share:.1%} {requests.p99_seconds * _MS:.0f}",
            f"{one.foreign_cpus:.2f}",
            ", ".join(off.words for off in missed),
            style="red" if missed else None,
        )
    console.print(
        "Each pair: kernel, plant. `by request` is the model that knows every arrival; `others`: "
        "the CPUs that others were busy on."
    )
    console.print(table)
    count = sum(bool(missed) for _, missed in judged)
    console.print(f"{len(judged) - count} of {len(judged)} points hold; {count} miss.")


def picture(results: Sequence[Compared]) -> str:
    """Draws plant against kernel with the tolerances, as one SVG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 3.2))
        places = ((0.05, 0.16, 0.27, 0.7), (0.375, 0.16, 0.27, 0.7), (0.70, 0.16, 0.27, 0.7))
        throttled, usage, delay = (figure.add_axes(place) for place in places)
        judged = [(one, judge(one)) for one in results]
        _scatter(
            throttled,
            [
                (o.kernel.throttled_share, o.plant.throttled_share, f[0].is_missed)
                for o, f in judged
            ],
            "Throttled share of periods",
        )
        _scatter(
            usage,
            [
                (
                    o.kernel.usage_millicores / o.point.quota_millicores,
                    o.plant.usage_millicores / o.point.quota_millicores,
                    f[1].is_missed,
                )
                for o, f in judged
            ],
            "Usage / first quota",
        )
        delay.set_xscale("log")
        delay.set_yscale("log")
        _scatter(
            delay,
            [
                (o.kernel.p99_seconds * _MS, o.plant.p99_seconds * _MS, f[2].is_missed)
                for o, f in judged
            ],
            "P99 delay, ms",
        )
        for axis in (delay.xaxis, delay.yaxis):  # Powers would need a typesetter.
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        missed = sum(any(off.is_missed for off in offs) for _, offs in judged)
        title = f"Plant against kernel: {len(judged) - missed} of {len(judged)} points hold"
        return labelled_svg(figure, title)


def to_json(content: dict[str, Any]) -> str:
    """Returns the document as text that is the same for the same figures."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _scatter(axes: Axes, points: Sequence[tuple[float, float, bool]], title: str) -> None:
    low = min(min(x, y) for x, y, _ in points)
    high = max(max(x, y) for x, y, _ in points)
    axes.plot([low, high], [low, high], color=RULE, lw=1, zorder=0)
    for is_missed, colour, marker in ((False, USAGE, "o"), (True, THROTTLED, "X")):
        chosen = [(x, y) for x, y, missed in points if missed == is_missed]
        x, y = [x for x, _ in chosen], [y for _, y in chosen]
        axes.scatter(x, y, s=14, color=colour, marker=marker, lw=0)
    axes.set_title(title, size=9, loc="left")
    axes.set_xlabel("kernel")
    axes.set_ylabel("plant", labelpad=1)
    axes.tick_params(colors=MUTED)


def _off(off: Off) -> dict[str, Any]:
    return {**asdict(off), "is_missed": off.is_missed}
