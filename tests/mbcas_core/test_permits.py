import pytest

from mbcas_core.events import ContainerFacts, CpuResources, Policy, QosClass
from mbcas_core.permits import Permit, find_permit

L, RL, R, H = (
    Policy.LIMITS_ONLY,
    Policy.REQUESTS_AND_LIMITS,
    Policy.REQUESTS_ONLY,
    Policy.HARD_QUOTA,
)


def permit(
    policy: Policy,
    qos: QosClass | None,
    request: int | None,
    limit: int | None,
    *,
    known: bool = True,
    **facts: bool | str,
) -> Permit:
    container = ContainerFacts(
        handle=1,
        pod_uid="u",
        namespace="shop",
        pod="p",
        container="c",
        container_id="i",
        spec=CpuResources(request_millicores=request, limit_millicores=limit),
        qos=qos,
        **facts,  # type: ignore[arg-type] # the tests name them
    )
    return find_permit(container, policy, admitted_known=known)


@pytest.mark.parametrize("policy", Policy)
def test_without_kubernetes_a_policy_is_taken_as_it_is(policy: Policy) -> None:
    assert permit(policy, None, 100, 100, guaranteed_but_for_cpu=True) == Permit(policy=policy)


@pytest.mark.parametrize("policy", Policy)
def test_a_best_effort_pod_is_skipped(policy: Policy) -> None:
    assert "BestEffort" in permit(policy, QosClass.BEST_EFFORT, None, None).skip_reason


@pytest.mark.parametrize(
    ("policy", "effect", "fixed"), [(L, L, True), (R, R, True), (RL, H, False), (H, H, False)]
)
def test_a_guaranteed_pod_has_one_number_or_none(
    policy: Policy, effect: Policy, *, fixed: bool
) -> None:
    found = permit(policy, QosClass.GUARANTEED, 500, 500)

    assert (found.policy, found.fixed, found.skip_reason) == (effect, fixed, "")


@pytest.mark.parametrize("flag", ["scaled_by_requests", "system_critical"])
def test_where_requests_must_not_move_only_limits_do(flag: str) -> None:
    for policy in Policy:
        assert permit(policy, QosClass.BURSTABLE, 200, 500, **{flag: True}).policy == L
    assert permit(H, QosClass.GUARANTEED, 500, 500, **{flag: True}).skip_reason


def test_a_container_never_gets_a_number_it_had_not() -> None:
    assert permit(RL, QosClass.BURSTABLE, 0, 500).policy == L
    assert permit(R, QosClass.BURSTABLE, 0, 500).fixed
    assert permit(H, QosClass.BURSTABLE, 0, 500).fixed
    assert permit(RL, QosClass.BURSTABLE, None, None).skip_reason


def test_one_number_that_would_make_a_pod_guaranteed_is_none() -> None:
    but = {"guaranteed_but_for_cpu": True}
    assert permit(H, QosClass.BURSTABLE, 200, 500, **but).skip_reason
    assert permit(L, QosClass.BURSTABLE, 200, 500, strict=True, **but).skip_reason
    assert permit(RL, QosClass.BURSTABLE, 200, 500, **but) == Permit(policy=RL, keeps_gap=True)
    assert permit(H, QosClass.BURSTABLE, 200, None, **but).skip_reason == ""


def test_what_the_shim_says_comes_before_what_is_not_known() -> None:
    known = permit(L, QosClass.BURSTABLE, 200, 500, known=False)
    static = permit(L, QosClass.BURSTABLE, 200, 500, known=False, skip_reason="it is static")

    assert "not known" in known.skip_reason
    assert static.skip_reason == "it is static"
