# ruff: noqa: ANN401  The builders pass fields on as they are given.
"""Builders of demo records and snapshots, plausible by default, every field open to a test."""

import math
from dataclasses import replace
from typing import Any

from mbcas_loadtest.demo.record import (
    ContainerResult,
    DaemonCost,
    DemoRecord,
    Phase,
    PhaseName,
    Reaction,
    Series,
)
from mbcas_loadtest.demo.snapshot import Snapshot, SnapshotNode, SnapshotRow
from mbcas_loadtest.pages.series import ContainerSeries

PHASE_SECONDS = 120
WARMUP_SECONDS = 45


def container(name: str = "api", **given: Any) -> ContainerResult:
    values: dict[str, Any] = {
        "role": "service",
        "priority_class": "normal",
        "admitted_millicores": 400,
        "usage_core_seconds": 14.2,
        "reserved_core_seconds": 30.0,
        "ceiling_core_seconds": 30.0,
        "throttled_fraction": 0.2,
        "delay_p50_ms": 3.1,
        "delay_p99_ms": 480.0,
        "requests_arrived": 1200,
        "requests_finished": 1200,
    }
    return ContainerResult(name=name, **(values | given))


def without_requests(name: str, **given: Any) -> ContainerResult:
    none = {"delay_p50_ms": None, "delay_p99_ms": None}
    return container(name, **{"requests_arrived": 0, "requests_finished": 0, **none, **given})


def series_of(results: list[ContainerResult], *, follows: bool) -> Series:
    """Seconds in which the first container has bursts, the others differ in level alone."""
    seconds = [float(second + 1) for second in range(PHASE_SECONDS)]
    containers = []
    for place, result in enumerate(results):
        demand = [_demand(place, second, result.admitted_millicores) for second in seconds]
        ceiling = [
            max(60.0, 1.2 * max(demand[max(0, at - 4) : at] or [0])) if follows else None
            for at in range(PHASE_SECONDS)
        ]
        limits = [c if c is not None else float(result.admitted_millicores) for c in ceiling]
        containers.append(
            ContainerSeries(
                name=result.name,
                usage_millicores=[min(pair) for pair in zip(demand, limits, strict=True)],
                reservation_millicores=limits,
                ceiling_millicores=limits,
                throttled_ratio=[
                    min(1.0, max(0.0, d / c - 1) * 2) for d, c in zip(demand, limits, strict=True)
                ],
            )
        )
    price = [0.2 + 0.15 * math.sin(second / 9) for second in seconds] if follows else []
    return Series(
        seconds=seconds,
        containers=containers,
        shadow_price=price,
        shortage=[max(0.0, p - 0.25) for p in price],
    )


def phase(name: PhaseName, containers: list[ContainerResult] | None = None, **given: Any) -> Phase:
    results = [container()] if containers is None else containers
    values: dict[str, Any] = {
        "duration_seconds": float(PHASE_SECONDS - WARMUP_SECONDS),
        "resizes": 58 if name == "mbcas" else 0,
        "invariant_violations": 0,
        "series": series_of(results, follows=name == "mbcas"),
    }
    return Phase(name=name, containers=results, **(values | given))


def record(static: Phase | None = None, mbcas: Phase | None = None, **given: Any) -> DemoRecord:
    values: dict[str, Any] = {
        "environment": "cgroup-v1",
        "seed": 7,
        "policy": "hard-quota",
        "burst": False,
        "node_millicores": 1600,
        "warmup_seconds": float(WARMUP_SECONDS),
        "round_period_seconds": 5.0,
        "startup_grace_seconds": 5.0,
        "static_rule": "Each service declares its mean demand times 1.5, the batch job the rest.",
        "phases": [static or phase("static"), mbcas or phase("mbcas")],
        "first_allocation_seconds": 1.9,
        "reaction_seconds": Reaction(p50=1.2, p95=2.4, count=37),
        "server": DaemonCost(cpu_cores=0.021, rss_bytes=94_000_000),
        "shim": DaemonCost(cpu_cores=0.009, rss_bytes=58_000_000),
    }
    return DemoRecord(**(values | given))


