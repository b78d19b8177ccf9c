"""Takes some nodes out of a round, so that a sample of it can be audited at the sample's cost."""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from mbcas_core.market.orders import Grants, OrderRows
from mbcas_core.market.targets import (
    GoodTargets,
    MarketNodes,
    MarketPods,
    MarketRows,
    Targets,
)
from mbcas_core.units import BoolArray, IntArray

_Record = TypeVar("_Record", MarketRows, MarketPods, MarketNodes, GoodTargets, Targets, OrderRows)

_GOOD_ROWS = (
    "takes_part",
    "need_millicores",
    "floor_millicores",
    "weight",
    "target_millicores",
)
_TARGET_ROWS = ("reservation_millicores", "ceiling_millicores", "reclaim_bound")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Which of the m nodes, p pods and n rows belong to it, as indices, ascending."""

    nodes: IntArray
    pods: IntArray
    rows: IntArray
    node_of_pod: IntArray
    """Renumbered: index into `nodes`."""
    pod_of_row: IntArray
    """Renumbered: index into `pods`."""
    whole: bool
    """It is all of the round."""

    @classmethod
    def of(cls, keep: BoolArray, *, node_of_pod: IntArray, pod_of_row: IntArray) -> "Part":
        """Takes the nodes for which `keep`, shape (m,), is True."""
        kept_pods = keep[node_of_pod]
        kept_rows = kept_pods[pod_of_row]
        node_place, pod_place = np.cumsum(keep) - 1, np.cumsum(kept_pods) - 1
        return cls(
            nodes=np.flatnonzero(keep),
            pods=np.flatnonzero(kept_pods),
            rows=np.flatnonzero(kept_rows),
            node_of_pod=node_place[node_of_pod[kept_pods]],
            pod_of_row=pod_place[pod_of_row[kept_rows]],
            whole=bool(keep.all()),
        )

    def market_rows(self, rows: MarketRows) -> MarketRows:
        """Takes its rows."""
        if self.whole:
            return rows
        return replace(_take(rows, self.rows), pod=self.pod_of_row)

    def market_pods(self, pods: MarketPods) -> MarketPods:
        """Takes its pods."""
        if self.whole:
            return pods
        acceptance = pods.acceptance
        own = _take(replace(pods, acceptance=None), self.pods)
        if acceptance is not None:
            acceptance = replace(acceptance, **_arrays(acceptance, self.pods))
        return replace(own, node=self.node_of_pod, acceptance=acceptance)

    def market_nodes(self, nodes: MarketNodes) -> MarketNodes:
        """Takes its nodes."""
        if self.whole:
            return nodes
        return _take(nodes, self.nodes)

    def targets(self, targets: Targets) -> Targets:
        """Takes what concerns it."""
        if self.whole:
            return targets
        goods: dict[str, Any] = {
            "reservation": self._good(targets.reservation),
            "ceiling_headroom": self._good(targets.ceiling_headroom),
        }
        arrays = {
            field.name: getattr(targets, field.name)[
                self.rows if field.name in _TARGET_ROWS else self.nodes
            ]
            for field in fields(targets)
            if field.name not in goods
        }
        return replace(targets, **goods, **arrays)

    def order_rows(self, rows: OrderRows) -> OrderRows:
        """Takes its rows."""
        if self.whole:
            return rows
        of_pods = {"node": self.node_of_pod, "pod_weight": rows.pod_weight[self.pods]}
        arrays = {
            field.name: getattr(rows, field.name)[self.rows]
            for field in fields(rows)
            if field.name not in of_pods
        }
        return replace(rows, **arrays | of_pods | {"pod": self.pod_of_row})

    def grants(self, grants: Grants) -> Grants:
        """Takes what was granted to its rows."""
        if self.whole:
            return grants
        return Grants(
            reservation_millicores=grants.reservation_millicores[self.rows],
            ceiling_millicores=grants.ceiling_millicores[self.rows],
            reservation_slack_millicores=grants.reservation_slack_millicores[self.nodes],
            ceiling_slack_millicores=grants.ceiling_slack_millicores[self.nodes],
        )

    def _good(self, good: GoodTargets) -> GoodTargets:
        prices = replace(good.prices, **_arrays(good.prices, self.nodes))
        arrays = {
            field.name: getattr(good, field.name)[self._places(field.name)]
            for field in fields(good)
            if field.name != "prices"
        }
        return replace(good, prices=prices, **arrays)

    def _places(self, name: str) -> IntArray:
        """Returns the places of a good's field: by row, by pod or by node."""
        if name in _GOOD_ROWS:
            return self.rows
        return self.pods if name.startswith("pod_") else self.nodes


def _take(record: _Record, places: IntArray) -> _Record:
    """Takes these entries of every array."""
    return replace(record, **_arrays(record, places))


def _arrays(record: Any, places: IntArray) -> dict[str, Any]:  # noqa: ANN401 - any record of arrays
    return {
        field.name: getattr(record, field.name)[places]
        for field in fields(record)
        if getattr(record, field.name) is not None
    }
