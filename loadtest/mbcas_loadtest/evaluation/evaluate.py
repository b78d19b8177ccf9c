"""`mbcas-loadtest evaluate`: plans, runs, judges, and writes page and JSON."""

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.errors import EXIT_INTERRUPTED, EvaluationError
from mbcas_loadtest.evaluation import grid, quick, registration
from mbcas_loadtest.evaluation.board import Board, Entry
from mbcas_loadtest.evaluation.cache import Cache
from mbcas_loadtest.evaluation.drawings import series_svgs
from mbcas_loadtest.evaluation.figures import Figures
from mbcas_loadtest.evaluation.jobs import Job, check_names, declared_of, find_scenario, key_of
from mbcas_loadtest.evaluation.page import SeriesPanel, page_html
from mbcas_loadtest.evaluation.registration import Registration
from mbcas_loadtest.evaluation.report import (
    FullCluster,
    Report,
    make_full_cluster,
    make_report,
    to_json,
)
from mbcas_loadtest.evaluation.runner import WORKERS, Done, Results, estimate_seconds, run_jobs
from mbcas_loadtest.evaluation.validity import PlantValidity, read_validity
from mbcas_loadtest.pages.files import write_atomically
from mbcas_loadtest.rivals.catalog import RIVALS
from mbcas_loadtest.workloads.catalog import SCENARIOS
from mbcas_loadtest.workloads.traces import TraceError

HTML_NAME, JSON_NAME = "evaluation.html", "evaluation.json"
LINE_EVERY_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    wish: grid.Wish
    out: Path
    cache: Cache
    workers: int = WORKERS
    series: tuple[str, ...] = ()
    """SCENARIO:SYSTEM:SEED each."""
    validation: Path | None = None
    is_full_cluster: bool = False


def evaluate(options: Options, console: Console) -> Report:
    """Runs an evaluation and writes its page and JSON.

    Raises:
        EvaluationError: What was asked for cannot be made; the message says why.
    """
    registered = registration.load()
    registration.check_seeds(options.wish.seeds)
    check_names(options.wish.scenarios, options.wish.systems)
    validity = None if options.validation is None else read_validity(options.validation)
    series_jobs = [_series_job(text, registered) for text in options.series]
    jobs, skipped = _without_missing_data(grid.plan(options.wish, registered))
    full_jobs = grid.full_cluster_jobs(registered) if options.is_full_cluster else []
    results = run_all([*jobs, *series_jobs, *full_jobs], options, console)
    results.failed |= skipped
    apart = {*series_jobs, *full_jobs}
    board = make_board(registered, {j: f for j, f in results.figures.items() if j not in apart})
    report = make_report(
        board,
        results,
        wish=options.wish,
        file_hash=registration.sha256(),
        frozen=registration.frozen_hashes(),
        speeds=options.cache.speeds(),
        ignored=tuple(options.cache.ignored),
        full_cluster=_full_cluster(full_jobs, results),
    )
    panels = [
        panel for job in series_jobs if (panel := _series_panel(job, options.cache)) is not None
    ]
    _write(report, options.out, validity, panels)
    return report


def evaluate_quick(options: Options, console: Console, *, is_update: bool) -> list[quick.Change]:
    """Runs the small part and compares it with the stored result, or stores it.

    Raises:
        EvaluationError: There is nothing to compare with.
    """
    registered = registration.load()
    jobs = grid.plan_quick(registered)
    stored = None if is_update else quick.read()
    results = run_all(jobs, options, console)
    for job, error in results.failed.items():
        raise EvaluationError(f"{job.label}: {error}")
    board = make_board(registered, results.figures)
    now = quick.measure(board, jobs[0].seeds)
    if not now.scenarios:
        raise EvaluationError(f"{registered.system} is in no catalog: there is nothing to compare")
    if stored is None:
        write_atomically(quick.STORED_FILE, quick.to_text(now))
        return []
    unlike = quick.differences(stored, now)
    if unlike:
        reasons = "; ".join(unlike)
        raise EvaluationError(f"{quick.STORED_FILE.name}: {reasons}: {quick.REMEDY}")
    return quick.compare(stored, now)


def make_board(registered: Registration, runs: Mapping[Job, Figures]) -> Board:
    """Arranges what ran."""
    names = dict.fromkeys((*SCENARIOS, *sorted(job.scenario for job in runs)))
    entries = [
        Entry(name=name, tier=one.tier.value, title=one.title, shows=one.shows)
        for name, one in ((name, find_scenario(name)) for name in names)
    ]
    return Board(registration=registered, entries=entries, rivals=RIVALS, runs=runs)


