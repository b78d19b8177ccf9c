"""Decisions on Kubernetes, one by one, on a node with a few pods."""

from dataclasses import replace

import numpy as np
import pytest

from mbcas_core import explain
from mbcas_core.effects import Lane, Notice, Reason, RequestInventory
from mbcas_core.events import CpuResources, Mode, Pending, Policy
from mbcas_core.loops.kubelet import BACK, SILENT
from mbcas_core.rounds import Rounds
from mbcas_core.views import ContainerView
from tests.mbcas_core.kube_cluster import KubePod
from tests.mbcas_core.kube_world import KUBE_PARAMETERS, NODE, KubeWorld, Mishap

LONG = replace(KUBE_PARAMETERS, foreign_rest_seconds=600.0)


def empty(*, allocatable: int = 4000, **options: object) -> KubeWorld:
    return KubeWorld(3, pods=0, allocatable=allocatable, **options)  # type: ignore[arg-type] # the tests name them


def use(pod: KubePod, millicores: float) -> None:
    for container in pod.containers:
        container.kernel.mean_millicores = millicores
        container.kernel._shape = 25.0
        container.kernel._interval = 1


def started(
    world: KubeWorld,
    *,
    request: int = 200,
    limit: int = 400,
    policy: Policy = Policy.LIMITS_ONLY,
    millicores: float = 900.0,
    namespace: str = "shop",
    mode: Mode | None = None,
) -> KubePod:
    pod = world.add([(request, limit)], policy=policy, namespace=namespace, mode=mode)
    use(pod, millicores)
    return pod


def seen(world: KubeWorld, pod: KubePod) -> ContainerView:
    view = explain.market_view(world.rounds, NODE, include_containers=True)
    return next(c for c in view.containers if c.pod_uid == pod.uid)


def told(world: KubeWorld, event: str) -> int:
    return sum(notice.event == event for notice in world.notices)


def noticed(world: KubeWorld, event: str) -> int:
    return sum(isinstance(e, Notice) and e.event == event for e in world.effects)


# Who set a value.


def test_a_throttled_pod_is_lifted_and_told_so_once() -> None:
    world = empty()
    pod = started(world)

    world.quiet(40)

    assert (pod.containers[0].limit or 0) > 800
    assert world.patches > 1
    assert told(world, "FirstResize") == 1
    assert seen(world, pod).ceiling.admitted_millicores == 400
    assert seen(world, pod).status_lag_seconds is not None


def test_a_change_by_somebody_else_is_what_the_pod_asks_for_from_then_on() -> None:
    world = empty(parameters=LONG)
    pod = started(world)
    world.quiet(20)

    world.change_elsewhere(pod, limit=700)
    before = world.patches
    world.quiet(30)

    assert world.patches == before
    assert seen(world, pod).reason == Reason.CHANGED_ELSEWHERE
    assert seen(world, pod).ceiling.admitted_millicores == 700
    assert told(world, "ChangedElsewhere") == 1


def test_a_change_while_no_server_ran_is_recognised() -> None:
    world = empty()
    pod = started(world)
    world.quiet(20)

    world.change_elsewhere(pod, limit=700)
    world.new_server(remembers=False)
    world.quiet(2)

    assert seen(world, pod).ceiling.admitted_millicores == 700


def test_what_the_fail_safe_set_is_nobody_s_ask() -> None:
    world = empty(parameters=LONG)
    pod = started(world)
    world.quiet(20)
    container = pod.containers[0]

    container.limit, container.limit_set = 450, True
    pod.generation, pod.changed = pod.generation + 1, True
    world.quiet(2)

    assert seen(world, pod).ceiling.admitted_millicores == 400
    assert told(world, "ChangedElsewhere") == 0


