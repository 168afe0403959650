"""Runs a study's jobs in the order of their needs, side by side, and continues after a kill."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Literal

import torch

from statewise.config import from_plain, to_plain
from statewise.errors import RunError
from statewise.jobs.folder import claimed, threads
from statewise.jobs.interpolate import make_interpolation
from statewise.jobs.probe import probe_arm
from statewise.jobs.row_files import refuse_changed_rows
from statewise.jobs.train import measure_arm, train_arm
from statewise.store import RunFolder, append_rows, layout
from statewise.store.finished import failure, lost, standing
from statewise.study.arm_run import ArmRun
from statewise.study.models import BASE_SEED
from statewise.study.spec import BASE, Study


@dataclass(frozen=True, slots=True)
class Job:
    """Train, measure or probe one arm for one seed."""

    task: Literal["train", "measure", "probe"]
    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{_VERBS[self.task]} {self.arm}" + (
            "" if self.arm == BASE else f", seed {self.seed}"
        )


_VERBS = {"train": "training", "measure": "measuring", "probe": "probing"}


@dataclass(frozen=True, slots=True)
class Event:
    """What the executor tells whoever watches: a job began, moved or ended."""

    job: Job
    state: Literal["began", "moved", "ended"]
    phase: str = ""
    done: int = 0
    total: int = 0
    tokens_per_second: float = 0.0
    loss: float | None = None
    jobs: int = 0
    """How many jobs this call has in all."""
    failed: str = ""
    """Of a job that ended: why its arm has failed; empty if it has not."""


def plan(study: Study, run: RunFolder) -> dict[Job, set[Job]]:
    """Every unfinished job and the unfinished jobs that it needs, in an order that respects them."""
    base = Job("measure", BASE, BASE_SEED)
    needs: dict[Job, set[Job]] = {base: set()}
    for name, seed in product(study.order(), study.seeds):
        needs |= _training(study, name, seed)
        needs[Job("measure", name, seed)] = {Job("train", name, seed), base}
    if study.probes_at_end:
        needs |= _probing(study)
    return _unfinished(needs, run)


def _probing(study: Study) -> dict[Job, set[Job]]:
    """Probing jobs, behind all others: an arm's states are compared with the base's and its teachers'."""
    base = Job("probe", BASE, BASE_SEED)
    needs = {base: {Job("measure", BASE, BASE_SEED)}}
    for name, seed in product(study.order(), study.seeds):
        needs[Job("probe", name, seed)] = {
            Job("measure", name, seed),
            base,
            *(Job("probe", teacher, seed) for teacher in study.needs(name)),
        }
    return needs


def plan_training(
    study: Study, run: RunFolder, arms: Sequence[str], seeds: Sequence[int] | None = None
) -> dict[Job, set[Job]]:
    """The training jobs of some arms and of the teachers that they need; all seeds unless named."""
    wanted = set(arms)
    for name in reversed(study.order()):
        if name in wanted:
            wanted |= set(study.needs(name))
    needs: dict[Job, set[Job]] = {}
    for name, seed in product(study.order(), seeds or study.seeds):
        if name in wanted:
            needs |= _training(study, name, seed)
    return _unfinished(needs, run)


def _training(study: Study, name: str, seed: int) -> dict[Job, set[Job]]:
    parents = study.needs(name)
    return {Job("train", name, seed): {Job("train", parent, seed) for parent in parents}}


def _unfinished(needs: dict[Job, set[Job]], run: RunFolder) -> dict[Job, set[Job]]:
    for job in list(needs):
        if _has_failed(run, job):
            for behind in _behind(job, needs):
                needs.pop(behind, None)
            needs.pop(job, None)
    finished = {job for job in needs if _is_finished(run, job)}
    return {job: wanted - finished for job, wanted in needs.items() if job not in finished}


def _has_failed(run: RunFolder, job: Job) -> bool:
    return job.arm != BASE and failure(run.arm(job.arm, job.seed)) is not None


def _why(run: RunFolder, job: Job) -> str:
    return (failure(run.arm(job.arm, job.seed)) or "") if job.arm != BASE else ""


def _behind(job: Job, needs: dict[Job, set[Job]]) -> set[Job]:
    """Every job that needs this one, or one that does: none of them can be done where it fails."""
    found: set[Job] = set()
    waiting = [job]
    while waiting:
        before = waiting.pop()
        more = {behind for behind, wanted in needs.items() if before in wanted} - found
        found |= more
        waiting += more
    return found


