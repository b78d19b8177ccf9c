"""Properties of splitting: what a pod reaches by being several, or by having several containers."""

from dataclasses import replace

import numpy as np

from mbcas_core.market.clearing import Bids, sum_by
from mbcas_core.market.pods import PodBids
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.markets import Markets
from mbcas_loadtest.mechanism.verdicts import (
    Cleared,
    Mechanism,
    Misses,
    Verdict,
    exactly,
    pick_pods,
    with_needs,
)

MOST_PARTS = 4


def splitting_into_pods(
    markets: Markets, generator: np.random.Generator, mechanism: Mechanism
) -> Verdict:
    """A pod that splits into pods, with its need, floor and weight, does not gain by it.

    Where the parts ask for the same per weight, s_k / w_k, nobody's share changes.
    Proof: counted floors do not grow, sum min(b_k, r_k) <= min(b, r). If the level does not fall,
    the others get no less than before and nothing is left over for the parts. If it falls, then
    sum (b_k + w_k L') <= b + w L'. With equal s_k / w_k all parts fill at the level at which the
    whole did. Claimed for weights that add up: the least weight of 10m is one per pod.
    Integers: a quantum for the whole and one for each part.
    """
    rows = pick_pods(markets, generator)
    before = mechanism.run_pods(markets)
    misses = Misses(markets)
    parts = int(generator.integers(2, MOST_PARTS, endpoint=True))
    need, floor = (
        _split_randomly(values[rows], parts, generator)
        for values in (markets.pods.need_millicores, markets.pods.floor_millicores)
    )
    portion = generator.dirichlet(np.ones(parts), rows.size) * (1 - 1e-6) + 1e-6 / parts
    weight = markets.pods.weight[rows][:, np.newaxis] * portion
    split, whole_of = _with_parts(markets.pods, rows, need, floor, weight)
    after = mechanism.run(split, markets.capacity_millicores, markets.quantum_millicores)
    _add_part_gains(misses, before, after, rows, whole_of, neutral=False)

    # Equal parts: the whole is made of them, so that each is a whole number of millicores.
    units = generator.integers(1, 5, (rows.size, parts))
    floor = _split_randomly(markets.pods.floor_millicores[rows], parts, generator)
    asked = markets.pods.need_millicores[rows] // units.sum(axis=1)
    need = floor + units * asked[:, np.newaxis]
    weight = markets.pods.weight[rows][:, np.newaxis] * units / units.sum(axis=1, keepdims=True)
    whole = with_needs(markets.pods, rows, need.sum(axis=1))
    before = mechanism.run(whole, markets.capacity_millicores, markets.quantum_millicores)
    split, whole_of = _with_parts(whole, rows, need, floor, weight)
    after = mechanism.run(split, markets.capacity_millicores, markets.quantum_millicores)
    _add_part_gains(misses, before, after, rows, whole_of, neutral=True)
    return misses.judge(quanta_allowed=1 + parts)


def splitting_into_containers(
    markets: Markets, generator: np.random.Generator, mechanism: Mechanism
) -> Verdict:
    """How a pod is split into containers changes nothing for any pod, itself included.

    Its containers share what it got as a market of their own.
    Proof: a pod bids the sums of its containers' needs and floors, capped, and its weight; nothing
    else of its containers enters the clearing of the node.
    Integers: exact.
    """
    bids, capacity = markets.bids, markets.capacity_millicores
    quantum = markets.quantum_millicores
    pods = bids.node.size
    node = bids.node
    both = mechanism.clear_pods(bids, capacity, quantum_millicores=quantum)
    misses = Misses(markets)
    got = both.nodes.allocation_millicores
    of_pods = sum_by(bids.pod, both.allocation_millicores, pods)
    misses.add_quanta(node, exactly(np.abs(of_pods - got)))

    inside = Bids(
        market=bids.pod,
        need_millicores=bids.need_millicores,
        floor_millicores=bids.floor_millicores,
        weight=bids.weight,
    )
    alone = mechanism.clear(inside, got, quantum_millicores=quantum).allocation_millicores
    apart = np.abs(both.allocation_millicores - alone)
    misses.add_quanta(node[bids.pod], exactly(apart))

    parts = int(generator.integers(2, MOST_PARTS, endpoint=True))
    for other in (_merged(bids), _finer(bids, parts, generator)):
        cleared = mechanism.clear_pods(other, capacity, quantum_millicores=quantum)
        misses.add_quanta(node, exactly(np.abs(cleared.nodes.allocation_millicores - got)))
    return misses.judge(quanta_allowed=0)


def _add_part_gains(
    misses: Misses,
    before: Cleared,
    after: Cleared,
    rows: IntArray,
    whole_of: IntArray,
    *,
    neutral: bool,
) -> None:
    """Adds what the parts get above the whole; where `neutral`, any difference for anybody."""
    count = before.share.size
    market = before.bids.market
    gain = np.bincount(whole_of, after.share, count) - before.share
    gain_integer = sum_by(whole_of, after.allocation, count) - before.allocation
    if neutral:
        misses.add_real(market, np.abs(gain), before.share)
        misses.add_quanta(market, np.abs(gain_integer))
    else:
        misses.add_real(market[rows], gain[rows], before.share[rows])
        misses.add_quanta(market[rows], gain_integer[rows])


def _split_randomly(values: IntArray, parts: int, generator: np.random.Generator) -> IntArray:
    """Returns whole parts of each value, shape (k, parts)."""
    cuts = np.sort(
        generator.integers(0, values[:, np.newaxis], (values.size, parts - 1), endpoint=True)
    )
    edges = np.column_stack([np.zeros_like(values), cuts, values])
    split: IntArray = np.diff(edges, axis=1)
    return split


def _with_parts(
    bids: Bids, rows: IntArray, need: IntArray, floor: IntArray, weight: FloatArray
) -> tuple[Bids, IntArray]:
    """Returns the bids with these rows replaced by their parts, and which row each was before."""
    copies = np.ones(bids.market.size, dtype=np.int64)
    copies[rows] = need.shape[1]
    whole_of = np.repeat(np.arange(bids.market.size), copies)
    is_part = np.repeat(copies > 1, copies)
    split = Bids(
        market=bids.market[whole_of],
        need_millicores=bids.need_millicores[whole_of],
        floor_millicores=bids.floor_millicores[whole_of],
        weight=bids.weight[whole_of],
    )
    # These arrays are fresh copies.
    split.need_millicores[is_part] = need.ravel()
    split.floor_millicores[is_part] = floor.ravel()
    split.weight[is_part] = weight.ravel()
    return split, whole_of


def _merged(bids: PodBids) -> PodBids:
    """Returns the pods with one container each."""
    pods = bids.node.size
    return replace(
        bids,
        pod=np.arange(pods),
        need_millicores=bids.sum_needs(),
        floor_millicores=sum_by(bids.pod, bids.floor_millicores, pods),
        weight=np.ones(pods),
    )


def _finer(bids: PodBids, parts: int, generator: np.random.Generator) -> PodBids:
    """Returns the pods with each container split in some."""
    need, floor = (
        _split_randomly(values, parts, generator).ravel()
        for values in (bids.need_millicores, bids.floor_millicores)
    )
    return replace(
        bids,
        pod=np.repeat(bids.pod, parts),
        need_millicores=need,
        floor_millicores=floor,
        weight=np.repeat(bids.weight, parts),
    )
