"""What an audit finds: one violated property each, with the numbers that show it."""

from dataclasses import dataclass

import numpy as np

from mbcas_core.units import BoolArray, FloatArray, IntArray

MAX_FINDINGS = 10
"""Of one property in one call: what is violated is a bug, so ten examples are enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One property that does not hold."""

    property: str
    """Its name, as listed by the audits."""
    market: int
    """Index of the market: among nodes, the node."""
    row: int | None
    """Index of the bid, pod or container concerned; None where it is the market as a whole."""
    detail: str
    """Where it is and the numbers, as `key=value` pairs."""


class Findings:
    """Collects what is violated; one collector is about rows of the same kind."""

    def __init__(
        self,
        *,
        market_of_row: IntArray,
        good: str = "",
        bidders: str = "rows",
        node_of_pod: IntArray | None = None,
    ) -> None:
        """Starts with none.

        Args:
            market_of_row: Index of each row's market or node, shape (n,).
            good: What is shared; empty where there is only one good.
            bidders: What the rows are.
            node_of_pod: Given where it is pods that share, among their containers: their nodes.
        """
        self.found: list[Finding] = []
        self._market_of_row = market_of_row
        self._node_of_pod = node_of_pod
        self._where = (f"good={good} " if good else "") + f"of={bidders}"

    def rows(self, name: str, bad: BoolArray, **numbers: IntArray | FloatArray) -> None:
        """Notes the rows for which this holds, shape (n,), and their numbers."""
        if not bad.any():
            return
        for row in np.flatnonzero(bad)[:MAX_FINDINGS].tolist():
            self._add(name, int(self._market_of_row[row]), row, row, numbers)

    def markets(self, name: str, bad: BoolArray, **numbers: IntArray | FloatArray) -> None:
        """Notes the markets for which this holds, shape (m,), and their numbers."""
        if not bad.any():
            return
        nodes = self._node_of_pod
        for market in np.flatnonzero(bad)[:MAX_FINDINGS].tolist():
            node, pod = (market, None) if nodes is None else (int(nodes[market]), market)
            self._add(name, node, pod, market, numbers)

    def _add(
        self,
        name: str,
        market: int,
        row: int | None,
        index: int,
        numbers: dict[str, IntArray | FloatArray],
    ) -> None:
        words = " ".join(f"{key}={values[index]:.12g}" for key, values in numbers.items())
        at = f"market={market}" if row is None else f"market={market} row={row}"
        detail = f"{self._where} {at} {words}".strip()
        self.found.append(Finding(property=name, market=market, row=row, detail=detail))
