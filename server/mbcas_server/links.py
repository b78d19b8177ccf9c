"""Which shim speaks for each node.

The newest instance of a node wins. A node is remembered after its stream has ended, so that an
older instance that comes back later loses too; where there is no room for another node, the one
whose shim has been gone the longest is forgotten.
"""

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field

import grpc

from mbcas_server.convert import Instance
from mbcas_server.inbox import Inbox
from mbcas_server.outbox import Outbox
from mbcas_server.status import RefusedError

BOOTS_MAX = 8  # A node seldom reboots, and only a live shim of an old boot could come back.


@dataclass(eq=False, slots=True, kw_only=True)
class Link:
    """One stream of one node."""

    node: str
    instance: Instance
    inbox: Inbox
    outbox: Outbox
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ending: RefusedError | None = None
    """Why the server ends it; None while it does not."""
    arrived_seconds: float | None = None
    """When the oldest report came that no tick has taken in; None where there is none."""
    heartbeat_due_seconds: float = -math.inf
    inventory_requested: bool = False
    """Whether the shim has been asked for the inventory that its inbox wants."""

    def end(self, ending: RefusedError) -> None:
        """Makes the stream end."""
        self.ending = self.ending or ending
        self.ended.set()


@dataclass(eq=False, slots=True)
class _Node:
    link: Link | None = None
    told: Link | None = None
    """The stream that the core knows of."""
    instance: Instance | None = None
    boots: deque[str] = field(default_factory=lambda: deque(maxlen=BOOTS_MAX))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Change:
    """What the core must be told about a node, in this order."""

    node: str
    last_words: Link | None
    """A stream that has ended: what it still said."""
    detached: bool
    attached: bool
    current: Link | None
    """The stream to take reports from."""


class Links:
    """All streams of NodeLink."""

    def __init__(self, *, nodes_max: int) -> None:
        self._nodes_max = nodes_max
        self._nodes: dict[str, _Node] = {}
        self._due: dict[str, None] = {}
        self._arrival = asyncio.Event()
        self._closed: RefusedError | None = None
        self.connected_count = 0
        self.container_count = 0
        """Containers of all connected nodes, as of the last heartbeat."""

    def connected(self) -> list[Link]:
        """Returns the streams, by node name."""
        return [node.link for _, node in sorted(self._nodes.items()) if node.link is not None]

    def stream(self, node: str) -> Link | None:
        """Returns the node's stream, whether or not the core knows of it yet."""
        known = self._nodes.get(node)
        return None if known is None else known.link

    def link(self, node: str) -> Link | None:
        """Returns the node's stream that the core knows of, None where there is none."""
        known = self._nodes.get(node)
        return known.told if known is not None and known.told is known.link else None

    def admit(self, link: Link) -> None:
        """Makes this the node's stream and ends the one it had.

        Raises:
            RefusedError: A newer instance was there, or there is no room.
        """
        if self._closed is not None:
            raise self._closed.again()
        node = self._nodes.get(link.node)
        if node is None:
            node = self._make_room(link.node)
        if not _is_newest(link.instance, node):
            raise RefusedError(
                grpc.StatusCode.ABORTED,
                f"a newer shim speaks for node {link.node!r}",
                reason="SUPERSEDED",
            )
        if node.link is not None:
            again = node.link.instance == link.instance
            node.link.end(
                RefusedError(
                    grpc.StatusCode.ABORTED,
                    "the same shim connected again" if again else "a newer shim connected",
                    reason="RECONNECTED" if again else "SUPERSEDED",
                )
            )
        else:
            self.connected_count += 1
        if link.instance.boot_id not in node.boots:
            node.boots.append(link.instance.boot_id)
        node.link, node.instance = link, link.instance
        self.mark_due(link)

    def release(self, link: Link) -> None:
        """Notes that a stream is over."""
        node = self._nodes[link.node]
        if node.link is link:
            node.link = None
            self.connected_count -= 1
            self.mark_due(link)

    def end_all(self, ending: RefusedError) -> None:
        """Makes every stream end; from now on none is admitted."""
        self._closed = ending
        self.end_streams(ending)

    def end_streams(self, ending: RefusedError) -> None:
        """Makes every stream end that is there."""
        for link in self.connected():
            link.end(ending)

    def mark_due(self, link: Link) -> None:
        """Notes that there is something about the link's node to tell the core."""
        self._due[link.node] = None
        self._arrival.set()

    async def wait_due(self) -> None:
        """Waits until there is something to tell the core."""
        await self._arrival.wait()

    def take_due(self) -> list[str]:
        """Returns the nodes with something to tell, by name, and forgets that they were due."""
        due = sorted(self._due)
        self._due.clear()
        self._arrival.clear()
        return due

    def take_change(self, name: str) -> Change | None:
        """Returns what the core must be told about a node now, and takes it as told."""
        node = self._nodes.get(name)
        if node is None:
            return None
        told, node.told = node.told, node.link
        return Change(
            node=name,
            last_words=told if told is not None and node.link is None else None,
            detached=told is not None and node.link is None,
            attached=node.link is not None and node.link is not told,
            current=node.link,
        )

    def _make_room(self, name: str) -> _Node:
        if len(self._nodes) >= self._nodes_max:
            gone = next(
                (key for key, node in self._nodes.items() if not (node.link or node.told)), None
            )
            if gone is None:
                raise RefusedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"this server holds {self._nodes_max} nodes, which is as many as its setting "
                    "max_nodes allows",
                )
            del self._nodes[gone]
        node = self._nodes[name] = _Node()
        return node


def _is_newest(instance: Instance, node: _Node) -> bool:
    if node.instance is None:
        return True
    if instance.boot_id == node.instance.boot_id:
        return instance >= node.instance
    return instance.boot_id not in node.boots
