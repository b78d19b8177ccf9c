"""The service Operator: interventions in the whole of what this server does."""

import logging
from dataclasses import dataclass

import grpc

from mbcas.v1 import operator_pb2 as pb
from mbcas_core.errors import FieldError, InvalidInputError
from mbcas_core.events import ReleaseAsked
from mbcas_server.auth import Caller
from mbcas_server.clock import Clock
from mbcas_server.core_thread import CoreThread
from mbcas_server.driver import Driver
from mbcas_server.leadership import Leadership, NotRememberedError
from mbcas_server.status import RefusedError

NAME_MAX = 253
HOLD_SECONDS = 600
HOLD_MAX_SECONDS = 86_400

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, kw_only=True)
class OperatorService:
    """Answers the calls of Operator; requests come parsed, errors are raised."""

    core: CoreThread
    driver: Driver
    leadership: Leadership
    clock: Clock

    async def set_frozen(
        self, request: pb.SetFrozenRequest, caller: Caller
    ) -> pb.SetFrozenResponse:
        user = await caller.check_operates("")
        was_frozen = self.leadership.frozen
        try:
            await self.leadership.set_frozen(frozen=request.frozen)
        except NotRememberedError as error:
            now = "writes are stopped now" if request.frozen else "writes are still stopped"
            raise RefusedError(
                grpc.StatusCode.UNAVAILABLE,
                f"{now}, but that could not be written down: {error}; it is tried again until it "
                "can be",
                reason="NOT_REMEMBERED",
            ) from error
        logger.warning("frozen=%s was_frozen=%s user=%r", request.frozen, was_frozen, user)
        return pb.SetFrozenResponse(
            was_frozen=was_frozen, outlives_restart=self.leadership.outlives_restart
        )

    async def release(self, request: pb.ReleaseRequest, caller: Caller) -> pb.ReleaseResponse:
        _check(request)
        user = await caller.check_operates(request.namespace)
        namespace, pod = request.namespace, request.pod
        self.driver.ask_release(
            ReleaseAsked(
                namespace=namespace,
                pod=pod,
                hold_seconds=float(request.hold_seconds or HOLD_SECONDS),
                time_seconds=self.clock.now_seconds(),
            )
        )
        containers, remaining = await self.core.read(
            lambda core: core.release_progress(namespace, pod)
        )
        logger.info(
            "release namespace=%r pod=%r containers=%d remaining=%d user=%r",
            namespace,
            pod,
            containers,
            remaining,
            user,
        )
        return pb.ReleaseResponse(
            containers=containers, remaining=remaining, frozen=self.leadership.frozen
        )


def _check(request: pb.ReleaseRequest) -> None:
    errors = [
        FieldError(name, f"has {len(value)} characters, must have at most {NAME_MAX}")
        for name, value in (("namespace", request.namespace), ("pod", request.pod))
        if len(value) > NAME_MAX
    ]
    if request.pod and not request.namespace:
        errors.append(FieldError("namespace", "is empty, must be the namespace of the pod"))
    if not 0 <= request.hold_seconds <= HOLD_MAX_SECONDS:
        errors.append(
            FieldError(
                "hold_seconds",
                f"is {request.hold_seconds}, must be from 1 to {HOLD_MAX_SECONDS}, or 0 for ten "
                "minutes",
            )
        )
    if errors:
        raise InvalidInputError(errors)
