"""Runs tests on copies of the sources, each in a process that is forked off this one.

Importing torch, transformers and pytest takes several seconds, a mutant's tests one or two. So this
process imports what everyone needs once, and never `statewise`; a child imports that from its copy.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from tests.mutants.mutant import Mutant

# Before torch or transformers is imported by anyone, as tests/conftest.py has it.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

COPIED = ("src", "tests", "docs", "pyproject.toml", "README.md")
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "pytest",
    "jaxtyping",
    "beartype",
    "scipy.stats",
    "pandas",
    "statsmodels.stats.multitest",
    "pyarrow.parquet",
    "datasets",
    "lm_eval.evaluator",
    "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.gpt2.modeling_gpt2",
)
SECONDS = 120
"""Processor time that a mutant's tests may take; a busy machine does not bring it nearer."""
PATIENCE = 10
"""By the clock they may take so many times as long: a bug may wait and not work."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run of tests.

    - passed    nothing failed: of a mutant, it survives
    - failed    `by` names the first test that did: of a mutant, it is killed
    - hung      the time limit came first: it says nothing
    - broken    no test could be run, or none was: it says nothing
    """

    state: Literal["passed", "failed", "hung", "broken"]
    by: str
    seconds: float
    output: str


@dataclass(frozen=True, slots=True)
class _Child:
    job: int
    pid: int
    root: Path
    began: float


def preload() -> None:
    """Import what every child needs; threads that are started here would be missing in them."""
    for name in HEAVY:
        import_module(name)
    import_module("torch").set_num_threads(1)
    assert "statewise" not in sys.modules, "a child could not import the copy any more"


@contextlib.contextmanager
def pristine(checkout: Path) -> Iterator[Path]:
    """A copy of the checkout that mutants are copied from; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = Path(folder) / "pristine"
        root.mkdir()
        for name in COPIED:
            if (checkout / name).is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(checkout / name, root / name, ignore=skip)
            else:
                shutil.copy2(checkout / name, root / name)
        yield root


def run_all(
    copy: Path,
    jobs: Sequence[tuple[Mutant | None, tuple[str, ...]]],
    *,
    workers: int,
    seconds: float,
    tell: Callable[[int, Outcome], None],
) -> None:
    """Run each job's tests with its mutant planted (None = none), `workers` at a time."""
    waiting = list(enumerate(jobs))[::-1]
    running: list[_Child] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                place, (mutant, tests) = waiting.pop()
                root = copy.parent / f"copy-{place}"
                shutil.copytree(copy, root)
                if mutant is not None:
                    mutant.path(root).write_text(mutant.planted(copy), encoding="utf-8")
                running.append(_Child(place, _fork(root, tests, seconds), root, time.monotonic()))
            time.sleep(0.02)
            for child in list(running):
                outcome = _outcome(child, seconds)
                if outcome is not None:
                    running.remove(child)
                    shutil.rmtree(child.root, ignore_errors=True)
                    tell(child.job, outcome)
    finally:
        for child in running:
            _end(child)


def _fork(root: Path, tests: Sequence[str], seconds: float) -> int:
    """A child that runs tests in `root` with statewise from there; returns its process id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()  # so that what it starts can be ended with it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
        log = os.open(root / "log.txt", os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(log, stream)
        code = _test(root, tests)
    except BaseException:  # noqa: BLE001 - a child must end here and never go on as its parent
        traceback.print_exc()
    finally:
        os._exit(code)


def _test(root: Path, tests: Sequence[str]) -> int:
    """In the child: run pytest and write down what failed first."""
    import pytest

    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root / "src")  # for programs that a test starts
    # Nothing of the checkout may be found: neither its sources nor this package's own parent.
    own = Path(__file__).resolve().parents[2]
    elsewhere = [path for path in sys.path if not Path(path).resolve().is_relative_to(own / "src")]
    kept = [path for path in elsewhere if Path(path).resolve() not in (own, own / "tests")]
    sys.path[:] = [str(root / "src"), str(root), *kept]
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    sys.dont_write_bytecode = True
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    seen = _Recorder()
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={root / 'tmp'}"]
    # Without the annotations' checks: a bug that they alone see is seen by no user, and they take
    # most of the time.
    options += ["-o", "addopts=--import-mode=importlib --strict-markers"]
    # Of plugins that this process has imported already.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code = pytest.main([*options, *(f"tests/{test}" for test in tests)], plugins=[seen])
    found = {"code": int(code), "failed": seen.failed, "passed": seen.passed}
    (root / "outcome.json").write_text(json.dumps(found), encoding="utf-8")
    return int(code)


class _Recorder:
    """A plugin of pytest that keeps the first failure and counts what passed."""

    def __init__(self) -> None:
        self.failed = ""
        self.passed = 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid
        self.passed += report.passed and report.when == "call"


def _outcome(child: _Child, limit: float) -> Outcome | None:
    """What became of a child; None while it runs."""
    seconds = time.monotonic() - child.began
    ended, status = os.waitpid(child.pid, os.WNOHANG)
    if not ended and seconds < PATIENCE * limit:
        return None
    if not ended or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        _end(child)
        return Outcome("hung", "", seconds, _log(child))
    told = child.root / "outcome.json"
    found: dict[str, Any] = {"code": -1}
    if told.is_file():
        found = json.loads(told.read_text("utf-8"))
    if found["code"] == 1 and found["failed"]:
        return Outcome("failed", found["failed"].removeprefix("tests/"), seconds, _log(child))
    if found["code"] == 0 and found["passed"]:
        return Outcome("passed", "", seconds, _log(child))
    return Outcome("broken", "", seconds, _log(child))


def _log(child: _Child) -> str:
    file = child.root / "log.txt"
    return file.read_text("utf-8", errors="replace")[-6000:] if file.is_file() else ""


def _end(child: _Child) -> None:
    """End a child and everything that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child.pid, 0)