def test_a_pod_whose_admitted_values_nobody_remembers_is_left_alone() -> None:
    world = empty()
    pod = started(world)
    container = pod.containers[0]
    container.limit, container.limit_set = 600, True
    container.admitted = CpuResources()

    world.quiet(30)

    assert world.sent == []
    assert seen(world, pod).reason == Reason.SKIPPED
    assert "admitted" in seen(world, pod).skip_reason
    assert explain.release_progress(world.rounds, "shop", "") == (1, 0)

    container.admitted = CpuResources(request_millicores=200, limit_millicores=400)
    pod.changed = True
    world.quiet(40)

    assert world.patches > 0


def test_a_request_keeps_its_distance_where_equal_numbers_would_make_a_pod_guaranteed() -> None:
    world = empty()
    pod = world.add([(200, 500)], memory=(64, 64), policy=Policy.REQUESTS_AND_LIMITS)
    use(pod, 3000.0)

    world.quiet(60)

    assert pod.containers[0].request == 490
    assert world.crimes == []


# What the kubelet says.


def wants_request(world: KubeWorld) -> KubePod:
    """A pod whose request was reclaimed and that needs it again."""
    pod = started(
        world, request=800, limit=1600, policy=Policy.REQUESTS_AND_LIMITS, millicores=20.0
    )
    world.quiet(60)
    assert (pod.containers[0].request or 0) < 400
    return pod


def test_what_is_deferred_is_taken_back_within_a_round_and_rests() -> None:
    world = empty(allocatable=2000)
    pod = wants_request(world)
    container = pod.containers[0]
    held = container.request or 0
    world.fill()
    world.neighbour_told_at = np.inf
    use(pod, 700.0)

    for _ in range(60):
        world.second()
        if pod.pending == Pending.DEFERRED:
            break
    since = world.now
    asked = container.request or 0
    while world.sent[-1][1].reason != Reason.WITHDRAWN:
        world.second()
    assert seen(world, pod).reservation.desired_millicores == held
    view = explain.market_view(world.rounds, NODE, include_containers=False)
    assert view.reservation.billed_millicores == asked  # Until it is really taken back.
    while container.request != held:
        world.second()
        assert world.now - since <= world.parameters.round_period_seconds + 3.0

    assert world.sent[-1][1].reason == Reason.WITHDRAWN
    assert told(world, "ResizeWithdrawn") == 1
    world.quiet(2)
    assert seen(world, pod).reason == Reason.WITHDRAWN
    world.quiet(60)
    withdrawn = [at for at, order in world.sent if order.reason == Reason.WITHDRAWN]
    gaps = np.diff(withdrawn)
    assert told(world, "ResizeWithdrawn") == 1
    assert gaps.size >= 2
    assert gaps[-1] > gaps[0]


def test_an_ask_of_somebody_else_that_is_deferred_stays() -> None:
    world = empty(allocatable=1000)
    pod = world.add([(500, 500)], memory=(64, 64), policy=Policy.HARD_QUOTA)
    use(pod, 20.0)
    world.fill()
    world.second()

    world.change_elsewhere(pod, limit=900)
    world.quiet(30)

    assert pod.containers[0].request == 900
    assert world.sent == []


def test_a_silent_kubelet_gets_nothing_until_it_is_back() -> None:
    world = empty()
    pods = [started(world, limit=300), started(world, limit=300, millicores=20.0)]
    world.quiet(3)
    world.second(Mishap.KUBELET_DOWN)

    world.quiet(30)
    assert noticed(world, SILENT) == 1
    assert seen(world, pods[1]).reason == Reason.KUBELET_SILENT
    use(pods[1], 900.0)
    before = world.patches
    world.quiet(30)
    assert world.patches == before
    assert noticed(world, SILENT) == 1

    spec = pods[0].containers[0].limit
    world.run([Mishap.KUBELET_UP])
    world.quiet(15)
    assert noticed(world, BACK) == 1
    assert world.patches > before
    again = [o for at, o in world.sent if o.pod_uid == pods[0].uid and at > world.now - 15]
    assert all(order.desired.limit_millicores != spec for order in again)


def test_a_failing_pod_gets_only_less() -> None:
    world = empty()
    pod = started(world)
    world.quiet(1)
    facts = replace(world.facts_of(pod, pod.containers[0]), pending=Pending.FAILING)
    world.facts_of = lambda *_: facts  # type: ignore[method-assign] # the kubelet keeps failing
    pod.changed = True

    world.quiet(20)

    assert world.sent == []


