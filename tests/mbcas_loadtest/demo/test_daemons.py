from pathlib import Path

from mbcas.v1 import market_pb2
from mbcas_loadtest.demo.daemons import count_metric, write_containers
from mbcas_loadtest.demo.market_watch import MarketWatch, reason_text
from mbcas_loadtest.demo.run import server_flags
from mbcas_loadtest.node.container import Container
from mbcas_loadtest.node.scenario import WORKLOADS
from mbcas_loadtest.node.statics import declare
from mbcas_server.settings import load_settings
from mbcas_shim.containers import load_containers

METRICS = """\
# HELP mbcas_resizes_total Resizes by how they ended.
# TYPE mbcas_resizes_total counter
mbcas_resizes_total{reason="raised",result="applied"} 3.0
mbcas_resizes_total{reason="cut",result="applied"} 4.0
mbcas_resizes_total{reason="cut",result="refused"} 5.0
"""


def market(**containers: market_pb2.ContainerMarket) -> market_pb2.NodeMarket:
    for name, row in containers.items():
        row.container = name
    return market_pb2.NodeMarket(node="demo", containers=list(containers.values()))


def test_samples_of_a_counter_are_added_up_where_their_labels_match() -> None:
    assert count_metric(METRICS, "mbcas_resizes_total", result="applied") == 7
    assert count_metric(METRICS, "mbcas_resizes_total") == 12
    assert count_metric(METRICS, "mbcas_other_total") == 0


def test_the_shim_takes_the_containers_as_they_were_declared(tmp_path: Path) -> None:
    declared = declare(WORKLOADS, node_millicores=1600)
    containers = [Container(declared=one, arrivals=None) for one in declared]
    path = tmp_path / "containers.yaml"

    write_containers(
        path,
        containers,
        node_name="mbcas-demo-1-2",
        node_millicores=1600,
        policy="hard-quota",
    )

    read = load_containers(path)
    assert read.node.allocatable_millicores == 1600
    assert [row.limit_millicores for row in read.containers] == [one.millicores for one in declared]
    assert [row.priority for row in read.containers] == [w.priority_class for w in WORKLOADS]
    assert read.containers[0].cgroup == "mbcas-demo-1-2/api"
    assert all(row.is_restored_exactly for row in read.containers)


def test_the_server_takes_the_flags_of_every_policy() -> None:
    for policy in ("limits-only", "requests-and-limits", "hard-quota"):
        for burst in (True, False):
            settings = load_settings(server_flags(policy=policy, burst=burst))

            assert (settings.policy, settings.burst_credit) == (policy, burst)
            assert settings.mode == "auto"


def test_the_first_target_counts_from_when_it_has_a_reason() -> None:
    seconds = iter((1.0, 2.0, 3.0))
    watch = MarketWatch("127.0.0.1:1", clock=lambda: next(seconds))
    observing = market_pb2.ContainerMarket(reason=market_pb2.REASON_OBSERVING)
    decided = market_pb2.ContainerMarket(reason=market_pb2.REASON_WITHIN_BAND)
    decided.ceiling.target_millicores = 300

    for row in (observing, decided, decided):
        watch.take_in(market(api=row))

    assert watch.first_target_seconds == {"api": 2.0}


def test_a_container_is_found_by_its_name_in_the_newest_picture() -> None:
    watch = MarketWatch("127.0.0.1:1")
    watch.take_in(market(api=market_pb2.ContainerMarket(emergency=True)))

    found = watch.container("api")

    assert found is not None
    assert found.emergency
    assert watch.container("batch") is None


def test_a_reason_is_written_in_words() -> None:
    assert reason_text(market_pb2.REASON_WITHIN_BAND) == "within band"
