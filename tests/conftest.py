"""What every test shares.

Annotations are enforced while tests run: `--jaxtyping-packages=statewise,beartype.beartype` in
pyproject.toml installs jaxtyping's import hook before pytest imports anything of ours. Here it
would come too late for the doctests of `pytest src/...`, which never loads this file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch or transformers is imported by anyone.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # as the command line does

import pytest
import torch

if TYPE_CHECKING:
    from statewise.store import RunFolder
    from statewise.study.spec import Study

REPOSITORY = Path(__file__).resolve().parents[1]

# The models of the tests are tiny: two threads that wait for each other are slower than one, and much
# slower beside anything else that runs.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: a fault shows within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real GSM8K, MMLU and TruthfulQA files; tests that need it skip without."""
    folder = Path(os.environ.get("STATEWISE_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(
            f"real benchmark files not found in {folder}: set STATEWISE_DATA to their folder"
        )
    return folder


# ---- a study that takes seconds -------------------------------------------------------------------
# Imports of ours stand inside the fixtures: this file is read before jaxtyping's hook is there.

SHRINK = (
    "seeds=[0]",
    "search=null",
    "doses={}",
    "probes=null",
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
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Qwen3 directory with 6 thousand weights, and a tokenizer like the base's."""
    from statewise.random_model import Shape, make_random_model
    from statewise.store import write_json
    from statewise.study.models import MARKER
    from statewise.world import World, train_tokenizer

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
    make_random_model(folder, shape, tokenizer=folder, seed=0)
    write_json(folder / MARKER, {"randomly_initialised": True, "seed": 0})
    return folder


@pytest.fixture(scope="session")
def tiny_study(tiny_base: Path) -> Study:
    """The pocket study, every arm of it, on the tiny base."""
    from statewise.study.spec import read_study

    return read_study("pocket", (f"base={tiny_base}", *SHRINK))


@pytest.fixture(scope="session")
def tiny_run(tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The tiny study, run to its end. Tests may add files that can be made again, such as a report."""
    from statewise.jobs.executor import run_study

    return run_study(tiny_study, tmp_path_factory.mktemp("run") / "run", workers=0)


@pytest.fixture(scope="session")
def probed_study(tiny_study: Study) -> Study:
    """Three arms of the tiny study and every probe: one with gold states, one with a teacher, one with rewards.

    Beside them a null of each kind, which moved as far as the taught arm.
    """
    from dataclasses import replace

    from statewise.claims.controls import EarlyStop, Interpolation
    from statewise.data import WorldProblems
    from statewise.study.probes import CHEAP, KINDS, Probing

    nulls = (
        Interpolation(
            "part_way", ("base", "mild_sft"), "opd_from_mild", tolerance=0.5, prompts_limit=2
        ),
        EarlyStop(
            "early", "mild_sft", "opd_from_mild", by="kl_to_base", every_steps=4, prompts_limit=2
        ),
    )
    probes = Probing(
        after=tuple(KINDS),
        during=CHEAP,
        every_steps=2,
        # Two more than drift draws.
        prompts=WorldProblems("dev", limit=8),
        retention_limit=3,
        depths_tokens=(2, 4),
        microscope=3,
    )
    arms = tuple(tiny_study.arm(name) for name in ("mild_sft", "opd_from_mild", "grpo"))
    claims = tuple(c for c in tiny_study.claims if c.name in ("opd_retains", "rl_retains"))
    return replace(tiny_study, arms=arms, claims=claims, probes=probes, nulls=nulls)


@pytest.fixture(scope="session")
def probed_run(probed_study: Study, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The probed study, run to its end."""
    from statewise.jobs.executor import run_study

    return run_study(probed_study, tmp_path_factory.mktemp("probed") / "run", workers=0)
