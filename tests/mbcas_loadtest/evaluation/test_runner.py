import contextlib
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mbcas_loadtest import versions
from mbcas_loadtest.commands import app
from mbcas_loadtest.errors import EvaluationError
from mbcas_loadtest.evaluation import cache as caching
from mbcas_loadtest.evaluation import evaluate, grid, jobs, registration, runner
from mbcas_loadtest.evaluation.cache import Cache
from mbcas_loadtest.evaluation.jobs import Job, container_hours, key_of
from mbcas_loadtest.evaluation.registration import Registration
from mbcas_loadtest.evaluation.runner import Done, estimate_seconds, run_jobs
from mbcas_loadtest.rivals.catalog import RIVALS
from mbcas_loadtest.simulation.outcome import Outcome
from mbcas_loadtest.workloads import rates, replay
from mbcas_loadtest.workloads.catalog import SCENARIOS
from mbcas_loadtest.workloads.scenario import draw_world
from mbcas_loadtest.workloads.traces import TraceError
from tests.mbcas_loadtest.evaluation import samples

JOB = Job(scenario="constant", system="static", knob=1.0, seeds=(0, 1))
SHOP = """scenario: shop
seconds: 60
warmup_seconds: 0
node_cpus: 4
containers:
  - name: web
    request_millicores: 1500
    limit_millicores: 1500
    load: {kind: constant, mean_millicores: 400}
    noise: {kind: gamma, cv: 0.3}
"""
MORE = [replace(JOB, knob=knob) for knob in (0.5, 1.0, 2.0)]


