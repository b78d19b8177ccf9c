"""Copies of what of the cluster decides beside the pods: namespaces, nodes and autoscalers."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mbcas_server.annotations import parse_cpu
from mbcas_server.clock import Clock
from mbcas_server.kube.client import KubeClient, Object, api_path
from mbcas_server.kube.facts import ClusterFacts
from mbcas_server.kube.mirror import Mirror
from mbcas_server.metrics import Metrics

PREFIX = "mbcas.io/"
ANNOTATIONS_MAX = 50
TEXT_MAX = 1_000
METRICS_MAX = 100
UTILIZATION = "Utilization"
"""A target that is a share of the requests."""

OnChange = Callable[[AbstractSet[str], AbstractSet[str]], None]
"""Takes the namespaces and the nodes whose containers must be seen anew."""
Key = tuple[str, str]
"""Namespace, empty where an object has none, and name."""
Scaled = tuple[str, str, str, str]
"""Namespace, kind, name and container of what is scaled; no container where it is all of them."""
Value = TypeVar("Value")


class _Copy(Generic[Value]):
    """What is read of each object of one kind, and whose containers change with it."""

    def __init__(
        self, read: Callable[[Object], Value | None], tell: Callable[[set[Key]], None]
    ) -> None:
        self._read = read
        self._tell = tell
        self.values: dict[Key, Value] = {}

    def replace(self, items: Sequence[Object]) -> None:
        given = {_key(item): self._read(item) for item in items}
        found = {key: value for key, value in given.items() if value is not None}
        before, self.values = self.values, found
        keys = before.keys() | found.keys()
        self._say({key for key in keys if before.get(key) != found.get(key)})

    def put(self, item: Object) -> None:
        self._set(_key(item), self._read(item))

    def remove(self, item: Object) -> None:
        self._set(_key(item), None)

    def _set(self, key: Key, value: Value | None) -> None:
        before = self.values.pop(key, None)
        if value is not None:
            self.values[key] = value
        self._say({key} if before != value else set())

    def _say(self, changed: set[Key]) -> None:
        if changed:
            self._tell(changed)


@dataclass(eq=False, slots=True, kw_only=True)
class ClusterWatches(ClusterFacts):
    """Follows them; `mirrors` are to be started before, and run while, anything is asked."""

    client: KubeClient
    clock: Clock
    metrics: Metrics
    on_change: OnChange
    mirrors: tuple[Mirror, ...] = field(init=False)
    _namespaces: _Copy[dict[str, str]] = field(init=False)
    _nodes: _Copy[int] = field(init=False)
    _autoscalers: _Copy[frozenset[Scaled]] = field(init=False)
    _scaled: Counter[Scaled] = field(init=False, default_factory=Counter)

    def __post_init__(self) -> None:
        self._namespaces = _Copy(_annotations, self._namespaces_changed)
        self._nodes = _Copy(_allocatable_millicores, self._nodes_changed)
        self._autoscalers = _Copy(_scaled, self._autoscalers_changed)
        self.mirrors = (
            self._mirror(api_path("v1", "namespaces"), self._namespaces),
            self._mirror(api_path("v1", "nodes"), self._nodes),
            self._mirror(api_path("autoscaling/v2", "horizontalpodautoscalers"), self._autoscalers),
        )

    def namespace_annotations(self, namespace: str) -> Mapping[str, str]:
        return self._namespaces.values.get(("", namespace), {})

    def allocatable_millicores(self, node: str) -> int | None:
        return self._nodes.values.get(("", node))

    def is_scaled(self, namespace: str, owner: str) -> bool:
        kind, _, rest = owner.partition("/")
        name, _, container = rest.partition("/")
        wanted = ((namespace, kind, name, ""), (namespace, kind, name, container))
        return any(each in self._scaled for each in wanted)

    def _mirror(self, path: str, copy: "_Copy[Value]") -> Mirror:
        return Mirror(
            client=self.client,
            clock=self.clock,
            metrics=self.metrics,
            path=path,
            replace=copy.replace,
            put=copy.put,
            remove=copy.remove,
        )

    def _namespaces_changed(self, changed: set[Key]) -> None:
        self.on_change({name for _, name in changed}, set())

    def _nodes_changed(self, changed: set[Key]) -> None:
        self.on_change(set(), {name for _, name in changed})

    def _autoscalers_changed(self, changed: set[Key]) -> None:
        self._scaled = Counter(
            each for scaled in self._autoscalers.values.values() for each in scaled
        )
        self.on_change({namespace for namespace, _ in changed}, set())


def _annotations(namespace: Object) -> dict[str, str] | None:
    """Returns what a namespace says about MBCAS; None where it says nothing."""
    given = _mapping(_mapping(namespace.get("metadata")).get("annotations"))
    found = {
        key.removeprefix(PREFIX)[:TEXT_MAX]: str(value)[:TEXT_MAX]
        for key, value in given.items()
        if key.startswith(PREFIX)
    }
    return dict(sorted(found.items())[:ANNOTATIONS_MAX]) or None


def _allocatable_millicores(node: Object) -> int | None:
    amount = _mapping(_mapping(node.get("status")).get("allocatable")).get("cpu")
    return parse_cpu(str(amount)) if amount is not None else None


def _scaled(autoscaler: Object) -> frozenset[Scaled] | None:
    """Returns what is scaled by CPU use as a share of requests; None where nothing is."""
    spec = _mapping(autoscaler.get("spec"))
    target = _mapping(spec.get("scaleTargetRef"))
    namespace, _ = _key(autoscaler)
    kind, name = str(target.get("kind") or ""), str(target.get("name") or "")
    return frozenset((namespace, kind, name, each) for each in _by_requests(spec)) or None


def _by_requests(spec: Object) -> Iterator[str]:
    """Yields the containers whose requests count; an empty name for all of them."""
    given = spec.get("metrics")
    for metric in given[:METRICS_MAX] if isinstance(given, list) else ():
        kind = _mapping(metric).get("type")
        if kind not in ("Resource", "ContainerResource"):
            continue
        source = _mapping(metric.get("resource" if kind == "Resource" else "containerResource"))
        if (
            source.get("name") == "cpu"
            and _mapping(source.get("target")).get("type") == UTILIZATION
        ):
            yield "" if kind == "Resource" else str(source.get("container") or "")


def _key(item: Object) -> Key:
    metadata = _mapping(item.get("metadata"))
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _mapping(given: object) -> Object:
    return given if isinstance(given, dict) else {}
