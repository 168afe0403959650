"""Mathematical equality by math-verify, in processes of its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from statewise.errors import ConfigError, DataError
from statewise.trajectory import Prompt

LAST_RESORT_SECONDS = 60
"""Beyond math-verify's own three limits: the time to start a worker."""


@dataclass(frozen=True)
class MathVerify:
    r"""1.0 if the completion's answer equals the reference's as mathematics, else 0.0.

    math-verify reads LaTeX and plain expressions: `1/2`, `0.5` and `\frac{1}{2}` are equal. The gold
    answer is what follows the last `####` in the reference, or all of it where there is no mark.
    It runs in a worker process, because its time limit is a signal, which only a main thread can
    take (it needs `pip install 'statewise[math]'`).

    Raises DataError, naming the prompt, where the reference holds no answer, where math-verify
    fails, and where it takes longer than `timeout_seconds`: a fault is not a score of 0.
    """

    kind: ClassVar[str] = "math_verify"
    timeout_seconds: int = 5

    def __call__(self, prompt: Prompt, completion: str) -> float:
        if prompt.reference is None:
            raise DataError(f"prompt {prompt.id!r} has no reference to verify against")
        gold = prompt.reference.rsplit("####", 1)[-1].strip()
        work = _pool().submit(equal, gold, completion, self.timeout_seconds)
        try:
            return float(work.result(timeout=3 * self.timeout_seconds + LAST_RESORT_SECONDS))
        except ModuleNotFoundError as error:
            raise ConfigError(
                "reward math_verify needs math-verify: pip install 'statewise[math]'"
            ) from error
        except Exception as error:
            _end_pool()
            raise DataError(
                f"math-verify failed on prompt {prompt.id!r} ({type(error).__name__}: {error}); "
                f"reference {gold[:80]!r}, completion ending {completion[-80:]!r}"
            ) from error


def equal(gold: str, completion: str, timeout_seconds: int) -> bool:
    """Whether the last answer of `completion` equals `gold`; False where it holds no answer."""
    library: Any = import_module("math_verify")  # an extra, and slow to import
    parsing = {"parsing_timeout": timeout_seconds, "raise_on_error": True}
    answer = library.parse(gold, **parsing) or library.parse(f"${gold}$", **parsing)
    if not answer:
        raise ValueError("the reference holds no answer that math-verify can read")
    given = library.parse(completion, **parsing)
    comparing = {"timeout_seconds": timeout_seconds, "raise_on_error": True}
    return bool(library.verify(answer, given, **comparing))


@cache
def _pool() -> ProcessPoolExecutor:
    """One pool for the process: spawned, for a fork would inherit the locks of torch's threads."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        2, mp_context=context, initializer=_end_with_parent, initargs=(os.getpid(),)
    )


def _end_pool() -> None:
    """Leave nothing behind that could hang: a stuck worker would keep the interpreter from ending."""
    pool = _pool()
    _pool.cache_clear()
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def _end_with_parent(parent: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
