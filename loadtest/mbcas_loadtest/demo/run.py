"""The whole demo: two phases over the same arrivals, and nothing left behind."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from mbcas_loadtest.demo.control import Control
from mbcas_loadtest.demo.daemons import check_programs
from mbcas_loadtest.demo.host import cpu_count, node_millicores, prepare_cgroups, run_folder
from mbcas_loadtest.demo.phases import PhasePlan, PhaseRun
from mbcas_loadtest.demo.record import (
    DaemonCost,
    DemoRecord,
    Phase,
    PhaseName,
    Reaction,
)
from mbcas_loadtest.demo.results import reaction
from mbcas_loadtest.demo.snapshot import View
from mbcas_loadtest.model.machine import ModelMachine
from mbcas_loadtest.node import cgroups
from mbcas_loadtest.node.container import draw_containers
from mbcas_loadtest.node.machine import MODEL, CgroupMachine, Machine
from mbcas_loadtest.node.statics import STATIC_RULE

ROUND_PERIOD_SECONDS = 5.0
STARTUP_GRACE_SECONDS = 5.0
DEFAULTS_NOTE = "(defaults: 15 s and 30 s)"
MODEL_CPUS = 2

PHASES: tuple[PhaseName, ...] = ("static", "mbcas")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the demo is asked to do."""

    duration_seconds: float
    """Per phase, the warm-up included."""
    warmup_seconds: float
    policy: str
    burst: bool
    static_burst: bool
    seed: int
    model: bool
    """Use the model even where cgroups are writable."""


def run_demo(options: DemoOptions, view: View, stop: Event) -> DemoRecord:
    """Runs both phases and returns what they measured; nothing is left behind, come what may.

    Raises:
        DemoError: A part of it ended that should not have.
        Interrupted: `stop` was set.
    """
    hierarchy = _usable_hierarchy(options, view)
    with run_folder() as folder:
        demo = _Demo(options, view, stop, hierarchy, folder)
        check_programs(folder, stop)
        for number, name in enumerate(PHASES, start=1):
            demo.run_phase(number, name)
        return demo.record()


