"""`mbcasctl explain`: one decision as a calculation that a reader can follow with a pencil."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mbcas.v1 import market_pb2 as pb
from mbcas_server.ctl_show import TIMES, cpu, optional, percent, word

FROZEN = (
    "All writes are stopped: decisions are made, and nothing is sent. Either an operator froze "
    "them (mbcasctl freeze --off lets them go on), or the server cannot renew its Lease."
)


def explain_view(decision: pb.Decision, *, frozen: bool = False) -> RenderableType:
    """Returns the record of one decision in sentences."""
    row = decision.container
    title = Text.assemble(
        (f"{row.namespace}/{row.pod}", "bold"),
        ("  container ", "dim"),
        (row.container, "bold"),
        ("  on ", "dim"),
        (decision.node, "bold cyan"),
    )
    steps = [
        ("Declared", _declared(row)),
        ("Measured", _measured(decision.signals)),
        ("Needed", _needed(decision.headroom)),
        ("Reservation", [*_bounded(decision), *_cleared(decision.reservation, "reservation")]),
        ("Ceiling", _cleared(decision.ceiling_headroom, "ceiling above the reservation")),
        ("Consent", _consented(decision)),
        ("Order", [*_ordered(decision.order), *_lagged(row)]),
    ]
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 1, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    told = [step for step in steps if step[1]]
    for number, (name, sentences) in enumerate(told, start=1):
        table.add_row(f"{number} {name}", "\n".join(sentences))
    reason = word(pb.Reason, row.reason)
    answer = Text.assemble(("→ ", "bold"), (reason, "bold yellow"), f"  {decision.summary}")
    stopped = [Text(f"! {FROZEN}", style="magenta")] if frozen else []
    steps_shown = Padding(table, (0, 0, 0, 2))
    return Group(title, answer, *stopped, Text(), steps_shown, _numbers(row), Text())


def _declared(row: pb.ContainerMarket) -> list[str]:
    request = optional(row.reservation, "admitted_millicores")
    limit = optional(row.ceiling, "admitted_millicores")
    skipped = [f"It cannot be resized: {row.skip_reason}."] if row.skip_reason else []
    return [
        *skipped,
        (f"Admitted with a request of {cpu(request)} and a limit of {cpu(limit)}."),
        (
            f"Mode {word(pb.Mode, row.mode)}, policy "
            f"{word(pb.Policy, row.policy).replace(' ', '-')}, priority "
            f"{word(pb.PriorityClass, row.priority_class)}: its pod's weight is {row.weight:g}."
        ),
    ]


def _measured(signals: pb.Signals) -> list[str]:
    if not signals.sample_count:
        return ["No sample yet."]
    quota = optional(signals, "quota_millicores")
    under = "with no quota in force" if quota is None else f"under a quota of {cpu(quota)}"
    sentences = [
        (
            f"It used {cpu(signals.usage_millicores)} {under} ({signals.sample_count} samples, the "
            f"last one {signals.sample_age_seconds:.1f} s old)."
        ),
        (
            f"It was throttled {percent(signals.throttled_ratio_2s)} of the last 2 s and "
            f"{percent(signals.throttled_ratio_15s)} of the last 15 s."
        ),
    ]
    hidden = signals.demand_millicores - signals.usage_millicores
    if hidden >= 1:
        sentences.append(
            f"Throttling hid about {cpu(hidden)}: its demand was {cpu(signals.demand_millicores)}."
        )
    sentences.append(
        f"From one 100 ms to the next its use varies by {signals.variation:.2f} of its mean."
    )
    return sentences


def _needed(headroom: pb.Headroom) -> list[str]:
    base, level, used = headroom.base_millicores, headroom.level, headroom.usage_millicores
    tau = max(headroom.tau, headroom.effective_tau)
    sentences = [
        (
            f"Class {headroom.workload_class or 'unknown'}: it will use about {cpu(base)} "
            f"(forecast: {headroom.forecast or 'none'}); in the last 15 s it used {cpu(used)}."
        ),
        *_dearer(headroom),
        (
            f"For at most {percent(tau)} throttling it should have a headroom of "
            f"{level - 1:.2f} {TIMES} its use above that: {cpu(base)} + {level - 1:.2f} {TIMES} "
            f"{cpu(used)} = {cpu(base + (level - 1) * used)}."
        ),
    ]
    if headroom.recent_need_millicores:
        sentences.append(
            f"Its largest need of late was {cpu(headroom.recent_need_millicores)}; CPU is not "
            "given back sooner."
        )
    if headroom.burst_millicores:
        sentences.append(f"Its remembered bursts ask for {cpu(headroom.burst_millicores)}.")
    if headroom.demand_factor not in {0, 1}:
        sentences.append(
            f"A first clearing found the node {percent(headroom.response_shortage)} short of CPU, "
            f"so what it asks for counts {headroom.demand_factor:.2f} times."
        )
    if headroom.emergency_millicores:
        sentences.append(f"The fast loop holds it at {cpu(headroom.emergency_millicores)}.")
    sentences += [
        (
            f"So its ceiling need is {cpu(headroom.ceiling_need_millicores)} "
            f"(never below {cpu(headroom.need_floor_millicores)})."
        ),
        (
            f"Its reservation need is {cpu(headroom.reservation_need_millicores)}; the quantile of "
            f"its past demand is {cpu(headroom.reservation_quantile_millicores)}."
        ),
    ]
    return sentences


def _dearer(headroom: pb.Headroom) -> list[str]:
    if headroom.effective_tau <= headroom.tau:
        return []
    sentence = (
        f"The others on its node were {percent(headroom.response_shortage)} short of CPU of late, "
        f"so it bears more throttling than the {percent(headroom.tau)} of its class."
    )
    return [sentence]


def _bounded(decision: pb.Decision) -> list[str]:
    """Says what of the reservation need is left to the ceiling."""
    row, need = decision.container, decision.headroom.reservation_need_millicores
    limit = optional(row.ceiling, "admitted_millicores")
    one_number = row.policy == pb.POLICY_HARD_QUOTA
    if limit is None or one_number or not decision.reservation.takes_part or need <= limit:
        return []
    if row.policy == pb.POLICY_REQUESTS_ONLY:
        return [f"A request cannot exceed its limit, so of the {cpu(need)} the limit counts."]
    sentence = (
        f"No reservation is bid above the admitted limit: of the {cpu(need)}, {cpu(limit)} count. "
        "What it needs beyond is the ceiling's."
    )
    return [sentence]


def _cleared(good: pb.GoodDecision, name: str) -> list[str]:
    if not good.takes_part:
        return [f"Its policy or mode fixes the {name}: no bid."]
    sentences = [
        f"It needs {cpu(good.need_millicores)}, its floor is {cpu(good.floor_millicores)}."
    ]
    if name == "reservation" and good.reclaim_factor < 1:
        sentences[0] += (
            f" Only {percent(good.reclaim_factor)} of what could be reclaimed on the node may be."
        )
    sentences.append(
        f"Its pod bids {cpu(good.pod_need_millicores)} with floor "
        f"{cpu(good.pod_floor_millicores)}, cap {cpu(good.pod_cap_millicores)} and weight "
        f"{good.pod_weight:g}{_class_weight(good)}, "
        f"where the node has {cpu(good.node_supply_millicores)} to share."
    )
    sentences.append(_pod_share(good))
    sentences.append(_container_share(good))
    return sentences


def _class_weight(good: pb.GoodDecision) -> str:
    if good.class_weight in {0, 1}:
        return ""
    declared = good.pod_weight / good.class_weight
    return f" ({declared:g} {TIMES} {good.class_weight:g} for the classes of its containers)"


def _pod_share(good: pb.GoodDecision) -> str:
    got = cpu(good.pod_allocation_millicores)
    if good.credit_millicores > 0:
        got += f", {cpu(good.credit_millicores)} of it for credits"
    elif good.credit_millicores < 0:
        got += f" after giving {cpu(-good.credit_millicores)} for credits"
    level = optional(good, "node_level")
    if level is None:
        return f"The node has enough: the pod gets {got}."
    owed = min(good.pod_floor_millicores, good.pod_need_millicores)
    if good.floors_reduced:
        share = min(owed, good.pod_floor_millicores * level)
        return (
            f"The floors do not fit the node, so each pod gets {percent(level)} of its floor, or "
            f"its need where that is less: {cpu(share)}. In whole quanta the pod gets {got}."
        )
    share = owed + good.pod_weight * level
    capped = f", but no more than the {cpu(good.pod_need_millicores)} it needs"
    return (
        f"CPU is short, so surplus goes by weight, {level:.3g}m for each: {cpu(owed)} + "
        f"{good.pod_weight:g} {TIMES} {level:.3g}m = {cpu(share)}"
        f"{capped if share > good.pod_need_millicores else ''}. In whole quanta the pod gets {got}."
    )


def _container_share(good: pb.GoodDecision) -> str:
    got = cpu(good.target_millicores)
    level = optional(good, "pod_level")
    if level is None:
        return f"The pod has enough for its containers: the target is {got}."
    owed = min(good.floor_millicores, good.need_millicores)
    # A cap below its containers' floors leaves a pod short of them on any node.
    if good.floors_reduced or good.target_millicores < owed:
        return f"The pod shares what it got by its containers' floors. The target is {got}."
    share = min(owed + good.container_weight * level, good.need_millicores)
    return (
        f"The pod shares what it got: {cpu(owed)} + {good.container_weight:g} {TIMES} "
        f"{level:.3g}m = {cpu(share)}, in whole quanta. The target is {got}."
    )


def _consented(decision: pb.Decision) -> list[str]:
    """What the pod says to its allocation: nothing where it declared nothing and has no credits."""
    row, moved = decision.container, decision.reservation.credit_millicores
    least, purse = optional(row, "min_acceptable_millicores"), optional(row, "credits")
    sentences = []
    if row.refused:
        sentences.append(
            f"Its pod refuses: it gets less than the {cpu(least)} declared acceptable "
            "(min-acceptable-cpu), although it needs more. It stays where it is; its owner and "
            "schedulers are told."
        )
    elif least is not None:
        sentences.append(f"Its pod declared {cpu(least)} acceptable: it has that, or all it needs.")
    if purse is not None:
        if moved:
            settled = "paid" if moved > 0 else "was paid"
            sentences.append(f"Its pod {settled} {abs(moved)} credits for {cpu(abs(moved))}.")
        sentences.append(f"Its pod has {purse} credits.")
    return sentences


def _ordered(order: pb.OrderDecision) -> list[str]:
    if not order.HasField("time"):
        return ["Nothing was decided yet."]
    sentences = [
        (
            f"Reservation: {cpu(order.billed_reservation_millicores)} counted as taken, "
            f"{cpu(order.slack_reservation_millicores)} were free on the node, "
            f"{cpu(order.granted_reservation_millicores)} were granted on top."
        ),
        (
            f"Ceiling: {cpu(order.billed_ceiling_millicores)} counted as taken, "
            f"{cpu(order.slack_ceiling_millicores)} were free, "
            f"{cpu(order.granted_ceiling_millicores)} were granted on top."
        ),
    ]
    request = optional(order, "desired_reservation_millicores")
    limit = optional(order, "desired_ceiling_millicores")
    if order.last_order_id:
        sentences.append(
            f"Last sent: reservation {cpu(request)}, ceiling {cpu(limit)} "
            f"(order {order.last_order_id}: {order.last_result})."
        )
    else:
        sentences.append("Nothing was ever sent.")
    return sentences


def _lagged(row: pb.ContainerMarket) -> list[str]:
    """Says how long the last order took, as far as its end was seen."""
    seen = (
        ("the kernel had it", optional(row, "lag_seconds")),
        ("the pod's status showed it", optional(row, "status_lag_seconds")),
    )
    told = [f"after {seconds:.1f} s {what}" for what, seconds in seen if seconds is not None]
    return [f"Counted from when it was sent, {' and '.join(told)}."] if told else []


def _numbers(row: pb.ContainerMarket) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  now")
    names = ("admitted", "need", "target", "desired", "allocated", "applied")
    for name in names:
        table.add_column(name, justify="right")
    for label, good in (("  reservation", row.reservation), ("  ceiling", row.ceiling)):
        table.add_row(label, *(cpu(optional(good, f"{name}_millicores")) for name in names))
    return table
