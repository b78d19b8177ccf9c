"""What the server wrote down of a pod before its first patch: the values it was admitted with."""

from http import HTTPStatus

from mbcas_shim.errors import ShimError
from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.api import KubeApi
from mbcas_shim.kube.pods import Pod
from mbcas_shim.kube.untrusted import Fields, MalformedError

_PATH = "/apis/mbcas.io/v1alpha1/namespaces/{namespace}/podallocations/{name}"
_MAX_POD_NAME = 244  # With a dash and eight digits the 253 characters of a name.
_UID_DIGITS = 8


class AllocationUnknownError(ShimError):
    """Nothing that can be used was written down of a pod."""


def allocation_name(pod_name: str, pod_uid: str) -> str:
    """The name of a pod's PodAllocation."""
    return f"{pod_name[:_MAX_POD_NAME]}-{pod_uid.replace('-', '')[:_UID_DIGITS]}"


def read_admitted(api: KubeApi, pod: Pod) -> dict[str, Cpu]:
    """Gets what the containers of a pod were admitted with.

    Raises:
        KubeApiError: No answer that can be used.
        AllocationUnknownError: The API server has none of this pod, or does not show it.
    """
    name = allocation_name(pod.name, pod.uid)
    answer = api.request("GET", _PATH.format(namespace=pod.namespace, name=name))
    where = f"PodAllocation {pod.namespace}/{name}"
    if answer.status != HTTPStatus.OK:
        raise AllocationUnknownError(f"{where}: {answer.status} {answer.message}")
    try:
        spec = Fields(answer.body).object("spec")
        if spec.text("podUID") != pod.uid:
            raise AllocationUnknownError(f"{where}: is about another pod")
        return {
            entry.name("name"): Cpu(*_millicores(entry.object("admitted")))
            for entry in spec.objects("containers")
        }
    except MalformedError as error:
        raise AllocationUnknownError(f"{where}: {error}") from error


def _millicores(admitted: Fields) -> tuple[int | None, int | None]:
    request, limit = (Fields({"cpu": _given(admitted, name)}) for name in ("request", "limit"))
    return request.cpu_millicores(), limit.cpu_millicores()


def _given(admitted: Fields, name: str) -> str | None:
    return admitted.text(name) or None
