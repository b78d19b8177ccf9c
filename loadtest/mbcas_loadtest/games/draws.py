"""What nature draws for a game, and how the attacker's pods take their places among the others.

A node of 4000m has six pods. Their admitted requests fill 60 to 95 % of it and their mean demand
45 to 95 %, in other proportions; so some games have room for everybody and some are short all the
time. Everything comes from one seed: games that are played in two ways differ by nothing else.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_core.parameters import Parameters
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.games.attackers import Admission
from mbcas_loadtest.games.loads import draw_paths

PODS = 6
ALLOCATABLE_MILLICORES = 4000
LEAST_REQUEST_MILLICORES = 20
ROUND_SECONDS = 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """The pods of g games, and what they will demand; (g, p) where not said otherwise."""

    request_millicores: IntArray
    limit_millicores: IntArray
    demand_millicores: FloatArray
    """(steps, g, p)"""


def draw_games(
    generator: np.random.Generator, games: int, steps: int, *, step_seconds: float, guaranteed: bool
) -> Draw:
    """Draws games of so many steps; `guaranteed` pods have limits equal to their requests."""
    shape = (games, PODS)
    share = generator.dirichlet(np.full(PODS, 3.0), games)
    packed = generator.uniform(0.6, 0.95, (games, 1)) * ALLOCATABLE_MILLICORES
    request = np.maximum(np.rint(share * packed), LEAST_REQUEST_MILLICORES).astype(np.int64)
    more = generator.uniform(1.0, 3.0, shape)
    limit = request if guaranteed else np.ceil(request * more).astype(np.int64)
    mean = request * np.exp(generator.normal(0.0, 0.5, shape))
    load = generator.uniform(0.45, 0.95, (games, 1)) * ALLOCATABLE_MILLICORES
    mean = mean / mean.sum(axis=1, keepdims=True) * load
    return Draw(
        request_millicores=request,
        limit_millicores=limit,
        demand_millicores=draw_paths(generator, mean, steps, step_seconds=step_seconds),
    )


def find_reserve(parameters: Parameters) -> int:
    """Returns what a node never hands out as surplus."""
    share = int(np.ceil(ALLOCATABLE_MILLICORES * parameters.reserve_ratio))
    return max(parameters.reserve_millicores, share)


def find_fair_shares(drawn: Draw, capacity_millicores: int) -> FloatArray:
    """Returns property 7's share with honest admissions, b + w (C - sum b) / W, shape (g, p)."""
    request = drawn.request_millicores.astype(np.float64)
    total = request.sum(axis=1, keepdims=True)
    owed: FloatArray = request + request / total * np.maximum(capacity_millicores - total, 0.0)
    return owed


def admit_honestly(drawn: Draw, pods: int, capacity_millicores: int) -> Admission:
    """Returns what a truthful owner of the first pods declares."""
    room = np.maximum(capacity_millicores - drawn.request_millicores.sum(axis=1), 0)
    return Admission(
        request_millicores=drawn.request_millicores[:, :pods],
        limit_millicores=drawn.limit_millicores[:, :pods],
        room_millicores=room // pods,
    )


def bound_priority(claimed: PriorityClass, most: PriorityClass) -> PriorityClass:
    """Returns the class that a claim gets where the namespace allows `most`."""
    return max(claimed, most)  # The API counts downwards: critical is 1.


class Slots:
    """The s places of a node: the attacker's pods come first, each as many times as it is split."""

    def __init__(self, pods: int, replicas: int) -> None:
        self.replicas = replicas
        self.own = slice(0, pods * replicas)
        self.pod: IntArray = np.array(
            [pod for pod in range(pods) for _ in range(replicas)] + list(range(pods, PODS))
        )
        """(s,) which pod each place stands for."""
        self.share: FloatArray = np.where(self.pod < pods, 1.0 / replicas, 1.0)
        """(s,) of the pod's demand."""

    def spread(self, of_pod: FloatArray) -> FloatArray:
        """Splits amounts of pods among their places, (..., p) to (..., s)."""
        of_slot: FloatArray = of_pod[..., self.pod] * self.share
        return of_slot

    def place(self, said: IntArray, honest: IntArray) -> IntArray:
        """Returns whole amounts of places, (g, s): as declared by the attacker, else honest."""
        others = honest[:, self.pod[self.own.stop :]]
        return np.concatenate([self.place_own(said), others], axis=1)

    def place_own(self, said: IntArray) -> IntArray:
        """Splits whole amounts among the attacker's places, as equally as it goes, (g, k)."""
        own = said[:, self.pod[self.own]]
        part = np.arange(own.shape[1]) % self.replicas
        split: IntArray = own // self.replicas + (part < own % self.replicas)
        return split

    def add_up(self, of_slot: FloatArray) -> FloatArray:
        """Adds places up to pods, (g, s) to (g, p)."""
        first = np.flatnonzero(np.diff(self.pod, prepend=-1))
        total: FloatArray = np.add.reduceat(of_slot, first, axis=1)
        return total
