"""`mbcasctl allocate`: the file of bids, and the picture of the answer."""

import asyncio
import io
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from mbcas.v1 import market_pb2 as pb
from mbcas_core.market.allocate import Bid, LiveMarket, allocate, allocate_on_node
from mbcas_server import ctl
from mbcas_server.answers import allocate_response
from mbcas_server.ctl_bids import read_bids
from mbcas_server.ctl_client import UsageError
from mbcas_server.ctl_picture import Picture, picture_of
from mbcas_server.ctl_plot import INSTALL, check_plot_path, draw, write_picture
from mbcas_server.ctl_show import allocation_view, printable
from tests.deploy.markets import live
from tests.mbcas_server.fakes import server
from tests.mbcas_server.test_ctl import core
from tests.mbcas_server.test_ctl import ctl as run_ctl
from tests.tidy import repository

EXAMPLE = repository.ROOT / "docs/examples/bids.yaml"
COMMITTED = repository.ROOT / "docs/images/water-filling.svg"


def file_of(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "bids.yaml"
    path.write_text(content)
    return path


def respond(request: pb.AllocateRequest, node: LiveMarket | None = None) -> pb.AllocateResponse:
    bids = [
        Bid(
            id=bid.id,
            need_millicores=bid.need_millicores,
            floor_millicores=bid.floor_millicores,
            cap_millicores=bid.cap_millicores,
            weight=bid.weight,
        )
        for bid in request.bids
    ]
    answer = (
        allocate(bids, capacity_millicores=request.capacity_millicores)
        if node is None
        else allocate_on_node(bids, node)
    )
    return allocate_response(answer)


def answered(request: pb.AllocateRequest, node: LiveMarket | None = None) -> Picture:
    return picture_of(request, respond(request, node))


def table_of(request: pb.AllocateRequest) -> str:
    console = Console(width=160, file=io.StringIO())
    console.print(allocation_view(request, respond(request)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def bid(name: str, need: int, *, floor: int = 0, weight: float = 100.0) -> pb.Bid:
    return pb.Bid(id=name, need_millicores=need, floor_millicores=floor, weight=weight)


def texts(picture: Picture) -> list[str]:
    return [text.get_text() for text in draw(picture).axes[0].texts]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("bids: 5", [":1:", "list named bids"]),
        ("capacity: 1", [":1:", "list named bids"]),
        ("- 1", ["list named bids"]),
        ("", ["list named bids"]),
        ("bids: [5]", [":1:", "bids[0]", "mapping"]),
        ("bids:\n- {id: a, need: 1}", [":2:", "bids[0]", "no weight"]),
        ("bids: [{id: a, need: lots, weight: 1}]", ["bids[0].need", "500m"]),
        ("bids: [{id: a, need: -1, weight: 1}]", ["bids[0].need", "500m"]),
        ("bids: [{id: a, need: [1], weight: 1}]", ["bids[0].need", "one value"]),
        ("bids: [{id: , need: 1, weight: 1}]", ["bids[0].id", "one value"]),
        ("bids: [{id: a, need: 1, weight: heavy}]", ["bids[0].weight", "number"]),
        ("bids:\n- id: a\n  need: 1\n  weight: 1\n  wieght: 2", [":5:", "bids[0]", "'wieght'"]),
        ("bids: [{id: a, id: b, need: 1, weight: 1}]", ["bids[0]", "id twice"]),
        ("cpu: 5\nbids: []", [":1:", "'cpu'", "capacity"]),
        ("node: a\ncapacity: 1\nbids: []", [":1:", "node", "capacity"]),
        ("{", ["not YAML"]),
        ("a: &a [*a]", ["'a'"]),
        ("[" * 500, ["not YAML"]),
    ],
)
def test_a_bad_file_of_bids_is_told_by_its_line_and_field(
    tmp_path: Path, content: str, words: list[str]
) -> None:
    path = file_of(tmp_path, content)

    with pytest.raises(UsageError) as caught:
        read_bids(path)

    assert all(word in str(caught.value) for word in [str(path), *words])


def test_cpu_is_read_as_millicores_or_cores_and_what_is_left_out_is_zero(tmp_path: Path) -> None:
    content = "capacity: 1.5\nbids: [{id: 7, need: 0.25, floor: 100m, cap: 2, weight: 1e2}]"

    request = read_bids(file_of(tmp_path, content))

    assert request.capacity_millicores == 1500
    assert request.bids[0] == pb.Bid(
        id="7", need_millicores=250, floor_millicores=100, cap_millicores=2000, weight=100.0
    )
    short = read_bids(file_of(tmp_path, "node: a\nbids: [{id: b, need: 1, weight: 2}]"))
    assert (short.node, short.bids[0].floor_millicores, short.bids[0].cap_millicores) == ("a", 0, 0)


async def test_the_committed_picture_is_what_the_command_draws(tmp_path: Path) -> None:
    path = tmp_path / "water.svg"
    async with server(core()) as world:
        done = await run_ctl(world, "allocate", "-f", str(EXAMPLE), "--plot", str(path))

    assert (done.returncode, done.stderr) == (0, "")
    assert "checkout" in done.stdout
    command = "mbcasctl allocate -f docs/examples/bids.yaml --plot docs/images/water-filling.svg"
    assert path.read_text() == COMMITTED.read_text(), f"with a server running: {command}"


async def test_floors_that_do_not_fit_are_told_and_nothing_is_drawn(tmp_path: Path) -> None:
    content = "capacity: 100m\nbids: [{id: a, need: 900m, floor: 900m, weight: 1}]"
    picture = tmp_path / "water.svg"
    path = file_of(tmp_path, content)
    async with server(core()) as world:
        with pytest.raises(UsageError, match="900m"):
            await asyncio.to_thread(ctl.allocate, file=path, server=world.address, plot=picture)

    assert not picture.exists()


def test_the_example_shows_what_it_is_there_to_show() -> None:
    picture = answered(read_bids(EXAMPLE))

    missing = {vessel.name: vessel.need - vessel.got for vessel in picture.vessels}
    assert missing["mail"] == missing["cron"] == 0
    assert sum(short > 0 for short in missing.values()) == 4
    assert {vessel.name for vessel in picture.vessels if vessel.unused} == {"cron"}


def test_water_stands_at_the_level_in_every_vessel_that_is_not_full() -> None:
    picture = answered(read_bids(EXAMPLE))

    assert picture.level is not None
    for vessel in picture.vessels:
        height = (vessel.got - vessel.floor) / vessel.weight
        rounding = 1 / vessel.weight
        if vessel.got < vessel.need:
            assert height == pytest.approx(picture.level, abs=rounding)
        else:
            assert height <= picture.level + rounding


def test_a_vessel_is_no_higher_than_its_cap() -> None:
    bids = [bid("declared", 900), bid("default", 900), bid("promised", 2000, floor=800)]
    bids[0].cap_millicores = 500

    picture = answered(pb.AllocateRequest(capacity_millicores=1000, bids=bids))

    assert [vessel.need for vessel in picture.vessels] == [500, 750, 800]


def test_each_bid_is_named_with_what_it_gets_and_needs() -> None:
    for count in (1, 2, 60):
        bids = [bid(f"pod-{number}", 100 + number, weight=1.0 + number) for number in range(count)]
        picture = answered(pb.AllocateRequest(capacity_millicores=1000, bids=bids))

        written = "\n".join(texts(picture))

        for vessel in picture.vessels:
            assert vessel.name in written
            assert f"{vessel.got}m of {vessel.need}m" in written


@pytest.mark.parametrize(
    "bids",
    [
        [bid("none", 0)],
        [bid("floor", 500, floor=500), bid("idle", 0, floor=400)],
        [bid("light", 900, weight=1e-9), bid("heavy", 900, weight=1e12)],
        [bid("one", 900, floor=999), bid("two", 500)],
    ],
)
def test_odd_markets_can_be_drawn(bids: list[pb.Bid], tmp_path: Path) -> None:
    picture = answered(pb.AllocateRequest(capacity_millicores=1000, bids=bids))

    for suffix in ("svg", "png"):
        path = tmp_path / f"odd.{suffix}"
        write_picture(picture, path)
        assert path.stat().st_size > 1000


def test_a_market_with_enough_says_so_and_has_no_level() -> None:
    picture = answered(pb.AllocateRequest(capacity_millicores=1000, bids=[bid("a", 400)]))

    assert picture.level is None
    assert "enough for all, 600m left over" in picture.title
    assert "there is plenty" in picture.footer


def test_beside_a_node_the_level_before_is_drawn_and_the_node_s_pods_are_not() -> None:
    bids = [bid("new", 700, floor=200)]
    picture = answered(pb.AllocateRequest(node="node-a", bids=bids), live(1000, 900))

    assert picture.level is not None
    assert picture.level_before is not None
    assert picture.level < picture.level_before
    assert len(picture.vessels) == 1
    assert any("level without" in text for text in texts(picture))
    assert "not drawn" in picture.note


def test_names_from_outside_cannot_break_the_picture(tmp_path: Path) -> None:
    odd = ["<script>", "$x^{2$", "a\x00b\x1b[31m", "&amp;", "n" * 256, "\u202eabc", "アプリ"]
    bids = [bid(name, 900) for name in odd]
    path = tmp_path / "odd.svg"

    write_picture(answered(pb.AllocateRequest(capacity_millicores=1000, bids=bids)), path)

    root = ET.parse(path).getroot()  # noqa: S314 - we wrote it; it must be well-formed.
    assert root.tag.endswith("svg")
    assert "<script" not in path.read_text()


@pytest.mark.parametrize("name", ["[/x]", "[red]x", "a\x1b[31mb", "n" * 256])
def test_names_from_outside_cannot_break_the_table(name: str) -> None:
    request = pb.AllocateRequest(capacity_millicores=1000, bids=[bid(name, 400)])

    shown = table_of(request)

    assert "400m" in shown
    assert "\x1b" not in shown
    assert printable(name, 48) in shown


def test_the_table_tells_a_need_that_is_met_from_a_cap_that_is_reached() -> None:
    request = pb.AllocateRequest(capacity_millicores=1000, bids=[bid("met", 100)])
    capped = pb.AllocateRequest(capacity_millicores=1000, bids=[bid("capped", 900)])
    scarce = pb.AllocateRequest(capacity_millicores=1000, bids=[bid("a", 700), bid("b", 700)])

    assert "all it needs" in table_of(request)
    assert "all its cap allows" in table_of(capped)
    assert "rationed" in table_of(scarce)


def test_a_picture_has_no_colour_without_a_variable_for_dark_pages() -> None:
    fixed = re.findall(r"(?<!, )#[0-9a-f]{6}\b", re.sub(r"--\w+: #\w+", "", COMMITTED.read_text()))

    assert not fixed


def test_what_cannot_be_drawn_is_refused_before_the_server_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must end in"):
        check_plot_path(tmp_path / "water.docx")
    many = ", ".join(f"{{id: {number}, need: 1, weight: 1}}" for number in range(201))
    path = file_of(tmp_path, f"capacity: 1\nbids: [{many}]")
    with pytest.raises(UsageError, match="there are 201"):
        ctl.allocate(file=path, server="127.0.0.1:1", plot=tmp_path / "water.svg")
    with pytest.raises(UsageError, match="cannot write"):
        write_picture(
            answered(pb.AllocateRequest(capacity_millicores=9, bids=[bid("a", 5)])),
            tmp_path / "missing" / "water.svg",
        )


def test_without_matplotlib_the_extra_that_has_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hidden: dict[str, Any] = {"matplotlib": None}
    for name, module in hidden.items():
        monkeypatch.setitem(sys.modules, name, module)

    with pytest.raises(UsageError) as caught:
        check_plot_path(tmp_path / "water.svg")

    assert str(caught.value) == INSTALL
    extras = repository.project()["project"]["optional-dependencies"]
    assert any(requirement.startswith("matplotlib") for requirement in extras["plot"])
