import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mbcas_loadtest.demo.snapshot import Snapshot, View
from mbcas_loadtest.demo.view import DemoConsole, LiveView, render
from tests.mbcas_loadtest.demo.samples import row, snapshot, whole_record, whole_snapshot

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def terminal(columns: int = 100, lines: int = 30) -> tuple[DemoConsole, io.StringIO]:
    screen = io.StringIO()
    return DemoConsole(
        file=screen, width=columns, height=lines, force_terminal=True, _environ={}
    ), screen


def shown(of: Snapshot, columns: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=columns, record=True, _environ={})
    console.print(render(of, columns=columns))
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("columns", [100, 80])
def test_a_second_fits_the_terminal_with_every_container_in_one_line(columns: int) -> None:
    lines = shown(whole_snapshot(), columns)

    assert len(lines) <= 30
    assert max(cell_len(line) for line in lines) <= columns
    for name in ("api", "reports", "search", "admin", "batch"):
        assert sum(line.startswith(name) for line in lines) == 1


@given(columns=st.integers(min_value=20, max_value=240))
def test_no_width_breaks_the_view(columns: int) -> None:
    assert max(cell_len(line) for line in shown(whole_snapshot(), columns)) <= columns


@pytest.mark.parametrize("columns", [100, 80])
def test_what_matters_most_is_shown_at_every_usual_width(columns: int) -> None:
    text = "\n".join(shown(whole_snapshot(), columns))

    for wanted in (
        "phase 2 of 2: mbcas",
        "counting",
        "61 of 120 s",
        "throttled",
        "usage",
        "ceiling",
        "reservation",
        "need",
        "1600m",
        "rationed",
        "price 0.31",
        "shortage 4 %",
        "free 110m",
        "shorter than in production",
    ):
        assert wanted in text


def test_more_throttling_draws_a_longer_bar() -> None:
    lengths = [
        "".join(shown(snapshot((row(throttled_ratio=ratio),)))).count("█")
        for ratio in (0.0, 0.25, 0.5, 1.0)
    ]

    assert lengths == [0, 2, 4, 8]


def test_the_least_throttling_is_seen() -> None:
    assert "▏" in "".join(shown(snapshot((row(throttled_ratio=0.001),))))


def test_absent_figures_are_dashes() -> None:
    bare = row(ceiling_millicores=None, need_millicores=None, delay_p99_ms=None)

    (line,) = [line for line in shown(snapshot((bare,))) if line.startswith("api")]

    assert line.count("\u2013") == 3


def test_the_model_is_said_on_the_screen() -> None:
    assert "a model, no real CPU" in "\n".join(shown(snapshot(environment="model")))


def test_markup_in_names_is_shown_as_it_is() -> None:
    assert "[red]api[/]" in "\n".join(shown(snapshot((row("[red]api[/]"),), notes=("[b]",))))


def test_an_interrupt_gives_the_cursor_back() -> None:
    console, screen = terminal()

    def run_until_interrupted() -> None:
        with LiveView(console) as view:
            view.update(whole_snapshot())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupted()

    assert HIDE_CURSOR in screen.getvalue()
    assert screen.getvalue().rindex(SHOW_CURSOR) > screen.getvalue().rindex(HIDE_CURSOR)


def test_the_result_follows_the_last_second_with_the_cursor_back() -> None:
    console, screen = terminal()

    with LiveView(console) as view:
        view.announce("Setting up.")
        view.update(whole_snapshot())
        view.finish(whole_record())

    text = screen.getvalue()
    assert "Setting up." in text
    assert text.rindex(SHOW_CURSOR) < text.index("Where MBCAS lost")


@pytest.mark.parametrize("error", [BrokenPipeError("gone"), OSError(5, "gone")])
def test_a_terminal_that_went_away_does_not_stop_the_demo(error: OSError) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            del text
            raise error

    with LiveView(DemoConsole(file=Gone(), width=100, force_terminal=True, _environ={})) as view:
        view.announce("Setting up.")
        view.update(whole_snapshot())
        view.update(whole_snapshot())
        view.finish(whole_record())


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()

    with LiveView(DemoConsole(file=screen, force_terminal=False, _environ={})) as view:
        for second in range(12):
            view.update(whole_snapshot(elapsed_seconds=float(second)))

    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mbcas")]
    assert 1 <= len(lines) <= 3
    assert screen.getvalue() == ""


@given(ratio=st.floats(), usage=st.floats(), elapsed=st.floats(min_value=0, max_value=1e6))
def test_odd_figures_never_raise(ratio: float, usage: float, elapsed: float) -> None:
    view: View = LiveView(terminal()[0])

    with view:
        view.update(
            snapshot(
                (row(throttled_ratio=ratio, usage_millicores=usage),),
                elapsed_seconds=elapsed,
                duration_seconds=0.0,
            )
        )
