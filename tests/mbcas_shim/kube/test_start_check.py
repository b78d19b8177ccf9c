import asyncio
import itertools
from pathlib import Path

import pytest

from mbcas_shim.kube.start_check import AGAIN_SECONDS, DENIED_REASON, UNSUPPORTED_REASON
from tests.kube.requests import Fault
from tests.mbcas_shim.kube.resize_bench import ResizeBench


async def test_with_the_right_and_the_subresource_nothing_speaks_against_it(tmp_path: Path) -> None:
    with ResizeBench(tmp_path) as bench:
        assert await bench.check.check()
        assert bench.check.skip_reason == ""


async def test_what_is_missing_is_said_once_and_until_it_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    with ResizeBench(tmp_path, "patch pods") as bench:
        bench.check.on_change = lambda: told.append(bench.check.skip_reason)
        for serves in (True, True, False):
            bench.cluster.api.serves_resize = serves
            await bench.check.check()
        bench.cluster.api.serves_resize = True
        bench.token_file.write_text(bench.kube.with_rights("patch pods/resize").token)
        await bench.check.check()

    assert told == [DENIED_REASON, UNSUPPORTED_REASON, ""]
    assert caplog.text.count("may not patch pods/resize") == 1


async def test_while_the_api_server_is_away_the_last_answer_stays(tmp_path: Path) -> None:
    with ResizeBench(tmp_path, "patch pods") as bench:
        await bench.check.check()
        bench.cluster.set_down(is_down=True)
        is_known = await bench.check.check()

        assert not is_known
        assert bench.check.skip_reason == DENIED_REASON


async def test_it_asks_again_while_something_is_missing_and_seldom_otherwise(
    tmp_path: Path,
) -> None:
    with ResizeBench(tmp_path, "patch pods") as bench:
        asked: list[float] = []

        async def note() -> bool:
            asked.append(bench.clock.now)
            bench.check.skip_reason = "" if len(asked) > 2 else "no"
            if len(asked) == 5:
                raise asyncio.CancelledError
            return len(asked) != 4

        bench.check.check = note  # type: ignore[method-assign]  # Only when it asks is looked at.
        with pytest.raises(asyncio.CancelledError):
            await bench.check.run()

    waits = [after - before for before, after in itertools.pairwise(asked)]
    assert waits == [AGAIN_SECONDS, AGAIN_SECONDS, 10 * AGAIN_SECONDS, AGAIN_SECONDS]


async def test_refusals_in_a_row_cost_one_question_a_minute(tmp_path: Path) -> None:
    with ResizeBench(tmp_path, "patch pods") as bench:
        for _ in range(5):
            assert await bench.check.is_denied("contract")
            await bench.check.check_again()
        asked = len(bench.cluster.api.requests)
        bench.clock.now += AGAIN_SECONDS
        bench.cluster.fail(Fault(code=500))
        is_denied = await bench.check.is_denied("contract")

        assert asked == 2  # One for the namespace, one for all.
        assert not is_denied  # Not known: whoever was refused is told the refusal as it was.
