"""Run the harness without a trace: no random state moves, nothing is printed, no patch stays."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Iterator

import numpy as np

from statewise.lazy import torch


@contextlib.contextmanager
def undisturbed(*, verbose: bool = False) -> Iterator[None]:
    """Leave the global random states of Python, numpy and torch as they were; keep quiet.

    lm-evaluation-harness draws from Python's global generator whenever a task is asked for its
    name (the default of a `getattr` is a random name), so seeds of None are not enough. A training
    step after an evaluation must be the step that would have come without it.
    """
    python, numeric = random.getstate(), np.random.get_state()  # noqa: NPY002 - saved, never used
    try:
        gpus = list(range(torch.cuda.device_count()))
        with torch.random.fork_rng(gpus), contextlib.nullcontext() if verbose else _silence():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numeric)  # noqa: NPY002


@contextlib.contextmanager
def compiled_templates() -> Iterator[None]:
    """Compile each prompt template once. The harness compiles it anew for every item.

    For short items that is half of an evaluation on a small model, up to 2 ms an item.
    """
    from lm_eval import utils

    compile_template = utils.env.from_string
    utils.env.from_string = functools.cache(compile_template)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        utils.env.from_string = compile_template


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
