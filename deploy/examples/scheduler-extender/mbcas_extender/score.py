"""From what the market answers about a node to the node's score, 0 to 10.

**The problem.** Each candidate node would give the pod something, and taking it would cost the
pods that are there already. One number must say both, and must not depend on who else is a
candidate.

**What the pod gets**: the share of its need, from 0 to 1. It is 1 where only its own cap keeps it
below its need: no other node would give it more.

**What it costs the others.** The gauge `shortage` is a price from 0 (no one goes without) to 1.
Before the pod comes it is p0, with the pod there p1 >= p0, and in between it rises with every
millicore of demand. So the pod takes its CPU at a mean price of about (p0 + p1) / 2, the trapezoid
under the curve. The rise p1 - p0 alone would mislead: shortage flattens towards 1, so the most
crowded node would look the cheapest.

    score = round(10 x share x (1 - (p0 + p1) / 2))

**Example.** A pod with a request of 500m that expects to use 800m. Node a gives 800m and stays
without shortage: 10. Node b gives 650m, and its shortage rises from 0.2 to 0.4:
10 x 0.8125 x 0.7 = 5.7, so 6.

A node that would give less than `min-acceptable-cpu`, or where what all are owed would no longer
fit, scores 0, and is left out where kube-scheduler asks for a filter. A node that nothing is
known about gets the mean of those that are known: neither drawn to nor kept from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mbcas_extender.pod import PodBid

SCORE_MAX = 10  # MaxExtenderPriority; kube-scheduler scales it to its own 100.
SCORE_UNKNOWN = 5  # Any number would do: all nodes get the same.


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a node's market would do with the pod."""

    allocation_millicores: int
    rationed: bool
    shortage_before: float
    shortage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowded:
    """What all pods of the node are owed would no longer fit it."""

    reason: str


Answer = Offer | Crowded | None
"""None: nothing is known about the node."""


def find_scores(pod: PodBid, answers: Mapping[str, Answer]) -> dict[str, int]:
    """Returns a score for every node."""
    known = {name: _score(pod, answer) for name, answer in answers.items() if answer is not None}
    neutral = _mean(list(known.values()))
    return {name: known.get(name, neutral) for name in answers}


def find_failures(pod: PodBid, answers: Mapping[str, Answer]) -> dict[str, str]:
    """Returns the nodes that are no place for the pod, each with the reason."""
    reasons = {name: _reason(pod, answer) for name, answer in answers.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _score(pod: PodBid, answer: Offer | Crowded) -> int:
    if isinstance(answer, Crowded) or _reason(pod, answer):
        return 0
    price = (answer.shortage_before + answer.shortage) / 2
    return _round(SCORE_MAX * _share(pod, answer) * (1 - min(max(price, 0.0), 1.0)))


def _share(pod: PodBid, offer: Offer) -> float:
    wanted = min(pod.bid.need_millicores, pod.bid.cap_millicores or pod.bid.need_millicores)
    return min(offer.allocation_millicores / wanted, 1.0) if offer.rationed and wanted else 1.0


def _reason(pod: PodBid, answer: Answer) -> str:
    """Returns why the node is no place for the pod, empty where it is one."""
    if isinstance(answer, Crowded):
        return f"MBCAS: {answer.reason}"
    if answer is None or not answer.rationed:
        return ""
    got, least = answer.allocation_millicores, pod.min_acceptable_millicores
    return f"MBCAS: the pod would get {got}m, min-acceptable-cpu is {least}m" if got < least else ""


def _mean(scores: Sequence[int]) -> int:
    return _round(sum(scores) / len(scores)) if scores else SCORE_UNKNOWN


def _round(score: float) -> int:
    # Halves go up: round() would send them to the even neighbour.
    return int(score + 0.5)