def run_all(jobs: Sequence[Job], options: Options, console: Console) -> Results:
    """Runs what is not in the cache, and says how long that will take before it begins.

    Ctrl-C ends it at once; what had come to an end is kept.
    """
    console.print(_announcement(jobs, options))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _progress(console, len(jobs)) as tell:
            results = run_jobs(jobs, options.cache, tell=tell, workers=options.workers)
    except KeyboardInterrupt:
        console.print("Interrupted: what had ended is kept; the same command goes on from there.")
        for process in multiprocessing.active_children():
            process.kill()
        raise typer.Exit(EXIT_INTERRUPTED) from None
    ignored = list(dict.fromkeys(options.cache.ignored))
    if ignored:
        line = f"Kept files of no use, made anew: {len(ignored)}; the first: {ignored[0]}"
        console.print(line, highlight=False, soft_wrap=True)
    return results


def _announcement(jobs: Sequence[Job], options: Options) -> str:
    missing = sum(not options.cache.has(key_of(job)) for job in jobs)
    minutes = estimate_seconds(jobs, options.cache, workers=max(1, options.workers)) / 60
    kept = f"{len(jobs) - missing} of {len(jobs)} runs are in {options.cache.folder}"
    return f"{kept}; the others take about {minutes:.1f} minutes on {options.workers} cores."


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[Done], None]]:
    """A bar on a terminal, else a line every few seconds."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("runs", total=total)
            yield lambda done: bar.update(task, advance=1, description=done.job.scenario)
        return
    count, said_at = 0, monotonic_seconds()

    def tell(done: Done) -> None:
        nonlocal count, said_at
        count += 1
        if monotonic_seconds() - said_at >= LINE_EVERY_SECONDS or count == total:
            said_at = monotonic_seconds()
            console.print(f"{count} of {total}: {done.job.label}", highlight=False)

    yield tell


def _without_missing_data(jobs: Sequence[Job]) -> tuple[list[Job], dict[Job, str]]:
    """Leaves out scenarios whose traces are not on this machine; says why, once for each."""
    reasons: dict[str, str] = {}
    for name in {job.scenario for job in jobs}:
        try:
            declared_of(name)
        except TraceError as error:
            reasons[name] = str(error)
    there = [job for job in jobs if job.scenario not in reasons]
    first = {job.scenario: job for job in reversed(jobs) if job.scenario in reasons}
    return there, {job: reasons[name] for name, job in first.items()}


def _series_job(text: str, registered: Registration) -> Job:
    """Reads SCENARIO:SYSTEM:SEED.

    Raises:
        EvaluationError: It is something else, or its trace is not on this machine.
    """
    parts = text.split(":")
    if len(parts) != 3 or not parts[2].isdecimal():  # noqa: PLR2004 - see the message.
        raise EvaluationError(f"--series {text}: must be SCENARIO:SYSTEM:SEED")
    scenario, system, seed = parts[0], parts[1], int(parts[2])
    check_names((scenario,), (system,))
    registration.check_seeds((seed,))
    try:
        declared_of(scenario)
    except TraceError as error:
        raise EvaluationError(f"--series {text}: {error}") from error
    points = registered.operating_points.get(system, {})
    knob = points.get(find_scenario(scenario).tier.value, RIVALS[system].default)
    return Job(scenario=scenario, system=system, knob=knob, seeds=(seed,), series_node=0)


def _series_panel(job: Job, cache: Cache) -> SeriesPanel | None:
    """Draws a run that kept its series; None where it failed."""
    outcome = cache.load(key_of(job))
    if outcome is None:
        return None
    names = declared_of(job.scenario).names
    warmup = float(find_scenario(job.scenario).warmup_seconds)
    return SeriesPanel(
        title=job.scenario,
        about=f"{job.system} at {job.knob:g}, seed {job.seeds[0]}",
        drawings=list(zip(names, series_svgs(outcome, names, warmup), strict=True)),
    )


def _full_cluster(jobs: Sequence[Job], results: Results) -> FullCluster | None:
    """Holds the sample against all nodes; None where that was not asked for, or failed."""
    if not jobs or any(job not in results.figures for job in jobs):
        return None
    full, sample = jobs
    return make_full_cluster(
        full.scenario, full.system, results.figures[full], results.figures[sample]
    )


def _write(
    report: Report, out: Path, validity: PlantValidity | None, panels: Sequence[SeriesPanel]
) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_json(report), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(out / JSON_NAME, text + "\n")
        write_atomically(out / HTML_NAME, page_html(report, validity=validity, panels=panels))
    except OSError as error:
        raise EvaluationError(f"--out {out}: {error.strerror}") from error