# What the API server says.


def test_a_quota_lets_raises_of_its_namespace_rest_and_no_other() -> None:
    world = empty(allocatable=8000)
    pod = started(world)
    world.quota_full = True
    reasons = set()
    for _ in range(15):
        world.second()
        reasons.add(seen(world, pod).reason)
    refused = len(world.sent)
    assert Reason.NAMESPACE_RESTS in reasons
    (notice,) = [notice for notice in world.notices if notice.event == "ResizeRefused"]
    assert notice.message.endswith("The API server says: no CPU is left")
    (decision,) = explain.explain_pod(world.rounds, pod.facts.namespace, pod.facts.pod)
    assert decision.order.last_result == "refused, no CPU is left"

    world.quota_full = False
    other = started(world, namespace="other")
    for row, names in world.rounds.state.fleet.names.items():
        if names.namespace == "shop":
            namespace = world.rounds.state.fleet.rows.namespace[row]
            world.rounds.state.fleet.namespaces.rest_until[namespace] = world.now + 100.0
    world.quiet(15)

    assert (other.containers[0].limit or 0) > 400
    assert pod.containers[0].limit == 400
    assert 1 <= refused < 6


def test_cuts_go_on_while_a_namespace_rests() -> None:
    world = empty()
    pod = started(world)
    world.quiet(40)
    high = pod.containers[0].limit or 0

    world.quota_full = True
    starved = started(world)
    use(pod, 20.0)
    world.quiet(60)

    assert (pod.containers[0].limit or 0) < high
    assert starved.containers[0].limit == 400


def test_a_pod_that_a_webhook_refuses_rests_longer_each_time() -> None:
    world = empty()
    pod = started(world)
    pod.webhook = True

    world.quiet(90)

    gaps = np.diff([at for at, _ in world.sent])
    assert 3 <= len(world.sent) <= 8
    assert gaps[-1] >= 3 * gaps[0]
    assert told(world, "ResizeRefused") == 1


def test_a_conflict_is_nobody_s_fault() -> None:
    world = empty()
    pod = started(world)
    while not world.orders:
        world.second()
    pod.generation = pod.observed = pod.generation + 5  # And nobody has told so.
    world.effects.clear()

    world.quiet(12)

    assert any(isinstance(effect, RequestInventory) for effect in world.effects)
    assert (pod.containers[0].limit or 0) > 400


def test_too_many_requests_pause_the_budget_for_as_long_as_asked() -> None:
    world = empty()
    pods = [started(world, limit=300) for _ in range(3)]
    world.too_many_until = world.now + 4.0

    world.quiet(20)

    times = sorted({at for at, _ in world.sent})
    assert np.diff(times)[0] >= 3.0
    assert all((pod.containers[0].limit or 0) > 300 for pod in pods)
    assert told(world, "ResizeRefused") == 0


# Giving back.


@pytest.fixture
def raised() -> tuple[KubeWorld, list[KubePod]]:
    world = empty(allocatable=8000)
    pods = [started(world) for _ in range(3)]
    world.quiet(40)
    assert all((pod.containers[0].limit or 0) > 800 for pod in pods)
    return world, pods


def test_a_release_gives_back_what_was_admitted_and_holds(
    raised: tuple[KubeWorld, list[KubePod]],
) -> None:
    world, pods = raised
    before = len(world.sent)

    world.release(hold_seconds=60.0)
    assert explain.release_progress(world.rounds, "", "") == (3, 3)
    world.quiet(40)

    assert [pod.containers[0].limit for pod in pods] == [400] * 3
    assert explain.release_progress(world.rounds, "", "") == (3, 0)
    sent = [order for _, order in world.sent[before:]]
    assert {(order.lane, order.reason) for order in sent} == {(Lane.RELEASE, Reason.RELEASED)}
    assert len(sent) == 3
    assert seen(world, pods[0]).reason == Reason.RELEASED
    world.quiet(60)
    assert (pods[0].containers[0].limit or 0) > 400


