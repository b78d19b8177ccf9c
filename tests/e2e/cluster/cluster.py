"""A whole Kubernetes on this machine: one node, on loopback, with throw-away credentials.

Everything it writes is in one folder, everything it starts is recorded there, and what it changes
of the machine (sysctls, mounts, cgroups) is noted before and put back by `take_down`,
which works from that folder alone: also after a crash, and from another process. Its cgroups are
below one of its own, named like the folder, so that several clusters leave each other alone.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tenacity

from tests.e2e.cluster import files
from tests.e2e.cluster.images import write_busybox_image
from tests.e2e.cluster.processes import Processes
from tests.e2e.cluster.programs import find

NODE = "e2e-node"
SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
"""What the kubelet changes for the whole machine at each start."""
CGROUPS = Path("/sys/fs/cgroup")
READY_SECONDS = 120
STATE = "cluster.json"
PORTS = ("api_port", "kubelet_port", "etcd_port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster; everything else is found from its folder."""

    folder: Path
    api_port: int
    kubelet_port: int
    etcd_port: int

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "admin.kubeconfig"

    @property
    def ca(self) -> Path:
        return self.folder / "certs" / "apiserver.crt"

    @property
    def cgroup_root(self) -> str:
        """The cgroup, in every controller, that `kubepods` is in."""
        return self.folder.name

    @property
    def containerd_socket(self) -> Path:
        return self.folder / "containerd.sock"

    def kubectl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs kubectl as the cluster's administrator."""
        return subprocess.run(
            [str(find("kubectl")), "--kubeconfig", str(self.kubeconfig), *arguments],
            capture_output=True,
            text=True,
            check=check,
        )

    def processes(self) -> Processes:
        """The cluster's programs, to be stopped and started by a test."""
        return Processes(self.folder)


def bring_up(say: Callable[[str], None]) -> Cluster:
    """Starts a cluster and waits until its node is ready.

    Whoever calls this takes the folder down afterwards, whatever happened.
    """
    folder = Path(tempfile.mkdtemp(prefix="mbcas-e2e-"))
    say(f"cluster in {folder}")
    etcd_port, peer_port, api_port, kubelet_port = free_ports(4)
    cluster = Cluster(
        folder=folder, api_port=api_port, kubelet_port=kubelet_port, etcd_port=etcd_port
    )
    _note_state(cluster)
    try:
        processes = Processes(folder)
        _write_files(cluster)
        _make_cgroups(cluster.cgroup_root)
        _start_etcd(processes, cluster, peer_port)
        start_containerd(processes, cluster)
        _import_images(cluster)
        start_api_server(processes, cluster)
        start_kubelet(processes, cluster)
        start_controllers(processes, cluster)
        _wait(lambda: _node_is_ready(cluster), processes, "the node to be ready")
    except BaseException:
        take_down(folder, say)
        raise
    say(f"node {NODE} is ready")
    return cluster


def load(folder: Path) -> Cluster:
    """Returns the cluster of a folder."""
    state = json.loads((folder / STATE).read_text())
    ports = {name: int(state.get(name, 0)) for name in PORTS}
    return Cluster(folder=folder, **ports)


def take_down(folder: Path, say: Callable[[str], None]) -> None:
    """Ends what the cluster started and puts the machine back as it was; safe to repeat."""
    processes = Processes(folder)
    for name in ("kube-controller-manager", "kube-scheduler", "kubelet"):
        processes.stop(name)
    _end_containers(folder, processes)
    for name in ("kube-apiserver", "containerd", *reversed(processes.names())):
        processes.stop(name)
    _unmount(folder)
    _remove_cgroups(folder.name)
    _restore_sysctls(folder)
    shutil.rmtree(folder, ignore_errors=True)
    say("the cluster is gone")


