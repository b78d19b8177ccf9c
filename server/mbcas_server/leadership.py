"""Whether this server decides, and whether its decisions may be carried out."""

from typing import Protocol


class NotRememberedError(Exception):
    """A freeze that holds now, or a thaw that does not yet, is not remembered; says why."""


class Leadership(Protocol):
    """Of several servers one decides; `Alone` is the only one there is."""

    @property
    def epoch(self) -> int:
        """Higher than that of every server that decided before."""

    @property
    def leads(self) -> bool:
        """Whether it decides, and is to be called; the others are not ready."""

    @property
    def may_order(self) -> bool:
        """Whether orders may leave now: nobody else can be deciding."""

    @property
    def frozen(self) -> bool:
        """Whether an operator has stopped all writes."""

    @property
    def outlives_restart(self) -> bool:
        """Whether the next server will know that writes are stopped."""

    def check(self) -> None:
        """Refuses calls while it does not decide.

        Raises:
            RefusedError: UNAVAILABLE, with who decides, where that is known.
        """

    async def set_frozen(self, *, frozen: bool) -> None:
        """Stops all writes, or lets them go on.

        Raises:
            NotRememberedError: The change could not be written down.
        """


class Alone:
    """The only server: it always decides, and forgets a freeze when it ends."""

    leads = True
    may_order = True
    outlives_restart = False

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.frozen = False

    def check(self) -> None:
        """Refuses nothing."""

    async def set_frozen(self, *, frozen: bool) -> None:
        self.frozen = frozen
