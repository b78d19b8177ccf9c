"""Replays a script of what a node says, and writes down what the core answers.

A command a line; answers are indented by two spaces below the command that led to them:

    # a remark
    parameters round_period_seconds=5
    attach NODE allocatable=2000 [unmanaged=0] [enforcement=cgroup|resize]
    container NAME request=400 limit=800 [pod=NAME] [policy=hard-quota] [priority=low] [strict=yes]
              [acceptable=500] [mode=recommend]
    use NAME usage=300 [throttled=0.4] [variation=0.3]    from now on, each second
    orders carried-out|refused|lost                       what becomes of orders from now on
    node allocatable=1500 [unmanaged=300]                 facts that changed
    remove NAME
    tick [N]                                              N seconds: a report and a tick each
    show                                                  a line for each container

The shim carries orders out at once and says so with its next report. The first second is second 1.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from mbcas_core import explain
from mbcas_core.effects import Effect, Order, SendOrders
from mbcas_core.events import (
    COUNTERS,
    ContainerFacts,
    CpuResources,
    Enforcement,
    Mode,
    NodeAttached,
    NodeFacts,
    OrderResult,
    Outcome,
    Policy,
    PriorityClass,
    Report,
    ReportArrived,
    Samples,
    TickDue,
)
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds

PERIOD_USEC = 100_000
Words = dict[str, str]


@dataclass
class Container:
    """One container as its node has it."""

    facts: ContainerFacts
    usage: int = 0
    throttled: float = 0.0
    variation: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)

    def second(self) -> None:
        limit = self.facts.spec.limit_millicores
        for name, rise in (
            ("usage_usec", self.usage * 1000),
            ("nr_periods", 10),
            ("nr_throttled", round(self.throttled * 10)),
        ):
            self.counters[name] = self.counters.get(name, 0) + rise
        self.counters["quota_usec"] = 0 if limit is None else limit * 100
        self.counters["period_usec"] = PERIOD_USEC

    def slices(self) -> list[int]:
        swing = round(self.usage * self.variation)
        return [self.usage + swing, self.usage - swing] * 5


class Replay:
    """One node and the core."""

    def __init__(self) -> None:
        self.rounds = Rounds(Parameters(mode=Mode.AUTO))
        self.now = 0.0
        self.node = ""
        self.node_facts = NodeFacts(allocatable_millicores=1)
        self.containers: dict[str, Container] = {}
        self.orders_go = "carried-out"
        self.results: list[OrderResult] = []
        self.removed: list[int] = []
        self.handles = 0
        self.first = True

    def run(self, script: str) -> str:
        """Returns the script with the answers of this run in the place of its old ones."""
        written: list[str] = []
        for line in script.splitlines():
            if line.startswith("  "):
                continue
            written.append(line)
            words = line.split()
            if words and not line.startswith("#"):
                written += [f"  {answer}" for answer in self._command(words[0], words[1:])]
        return "\n".join(written) + "\n"

    def _command(self, command: str, words: list[str]) -> list[str]:
        plain = [word for word in words if "=" not in word]
        options = dict(word.split("=", 1) for word in words if "=" in word)
        if command == "tick":
            return self._ticks(int(plain[0]) if plain else 1)
        if command == "show":
            return self._show()
        self._happen(command, plain, options)
        return []

    def _happen(self, command: str, plain: list[str], options: Words) -> None:
        match command:
            case "parameters":
                numbers = {name: float(value) for name, value in options.items()}
                self.rounds = Rounds(replace(self.rounds.parameters, **numbers))  # type: ignore[arg-type] # the script names them
            case "attach":
                self._attach(plain[0], options)
            case "node":
                self._change_node(options)
            case "container":
                self._start(plain[0], options)
            case "use":
                self._use(self.containers[plain[0]], options)
            case "orders":
                self.orders_go = plain[0]
            case "remove":
                self.removed.append(self.containers.pop(plain[0]).facts.handle)
            case _:
                raise AssertionError(f"unknown command {command!r}")

    def _attach(self, node: str, options: Words) -> None:
        self.node = node
        self._change_node(options)
        self.rounds.handle(NodeAttached(node=node, time_seconds=self.now))

    def _change_node(self, options: Words) -> None:
        old = self.node_facts
        enforcement = Enforcement[options.get("enforcement", old.enforcement.name).upper()]
        self.node_facts = NodeFacts(
            allocatable_millicores=int(options.get("allocatable", old.allocatable_millicores)),
            unmanaged_millicores=int(options.get("unmanaged", old.unmanaged_millicores)),
            cpu_count=4,
            enforcement=enforcement,
        )

    def _start(self, name: str, options: Words) -> None:
        self.handles += 1
        request, limit = options.get("request"), options.get("limit")
        spec = CpuResources(
            request_millicores=None if request is None else int(request),
            limit_millicores=None if limit is None else int(limit),
        )
        pod = options.get("pod", name)
        policy = options.get("policy", "limits-only").replace("-", "_").upper()
        self.containers[name] = Container(
            ContainerFacts(
                handle=self.handles,
                pod_uid=pod,
                namespace="shop",
                pod=pod,
                container=name,
                container_id=f"run-{self.handles}",
                spec=spec,
                admitted=spec,
                mode=Mode[options["mode"].upper()] if "mode" in options else None,
                policy=Policy[policy],
                priority_class=PriorityClass[options.get("priority", "normal").upper()],
                strict=options.get("strict") == "yes",
                min_acceptable_millicores=int(options.get("acceptable", "0")) or None,
            )
        )

    def _use(self, container: Container, options: Words) -> None:
        container.usage = int(options["usage"])
        container.throttled = float(options.get("throttled", "0"))
        container.variation = float(options.get("variation", "0"))

    def _ticks(self, count: int) -> list[str]:
        answers: list[str] = []
        for _ in range(count):
            self.now += 1.0
            for effect in self._second():
                answers += self._carry_out(effect)
        return answers

    def _second(self) -> list[Effect]:
        for container in self.containers.values():
            container.second()
        results, self.results = self.results, []
        removed, self.removed = self.removed, []
        report = Report(
            full_inventory=self.first,
            node_facts=self.node_facts,
            removed_handles=tuple(removed),
            containers=tuple(container.facts for container in self.containers.values()),
            samples=(self._samples(),),
            results=tuple(results),
        )
        self.first = False
        event = ReportArrived(node=self.node, time_seconds=self.now, report=report)
        return self.rounds.handle(event) + self.rounds.handle(TickDue(time_seconds=self.now))

    def _samples(self) -> Samples:
        containers = list(self.containers.values())
        return Samples(
            node_time_seconds=self.now,
            handles=np.array([c.facts.handle for c in containers], np.int32),
            counters=np.array(
                [[c.counters.get(name, 0) for c in containers] for name in COUNTERS], np.int64
            ),
            detail_seconds=np.ones(len(containers), np.uint8),
            slice_millicores=np.array([c.slices() for c in containers], np.uint16).reshape(-1),
            second_throttled=np.array([round(c.throttled * 10) for c in containers], np.uint8),
        )

    def _carry_out(self, effect: Effect) -> list[str]:
        if not isinstance(effect, SendOrders):
            return [f"{self.now:.0f}s {effect}"]
        return [self._carry_out_order(order) for order in effect.orders]

    def _carry_out_order(self, order: Order) -> str:
        container = self.containers[order.container]
        desired, spec = order.desired, container.facts.spec
        if self.orders_go == "carried-out":
            spec = CpuResources(
                request_millicores=desired.request_millicores or spec.request_millicores,
                limit_millicores=desired.limit_millicores or spec.limit_millicores,
            )
            container.facts = replace(container.facts, spec=spec)
        if self.orders_go != "lost":
            refused = self.orders_go == "refused"
            self.results.append(
                OrderResult(
                    order_id=order.order_id,
                    outcome=Outcome.REFUSED if refused else Outcome.APPLIED,
                    actual=spec,
                )
            )
        changes = [
            f"{name}={value}"
            for name, value in (
                ("request", desired.request_millicores),
                ("limit", desired.limit_millicores),
            )
            if value is not None
        ]
        lane = "" if order.lane.name == "NORMAL" else f" ({order.lane.name.lower()} lane)"
        named = " ".join(changes)
        return f"{self.now:.0f}s order {order.container} {named}: {_words(order.reason.name)}{lane}"

    def _show(self) -> list[str]:
        view = explain.market_view(self.rounds, self.node, include_containers=True)
        lines = []
        for container in view.containers:
            request, limit = container.reservation, container.ceiling
            held = f"request={request.applied_millicores}"
            if limit.applied_millicores is not None:
                held += f" limit={limit.applied_millicores}"
            (decision,) = [
                found
                for found in explain.explain_pod(self.rounds, "shop", container.pod)
                if found.container.container == container.container
            ]
            reason = _words(container.reason.name)
            lines.append(f"{container.container} {held}: {reason}. {decision.summary}")
        return lines


def _words(name: str) -> str:
    return name.lower().replace("_", " ")
