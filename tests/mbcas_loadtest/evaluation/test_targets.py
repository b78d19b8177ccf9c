"""What is said of a target where a share of throttling is held by some, by nobody, or not run."""

from mbcas_core.units import FloatArray
from mbcas_loadtest.evaluation.board import Board, Entry
from mbcas_loadtest.evaluation.jobs import Job
from mbcas_loadtest.evaluation.targets import NOT_MEASURED, Target, find_targets
from tests.mbcas_loadtest.evaluation import samples

NO_KNOB = "not reached: no knob holds 5 %"
SERVICE = "table-2-service"


def test_a_target_whose_share_no_knob_of_mbcas_holds_is_missed() -> None:
    targets = _of_service(_judged(SERVICE, throttles_more={"mbcas"}))

    assert len(targets) == 3
    assert {(target.measured, target.is_reached) for target in targets} == {(NO_KNOB, False)}


def test_a_target_whose_share_is_held_is_judged_by_its_figure() -> None:
    targets = _of_service(_judged(SERVICE))

    assert {target.is_reached for target in targets} <= {True, False}
    assert not any("no knob" in target.measured for target in targets)


def test_a_target_for_which_nothing_ran_is_neither_reached_nor_missed() -> None:
    targets = [one for one in _judged(SERVICE) if one.asked.startswith(("bursty", "ramp"))]

    assert len(targets) == 5
    assert {(one.measured, one.is_reached) for one in targets} == {(NOT_MEASURED, None)}


def test_a_share_that_only_the_rival_cannot_hold_is_no_miss_of_mbcas() -> None:
    targets = _of_service(_judged(SERVICE, throttles_more={"captain-api", "oracle-15s"}))

    assert {target.is_reached for target in targets} == {None}


def test_burst_credit_is_missed_at_one_percent_and_judged_at_five() -> None:
    made = samples.runs(SERVICE)
    burst = {job: figures for job, figures in made.items() if job.system == "mbcas"}
    for job, figures in burst.items():
        more = {**figures, "throttled": figures["throttled"] + 0.02}
        made[Job(scenario=SERVICE, system="mbcas-burst", knob=job.knob, seeds=job.seeds)] = more

    first, second = [one for one in find_targets(_board(made)) if "burst credit" in one.asked]

    assert (first.measured, first.is_reached) == ("not reached: no knob holds 1 %", False)
    assert "no knob" not in second.measured


def test_a_scenario_where_vpa_holds_the_share_and_mbcas_does_not_is_missed_by_name() -> None:
    held, unheld = samples.runs("constant"), _throttled_more("bursty", {"mbcas"})

    targets = _against_vpa(find_targets(_board({**held, **unheld})))

    assert {one.measured for one in targets} == {f"{NO_KNOB} in bursty"}
    assert {one.is_reached for one in targets} == {False}


def test_a_scenario_where_nobody_holds_the_share_is_left_out_beside_others() -> None:
    nobody = _throttled_more("bursty", set(samples.WASTE))

    beside = _against_vpa(find_targets(_board({**samples.runs("constant"), **nobody})))
    alone = _against_vpa(find_targets(_board(nobody)))

    assert all("1 of 2 scenarios" in one.measured for one in beside)
    assert {(one.measured, one.is_reached) for one in alone} == {(f"{NO_KNOB} in bursty", False)}


def _judged(scenario: str, *, throttles_more: set[str] | None = None) -> list[Target]:
    return find_targets(_board(_throttled_more(scenario, throttles_more or set())))


def _of_service(targets: list[Target]) -> list[Target]:
    return [one for one in targets if one.asked.startswith("service: ") and "5 % thr" in one.asked]


def _against_vpa(targets: list[Target]) -> list[Target]:
    return [one for one in targets if "VPA" in one.asked]


def _throttled_more(scenario: str, systems: set[str]) -> dict[Job, dict[str, FloatArray]]:
    made = samples.runs(scenario)
    for job, figures in made.items():
        if job.system in systems:
            figures["throttled"] = figures["throttled"] + 0.1
    return made


def _board(made: dict[Job, dict[str, FloatArray]]) -> Board:
    names = dict.fromkeys(job.scenario for job in made)
    return Board(
        registration=samples.registration(),
        entries=[Entry(name=name, tier="table-2", title=name, shows="") for name in names],
        rivals=samples.rivals(),
        runs=made,
    )
