"""`mbcasctl freeze` and `mbcasctl release`: the interventions."""

from dataclasses import dataclass
from typing import Annotated

import tenacity
import typer
from rich.text import Text

from mbcas.v1 import operator_pb2 as pb
from mbcas_server.ctl_client import Client, Connection, CtlError, UsageError, connected, is_away
from mbcas_server.ctl_output import Output, OutputOption, console, note, print_plain
from mbcas_server.ctl_show import containers, to_plain

POLL_SECONDS = 2.0
DONE_POLLS = 3
"""So often in a row nothing must be left."""
STARTED_POLLS = 15
"""And so often after a restart: shims are back within half a minute, and before that with no pods
known there is nothing left."""
HOLD_MAX_SECONDS = 86_400


def freeze(
    *,
    connection: Connection,
    off: Annotated[bool, typer.Option("--off", help="Let writes go on.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stops all writes within a tick, or lets them go on."""
    with connected(connection) as client:
        answer = client.set_frozen(frozen=not off)
    if output is not Output.TABLE:
        print_plain({"frozen": not off, **to_plain(answer)}, output)
        return
    now = "Writes go on" if off else "All writes are stopped"
    before = " already" if answer.was_frozen is not off else ""
    console().print(f"{now}{before}.")
    if not off:
        console().print(
            "It outlives a restart of the server; `mbcasctl freeze --off` ends it."
            if answer.outlives_restart
            else "Until `mbcasctl freeze --off`, or until the server restarts: it forgets it then."
        )


def release(
    *,
    connection: Connection,
    pod: Annotated[
        str, typer.Argument(metavar="[[NAMESPACE/]POD]", help="Only this pod.", show_default=False)
    ] = "",
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", help="Only this namespace, or the pod's.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="All pods.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all is given back.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="With --wait: how long, in seconds.")
    ] = 600.0,
    hold: Annotated[
        int, typer.Option("--hold", min=1, max=HOLD_MAX_SECONDS, help="Then rest so long, in s.")
    ] = 600,
    output: OutputOption = Output.TABLE,
) -> None:
    """Gives containers back what they were admitted with, and leaves them alone for a while."""
    request = _request(pod, namespace, everything=everything, hold_seconds=hold)
    with connected(connection) as client:
        answer = _wait(client, request, timeout) if wait else client.release(request)
    if output is not Output.TABLE:
        print_plain(to_plain(answer), output)
    else:
        console().print(_told(answer))
    if wait and answer.remaining:
        raise CtlError(
            "writes are frozen, so nothing is given back: mbcasctl freeze --off lets them go on"
            if answer.frozen
            else f"{containers(answer.remaining)} left after {timeout:g} s; call it again, or "
            "see why with mbcasctl explain POD"
        )


def _request(pod: str, namespace: str, *, everything: bool, hold_seconds: int) -> pb.ReleaseRequest:
    within, _, name = pod.rpartition("/")
    if "/" in within or (pod and not name):
        raise UsageError(f"{pod!r} is no pod: write POD or NAMESPACE/POD")
    if within and namespace and within != namespace:
        raise UsageError(f"{pod!r} is not in the namespace {namespace!r}")
    if everything is bool(pod or namespace):
        raise UsageError("give a POD, -n NAMESPACE, or --all for all pods of all namespaces")
    namespace = within or namespace or ("default" if pod else "")
    return pb.ReleaseRequest(namespace=namespace, pod=name, hold_seconds=hold_seconds)


def _wait(client: Client, request: pb.ReleaseRequest, timeout_seconds: float) -> pb.ReleaseResponse:
    """Asks again and again until nothing is left, or nothing moves, or it takes too long."""
    progress = _Progress(of_all=not request.namespace, timeout_seconds=timeout_seconds)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(progress.is_to_go_on)
        | tenacity.retry_if_exception(progress.is_to_try_on),
        wait=tenacity.wait_fixed(POLL_SECONDS),
        stop=tenacity.stop_after_delay(timeout_seconds),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    answer = retrying(client.release, request)
    assert isinstance(answer, pb.ReleaseResponse), "the last one, whatever it says"
    return answer


@dataclass(slots=True, kw_only=True)
class _Progress:
    """Whether to ask on; says what is new, once."""

    of_all: bool
    timeout_seconds: float
    nothing_left: int = 0
    """How often in a row."""
    remaining: int | None = None
    """As told last."""
    is_away: bool = False
    was_away: bool = False

    def is_to_go_on(self, answer: pb.ReleaseResponse) -> bool:
        if self.is_away or (answer.remaining and answer.remaining != self.remaining):
            note(str(_told(answer)))
        self.is_away, self.remaining = False, answer.remaining
        self.nothing_left = self.nothing_left + 1 if not answer.remaining else 0
        has_just_started = self.was_away or (self.of_all and not answer.containers)
        enough = STARTED_POLLS if has_just_started else DONE_POLLS
        return self.nothing_left < enough and not (answer.frozen and answer.remaining)

    def is_to_try_on(self, error: BaseException) -> bool:
        if not is_away(error):
            return False
        if not self.is_away:
            note(f"The server cannot be reached: trying on, for {self.timeout_seconds:g} s in all.")
        self.is_away = self.was_away = True
        self.nothing_left = 0
        return True


def _told(answer: pb.ReleaseResponse) -> Text:
    if not answer.containers:
        return Text("The server knows no such container.")
    if not answer.remaining:
        return Text(f"Given back what they were admitted with: {containers(answer.containers)}.")
    frozen = " Writes are frozen, so nothing is given back." if answer.frozen else ""
    return Text(
        f"{answer.remaining} of {containers(answer.containers)} still to be given back what they "
        f"were admitted with.{frozen}"
    )