def run_study(
    study: Study,
    root: Path,
    *,
    workers: int,
    watch: Callable[[Event], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> RunFolder:
    """Do every job that is not done yet, `workers` at a time; `tell` is given a line for each that is done again.

    Raises RunError where the folder belongs to another study, and whatever a job raised first.
    """
    run = RunFolder(root)
    with claimed(study, run, workers=workers):
        waiting = plan(study, run)
        for line in lost_files(run, waiting):
            tell(line)
        run_jobs(waiting, study, run, workers=workers, watch=watch)
    return run


def run_jobs(
    waiting: dict[Job, set[Job]],
    study: Study,
    run: RunFolder,
    *,
    workers: int,
    watch: Callable[[Event], None] = lambda _: None,
) -> None:
    """Do the jobs, each after those it needs: in this process with 0 workers, else side by side.

    Raises RunError where rows are others than those that the folder was begun with.
    """
    jobs = len(waiting)
    if waiting:
        refuse_changed_rows(run)

    def tell(event: Event) -> None:
        watch(replace(event, jobs=jobs))

    if workers == 0:
        lost_jobs: set[Job] = set()
        for job in list(waiting):
            if job in lost_jobs:
                continue
            tell(Event(job, "began"))
            _do(job, study, run, lambda *args, job=job: tell(Event(job, "moved", *args)))
            tell(Event(job, "ended", failed=_why(run, job)))
            lost_jobs |= _behind(job, waiting) if _has_failed(run, job) else set()
    elif waiting:
        _run_side_by_side(waiting, study, run, workers, tell)


def _run_side_by_side(
    waiting: dict[Job, set[Job]],
    study: Study,
    run: RunFolder,
    workers: int,
    watch: Callable[[Event], None],
) -> None:
    """Hand jobs to worker processes as soon as what they need is done.

    Processes are spawned, not forked: a forked child inherits locked thread pools of torch.
    """
    context = multiprocessing.get_context("spawn")
    # A plain pipe: a manager's process would live on when this one is killed.
    reports: SimpleQueue[Event] = context.SimpleQueue()
    plain = to_plain(study)
    pool = ProcessPoolExecutor(
        min(workers, len(waiting)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(threads(workers), os.getpid(), reports),
    )
    running: dict[Future[None], Job] = {}
    try:
        while waiting or running:
            for job in [job for job, wanted in waiting.items() if not wanted]:
                if len(running) >= workers:
                    break
                del waiting[job]
                running[pool.submit(_do_in_worker, job, plain, str(run.root))] = job
                watch(Event(job, "began"))
            ended, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            while not reports.empty():
                watch(reports.get())
            for future in ended:
                job = running.pop(future)
                future.result()
                if _has_failed(run, job):
                    for behind in _behind(job, waiting):
                        waiting.pop(behind, None)
                for wanted in waiting.values():
                    wanted.discard(job)
                watch(Event(job, "ended", failed=_why(run, job)))
        pool.shutdown()  # idle by now: they end by themselves and leave nothing behind
    except BrokenProcessPool as error:
        raise RunError(
            "a worker process died (out of memory?); run the same command again to continue, "
            "with --workers 1 if memory is short"
        ) from error
    finally:
        # Taken first: `shutdown` forgets them, and a job that runs would be waited for at exit.
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


_reports: list[SimpleQueue[Event]] = []
"""In a worker process: where its progress goes. A queue can be handed over at the start only."""


def _start_worker(threads: int, parent: int, reports: SimpleQueue[Event]) -> None:
    """Limit threads, and end with the parent: an orphan would go on writing into the run."""
    torch.set_num_threads(threads)
    _reports.append(reports)

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _do_in_worker(job: Job, plain: object, root: str) -> None:
    """One job in a worker process; reports progress twice a second at most."""
    last = 0.0

    def progress(phase: str, done: int, total: int, rate: float, loss: float | None = None) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5 or done == total:
            last = time.monotonic()
            _reports[-1].put(Event(job, "moved", phase, done, total, rate, loss))

    _do(job, from_plain(Study, plain), RunFolder(Path(root)), progress)


def _do(job: Job, study: Study, run: RunFolder, progress: Callable[..., None]) -> None:
    arm_run = ArmRun(study, run, job.arm, job.seed)
    began = time.perf_counter()
    match job.task:
        case "train":
            make = train_arm if arm_run.arm else make_interpolation
            make(arm_run, progress)
        case "measure":
            measure_arm(arm_run, progress)
        case "probe":
            probe_arm(study, run, job.arm, job.seed, progress)
    spent = {"job": job.task, "seconds": time.perf_counter() - began}
    append_rows(arm_run.folder / layout.JOBS_TIMING, [spent])


def _is_finished(run: RunFolder, job: Job) -> bool:
    return standing(run, job.arm, job.seed, job.task) != "no"


def lost_files(run: RunFolder, jobs: Iterable[Job]) -> list[str]:
    """A line for every finished job that has lost a file and is therefore done again."""
    found = [(job, lost(run, job.arm, job.seed, job.task)) for job in jobs]
    return [
        f"{run.arm(job.arm, job.seed) / name} is missing: {job} is done again"
        for job, name in found
        if name is not None
    ]
