"""Where a pod runs, as the API server says: the word of a shim counts for its own node alone."""

from mbcas_server.kube.allocation import PodKey
from mbcas_server.kube.client import NOT_FOUND, ApiError, KubeClient, Object, api_path

GET_SECONDS = 1.5  # With the write that follows, less than an order lives.


async def node_of(client: KubeClient, pod: PodKey) -> str:
    """Returns the node that a pod was bound to, which never changes.

    Raises:
        ApiError: It does not say now, or there is no such pod, or it is bound to none.
    """
    path = api_path("v1", "pods", namespace=pod.namespace, name=pod.name)
    found = await client.call("GET", path, timeout_seconds=GET_SECONDS)
    if _mapping(found, "metadata").get("uid") != pod.uid:
        raise ApiError(NOT_FOUND, f"the pod {pod.namespace}/{pod.name} is another by now")
    node = _mapping(found, "spec").get("nodeName")
    if not isinstance(node, str) or not node:
        raise ApiError(NOT_FOUND, f"the pod {pod.namespace}/{pod.name} is bound to no node")
    return node


def _mapping(given: Object, field: str) -> Object:
    found = given.get(field)
    return found if isinstance(found, dict) else {}