def whole_record(**given: Any) -> DemoRecord:
    """A run with every role in it, in which MBCAS wins most and loses something."""
    static = [
        container("api", admitted_millicores=300, throttled_fraction=0.312, delay_p99_ms=1840.0,
                  usage_core_seconds=16.1, reserved_core_seconds=22.5, ceiling_core_seconds=22.5),
        container("reports", admitted_millicores=250, throttled_fraction=0.164, delay_p50_ms=8.4,
                  usage_core_seconds=13.9, reserved_core_seconds=18.8, ceiling_core_seconds=18.8),
        container("search", admitted_millicores=280, throttled_fraction=0.221, delay_p99_ms=911.0,
                  usage_core_seconds=15.2, reserved_core_seconds=21.0, ceiling_core_seconds=21.0),
        without_requests("admin", role="idle", admitted_millicores=300, throttled_fraction=0.0,
                         usage_core_seconds=0.8, reserved_core_seconds=22.5,
                         ceiling_core_seconds=22.5),
        without_requests("batch", role="batch", priority_class="low", admitted_millicores=300,
                         throttled_fraction=0.998, usage_core_seconds=22.4,
                         reserved_core_seconds=22.5, ceiling_core_seconds=22.5),
    ]  # fmt: skip
    changes: list[dict[str, Any]] = [
        {"throttled_fraction": 0.021, "delay_p99_ms": 96.0, "reserved_core_seconds": 21.8},
        {"throttled_fraction": 0.012, "delay_p50_ms": 8.9, "reserved_core_seconds": 19.9},
        {"throttled_fraction": 0.034, "delay_p99_ms": 140.0, "reserved_core_seconds": 20.6},
        {"throttled_fraction": 0.0004, "reserved_core_seconds": 4.4},
        {"usage_core_seconds": 31.8, "reserved_core_seconds": 32.0, "throttled_fraction": 0.994},
    ]
    mbcas = [
        replace(before, ceiling_core_seconds=change["reserved_core_seconds"], **change)
        for before, change in zip(static, changes, strict=True)
    ]
    return record(phase("static", static), phase("mbcas", mbcas), **given)


def row(name: str = "api", **given: Any) -> SnapshotRow:
    values: dict[str, Any] = {
        "role": "service",
        "priority_class": "normal",
        "usage_millicores": 212.0,
        "throttled_ratio": 0.3,
        "reservation_millicores": 300.0,
        "ceiling_millicores": 300.0,
        "need_millicores": 340.0,
        "reason": "raised",
        "delay_p99_ms": 84.0,
    }
    return SnapshotRow(name=name, **(values | given))


def snapshot(rows: tuple[SnapshotRow, ...] | None = None, **given: Any) -> Snapshot:
    values: dict[str, Any] = {
        "environment": "cgroup-v1",
        "phase": "mbcas",
        "phase_number": 2,
        "phase_count": 2,
        "elapsed_seconds": 61.0,
        "duration_seconds": 120.0,
        "warmup_seconds": 45.0,
        "now": "counting",
        "notes": ("round 5 s and startup grace 5 s: shorter than in production",),
        "node": SnapshotNode(
            node_millicores=1600,
            usage_millicores=1212.0,
            reserved_millicores=1490.0,
            free_millicores=110.0,
            shadow_price=0.31,
            shortage=0.04,
        ),
    }
    return Snapshot(rows=(row(),) if rows is None else rows, **(values | given))


def whole_snapshot(**given: Any) -> Snapshot:
    """A second with every role in it and a market under pressure."""
    return snapshot(
        (
            row("api", throttled_ratio=0.0),
            row("reports", throttled_ratio=0.3, reason="lifted by the fast loop: throttled now"),
            row("search", throttled_ratio=0.7, reason="waiting until CPU is free"),
            row("admin", role="idle", usage_millicores=6.0, reservation_millicores=60.0,
                ceiling_millicores=60.0, need_millicores=20.0, throttled_ratio=0.0,
                delay_p99_ms=None, reason="cut by the most a round allows"),
            row("batch", role="batch", priority_class="low", usage_millicores=480.0,
                need_millicores=1600.0, reservation_millicores=480.0, ceiling_millicores=480.0,
                throttled_ratio=1.0, delay_p99_ms=None, reason="rationed"),
        ),
        **given,
    )  # fmt: skip


def _demand(place: int, second: float, admitted_millicores: int) -> float:
    base = admitted_millicores * (0.55, 0.5, 0.45, 0.03, 2.2)[place % 5]
    bursts = place == 0 and second % 31 < 7
    wave = place == 1 and math.sin(second / 6) > 0
    ramp = second / PHASE_SECONDS * admitted_millicores * 0.8 if place == 2 else 0.0
    ripple = admitted_millicores * 0.05 * math.sin(second * 2.1 + place)
    return max(1.0, base + ramp + ripple + admitted_millicores * (1.2 * bursts + 0.7 * wave))
