"""A base so small that a whole study takes seconds: the embedded tokenizer's kin, random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from statewise.fresh import Shape, fresh_model
from statewise.store import write_json
from statewise.study.models import MARKER
from statewise.study.spec import Study, read_study
from statewise.world import World, train_tokenizer


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A randomly initialised Qwen3 directory with 6 thousand weights."""
    folder = tmp_path_factory.mktemp("tiny-base")
    train_tokenizer(World().documents(0, 300), folder, vocabulary=320, context_tokens=320)
    shape = Shape(
        vocabulary=320,
        width=16,
        layers=1,
        heads=2,
        key_value_heads=1,
        head_width=8,
        feed_forward=16,
    )
    fresh_model(folder, shape, tokenizer=folder, seed=0)
    write_json(folder / MARKER, {"randomly_initialised": True, "seed": 0})
    return folder


SHRINK = (
    "seeds=[0]",
    "search=null",
    "doses={}",
    "checkpoint_every_steps=2",
    "dev.task.limit=2",
    "dev.every_steps=3",
    "drift.prompts.limit=6",
    "drift.max_new_tokens=8",
    "drift.permutations=19",
    *(f"tasks.{name}.limit=4" for name in ("pocket_gsm", "pocket_truthfulqa_mc1", "pocket_mmlu")),
    "tasks.pocket_gsm.max_new_tokens=8",
    "dev.task.max_new_tokens=8",
    *(
        f"arms.{name}.budget={{learning_rate: 0.01, steps: 5}}"
        for name in (
            "mild_sft",
            "stress_sft",
            "opd_from_mild",
            "opd_from_stress",
            "one_step_opd_from_stress",
        )
    ),
    "arms.grpo.budget={learning_rate: 0.01, steps: 3, minibatches: 2}",
    *(
        f"arms.{name}.streams.0.source.max_new_tokens=8"
        for name in ("opd_from_mild", "opd_from_stress", "one_step_opd_from_stress", "grpo")
    ),
    *(f"arms.{name}.streams.0.prompts_per_step=4" for name in ("mild_sft", "stress_sft", "grpo")),
    *(
        f"arms.{name}.streams.0.prompts_per_step=4"
        for name in ("opd_from_mild", "opd_from_stress", "one_step_opd_from_stress")
    ),
)
"""`--set` overrides that leave every arm of the pocket study in place and take seconds."""


@pytest.fixture(scope="session")
def tiny_study(tiny_base) -> Study:
    """The pocket study, every arm of it, on the tiny base."""
    return read_study("pocket", (f"base={tiny_base}", *SHRINK))
