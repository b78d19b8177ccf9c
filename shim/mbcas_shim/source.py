"""Where the node's containers are declared: a file in local mode, the API server on Kubernetes."""

from collections.abc import Iterable
from typing import Protocol

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.inventory import Declared, Row


class Source(Protocol):
    """Says which containers the node has, and what a report says of them."""

    @property
    def declared(self) -> Iterable[Declared]:
        """The containers, as `refresh` last took them in."""

    def refresh(self) -> bool:
        """Takes in what is new, once a second; true where the containers or the node changed."""

    def container_facts(self, row: Row) -> pb.ContainerFacts: ...

    def node_facts(self, rows: Iterable[Row]) -> pb.NodeFacts: ...

    async def wait(self) -> None:
        """Waits until it is known which containers there are: no report may come before."""

    async def run(self) -> None:
        """Follows what happens, for ever."""
