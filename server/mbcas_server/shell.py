"""What every part of a server shares, whether it is on Kubernetes or not."""

from dataclasses import dataclass

from mbcas_server.clock import Clock
from mbcas_server.core_thread import CoreThread
from mbcas_server.links import Links
from mbcas_server.metrics import Metrics
from mbcas_server.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """The parts that are there before any other."""

    settings: Settings
    core: CoreThread
    clock: Clock
    metrics: Metrics
    links: Links