def test_a_release_may_be_of_one_pod(raised: tuple[KubeWorld, list[KubePod]]) -> None:
    world, pods = raised

    world.release(hold_seconds=60.0, namespace="shop", pod=pods[1].facts.pod)
    world.quiet(20)

    assert pods[1].containers[0].limit == 400
    assert (pods[0].containers[0].limit or 0) > 400
    assert explain.release_progress(world.rounds, "shop", pods[1].facts.pod) == (1, 0)


def test_mode_off_gives_back_and_frozen_writes_stop_even_that(
    raised: tuple[KubeWorld, list[KubePod]],
) -> None:
    world, pods = raised
    pods[0].facts = replace(pods[0].facts, mode=Mode.OFF)
    pods[0].changed = True
    world.freeze(frozen=True)
    world.thaw_at = np.inf
    high = pods[0].containers[0].limit

    world.quiet(20)
    assert pods[0].containers[0].limit == high

    world.freeze(frozen=False)
    world.quiet(20)
    assert pods[0].containers[0].limit == 400
    assert seen(world, pods[0]).reason == Reason.MODE


def test_a_request_goes_back_where_an_hpa_needs_it() -> None:
    world = empty()
    pod = wants_request(world)

    pod.facts, pod.changed = replace(pod.facts, scaled_by_requests=True), True
    world.quiet(15)

    assert pod.containers[0].request == 800


def test_a_request_that_does_not_fit_goes_back_when_it_does() -> None:
    world = empty(allocatable=2000)
    pod = wants_request(world)
    world.fill()
    world.quiet(6)

    world.release(hold_seconds=600.0)
    world.quiet(15)
    assert explain.release_progress(world.rounds, "", "") == (1, 1)

    world.neighbour = 0
    world.quiet(15)
    assert pod.containers[0].request == 800
    assert explain.release_progress(world.rounds, "", "") == (1, 0)


# The rest.


def test_outside_the_canary_share_pods_are_only_recommended() -> None:
    modes = {}
    for share in (0.0, 0.5, 1.0):
        world = empty(allocatable=64000, parameters=replace(KUBE_PARAMETERS, canary_share=share))
        pods = [started(world, millicores=20.0) for _ in range(30)]
        world.quiet(1)
        modes[share] = [seen(world, pod).mode for pod in pods]

    assert set(modes[0.0]) == {Mode.RECOMMEND}
    assert set(modes[1.0]) == {Mode.AUTO}
    assert 5 < modes[0.5].count(Mode.AUTO) < 25


def test_burst_credit_is_written_where_the_shim_may() -> None:
    parameters = replace(KUBE_PARAMETERS, burst_credit=True)
    for writable in (False, True):
        world = empty(parameters=parameters)
        world.facts = replace(world.facts, burst_writable=writable)
        started(world)
        world.quiet(20)
        bursts = {order.burst_usec for _, order in world.sent}
        assert bursts
        assert (max(burst or 0 for burst in bursts) > 0) == writable


def test_emergencies_of_a_slow_kubelet_hold_off_for_twice_its_lag() -> None:
    world = empty()
    started(world, limit=300, millicores=3000.0)
    world.quiet(2)
    world.rounds.state.fleet.nodes.lag[:] = 4.0

    world.quiet(40)

    times = [at for at, order in world.sent if order.lane == Lane.EMERGENCY]
    assert len(times) > 1
    assert min(np.diff(times)) >= 4.0


def test_what_is_learned_outlives_the_server() -> None:
    world = empty()
    pod = started(
        world, request=900, policy=Policy.REQUESTS_AND_LIMITS, limit=900, millicores=500.0
    )
    world.quiet(60)
    use(pod, 20.0)
    before = world.rounds.state.windows.means[0]

    world.new_server(remembers=True)
    world.second()

    state = world.rounds.state
    assert isinstance(world.rounds, Rounds)
    assert state.windows.means[0] == before
    assert state.recalled.index == {}
