"""Mathematical equality by math-verify, in processes of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from statewise.errors import ConfigError, DataError, at_least_one
from statewise.limits import Seconds
from statewise.rewards.judged import Judged
from statewise.trajectory import Prompt

START_SECONDS = 60
"""How long a new worker may take to start and to import math-verify."""
GRACE_SECONDS = 5
"""How long a worker may take beyond math-verify's own three limits before it is ended. Those limits are
signals, which Python handles between two steps only: a power of huge integers is one step."""
WORKER_BYTES = 8 * 2**30
"""Address space of a worker: a completion such as 9^9^9^9 asks for more than any machine has."""
GOLD_AT_ONCE = 256
"""How many references a worker reads before it answers."""


@dataclass(frozen=True)
class MathVerify:
    r"""1.0 if the completion's answer equals the reference's as mathematics, else 0.0.

    math-verify reads LaTeX and plain expressions: `1/2`, `0.5` and `\frac{1}{2}` are equal. The gold
    answer is what follows the last `####` in the reference, or all of it if there is no mark.
    It runs in a worker process, because its time limit is a signal, which only a main thread can
    take (it needs `pip install 'statewise[math]'`).

    A completion that math-verify cannot read, that takes longer than `timeout_seconds` or that ends its
    worker earns 0.0 and is counted: see `judge`. The limit is one of real time, so that a completion near
    it may be judged otherwise on a slower machine.

    Raises DataError, naming the prompt, if the reference is the one that cannot be read
    (`check_references` looks before training), and ConfigError if math-verify is not installed.
    """

    kind: ClassVar[str] = "math_verify"
    timeout_seconds: Seconds = 5

    def __post_init__(self) -> None:
        at_least_one(self, "timeout_seconds")

    def __call__(self, prompt: Prompt, completion: str) -> float:
        return self.judge(prompt, completion).value

    def judge(self, prompt: Prompt, completion: str) -> Judged:
        """The value of a completion, and why it could not be read if it could not."""
        gold = _gold(prompt)
        given = _ask(equal, gold, completion, self.timeout_seconds, limit=3 * self.timeout_seconds)
        if given.fault is None:
            return given
        # Whose fault it is decides between a score of 0 and an error, so the reference is read alone.
        self.check_references([prompt])
        return given

    def check_references(self, prompts: Sequence[Prompt]) -> None:
        """Raise DataError for the first prompt whose reference holds no answer that can be read."""
        golds = [_gold(prompt) for prompt in prompts]
        for first in range(0, len(golds), GOLD_AT_ONCE):
            some = tuple(golds[first : first + GOLD_AT_ONCE])
            limit = 2 * self.timeout_seconds * len(some)
            found = _ask(unreadable, some, self.timeout_seconds, limit=limit)
            if found.fault is not None:
                prompt = prompts[first + int(found.value)]
                raise DataError(
                    f"math-verify cannot read the reference of prompt {prompt.id!r} ({found.fault}); "
                    f"fix the row: it ends {(prompt.reference or '')[-80:]!r}"
                )


def _gold(prompt: Prompt) -> str:
    if prompt.reference is None:
        raise DataError(
            f"prompt {prompt.id!r} has no reference to verify against; "
            "give the data's template a `completion`"
        )
    return prompt.reference.rsplit("####", 1)[-1].strip()


# In the worker. Nothing but plain values comes back: an exception of sympy's may not survive pickling,
# and math-verify's own TimeoutException is no Exception.


def equal(gold: str, completion: str, timeout_seconds: int) -> Judged:
    """Whether the last answer of `completion` equals `gold`; 0.0 if it holds no answer."""

    def compare() -> float:
        answer = _parse_gold(gold, timeout_seconds)
        given = _library().parse(completion, parsing_timeout=timeout_seconds, raise_on_error=True)
        limits = {"timeout_seconds": timeout_seconds, "raise_on_error": True}
        return float(bool(_library().verify(answer, given, **limits)))

    return _contained(compare)


def unreadable(golds: Sequence[str], timeout_seconds: int) -> Judged:
    """The place of the first gold answer that cannot be read, and why; no fault if there is none."""
    for place, gold in enumerate(golds):
        found = _contained(lambda gold=gold: float(bool(_parse_gold(gold, timeout_seconds))))
        if found.fault is not None:
            return Judged(float(place), found.fault)
    return Judged(0.0)


def _parse_gold(gold: str, timeout_seconds: int) -> Any:
    limits = {"parsing_timeout": timeout_seconds, "raise_on_error": True}
    answer = _library().parse(gold, **limits) or _library().parse(f"${gold}$", **limits)
    if not answer:
        raise ValueError("it holds no answer")
    return answer


def _library() -> Any:
    return import_module("math_verify")  # an extra, and slow to import


def _ready() -> None:
    """Import what the first completion would wait for."""
    _library()


def _contained(work: Callable[[], float]) -> Judged:
    """What the work gives; whatever it raises becomes the fault, but for a user's interrupt."""
    try:
        return Judged(work())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - sympy recurses, runs out of memory and calls exit
        said = " ".join(str(error).split())[:200]
        return Judged(0.0, f"{type(error).__name__}: {said}" if said else type(error).__name__)


# In the parent.


def _ask(work: Callable[..., Judged], *arguments: object, limit: int) -> Judged:
    """The worker's answer; a worker that dies or hangs is ended, and that is the fault."""
    pool = _pool()
    try:
        return pool.submit(work, *arguments).result(timeout=limit + GRACE_SECONDS)
    except TimeoutError:
        _end_pool()
        return Judged(0.0, f"TimeoutError: it took longer than {limit + GRACE_SECONDS:g} s")
    except BrokenExecutor:
        _end_pool()
        return Judged(0.0, "BrokenProcessPool: its process ended (out of memory?)")


@cache
def _pool() -> ProcessPoolExecutor:
    """One pool for the process: spawned, for a fork would inherit the locks of torch's threads.

    Raises ConfigError if math-verify is not there or cannot be imported.
    """
    if find_spec("math_verify") is None:
        raise ConfigError("reward math_verify needs math-verify: pip install 'statewise[math]'")
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        1, mp_context=context, initializer=_begin_worker, initargs=(os.getpid(),)
    )
    # Started here, so that no completion pays for it, and a broken installation is no completion's fault.
    try:
        pool.submit(_ready).result(timeout=START_SECONDS)
    except (ImportError, TimeoutError, BrokenExecutor) as error:
        _kill(pool)
        raise ConfigError(
            f"reward math_verify: math-verify cannot be started ({type(error).__name__}: {error}); "
            "try: python -c 'import math_verify'"
        ) from error
    return pool


def _end_pool() -> None:
    """Leave nothing behind that could hang: a stuck worker would keep the interpreter from ending."""
    pool = _pool()
    _pool.cache_clear()
    _kill(pool)


def _kill(pool: ProcessPoolExecutor) -> None:
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def _begin_worker(parent: int) -> None:
    """Bound the worker's memory, and end it with its parent: it would wait for work for ever."""
    with contextlib.suppress(
        ValueError, OSError
    ):  # a lower limit stands already, or none can be set
        resource.setrlimit(resource.RLIMIT_AS, (WORKER_BYTES, WORKER_BYTES))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
