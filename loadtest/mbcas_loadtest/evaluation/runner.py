"""Runs jobs on two processes; what is in the cache is not run again.

Every outcome is kept as soon as it is there, so a run that is interrupted, however hard, loses only
the jobs that were in progress, and goes on from there when it is started again.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time

from mbcas_loadtest.errors import EvaluationError
from mbcas_loadtest.evaluation.cache import Cache
from mbcas_loadtest.evaluation.figures import Figures, figures
from mbcas_loadtest.evaluation.jobs import (
    Job,
    Worlds,
    batches,
    container_hours,
    declared_of,
    key_of,
    run_jobs_together,
)
from mbcas_loadtest.node.tether import die_with_parent
from mbcas_loadtest.simulation.outcome import Outcome

WORKERS = 2
GUESSED_HOURS_PER_MINUTE = 1000.0
"""Container-hours a core simulates in a minute, until it was measured on this machine."""

PROCESS_ENDED = (
    "a process that runs jobs ended before they did, perhaps for want of memory (--workers 1 needs "
    "less); what had ended is kept, and the same command goes on from there"
)
Execute = Callable[[Job], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A job that came to an end."""

    job: Job
    cpu_seconds: float = 0.0
    """What it took, were the core its own."""
    error: str | None = None
    was_cached: bool = False


@dataclass(slots=True)
class Results:
    """What came of all jobs."""

    figures: dict[Job, Figures] = field(default_factory=dict)
    counts: dict[Job, Mapping[str, int]] = field(default_factory=dict)
    failed: dict[Job, str] = field(default_factory=dict)
    cached_count: int = 0


def estimate_seconds(jobs: Sequence[Job], cache: Cache, *, workers: int = WORKERS) -> float:
    """Says how long the jobs that are not in the cache will take, on cores that do nothing else."""
    speeds = cache.speeds()
    guessed = 60.0 / GUESSED_HOURS_PER_MINUTE
    missing = [job for job in jobs if not cache.has(key_of(job))]
    return sum(container_hours(job) * speeds.get(job.system, guessed) for job in missing) / workers


def run_jobs(
    jobs: Sequence[Job],
    cache: Cache,
    *,
    tell: Callable[[Done], None] = lambda _: None,
    workers: int = WORKERS,
    execute: Execute | None = None,
) -> Results:
    """Runs what is not cached, and returns the figures of all.

    Args:
        jobs: Each once.
        cache: Where outcomes come from and go to.
        tell: Called for each job as it is done.
        workers: 0 runs them here, one after the other.
        execute: What runs a job here; only without workers.
    """
    results = Results()
    missing: dict[Job, str] = {}
    for job in sorted(jobs):
        key = key_of(job)
        outcome = cache.load(key)
        if outcome is None:
            missing[job] = key
        else:
            _add(results, job, outcome)
            results.cached_count += 1
            tell(Done(job=job, was_cached=True))
    spent: dict[str, tuple[float, float]] = {}
    ran = (
        _run_here(missing, cache, execute) if workers == 0 else _run_apart(missing, cache, workers)
    )
    for done in ran:
        if done.error is None:
            seconds, hours = spent.get(done.job.system, (0.0, 0.0))
            spent[done.job.system] = seconds + done.cpu_seconds, hours + container_hours(done.job)
            found = cache.load(missing[done.job])
            assert found is not None, "it was kept just now"
            _add(results, done.job, found)
        else:
            results.failed[done.job] = done.error
        tell(done)
    if spent:
        cache.store_speeds({name: seconds / hours for name, (seconds, hours) in spent.items()})
    cache.prune()
    return results


def _add(results: Results, job: Job, outcome: Outcome) -> None:
    results.figures[job] = figures(outcome, batch=declared_of(job.scenario).batch)
    results.counts[job] = outcome.counts


def _run_here(jobs: Mapping[Job, str], cache: Cache, execute: Execute | None) -> Iterator[Done]:
    worlds = Worlds()
    for job, key in jobs.items():
        started = process_time()
        outcome = execute(job) if execute is not None else run_jobs_together([job], worlds)[0]
        cache.store(key, outcome)
        yield Done(job=job, cpu_seconds=process_time() - started)


def _run_apart(jobs: Mapping[Job, str], cache: Cache, workers: int) -> Iterator[Done]:
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")  # A progress bar has threads: no fork.
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_prepare, initargs=(cache.folder,)
    ) as pool:
        futures = {_submit(pool, batch, jobs): batch for batch in batches(jobs)}
        try:
            while futures:
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    batch = futures.pop(future)
                    if _error_of(future) is not None and len(batch) > 1:
                        # Whose fault it is shows when each is alone.
                        futures |= {_submit(pool, (job,), jobs): (job,) for job in batch}
                    else:
                        yield from _tell(batch, future)
        except (KeyboardInterrupt, GeneratorExit):
            for process in multiprocessing.active_children():
                process.kill()  # What they had finished is kept.
            raise


def _submit(
    pool: ProcessPoolExecutor, batch: tuple[Job, ...], keys: Mapping[Job, str]
) -> "Future[float]":
    try:
        return pool.submit(_work, batch, [keys[job] for job in batch])
    except BrokenProcessPool as error:
        raise EvaluationError(PROCESS_ENDED) from error


def _error_of(future: "Future[float]") -> BaseException | None:
    """Returns what a batch ended in; without its process no other batch would end better."""
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        raise EvaluationError(PROCESS_ENDED) from error
    return error


def _tell(batch: tuple[Job, ...], future: "Future[float]") -> Iterator[Done]:
    error = _error_of(future)
    hours = sum(container_hours(job) for job in batch)
    for job in batch:
        if error is None:
            yield Done(job=job, cpu_seconds=future.result() * container_hours(job) / hours)
        else:
            yield Done(job=job, error=f"{type(error).__name__}: {error}")


@dataclass(slots=True)
class _Worker:
    """What a process keeps between its jobs."""

    worlds: Worlds = field(default_factory=Worlds)
    cache: Cache | None = None


_WORKER = _Worker()


def _prepare(folder: Path) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: one answers.
    _WORKER.cache = Cache(folder)


def _work(batch: tuple[Job, ...], keys: Sequence[str]) -> float:
    """Runs jobs in a process of the pool and keeps their outcomes; returns the CPU time it took."""
    assert _WORKER.cache is not None, "prepared when the process began"
    if [key_of(job) for job in batch] != list(keys):
        raise EvaluationError("its code or a file changed while the evaluation began: run it again")
    started = process_time()
    outcomes = run_jobs_together(batch, _WORKER.worlds)
    for key, outcome in zip(keys, outcomes, strict=True):
        _WORKER.cache.store(key, outcome)
    return process_time() - started
