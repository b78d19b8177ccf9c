"""What may be set of a container without changing its pod's QoS class, from its facts.

| the pod is | then |
|---|---|
| BestEffort | nothing: any CPU value would change its class |
| Guaranteed | one number, request and limit together: a hard quota where the policy moves both |
| Burstable | as its policy says, but a request or limit that is not there is never added |
| Burstable, and Guaranteed but for CPU | the request stays below the limit, or nothing |

Where requests must not move at all, because an HPA divides by them or because raising one may have
other pods evicted, the policy is `limits-only`. Without Kubernetes a policy is taken as it is.
"""

from dataclasses import dataclass

from mbcas_core.events import ContainerFacts, Policy, QosClass

BEST_EFFORT = "its pod is BestEffort, and any CPU value would change its QoS class"
NOTHING_SET = "it has neither a CPU request nor a CPU limit"
ADMITTED_UNKNOWN = "what it was admitted with is not known"
WOULD_BE_GUARANTEED = "equal request and limit would make its pod Guaranteed"
SCALED = "an HPA scales it on CPU, and its pod is Guaranteed"
SYSTEM_CRITICAL = "its pod is critical to the system and Guaranteed"
EXCLUDED = "excluded by annotation"
"""The `skip_reason` in the facts of what could be resized, but is not to be: it is given back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What the market may set of one container."""

    policy: Policy
    """The policy in effect."""
    fixed: bool = False
    """The policy leaves nothing to set."""
    keeps_gap: bool = False
    skip_reason: str = ""


def find_permit(facts: ContainerFacts, policy: Policy, *, admitted_known: bool) -> Permit:
    """Returns what may be set of a container that asks for this policy."""
    if facts.qos is None:
        return Permit(policy=policy, skip_reason=facts.skip_reason)
    permit = (
        _guaranteed(facts, policy) if facts.qos == QosClass.GUARANTEED else _other(facts, policy)
    )
    reason = facts.skip_reason or permit.skip_reason
    if not (reason or admitted_known):
        reason = ADMITTED_UNKNOWN
    return Permit(
        policy=permit.policy,
        fixed=permit.fixed or bool(reason),
        keeps_gap=permit.keeps_gap,
        skip_reason=reason,
    )


def _guaranteed(facts: ContainerFacts, policy: Policy) -> Permit:
    if policy not in (Policy.REQUESTS_AND_LIMITS, Policy.HARD_QUOTA):
        return Permit(policy=policy, fixed=True)
    reason = ""
    if facts.scaled_by_requests:
        reason = SCALED
    elif facts.system_critical:
        reason = SYSTEM_CRITICAL
    return Permit(policy=Policy.HARD_QUOTA, skip_reason=reason)


def _other(facts: ContainerFacts, policy: Policy) -> Permit:
    request, limit = facts.spec.request_millicores, facts.spec.limit_millicores
    if facts.qos == QosClass.BEST_EFFORT:
        return Permit(policy=policy, skip_reason=BEST_EFFORT)
    if not request and limit is None:
        return Permit(policy=policy, skip_reason=NOTHING_SET)
    fixed = False
    if facts.scaled_by_requests or facts.system_critical:
        policy = Policy.LIMITS_ONLY
    elif not request and limit is not None:
        fixed = policy in (Policy.REQUESTS_ONLY, Policy.HARD_QUOTA)
        policy = Policy.LIMITS_ONLY if policy == Policy.REQUESTS_AND_LIMITS else policy
    one_number = policy == Policy.HARD_QUOTA or bool(facts.strict)
    if facts.guaranteed_but_for_cpu and one_number and limit is not None:
        return Permit(policy=policy, keeps_gap=True, skip_reason=WOULD_BE_GUARANTEED)
    return Permit(policy=policy, fixed=fixed, keeps_gap=facts.guaranteed_but_for_cpu)
