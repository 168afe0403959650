"""Run the harness without a trace: no random state moves, nothing is printed."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def undisturbed(*, verbose: bool = False) -> Iterator[None]:
    """Leave the global random states of Python, numpy and torch as they were; keep quiet.

    lm-evaluation-harness draws from Python's global generator whenever a task is asked for its
    name (the default of a `getattr` is a random name), so seeds of None are not enough. A training
    step after an evaluation must be the step that would have come without it.
    """
    python, numeric = random.getstate(), np.random.get_state()  # noqa: NPY002 - saved, never used
    try:
        with torch.random.fork_rng(), contextlib.nullcontext() if verbose else _silence():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numeric)  # noqa: NPY002


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No progress bars and no log lines below an error, from lm_eval and from datasets."""
    import datasets
    import lm_eval.api.task as harness_task

    loggers = [logging.getLogger("lm_eval"), logging.getLogger("datasets")]
    levels = [logger.level for logger in loggers]
    bars = datasets.utils.are_progress_bars_disabled()
    # It offers no switch for the bar over few-shot contexts.
    shown = harness_task.tqdm
    harness_task.tqdm = functools.partial(shown, disable=True)
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        harness_task.tqdm = shown
        if not bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
