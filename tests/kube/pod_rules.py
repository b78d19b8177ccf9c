"""What the API server does with pods alone: defaults, admission, what may change."""

from typing import Any

from tests.kube import admission, validation
from tests.kube.errors import ApiError, invalid
from tests.kube.resources import Pod, qos_of, request_millicores, set_defaults
from tests.kube.store import Store

SPEC_DEFAULTS: dict[str, Any] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "serviceAccountName": "default",
    "securityContext": {},
    "schedulerName": "default-scheduler",
    "priority": 0,
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
}


def prepare(store: Store, pod: Pod) -> None:
    """Completes a new pod.

    Raises:
        ApiError: 422, it contradicts itself; 403, a quota or range of its namespace refuses it.
    """
    pod["spec"] = SPEC_DEFAULTS | pod["spec"]
    set_defaults(pod)
    validation.check_new(pod)
    pod["status"] = {"phase": "Pending", "qosClass": qos_of(pod)}
    admission.check_limit_ranges(store, pod)
    admission.check_quotas(store, pod)


def changed(store: Store, new: Pod, old: Pod, *, resize: bool, node_checked: bool) -> Pod:
    """Returns what becomes of a pod by a PATCH or PUT of it or of its `/resize`.

    Raises:
        ApiError: 422 or 403, it may not be changed so.
    """
    if resize:
        new = validation.keep_only_resources(new, old)
    try:
        set_defaults(new)
    except ArithmeticError as error:
        cause = invalid("patch", "quantities must match the regular expression")
        raise ApiError(422, "is invalid", causes=(cause,)) from error
    new["metadata"]["generation"] = old["metadata"]["generation"] + (new["spec"] != old["spec"])
    if not resize:
        validation.check_plain_update(new, old)
        return new
    validation.check_resize(new, old)
    admission.check_limit_ranges(store, new)
    admission.check_quotas(store, new)
    if node_checked:
        admission.check_node_capacity(store, new, request_millicores(old))
    return new