class Counted:
    """Runs nothing and counts how often it was asked; fails from a given job on."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.jobs: list[Job] = []
        self._fails_at = fails_at

    def __call__(self, job: Job) -> Outcome:
        if len(self.jobs) == self._fails_at:
            raise KeyboardInterrupt
        self.jobs.append(job)
        return replace(samples.outcome((2, 4)), knob=job.knob, system=job.system)


def test_what_ran_before_is_not_run_again(tmp_path: Path) -> None:
    first, second = Counted(), Counted()

    ran = run_jobs(MORE, Cache(tmp_path), workers=0, execute=first)
    again = run_jobs(MORE, Cache(tmp_path), workers=0, execute=second)

    assert len(first.jobs) == 3
    assert second.jobs == []
    assert again.cached_count == 3
    assert again.figures[JOB]["waste"] == pytest.approx(ran.figures[JOB]["waste"])


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_jobs(MORE, Cache(tmp_path), workers=0, execute=Counted(fails_at=2))
    rest = Counted()

    run_jobs(MORE, Cache(tmp_path), workers=0, execute=rest)

    assert len(rest.jobs) == 1


def test_each_job_is_told_of_as_it_is_done(tmp_path: Path) -> None:
    told: list[Done] = []
    run_jobs(MORE[:1], Cache(tmp_path), workers=0, execute=Counted())

    run_jobs(MORE, Cache(tmp_path), workers=0, execute=Counted(), tell=told.append)

    assert [done.was_cached for done in told] == [True, False, False]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x00" * 100])
def test_a_corrupt_entry_is_ignored_with_its_reason_and_made_anew(
    tmp_path: Path, content: bytes
) -> None:
    run_jobs([JOB], Cache(tmp_path), workers=0, execute=Counted())
    (entry,) = tmp_path.glob("??/*.npz")
    entry.write_bytes(content)
    cache, again = Cache(tmp_path), Counted()

    results = run_jobs([JOB], cache, workers=0, execute=again)

    assert again.jobs == [JOB]
    assert len(cache.ignored) == 1
    assert entry.name in cache.ignored[0]
    assert JOB in results.figures


def test_an_entry_with_a_damaged_byte_anywhere_is_used_whole_or_named(tmp_path: Path) -> None:
    path = tmp_path / "ab" / "abc.npz"
    Cache(tmp_path).store("abc", samples.outcome())
    whole = path.read_bytes()
    ended = set()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        cache = Cache(tmp_path)
        found = cache.load("abc")
        assert (found is None) == (len(cache.ignored) == 1)
        ended.add(found is None)

    assert ended == {True, False}


def test_two_who_keep_one_outcome_at_once_do_not_share_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, first = Path.replace, Cache(tmp_path)

    def replace_after_another(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", real)
        Cache(tmp_path).store("abc", samples.outcome())
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace_after_another)
    first.store("abc", samples.outcome())

    assert first.load("abc") is not None
    assert [path.name for path in tmp_path.glob("ab/*")] == ["abc.npz"]


def test_a_process_that_ends_before_its_time_is_told_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    run_jobs(MORE[:1], cache, workers=0, execute=Counted())
    monkeypatch.setattr(runner, "_submit", lambda pool, *_: pool.submit(os._exit, 1))

    with pytest.raises(EvaluationError, match="--workers 1"):
        run_jobs(MORE, cache, workers=1)

    assert [cache.has(key_of(job)) for job in MORE] == [True, False, False]


def test_a_series_of_a_trace_that_is_not_there_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBCAS_TRACES", str(tmp_path))
    jobs.declared_of.cache_clear()
    asked = "autothrottle-bursty:mbcas:3"

    result = CliRunner().invoke(
        app, ["evaluate", "--scenario", "constant", "--series", asked, "--out", str(tmp_path)]
    )

    jobs.declared_of.cache_clear()
    assert result.exit_code == 1
    assert f"evaluate: --series {asked}: {tmp_path / rates.AUTOTHROTTLE}" in result.output


def test_what_was_made_anew_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in MORE:
        path = tmp_path / key_of(job)[:2] / f"{key_of(job)}.npz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"damaged")
    monkeypatch.setattr(runner, "run_jobs_together", lambda batch, _: [Counted()(*batch)])
    wish = grid.Wish(seeds=(0, 1))
    options = evaluate.Options(wish=wish, out=tmp_path, cache=Cache(tmp_path), workers=0)
    said = io.StringIO()

    evaluate.run_all(MORE, options, Console(file=said))

    (line,) = [line for line in said.getvalue().splitlines() if "made anew" in line]
    assert line.startswith("Kept files of no use, made anew: 3; the first: ")
    assert line.endswith("run anew")


def test_the_cache_is_bounded_and_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    run_jobs(MORE, Cache(tmp_path), workers=0, execute=Counted())
    paths = {job: tmp_path / key_of(job)[:2] / f"{key_of(job)}.npz" for job in MORE}
    for age, job in enumerate(MORE):
        os.utime(paths[job], (1000 + age, 1000 + age))
    most = sum(path.stat().st_size for path in paths.values()) - 1

    removed = Cache(tmp_path, bytes_max=most).prune()

    assert removed == 1
    assert [path.exists() for path in paths.values()] == [False, True, True]


def test_measured_speeds_say_how_long_the_rest_will_take(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.store_speeds({"static": 2.0})

    assert estimate_seconds([JOB], cache, workers=2) == pytest.approx(container_hours(JOB))
    run_jobs([JOB], cache, workers=0, execute=Counted())
    assert estimate_seconds([JOB], cache, workers=2) == 0.0


@pytest.mark.parametrize("text", ["{", "[]", '{"static": "fast"}', '{"static": -1}'])
def test_broken_speeds_are_not_believed(tmp_path: Path, text: str) -> None:
    (tmp_path / caching._SPEEDS).write_text(text)

    assert Cache(tmp_path).speeds() == {}


def test_a_key_depends_on_every_parameter_of_a_job() -> None:
    others = [
        replace(JOB, scenario="bursty"),
        replace(JOB, seeds=(0, 2)),
        replace(JOB, knob=0.5),
        replace(JOB, cluster_nodes=600),
        replace(JOB, seconds=60),
        replace(JOB, series_node=0),
        replace(JOB, system="captain"),
    ]

    assert len({key_of(job) for job in [JOB, *others]}) == len(others) + 1


def test_a_systems_change_touches_its_own_runs_and_the_plants_touches_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captain = replace(JOB, system="captain")
    before = key_of(JOB), key_of(captain)

    after_captain = _keys_with_changed(monkeypatch, "captain.py", JOB, captain)
    after_plant = _keys_with_changed(monkeypatch, "plant/batch.py", JOB, captain)

    assert (after_captain[0] == before[0], after_captain[1] == before[1]) == (True, False)
    assert (after_plant[0] == before[0], after_plant[1] == before[1]) == (False, False)


def test_a_scenario_file_is_run_like_one_of_the_catalog(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    job = replace(JOB, scenario=str(path), seconds=10)

    results = run_jobs([job], Cache(tmp_path / "cache"), workers=0)

    assert results.figures[job]["waste"].shape == (2,)
    before = key_of(job)
    other = tmp_path / "other.yaml"
    other.write_text(SHOP.replace("400", "800"))
    assert key_of(replace(job, scenario=str(other))) != before


def test_a_scenario_file_that_differs_beyond_the_first_minute_has_another_key(
    tmp_path: Path,
) -> None:
    job = replace(JOB, scenario=str(tmp_path / "shop.yaml"))
    keys = set()
    for line in ("seconds: 60", "seconds: 600", "seconds: 600  # Ten minutes."):
        Path(job.scenario).write_text(SHOP.replace("seconds: 60", line, 1))
        for cached in (jobs.find_scenario, jobs.declared_of, jobs._data_version):
            cached.cache_clear()
        keys.add(key_of(job))

    assert len(keys) == 3


def test_the_files_of_a_scenario_are_those_that_its_draw_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Path] = []

    def refuse(path: Path, series_id: str) -> None:
        asked.append(path)
        raise TraceError(series_id)

    for module in (rates, replay):
        monkeypatch.setattr(module, "load_series", refuse)
    for name in SCENARIOS:
        asked.clear()
        with contextlib.suppress(TraceError):
            draw_world(SCENARIOS[name], (0,), seconds=1)
        assert jobs.files_of(name) == tuple(asked), name


def test_another_trace_gives_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / rates.AUTOTHROTTLE
    job = replace(JOB, scenario="autothrottle-bursty")
    monkeypatch.setenv("MBCAS_TRACES", str(tmp_path))
    keys = set()
    for last in (1, 2):
        rows = "".join(f"autothrottle/bursty,{second},5\n" for second in range(5_000))
        path.write_text(f"series_id,t_seconds,rps\n{rows}autothrottle/bursty,5000,{last}\n")
        for cached in (rates.load_series, jobs._data_version):
            cached.cache_clear()
        keys.add(key_of(job))
    rates.load_series.cache_clear()
    jobs._data_version.cache_clear()

    assert len(keys) == 2


@pytest.mark.parametrize(
    ("name", "word"),
    [("nowhere", "constant"), ("nowhere.yaml", "nowhere.yaml"), ("x.yaml", "x.yaml:11: surprise")],
)
def test_a_scenario_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(SHOP + "surprise: 1\n")

    with pytest.raises(EvaluationError, match=word):
        jobs.check_names([name], [])


def test_the_module_of_every_system_is_one_of_ours() -> None:
    for rival in RIVALS.values():
        assert versions._source(jobs.module_of(rival)) is not None, rival.name


def test_the_plan_has_each_job_once_with_knobs_from_end_to_end() -> None:
    wish = grid.Wish(scenarios=("constant",), systems=("static",), seeds=(0,))

    planned = grid.plan(wish, samples.registration())

    knobs = [job.knob for job in planned]
    assert len(set(knobs)) == len(knobs) in {grid.THINNED_COUNT, grid.THINNED_COUNT + 1}
    assert {max(RIVALS["static"].sweep), min(RIVALS["static"].sweep), 1.0} <= set(knobs)


def test_a_known_best_value_is_run_with_its_neighbours() -> None:
    wish = grid.Wish(scenarios=("constant",), systems=("k8s-cpu",), seeds=(0,))
    known = {"k8s-cpu": {"T1": 0.8}}

    planned = grid.plan(wish, replace_points(samples.registration(), known))

    assert [job.knob for job in planned] == [0.5, 0.7, 0.8, 0.9]  # 0.5 is its default.


def test_a_quick_look_takes_no_more_of_a_scenario_than_there_is() -> None:
    wish = grid.Wish(
        scenarios=("constant", "periodic-1800s"), systems=("mbcas",), seeds=(0,), seconds=5_000
    )

    planned = grid.plan(wish, samples.registration())

    seconds = {job.scenario: job.seconds for job in planned}
    assert seconds == {"constant": 3_600, "periodic-1800s": 5_000}
    assert {job.cluster_nodes for job in planned} == {60}


def test_jobs_of_the_core_that_differ_in_their_scenario_alone_are_run_together() -> None:
    core = replace(JOB, system="mbcas", knob=0.05)
    bursty, tighter = replace(core, scenario="bursty"), replace(core, knob=0.1)
    drawn = replace(core, series_node=0)

    assert jobs.batches([JOB, core, bursty, tighter, drawn]) == [
        (bursty, core),
        (tighter,),
        (drawn,),
        (JOB,),
    ]


def test_no_batch_is_longer_than_what_an_interruption_may_cost() -> None:
    core = [Job(scenario=name, system="mbcas", knob=0.05, seeds=(0,)) for name in SCENARIOS]

    batches = jobs.batches(core)

    assert sorted(job for batch in batches for job in batch) == sorted(core)
    assert max(len(batch) for batch in batches) == jobs.BATCH_WORLDS < len(core)


def test_where_a_batch_fails_each_of_its_jobs_is_run_alone(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.yaml", "b.yaml")]
    for path in paths:
        path.write_text(SHOP)  # Two worlds of one name cannot be run together.
    pair = [Job(scenario=str(path), system="mbcas", knob=0.05, seeds=(0,)) for path in paths]

    results = run_jobs(pair, Cache(tmp_path / "cache"), workers=1)

    assert results.failed == {}
    assert set(results.figures) == set(pair)


def test_the_family_runs_at_every_registered_knob() -> None:
    wish = grid.Wish(scenarios=("constant",), systems=("captain-api",), seeds=(0,))

    planned = grid.plan(wish, registration.load())

    asked = set(registration.load().sweeps["captain-api"])
    assert asked <= {job.knob for job in planned if job.cluster_nodes == 60}
    assert {job.cluster_nodes for job in planned} == set(grid.CLUSTERS)


def test_quick_runs_on_tuning_seeds_alone() -> None:
    for job in grid.plan_quick(samples.registration()):
        assert max(job.seeds) <= 99


def replace_points(registered: Registration, points: dict[str, dict[str, float]]) -> Registration:
    return registered.model_copy(update={"operating_points": points})


def _keys_with_changed(monkeypatch: pytest.MonkeyPatch, ending: str, *of: Job) -> tuple[str, ...]:
    """Returns the keys as if a source file were another one."""
    real = versions._content
    with monkeypatch.context() as patch:
        patch.setattr(
            versions,
            "_content",
            lambda path: real(path) + (b"#" if str(path).endswith(ending) else b""),
        )
        return tuple(key_of(job) for job in of)