class _Demo:
    """One run of the demo: what both phases share, and what they left."""

    def __init__(
        self,
        options: DemoOptions,
        view: View,
        stop: Event,
        hierarchy: cgroups.Hierarchy | None,
        folder: Path,
    ) -> None:
        self._options = options
        self._view = view
        self._stop = stop
        self._hierarchy = hierarchy
        self._folder = folder
        self._cpus = MODEL_CPUS if hierarchy is None else cpu_count()
        self._node_millicores = node_millicores(self._cpus)
        self._containers = draw_containers(
            seed=options.seed,
            duration_seconds=options.duration_seconds,
            node_millicores=self._node_millicores,
        )
        self._phases: list[Phase] = []
        self._environment = MODEL
        self._first_allocation_seconds: float | None = None
        self._reaction = Reaction(p50=None, p95=None, count=0)
        self._costs: dict[str, DaemonCost] = {}

    def run_phase(self, number: int, name: PhaseName) -> None:
        """Runs one phase and cleans up after it."""
        is_mbcas = name == "mbcas"
        machine = self._machine(
            burst=self._options.burst if is_mbcas else self._options.static_burst
        )
        self._environment = machine.environment
        self._view.announce(f"Setting up phase {number} of {len(PHASES)}: {name}.")
        with ExitStack() as cleanup:
            cleanup.callback(machine.close)
            machine.open()
            control = self._control(machine, cleanup) if is_mbcas else None
            run = PhaseRun(
                self._plan(number, name, machine),
                self._containers,
                machine,
                control,
                self._view,
                self._stop,
            )
            self._phases.append(run.run())
            if control is not None:
                names = [container.name for container in self._containers]
                self._first_allocation_seconds = control.first_allocation_seconds(names)
                self._reaction = reaction(self._containers, run.tracks)
                self._costs = {part: control.cost(part) for part in ("server", "shim")}

    def record(self) -> DemoRecord:
        """Returns everything that was measured."""
        options = self._options
        return DemoRecord(
            environment=self._environment,
            seed=options.seed,
            policy=options.policy,
            burst=options.burst,
            static_burst=options.static_burst,
            node_millicores=self._node_millicores,
            warmup_seconds=options.warmup_seconds,
            round_period_seconds=ROUND_PERIOD_SECONDS,
            startup_grace_seconds=STARTUP_GRACE_SECONDS,
            static_rule=STATIC_RULE,
            phases=self._phases,
            first_allocation_seconds=self._first_allocation_seconds,
            reaction_seconds=self._reaction,
            server=self._costs["server"],
            shim=self._costs["shim"],
        )

    def _machine(self, *, burst: bool) -> Machine:
        if self._hierarchy is None:
            return ModelMachine(
                self._containers,
                node_name=cgroups.own_name(),
                cpus=self._cpus,
                burst=burst,
                folder=self._folder,
            )
        return CgroupMachine(
            self._containers,
            node=cgroups.Node(self._hierarchy, cgroups.own_name()),
            node_millicores=self._node_millicores,
            burst=burst,
            folder=self._folder,
        )

    def _control(self, machine: Machine, cleanup: ExitStack) -> Control:
        policy = self._options.policy
        control = Control(
            machine, node_millicores=self._node_millicores, policy=policy, folder=self._folder
        )
        cleanup.callback(control.stop)
        flags = server_flags(policy=policy, burst=self._options.burst)
        control.start_server(flags, self._stop)
        control.start_shim(self._stop)
        return control

    def _plan(self, number: int, name: PhaseName, machine: Machine) -> PhasePlan:
        options = self._options
        static_burst, mbcas_burst = (
            "on" if is_on else "off" for is_on in (options.static_burst, options.burst)
        )
        where = {
            "model": f"a model of CFS bandwidth control on {self._cpus} CPUs, not this machine's",
            "cgroup-v1": f"real processes and quotas (cgroup v1) on {self._cpus} CPUs",
            "cgroup-v2": f"real processes and quotas (cgroup v2) on {self._cpus} CPUs",
        }[machine.environment]
        return PhasePlan(
            name=name,
            number=number,
            count=len(PHASES),
            duration_seconds=options.duration_seconds,
            warmup_seconds=options.warmup_seconds,
            policy=options.policy,
            node_millicores=self._node_millicores,
            notes=(
                f"{where}; {self._node_millicores}m of them may be reserved",
                f"policy {options.policy}; seed {options.seed}, the same in both phases",
                f"burst credit {static_burst} in static, {mbcas_burst} in mbcas",
                f"round {ROUND_PERIOD_SECONDS:g} s, startup grace {STARTUP_GRACE_SECONDS:g} s "
                + DEFAULTS_NOTE,
            ),
        )


def server_flags(*, policy: str, burst: bool) -> list[str]:
    """Returns how the demo sets the server up."""
    return [
        *("--mode", "auto", "--policy", policy),
        "--burst-credit" if burst else "--no-burst-credit",
        *("--round-period-seconds", f"{ROUND_PERIOD_SECONDS:g}"),
        *("--startup-grace-seconds", f"{STARTUP_GRACE_SECONDS:g}"),
    ]


def _usable_hierarchy(options: DemoOptions, view: View) -> cgroups.Hierarchy | None:
    """Finds out whether cgroups can be made here; says plainly where the model must do."""
    if options.model:
        view.announce("As asked, this runs on a model of CFS bandwidth control, not on real CPU.")
        return None
    try:
        hierarchy, removed = prepare_cgroups()
    except cgroups.CgroupsUnavailableError as error:
        view.announce(
            f"No CPU cgroups can be made here ({error}): this runs on a model of CFS bandwidth "
            "control, not on real CPU. As root on Linux it uses real quotas."
        )
        return None
    for name in removed:
        view.announce(f"Removed {name}, left behind by a run that was killed.")
    return hierarchy
