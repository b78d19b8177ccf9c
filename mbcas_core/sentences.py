"""Reasons in sentences, for people."""

from mbcas_core.effects import Reason
from mbcas_core.events import Policy
from mbcas_core.views import ContainerView

SENTENCES: dict[Reason, str] = {
    Reason.OBSERVING: "Not enough samples yet; it keeps what it has.",
    Reason.STARTUP_GRACE: "It started a moment ago, so it is not cut.",
    Reason.ON_TARGET: "It has what the market says it should have.",
    Reason.WITHIN_BAND: "The target {target} is too close to {applied} to be worth a change.",
    Reason.DWELL: "The target is {target}, but it was changed a moment ago and rests before a cut.",
    Reason.RAISED: "Raised to {desired}.",
    Reason.RATIONED: "CPU is scarce: it gets {target} of the {need} it needs.",
    Reason.CUT: "Cut to {desired}.",
    Reason.CUT_LIMITED: "On its way down to {target}; a round takes only so much.",
    Reason.RECLAIM_BOUND: "Cut to {desired}; the bound on reclaiming leaves it that.",
    Reason.CUT_FOR_OTHERS: "Cut to {desired} to make room for what others are owed.",
    Reason.WAITING_SUPPLY: "It should have {target}; the CPU for that is not free yet.",
    Reason.WAITING_BUDGET: "It should have {target}; the change waits for the resize budget.",
    Reason.WAITING_SPACING: "It should have {target}; its pod was changed a moment ago.",
    Reason.IN_FLIGHT: "An order for {desired} is on its way.",
    Reason.EMERGENCY: "Lifted to {desired} because it was throttled.",
    Reason.EMERGENCY_HELD: "Held up because it was throttled a moment ago.",
    Reason.DECAY: "Its burst is over; it comes back to {target} step by step.",
    Reason.ROLLED_BACK: "Its last cut was taken back because throttling followed.",
    Reason.ADMITTED_FLOOR: "It needs {need}; its policy never goes below the admitted {admitted}.",
    Reason.MODE: "Its mode says that nothing is sent; it would be given {target}.",
    Reason.FIXED_BY_POLICY: "Its policy leaves nothing to set.",
    Reason.SKIPPED: "It cannot be resized: {skip_reason}.",
    Reason.FLOORS_REDUCED: "The node has less CPU than it promised; it gets {target}.",
    Reason.FROZEN: "Writes are frozen; it should have {target}.",
    Reason.STALE: "No fresh samples: nothing is decided.",
    Reason.BACKING_OFF: "Its last order was refused; it rests.",
    Reason.CHANGED_ELSEWHERE: "Somebody else changed it; it rests.",
    Reason.RELEASED: "It is given back what it was admitted with, and left alone.",
    Reason.WITHDRAWN: "The kubelet did not admit what its pod asked for; it rests.",
    Reason.KUBELET_SILENT: "The node's kubelet has not seen changes for a while; nothing is sent.",
    Reason.NAMESPACE_RESTS: "It should have {target}; its namespace refused a raise and rests.",
}


BOUNDS_NOTHING = "Its limit of {admitted} is no less than all the CPU of its node: nothing to set."


def summary(container: ContainerView) -> str:
    """The primary reason of a container in a sentence."""
    reservation, ceiling = container.reservation, container.ceiling
    words = {
        "admitted": (reservation.admitted_millicores, ceiling.admitted_millicores),
        "need": (reservation.need_millicores, ceiling.need_millicores),
        "target": (reservation.target_millicores, ceiling.target_millicores),
        "desired": (reservation.desired_millicores, ceiling.desired_millicores),
        "applied": (reservation.applied_millicores, ceiling.applied_millicores),
    }
    policy, sentence = container.policy, SENTENCES[container.reason]
    bounds_nothing = container.reason == Reason.FIXED_BY_POLICY and container.limit_bounds_nothing
    if bounds_nothing:
        sentence = BOUNDS_NOTHING
    if bounds_nothing or container.reason == Reason.ADMITTED_FLOOR:  # About the ceiling alone.
        policy = Policy.LIMITS_ONLY
    said = {word: _cpu(*numbers, policy=policy) for word, numbers in words.items()}
    skip_reason = container.skip_reason or "no reason was given"
    return sentence.format(**said, skip_reason=skip_reason)


def _cpu(reservation: int | None, ceiling: int | None, *, policy: Policy) -> str:
    """The number that the policy moves, or both."""
    if ceiling is None or policy == Policy.REQUESTS_ONLY:
        return "nothing" if reservation is None else f"{reservation}m"
    if policy == Policy.REQUESTS_AND_LIMITS and reservation is not None:
        return f"{reservation}m (ceiling {ceiling}m)"
    return f"{ceiling}m"
