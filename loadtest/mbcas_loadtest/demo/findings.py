"""What a demo run comes to: totals, the verdict, and everything that got worse.

All of it is computed from the record; nothing is left out because it is small or unwelcome.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mbcas_loadtest.demo.record import ContainerResult, DemoRecord, Phase, PhaseName
from mbcas_loadtest.pages import wording


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """One phase, all containers together."""

    services_throttled_ratio: float | None
    """Mean over the services; None without any."""
    usage_core_seconds: float
    reserved_core_seconds: float
    ceiling_core_seconds: float
    batch_core_seconds: float | None
    """CPU time the batch jobs got, which is the work they did; None without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something that was worse under MBCAS."""

    container: str
    what: str
    static: str
    mbcas: str
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metric:
    what: str
    decimals: int
    unit: str
    scale: float = 1.0


_THROTTLED = _Metric(what="throttled share", decimals=1, unit=" %", scale=100)
_RESERVED = _Metric(what="reserved CPU", decimals=1, unit=" core·s")
_WORK = _Metric(what="batch work done", decimals=1, unit=" core·s")
_P50 = _Metric(what="median delay", decimals=1, unit=" ms")
_P99 = _Metric(what="p99 delay", decimals=1, unit=" ms")
_UNFINISHED = _Metric(what="requests left unfinished", decimals=0, unit="")
_VIOLATIONS = _Metric(what="invariant violations", decimals=0, unit="")


def phase_named(record: DemoRecord, name: PhaseName) -> Phase | None:
    """The phase of this name, None where the run did not come to it."""
    return next((phase for phase in record.phases if phase.name == name), None)


def is_comparison(record: DemoRecord) -> bool:
    """Whether both phases ran."""
    return None not in (phase_named(record, "static"), phase_named(record, "mbcas"))


def totals(phase: Phase) -> Totals:
    """All containers of a phase together."""
    throttled = [c.throttled_fraction for c in phase.containers if c.role == "service"]
    batch = [c.usage_core_seconds for c in phase.containers if c.role == "batch"]
    return Totals(
        services_throttled_ratio=sum(throttled) / len(throttled) if throttled else None,
        usage_core_seconds=sum(c.usage_core_seconds for c in phase.containers),
        reserved_core_seconds=sum(c.reserved_core_seconds for c in phase.containers),
        ceiling_core_seconds=sum(c.ceiling_core_seconds for c in phase.containers),
        batch_core_seconds=sum(batch) if batch else None,
    )


def pairs(record: DemoRecord) -> list[tuple[ContainerResult | None, ContainerResult | None]]:
    """Each container of either phase as (static, mbcas), in the order of the first phase."""
    static, mbcas = phase_named(record, "static"), phase_named(record, "mbcas")
    before = {c.name: c for c in static.containers} if static else {}
    after = {c.name: c for c in mbcas.containers} if mbcas else {}
    return [(before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]


def verdict(record: DemoRecord) -> str:
    """The result in one sentence, whichever way it went."""
    static, mbcas = phase_named(record, "static"), phase_named(record, "mbcas")
    if static is None or mbcas is None:
        return _verdict_alone(static or mbcas)
    before, after = totals(static), totals(mbcas)
    reserved = (
        f"{wording.fixed(after.reserved_core_seconds, 1)} core-seconds were reserved instead of "
        f"{wording.fixed(before.reserved_core_seconds, 1)}"
        + _bracket(before.reserved_core_seconds, after.reserved_core_seconds)
    )
    parts = [reserved]
    if before.services_throttled_ratio is not None and after.services_throttled_ratio is not None:
        parts.insert(
            0,
            f"the services were throttled {wording.percent(after.services_throttled_ratio)} of "
            f"the time instead of {wording.percent(before.services_throttled_ratio)}"
            + _bracket(before.services_throttled_ratio, after.services_throttled_ratio),
        )
    if before.batch_core_seconds is not None and after.batch_core_seconds is not None:
        parts.append(
            f"the batch job got {wording.fixed(after.batch_core_seconds, 1)} core-seconds of work "
            f"done instead of {wording.fixed(before.batch_core_seconds, 1)}"
            + _bracket(before.batch_core_seconds, after.batch_core_seconds)
        )
    return f"With MBCAS {_enumerated(parts)}."


def losses(record: DemoRecord) -> list[Loss]:
    """Every figure that was worse under MBCAS than under `static`, container by container.

    Better is: less throttling, shorter delays, fewer requests unfinished, less reserved and, for
    the batch job, more CPU used. A service's usage and a ceiling are neither better nor worse by
    themselves.
    """
    static, mbcas = phase_named(record, "static"), phase_named(record, "mbcas")
    if static is None or mbcas is None:
        return []
    found: list[Loss | None] = []
    for before, after in pairs(record):
        if before is not None and after is not None:
            found += _losses_of(before, after)
        else:
            found.append(_loss_of_presence(before, after))
    first, second = totals(static), totals(mbcas)
    everyone = "all containers"
    found += [
        _rise(
            "all services",
            _THROTTLED,
            first.services_throttled_ratio,
            second.services_throttled_ratio,
        ),
        _rise(everyone, _RESERVED, first.reserved_core_seconds, second.reserved_core_seconds),
        _rise(everyone, _VIOLATIONS, static.invariant_violations, mbcas.invariant_violations),
    ]
    return [loss for loss in found if loss is not None]


def counted(count: int, noun: str) -> str:
    """A count and its noun: "1 surge", "3 surges"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def on_off(is_on: bool) -> str:  # noqa: FBT001  It is the one thing there is to say.
    """A switch as its flag has it."""
    return "on" if is_on else "off"


