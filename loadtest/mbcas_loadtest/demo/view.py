"""The demo in a terminal: one table that is drawn anew each second."""

import contextlib
import math
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mbcas_loadtest.demo.lines import LineView
from mbcas_loadtest.demo.record import DemoRecord
from mbcas_loadtest.demo.report import summary
from mbcas_loadtest.demo.snapshot import Snapshot, SnapshotNode, SnapshotRow, View
from mbcas_loadtest.pages import wording

WIDE_COLUMNS = 96  # From here on everything fits; below, what can be missed is left out.
NARROW_COLUMNS = 72
_NAME_COLUMNS = 16
_MOST_PROGRESS_COLUMNS = 60
_MUCH_THROTTLED_RATIO = 0.25
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MIDDLE_DOT = " · "


class DemoConsole(Console):
    """A console whose reader may go away: what follows is then said to nobody."""

    def on_broken_pipe(self) -> None:
        self.quiet = True  # Rich would end the process, and the measurement with it.


class LiveView:
    """Shows the demo live; plain lines where standard output is no terminal.

    The cursor and the terminal are as they were once the block is left, however it is left.
    """

    def __init__(self, console: DemoConsole | None = None) -> None:
        self._console = console or DemoConsole(highlight=False)
        self._lines: View | None = None if self._console.is_terminal else LineView()
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._is_lost = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def announce(self, text: str) -> None:
        if self._lines is not None:
            self._lines.announce(text)
        else:
            self._print(Text(text, style="dim"))

    def update(self, snapshot: Snapshot) -> None:
        if self._lines is not None:
            self._lines.update(snapshot)
            return
        if self._is_lost:
            return
        try:
            if not self._live.is_started:
                self._live.start()
            picture = render(snapshot, columns=self._console.width)
            self._live.update(picture, refresh=True)
        except (OSError, ValueError):
            # The terminal went away or cannot show this; the measurement goes on without it.
            self._is_lost = True

    def finish(self, record: DemoRecord) -> None:
        if self._lines is not None:
            self._lines.finish(record)
        else:
            self._stop()
            self._print(summary(record))

    def _print(self, text: RenderableType) -> None:
        # A lost terminal must not cost the run.
        with contextlib.suppress(OSError, ValueError):
            self._console.print(text)

    def _stop(self) -> None:
        # IndexError: rich had not come to its hook when the terminal failed it in `start`.
        with contextlib.suppress(OSError, ValueError, IndexError):
            self._live.stop()


def render(snapshot: Snapshot, *, columns: int) -> RenderableType:
    """One second of the demo, to fit this many columns."""
    notes = [Text(f"  {note}", style="dim", overflow="fold") for note in snapshot.notes]
    return Group(
        _headline(snapshot),
        _progress(snapshot, columns=columns),
        Text(),
        _table(snapshot, columns=columns),
        Text(),
        _node_line(snapshot.node),
        Text(),
        *notes,
    )


def _headline(snapshot: Snapshot) -> Text:
    line = Text.assemble(
        ("MBCAS demo", "bold"),
        _MIDDLE_DOT,
        f"phase {snapshot.phase_number} of {snapshot.phase_count}: ",
        (snapshot.phase, "bold cyan"),
        _MIDDLE_DOT,
        snapshot.now,
    )
    if snapshot.environment == "model":
        line.append_text(Text.assemble(_MIDDLE_DOT, ("a model, no real CPU", "bold yellow")))
    return line


def _progress(snapshot: Snapshot, *, columns: int) -> Text:
    """A bar over the whole phase; what is counted is coloured and drawn through."""
    duration = max(snapshot.duration_seconds, 1.0)
    elapsed = f" {snapshot.elapsed_seconds:.0f} of {snapshot.duration_seconds:.0f} s"
    length = max(10, min(_MOST_PROGRESS_COLUMNS, columns - len(elapsed) - 1))
    bar = Text(no_wrap=True)
    for place in range(length):
        second = (place + 0.5) / length * duration
        is_counted, is_done = second >= snapshot.warmup_seconds, second < snapshot.elapsed_seconds
        style = ("bold cyan" if is_counted else "default") if is_done else "bright_black"
        bar.append("━" if is_done else "─" if is_counted else "╌", style=style)
    bar.append(elapsed)
    return bar


def _table(snapshot: Snapshot, *, columns: int) -> Table:
    is_wide, is_narrow = columns >= WIDE_COLUMNS, columns < NARROW_COLUMNS
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", pad_edge=False)
    table.add_column("container", no_wrap=True, max_width=_NAME_COLUMNS, overflow="ellipsis")
    table.add_column("throttled", no_wrap=True)
    headings = ["usage", "ceiling", "reservation"]
    headings += [] if is_narrow else ["need"]
    headings += ["p99 delay"] if is_wide else []
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("reason", no_wrap=True, overflow="ellipsis", ratio=1)
    table.expand = True
    for row in snapshot.rows:
        figures = {
            "usage": wording.millicores(row.usage_millicores),
            "ceiling": wording.millicores(row.ceiling_millicores),
            "reservation": wording.millicores(row.reservation_millicores),
            "need": wording.millicores(row.need_millicores),
            "p99 delay": wording.milliseconds(row.delay_p99_ms),
        }
        table.add_row(
            _name(row),
            _throttling(row.throttled_ratio, length=8 if is_wide else 4),
            *(Text(figures[heading]) for heading in headings),
            Text(row.reason, style="" if row.reason != "declared" else "bright_black"),
        )
    return table


def _name(row: SnapshotRow) -> Text:
    return Text(row.name, style="bold" if row.role == "service" else "")


def _throttling(ratio: float, *, length: int) -> Text:
    """A bar and a figure; the bar says it without colour, too."""
    share = min(1.0, max(0.0, wording.number(ratio) or 0.0))
    eighths = math.ceil(share * length * 8)
    full, rest = divmod(eighths, 8)
    bar = ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(length)
    style = "bright_red" if share >= _MUCH_THROTTLED_RATIO else "yellow"
    figure = wording.DASH if wording.number(ratio) is None else f"{share * 100:.0f} %"
    return Text.assemble((bar, style), (f"{figure:>6}", style if share > 0 else "bright_black"))


def _node_line(node: SnapshotNode) -> Text:
    facts = (
        ("usage", wording.millicores(node.usage_millicores)),
        ("reserved", wording.millicores(node.reserved_millicores)),
        ("free", wording.millicores(node.free_millicores)),
        ("price", wording.fixed(node.shadow_price, 2)),
        ("shortage", wording.percent(node.shortage, 0)),
    )
    line = Text.assemble((f"node {wording.millicores(node.node_millicores)}", "bold"))
    for name, figure in facts:
        line.append_text(Text.assemble("  ", (f"{name} ", "bright_black"), figure))
    return line
