import os
import subprocess
import sys
from array import array
from pathlib import Path

from mbcas_loadtest.clock import monotonic_seconds


def test_two_servers_of_one_queue_serve_every_request_once_and_pay_for_its_work(
    tmp_path: Path,
) -> None:
    work_seconds = 0.004
    (tmp_path / "requests").write_bytes(array("d", [0.0, work_seconds] * 20).tobytes())
    queue, writer = os.pipe()
    os.write(writer, array("I", range(20)).tobytes())
    os.close(writer)
    command = [sys.executable, "-m", "mbcas_loadtest.validation.burner", str(tmp_path / "requests")]
    servers = [
        subprocess.Popen(
            [*command, str(tmp_path / f"results-{index}"), str(queue)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[queue],
        )
        for index in range(2)
    ]
    os.close(queue)

    for server in servers:
        assert server.communicate(f"{monotonic_seconds()!r}\n".encode(), timeout=20)[0]

    rows = [
        tuple(triples[at : at + 3])
        for index in range(2)
        for triples in [array("d", (tmp_path / f"results-{index}").read_bytes())]
        for at in range(0, len(triples), 3)
    ]
    assert sorted(row[0] for row in rows) == list(range(20))
    assert all(cost >= work_seconds for _, _, cost in rows)
    assert all(done >= work_seconds for _, done, _ in rows)


def test_it_ends_when_nobody_starts_it(tmp_path: Path) -> None:
    (tmp_path / "requests").write_bytes(array("d", [0.0, 0.001]).tobytes())
    queue, writer = os.pipe()
    os.close(writer)
    arguments = [str(tmp_path / "requests"), str(tmp_path / "results"), str(queue)]
    with subprocess.Popen(
        [sys.executable, "-m", "mbcas_loadtest.validation.burner", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=[queue],
    ) as server:
        os.close(queue)
        assert server.stdin is not None
        server.stdin.close()

        assert server.wait(20) == 0
    assert not (tmp_path / "results").exists()
