"""TRL's trainers, timed step by step.

A round is one call of `trainer.train()` whose first step warms up and does not count. A step is timed from the
end of the step before it, so that loading data, sampling, the update and the scheduler are inside, and what a
call of `train` sets up is not. Losses are logged, checkpoints written and progress shown never.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoTokenizer, TrainerCallback

from benchmarks import workload
from benchmarks.harness import MissingError, Options, now

LEARNING_RATE = 1e-6
"""So low that the policy stays what it is: everyone samples completions of one length."""


def require() -> Any:
    """The library, or MissingError."""
    try:
        return importlib.import_module("trl")
    except ImportError:
        raise MissingError(
            "TRL is not there: .venv/bin/pip install -c constraints.txt -e '.[bench]'"
        ) from None


def tokenizer(options: Options) -> Any:
    """The model's, padding on the left as TRL's samplers want it."""
    return AutoTokenizer.from_pretrained(workload.location(options.device), padding_side="left")


def common(options: Options, folder: str, **more: Any) -> dict[str, Any]:
    """Arguments of every trainer: the optimiser and clipping are ours, and nothing is written."""
    return {
        "output_dir": folder,
        "use_cpu": not options.cuda,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "optim": "adamw_torch_fused",
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **more,
    }


@dataclass
class Clock(TrainerCallback):
    """When each step of a call of `train` ended, and what it was counted to hold."""

    device: str
    ends: list[float] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)
    counted: float = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.ends.append(now(self.device))
        self.counts.append(self.counted)
        self.counted = 0.0

    def clear(self) -> None:
        """Before another call of `train`."""
        self.ends, self.counts, self.counted = [], [], 0.0

    def after_the_first(self) -> tuple[int, float, float]:
        """Steps, seconds and count, without the first step.

        >>> Clock("cpu", ends=[5.0, 7.0, 8.0], counts=[9.0, 10.0, 20.0]).after_the_first()
        (2, 3.0, 30.0)
        """
        steps = len(self.ends) - 1
        seconds = sum(b - a for a, b in itertools.pairwise(self.ends))
        return steps, seconds, sum(self.counts[1:])


def watch_labels(trainer: Any, clock: Clock) -> None:
    """Count the labels that each step learns from."""
    step = trainer.training_step

    def counted(model: Any, inputs: Any, *arguments: Any, **more: Any) -> Any:
        # The label of a row's first token is never predicted, and is a prompt token's here.
        clock.counted += int((inputs["labels"] != -100).sum())
        return step(model, inputs, *arguments, **more)

    trainer.training_step = counted


def watch_completions(trainer: Any, clock: Clock) -> None:
    """Count the tokens that were sampled, as often as they are trained on."""
    prepare = trainer._prepare_inputs

    def counted(batch: Any) -> Any:
        inputs = prepare(batch)
        clock.counted += int(inputs["completion_mask"].sum())
        return inputs

    trainer._prepare_inputs = counted


def train(trainer: Any, clock: Clock) -> tuple[int, float, float]:
    """One round: steps, seconds, tokens."""
    clock.clear()
    with quiet():
        trainer.train()
    return clock.after_the_first()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Trainers print their last figures and warn of what was chosen on purpose."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """A place for a trainer's files."""
    with tempfile.TemporaryDirectory() as place:
        yield place


def rows(columns: dict[str, Sequence[Any]]) -> Any:
    """A data set of the `datasets` library, in memory."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    return Dataset.from_dict({name: list(values) for name, values in columns.items()})
