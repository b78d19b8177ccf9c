"""The rules on Kubernetes, over random histories in which everything outside goes wrong.

A failure prints a seed and the mishaps of each second; `KubeWorld(seed).run(mishaps)` lives through
it again.
"""

from dataclasses import replace

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mbcas_core.effects import Lane, Notice, Order, Reason, SendOrders, Violation
from mbcas_core.events import CpuResources, Mode, Policy, QosClass
from mbcas_core.loops.kubelet import BACK, FAST_SILENT_SECONDS, SILENT
from mbcas_core.rounds import Rounds
from tests.mbcas_core.kube_cluster import KubeContainer, KubePod
from tests.mbcas_core.kube_world import KUBE_PARAMETERS, KubeWorld, Mishap

SECOND = st.sampled_from([*Mishap] + [Mishap.NOTHING] * 16 + [Mishap.SURGE] * 6 + [Mishap.CALM] * 3)
MISHAPS = st.lists(SECOND, min_size=30, max_size=80)
SEED = st.integers(0, 2**32 - 1)
histories = settings(
    max_examples=max(7, settings().max_examples // 15), phases=(Phase.reuse, Phase.generate)
)


def moves_requests(pod: KubePod) -> bool:
    return pod.facts.policy != Policy.LIMITS_ONLY and not pod.facts.scaled_by_requests


def takes_limits(pod: KubePod) -> bool:
    """Its ceilings may be below the admitted limits."""
    guaranteed = pod.qos() == QosClass.GUARANTEED and moves_requests(pod)
    return bool(pod.facts.strict) or pod.facts.policy == Policy.HARD_QUOTA or guaranteed


class OrderCheck:
    """Everything that must hold of an order when it is sent."""

    def __init__(self) -> None:
        self.server: Rounds | None = None
        self.last: dict[str, float] = {}

    def __call__(self, world: KubeWorld, effect: SendOrders) -> None:
        assert not world.frozen, "frozen writes"
        if world.rounds is not self.server:  # It does not know of orders that were not applied.
            self.server, self.last = world.rounds, {}
        now: dict[str, float] = {}
        for order in effect.orders:
            found = world.find(order)
            if found is None or found[0].untold:
                continue
            pod, container = found
            self._check_order(order, pod, container)
            self._check_admitted(order, container)
            if order.desired == CpuResources():
                continue
            now[pod.uid] = world.now
            since = world.now - self.last.get(pod.uid, -np.inf)
            assert since >= world.parameters.emergency_spacing_seconds, f"{since} s after: {order}"
        self.last |= now
        self._check_supply(world, effect)

    def _check_order(self, order: Order, pod: KubePod, container: KubeContainer) -> None:
        request, limit = order.desired.request_millicores, order.desired.limit_millicores
        if pod.qos() == QosClass.GUARANTEED:
            assert request == limit, f"two numbers: {order}"
        assert pod.observed >= order.expected_generation, f"unobserved: {order}"
        assert order.expected_generation == pod.generation, f"another generation: {order} {pod}"
        if order.lane != Lane.RELEASE:
            assert pod.facts.mode in (None, Mode.AUTO, Mode.OFF), f"{order} of {pod}"
            assert pod.facts.mode != Mode.OFF or order.reason == Reason.WITHDRAWN, f"{order}"
        if limit is not None:
            assert container.limit is not None, "nobody gets a limit it had not"
            floor = container.admitted.limit_millicores or 0
            assert limit >= min(floor, 10), f"the kernel takes no less: {order}"
            if order.reason not in (Reason.RELEASED, Reason.WITHDRAWN) and not takes_limits(pod):
                assert limit >= min(floor, container.limit), f"below the admitted: {order} {pod}"
        if request is not None:
            assert container.request, "nobody gets a request it had not"
            assert request > 0
            released = order.reason in (Reason.RELEASED, Reason.WITHDRAWN)
            assert released or moves_requests(pod), f"moves a request: {order} {pod}"

    def _check_admitted(self, order: Order, container: KubeContainer) -> None:
        """What was admitted is what others asked for, whoever `managedFields` name."""
        admitted = container.admitted
        request, limit = admitted.request_millicores, admitted.limit_millicores
        if request is not None and limit is not None and request > limit:
            return  # One of the two gives way.
        assert order.admitted == CpuResources(
            request_millicores=request or None, limit_millicores=limit
        ), f"{order} of {container}"

    def _check_supply(self, world: KubeWorld, effect: SendOrders) -> None:
        """Rule 1: what was asked for, admitted and shown counts until it is taken back."""
        asked = {(o.pod_uid, o.container): o.desired.request_millicores for o in effect.orders}
        total = 0
        raised = False
        for pod in world.pods:
            if pod.untold:
                return
            for container in pod.containers:
                new = asked.get((pod.uid, container.name)) or 0
                raised |= new > container.most()
                total += max(container.most(), new)
        free = world.facts.allocatable_millicores - world.told_neighbour
        assert not raised or total <= free, f"{total} of {free}: {effect}"


def live(seed: int, mishaps: list[Mishap]) -> KubeWorld:
    world = KubeWorld(seed)
    world.on_send.append(OrderCheck())
    return world.run(mishaps)


@settings(histories, max_examples=4 * histories.max_examples)
@given(SEED, MISHAPS)
def test_no_order_breaks_what_kubernetes_and_its_users_were_promised(
    seed: int, mishaps: list[Mishap]
) -> None:
    world = live(seed, mishaps)

    assert world.crimes == []
    assert [effect for effect in world.effects if isinstance(effect, Violation)] == []
    # Users are told once in a streak.
    first = [n.pod_uid for n in world.notices if n.event == "FirstResize"]
    assert len(first) == len(set(first))
    for event in ("ResizeRefused", "ResizeWithdrawn", "ChangedElsewhere"):
        told = [n for n in world.notices if n.event == event]
        assert len(told) <= len(mishaps) / 4 + 2, told


@histories
@given(SEED, MISHAPS)
def test_on_kubernetes_the_same_events_have_the_same_effects(
    seed: int, mishaps: list[Mishap]
) -> None:
    without = (Mishap.NEW_SERVER, Mishap.NEW_SERVER_REMEMBERS)
    world = live(seed, [mishap for mishap in mishaps if mishap not in without])

    again = Rounds(world.parameters)

    assert [repr(again.handle(event)) for event, _ in world.log] == [said for _, said in world.log]


@histories
@given(SEED, MISHAPS)
def test_whoever_only_recommends_sends_nothing(seed: int, mishaps: list[Mishap]) -> None:
    without = (Mishap.MODE, Mishap.RELEASE)
    world = KubeWorld(seed, parameters=replace(KUBE_PARAMETERS, mode=Mode.RECOMMEND))

    world.run([mishap for mishap in mishaps if mishap not in without])

    assert world.sent == []


@histories
@given(SEED, MISHAPS)
def test_a_silent_kubelet_gets_nothing_until_it_has_seen_the_last_change(
    seed: int, mishaps: list[Mishap]
) -> None:
    world = KubeWorld(seed)
    world.on_send.append(_is_not_silent)

    world.run([Mishap.SURGE, Mishap.SURGE, Mishap.KUBELET_DOWN, *mishaps])


def _is_not_silent(world: KubeWorld, effect: SendOrders) -> None:
    """Where nothing was seen since, the oldest change of ours is not too old."""
    if world.kubelet_up:
        return
    wait = FAST_SILENT_SECONDS + 2.0
    since = max(world.kubelet_down_since, world.served_since)
    unseen = [
        world.now - max(at, since)
        for at, order in world.sent
        for pod in world.pods
        if order.pod_uid == pod.uid and pod.observed < pod.generation and order.order_id in world.ok
    ]
    assert max(unseen, default=0.0) <= wait, f"{unseen} {effect}"


STEADY = replace(KUBE_PARAMETERS, startup_grace_seconds=30.0)


@histories
@given(SEED)
def test_a_new_server_that_remembers_sends_nothing_where_all_have_what_they_need(seed: int) -> None:
    world = KubeWorld(seed, pods=4, parameters=STEADY)
    for pod in world.pods:
        for container in pod.containers:
            container.kernel._shape = 100.0
            container.kernel.mean_millicores = 40.0
    world.quiet(100)
    before = len(world.sent)

    world.new_server(remembers=True)
    world.quiet(50)

    assert world.sent[before:] == []


def test_the_histories_have_in_them_what_the_rules_are_about() -> None:
    draw = np.random.default_rng(1)
    kinds = [*Mishap] + [Mishap.NOTHING] * 16 + [Mishap.SURGE] * 6 + [Mishap.FULL] * 3
    reasons = {
        Reason.RAISED,
        Reason.RATIONED,
        Reason.CUT,
        Reason.EMERGENCY,
        Reason.WITHDRAWN,
        Reason.RELEASED,
    }
    events = {"FirstResize", "ResizeRefused", "ResizeWithdrawn", "ChangedElsewhere", SILENT, BACK}
    missing: tuple[set[Lane], set[Reason], set[str]] = (set(Lane), reasons, events)
    for seed in range(12):
        world = live(seed, [kinds[i] for i in draw.integers(0, len(kinds), 80).tolist()])
        for _, order in world.sent:
            missing[0].discard(order.lane)
            missing[1].discard(order.reason)
        missing[2].difference_update(notice.event for notice in world.notices)
        missing[2].difference_update(e.event for e in world.effects if isinstance(e, Notice))
        if not any(missing):
            break

    assert missing == (set(), set(), set())