def burst_credit(record: DemoRecord) -> str:
    """Where burst credit was on: "off", or "on under mbcas, off under static"."""
    mbcas, static = on_off(record.burst), record.static_burst
    if static is None:
        return f"{mbcas} under mbcas"
    if static == record.burst:
        return f"{mbcas} in both phases"
    return f"{mbcas} under mbcas, {on_off(static)} under static"


def command(record: DemoRecord) -> str:
    """The command that repeats this run."""
    static_burst = (
        "" if record.static_burst is None else f" --static-burst {on_off(record.static_burst)}"
    )
    model = " --model" if record.environment == "model" else ""
    measured = max((phase.duration_seconds for phase in record.phases), default=0.0)
    return (
        f'make demo ARGS="--duration {measured + record.warmup_seconds:.0f}'
        f" --warmup {record.warmup_seconds:g} --policy {record.policy}"
        f' --burst {on_off(record.burst)}{static_burst} --seed {record.seed}{model}"'
    )


def _verdict_alone(phase: Phase | None) -> str:
    if phase is None:
        return "Nothing was measured: the run ended before its first phase did."
    total = totals(phase)
    throttled = (
        f"the services were throttled {wording.percent(total.services_throttled_ratio)} of the "
        "time and "
        if total.services_throttled_ratio is not None
        else ""
    )
    return (
        f"Only the phase “{phase.name}” was measured: {throttled}"
        f"{wording.fixed(total.reserved_core_seconds, 1)} core-seconds were reserved. "
        "There is nothing to compare it with."
    )


def _bracket(before: float, after: float) -> str:
    change = wording.relative(before, after)
    return "" if change == wording.DASH else f" ({change})"


def _enumerated(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"


def _losses_of(before: ContainerResult, after: ContainerResult) -> Iterable[Loss | None]:
    name = before.name
    yield _rise(name, _THROTTLED, before.throttled_fraction, after.throttled_fraction)
    yield _rise(name, _P50, before.delay_p50_ms, after.delay_p50_ms)
    yield _rise(name, _P99, before.delay_p99_ms, after.delay_p99_ms)
    yield _rise(name, _UNFINISHED, _unfinished(before), _unfinished(after))
    yield _rise(name, _RESERVED, before.reserved_core_seconds, after.reserved_core_seconds)
    if before.role == "batch":
        yield _fall(name, _WORK, before.usage_core_seconds, after.usage_core_seconds)


def _unfinished(container: ContainerResult) -> int:
    return max(0, container.requests_arrived - container.requests_finished)


def _rise(name: str, metric: _Metric, before: float | None, after: float | None) -> Loss | None:
    """A loss where the metric rose; also where it was measured before and no longer is."""
    first, second = wording.number(before), wording.number(after)
    if first is None:
        return None
    if second is None:
        text = wording.fixed(first * metric.scale, metric.decimals, metric.unit)
        return _loss(name, metric, text, "none measured", wording.DASH)
    return _compared(name, metric, first, second) if wording.is_more(second, first) else None


def _fall(name: str, metric: _Metric, before: float, after: float) -> Loss | None:
    """A loss where the metric fell."""
    return _compared(name, metric, before, after) if wording.is_more(before, after) else None


def _compared(name: str, metric: _Metric, before: float, after: float) -> Loss:
    texts = wording.apart(before * metric.scale, after * metric.scale, metric.decimals, metric.unit)
    return _loss(name, metric, *texts, wording.relative(before, after))


def _loss(name: str, metric: _Metric, static: str, mbcas: str, change: str) -> Loss:
    return Loss(container=name, what=metric.what, static=static, mbcas=mbcas, change=change)


def _loss_of_presence(before: ContainerResult | None, after: ContainerResult | None) -> Loss | None:
    if before is None or after is not None:
        return None
    return Loss(
        container=before.name,
        what="measured at all",
        static="yes",
        mbcas="no",
        change=wording.DASH,
    )