def start_api_server(processes: Processes, cluster: Cluster) -> None:
    """Starts the API server and waits until it is ready."""
    folder = cluster.folder
    processes.start(
        "kube-apiserver",
        [
            find("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{cluster.etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={cluster.api_port}",
            f"--cert-dir={folder}/certs",
            f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--anonymous-auth=false",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={folder}/sa.key",
            f"--service-account-key-file={folder}/sa.pub",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=Hostname",
            "--profiling=false",
        ],
    )
    _wait(lambda: _api_is_ready(cluster), processes, "the API server")
    for user, token in _tokens(folder).items():
        name = "admin" if user == "admin" else "kubelet"
        content = files.kubeconfig(server=cluster.server, ca=cluster.ca, token=token)
        _write_private(folder / f"{name}.kubeconfig", content)


def start_containerd(processes: Processes, cluster: Cluster) -> None:
    """Starts the container runtime and waits until it answers."""
    processes.start(
        "containerd", [find("containerd"), "--config", cluster.folder / "containerd.toml"]
    )
    _wait(lambda: _ctr(cluster.folder, "version").returncode == 0, processes, "containerd")


def start_kubelet(processes: Processes, cluster: Cluster) -> None:
    """Starts the kubelet."""
    folder = cluster.folder
    processes.start(
        "kubelet",
        [
            find("kubelet"),
            f"--config={folder}/kubelet.yaml",
            f"--kubeconfig={folder}/kubelet.kubeconfig",
            f"--root-dir={folder}/kubelet",
            f"--cert-dir={folder}/kubelet/pki",
            f"--hostname-override={NODE}",
        ],
    )


def _start_etcd(processes: Processes, cluster: Cluster, peer_port: int) -> None:
    folder = cluster.folder
    client, peer = f"http://127.0.0.1:{cluster.etcd_port}", f"http://127.0.0.1:{peer_port}"
    processes.start(
        "etcd",
        [
            find("etcd"),
            f"--data-dir={folder}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ],
    )
    _wait(lambda: _answers(f"{client}/health"), processes, "etcd")


def start_controllers(processes: Processes, cluster: Cluster) -> None:
    """Starts the scheduler and the controller manager."""
    common = [
        f"--kubeconfig={cluster.kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--authentication-skip-lookup",
    ]
    scheduler_port, manager_port = free_ports(2)
    processes.start(
        "kube-scheduler", [find("kube-scheduler"), *common, f"--secure-port={scheduler_port}"]
    )
    processes.start(
        "kube-controller-manager",
        [
            find("kube-controller-manager"),
            *common,
            f"--secure-port={manager_port}",
            f"--service-account-private-key-file={cluster.folder}/sa.key",
            f"--root-ca-file={cluster.ca}",
        ],
    )


def _write_files(cluster: Cluster) -> None:
    folder = cluster.folder
    for name in ("certs", "cni", "kubelet", "volume-plugins", "pod-logs"):
        (folder / name).mkdir()
    private, public = folder / "sa.key", folder / "sa.pub"
    for command in (
        ("genrsa", "-out", private, "2048"),
        ("rsa", "-in", private, "-pubout", "-out", public),
    ):
        subprocess.run([find("openssl"), *command], check=True, capture_output=True)
    admin, node = secrets.token_hex(16), secrets.token_hex(16)
    _write_private(
        folder / "tokens.csv",
        f'{admin},admin,admin,"system:masters"\n'
        f'{node},system:node:{NODE},node,"system:masters,system:nodes"\n',
    )
    kubelet = files.kubelet_config(
        folder, port=cluster.kubelet_port, cgroup_root=cluster.cgroup_root
    )
    (folder / "kubelet.yaml").write_text(kubelet)
    (folder / "containerd.toml").write_text(files.containerd_config(folder))
    (folder / "cni" / "10-loopback.conflist").write_text(files.loopback_network())


def _write_private(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content)


def _tokens(folder: Path) -> dict[str, str]:
    lines = (folder / "tokens.csv").read_text().splitlines()
    return {line.split(",")[1]: line.split(",")[0] for line in lines}


def _import_images(cluster: Cluster) -> None:
    archive = cluster.folder / "busybox.tar"
    write_busybox_image(archive)
    import_image(cluster.folder, archive)


def import_image(folder: Path, archive: Path) -> None:
    """Loads a docker or OCI archive into the container runtime."""
    done = _ctr(folder, "--namespace", "k8s.io", "images", "import", str(archive))
    assert done.returncode == 0, done.stderr


def _ctr(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(find("ctr")), "--address", str(folder / "containerd.sock"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def _wait(done: Callable[[], bool], processes: Processes, what: str) -> None:
    """Waits until something holds, or one of the programs has died."""

    def look() -> bool:
        processes.check()
        return done()

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda held: not held),
        wait=tenacity.wait_fixed(0.2),
        stop=tenacity.stop_after_delay(READY_SECONDS),
    )
    try:
        retrying(look)
    except tenacity.RetryError:
        raise TimeoutError(f"waited {READY_SECONDS} s for {what}") from None


def _answers(url: str, *, context: ssl.SSLContext | None = None, token: str = "") -> bool:
    request = urllib.request.Request(url)  # noqa: S310 - loopback, made here.
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=5, context=context):  # noqa: S310 - see above.
            return True
    except (urllib.error.URLError, OSError):
        return False


def _api_is_ready(cluster: Cluster) -> bool:
    if not cluster.ca.exists():
        return False
    try:
        context = ssl.create_default_context(cafile=str(cluster.ca))
    except ssl.SSLError:
        return False  # Half written.
    admin = _tokens(cluster.folder)["admin"]
    return _answers(f"{cluster.server}/readyz", context=context, token=admin)


def _node_is_ready(cluster: Cluster) -> bool:
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    done = cluster.kubectl("get", "node", NODE, "-o", f"jsonpath={path}", check=False)
    return done.stdout == "True"


def free_ports(count: int) -> list[int]:
    """Returns ports of loopback that nobody listens at now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for taken in sockets:
            taken.bind(("127.0.0.1", 0))
        return [taken.getsockname()[1] for taken in sockets]
    finally:
        for taken in sockets:
            taken.close()


def _note_state(cluster: Cluster) -> None:
    sysctls = {name: Path("/proc/sys", name).read_text().strip() for name in SYSCTLS}
    state = {"sysctls": sysctls} | {name: getattr(cluster, name) for name in PORTS}
    (cluster.folder / STATE).write_text(json.dumps(state))


def _restore_sysctls(folder: Path) -> None:
    state = folder / STATE
    if not state.exists():
        return
    for name, value in json.loads(state.read_text())["sysctls"].items():
        path = Path("/proc/sys", name)
        if path.read_text().strip() != value:
            path.write_text(value)


def _end_containers(folder: Path, processes: Processes) -> None:
    """Ends the containers' tasks; their shims end with the last of them."""
    if "containerd" not in processes.names():
        return
    listed = _ctr(folder, "--namespace", "k8s.io", "tasks", "list", "--quiet")
    for task in listed.stdout.split():
        _ctr(folder, "--namespace", "k8s.io", "tasks", "delete", "--force", task)


def _unmount(folder: Path) -> None:
    """Unmounts everything below the folder, the innermost first."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
        subprocess.run([find("umount"), "--lazy", mount], check=False, capture_output=True)


def _make_cgroups(name: str) -> None:
    """Makes the cluster's own cgroup in every controller."""
    for controller in CGROUPS.iterdir():
        (controller / name).mkdir(exist_ok=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):  # Empty in a new cgroup, which then takes none.
        value = (CGROUPS / "cpuset" / setting).read_text()
        (CGROUPS / "cpuset" / name / setting).write_text(value)


def _remove_cgroups(name: str) -> None:
    """Removes the cluster's empty cgroups in every controller."""
    for top in CGROUPS.glob(f"*/{name}"):
        for path, _, _ in os.walk(top, topdown=False):
            _remove_empty(Path(path))


def _remove_empty(path: Path) -> None:
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(OSError),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(3),
        reraise=False,
        retry_error_callback=lambda _: None,
    )
    retrying(path.rmdir)


def kill(processes: Processes, name: str) -> None:
    """Ends a program as a crash does."""
    processes.stop(name, how=signal.SIGKILL)
