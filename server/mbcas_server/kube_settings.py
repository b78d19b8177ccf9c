"""The settings of a server on Kubernetes; without `kubernetes` none of them matters."""

import re
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from mbcas_server.core_settings import CoreSettings

_NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_SERVICE_ACCOUNT = re.compile(f"{_NAME}:{_NAME}")
Seconds = float


class KubeSettings(CoreSettings):
    """What a server on Kubernetes needs to know beside the core's settings."""

    kubernetes: bool = False
    """Run on Kubernetes: one server of several decides (a Lease says which), callers show tokens
    that the API server reviews, admitted values live in PodAllocations."""
    kubeconfig: Path | None = None
    """On Kubernetes: how to reach the API server. Unset: as a pod does."""
    kubernetes_namespace: str = ""
    """On Kubernetes: where the Lease is. Unset: the namespace of the server's pod."""
    shim_service_account: str = "mbcas-system:mbcas-shim"
    """On Kubernetes: the ServiceAccount of the shims, as NAMESPACE:NAME. Whoever shows another
    one's token cannot speak for a node."""
    lease_seconds: Seconds = Field(default=15.0, ge=3, le=300)
    """On Kubernetes: a server that has not renewed the Lease for this long may be replaced."""
    lease_renew_seconds: Seconds = Field(default=10.0, ge=1, le=200)
    """On Kubernetes: a server that could not renew the Lease for this long stops deciding. Must be
    below lease_seconds, so that two never decide."""
    lease_retry_seconds: Seconds = Field(default=2.0, ge=0.1, le=60)
    """On Kubernetes: time between two looks at the Lease."""

    status_writes_per_second: float = Field(default=5.0, ge=0.1, le=100)
    """On Kubernetes: PodAllocations whose status is written in a second, over all."""

    @model_validator(mode="after")
    def _check_kubernetes(self) -> Self:
        if self.kubernetes and not _SERVICE_ACCOUNT.fullmatch(self.shim_service_account):
            raise ValueError(
                f"shim_service_account: is {self.shim_service_account!r}, must be NAMESPACE:NAME"
            )
        if not self.lease_retry_seconds < self.lease_renew_seconds < self.lease_seconds:
            raise ValueError(
                "lease_renew_seconds: must lie between lease_retry_seconds and lease_seconds"
            )
        return self
