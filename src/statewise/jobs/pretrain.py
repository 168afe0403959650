"""The embedded base: an arm over documents, trained from nothing by the same loop as every other arm."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from statewise.arms import Arm, Budget, bind, pretraining
from statewise.config import differences, to_plain
from statewise.data import WorldDocuments
from statewise.errors import DivergedError, RunError
from statewise.evaluate import Task, evaluate
from statewise.jobs.outcome import judging_rows, kept_rows, why_wrecked
from statewise.jobs.train import restore_optimizer, resume, save_checkpoint
from statewise.limits import CountOrZero, LearningRate, NotNegative, PromptCount, Seed, Steps
from statewise.policy import Policy
from statewise.random_model import Shape, make_random_model
from statewise.seeding import seed_for
from statewise.store import (
    append_rows,
    artefacts,
    environment,
    exclusive,
    is_there,
    layout,
    read_json,
    read_rows,
    remove,
    tidy,
    whole_directory,
    write_json,
    write_text,
)
from statewise.study.models import MARKER, refuse_foreign
from statewise.study.prompts import load_prompts
from statewise.train import Row, make_optimizer, train
from statewise.trajectory import Trajectory
from statewise.world import WORLD_VERSION, World, train_tokenizer

TOKENIZER_DOCUMENTS = 20_000
"""Documents that the tokenizer is trained on, taken from far behind those the model reads."""


@dataclass(frozen=True)
class Recipe:
    """Everything that makes the embedded base."""

    shape: Shape = Shape()
    documents_per_step: PromptCount = 64
    steps: Steps = 3600
    learning_rate: LearningRate = 4e-3
    warmup_steps: CountOrZero = 100
    weight_decay: NotNegative = 0.1
    seed: Seed = 0
    world_seed: Seed = 0

    def arm(self) -> Arm:
        """Pretraining as an arm: document states, their own tokens, cross-entropy."""
        documents = WorldDocuments(self.documents_per_step * self.steps, self.world_seed)
        budget = Budget(
            learning_rate=self.learning_rate,
            steps=self.steps,
            schedule="cosine",
            warmup_steps=self.warmup_steps,
            weight_decay=self.weight_decay,
            adam_beta2=0.95,
            tokens_per_microbatch=2048,
            precision="bf16",
        )
        return Arm.of(
            "base", pretraining(), documents, budget, prompts_per_step=self.documents_per_step
        )


def pretrain(
    recipe: Recipe,
    directory: Path,
    *,
    checkpoint_every_steps: int = 200,
    watch: Callable[[Row, int], None],
) -> None:
    """Train the base into `directory`; killed at any point and run again, it continues.

    The directory ends up as a Hugging Face model with its card (`README.md`) and nothing else.
    Raises RunError where it holds anything that statewise did not write, and DivergedError, with nothing
    written, where training ends in no policy.
    """
    refuse_foreign(directory, "recipe")
    work = directory.with_name(f".{directory.name}.work")
    with exclusive(work / ".lock"):
        plain = to_plain(recipe)
        # The text too: a corpus that changed under a half-trained model is another recipe.
        whole = {"recipe": plain, "text": _text_digest(recipe)}
        if is_there(work / "recipe.json") and read_json(work / "recipe.json") != whole:
            raise RunError(
                f"{work} holds the unfinished training of another recipe or text; delete it first"
            )
        write_json(work / "recipe.json", whole)
        tidy(work)
        checkpoint, start = resume(work)
        first = kept_rows(checkpoint) if checkpoint else []
        if checkpoint is None:
            _fresh(recipe, work / "fresh")
        student = Policy.load(checkpoint or work / "fresh", name="student", precision="bf16")
        arm = bind(
            recipe.arm(),
            policy=lambda _: student,
            prompts=lambda stream: load_prompts(stream, student),
        )
        optimizer = make_optimizer(student, arm.budget)
        if checkpoint is not None:
            restore_optimizer(optimizer, checkpoint / "optimizer.safetensors")
        for row in train(
            arm, student, optimizer, seed=seed_for("pretrain", recipe.seed), start=start
        ):
            append_rows(
                work / layout.METRICS, [{"step": row.step, "seconds": row.seconds, **row.figures}]
            )
            first = first or judging_rows(row.first_rows)
            watch(row, arm.steps)
            if row.step % checkpoint_every_steps == 0 and row.step < arm.steps:
                save_checkpoint(
                    work / "checkpoint",
                    arm,
                    student,
                    optimizer,
                    row.step,
                    grown=[work / layout.METRICS],
                    first=first,
                )
        student.precision = "fp32"
        _refuse_wrecked(recipe, work, student, first, arm.budget.tokens_per_microbatch)
        figures = dev_figures(student, recipe.world_seed)
        with whole_directory(directory) as beside:
            student.save(beside)
            write_json(beside / MARKER, {"steps": arm.steps, "recipe": plain, "dev": figures})
            write_text(
                beside / "README.md",
                _card(recipe, student, read_rows(work / layout.METRICS, artefacts.SPENT), figures),
            )
    remove(work)


def _refuse_wrecked(
    recipe: Recipe, work: Path, student: Policy, first: Sequence[Trajectory], tokens: int
) -> None:
    """Judge the last weights as those of every arm are (`outcome.py`), against the random start."""
    if not (work / "fresh").is_dir():
        _fresh(recipe, work / "fresh")
    start = Policy.load(work / "fresh", name="start")
    if why := why_wrecked(student, start, first, tokens_per_microbatch=tokens):
        raise DivergedError(
            f"{work}: pretraining ended in no policy: {why}; delete that folder and train again with a smaller "
            "learning_rate"
        )


def dev_figures(base: Policy, world_seed: int = 0) -> dict[str, float]:
    """The figures by which difficulty and training length were chosen, on the dev split alone."""
    tasks = [
        Task("pocket_gsm_dev", "target", metric="exact_match", world_seed=world_seed),
        Task("pocket_mmlu_dev", "retention", metric="acc", world_seed=world_seed),
        Task("pocket_truthfulqa_mc1_dev", "retention", metric="acc", world_seed=world_seed),
    ]
    items = evaluate(base, tasks, arm="base", seed=0)
    figures = {task.key: _mean([i.score for i in items if i.task == task.key]) for task in tasks}
    sixteen = Task(
        "pocket_gsm_dev",
        "target",
        metric="exact_match",
        limit=200,
        world_seed=world_seed,
        sampled=True,
        samples_per_item=16,
    )
    draws = [i for i in evaluate(base, [sixteen], arm="base", seed=0) if i.decoding == "sampled"]
    solved = {i.item_id: 0.0 for i in draws}
    for item in draws:
        solved[item.item_id] = max(solved[item.item_id], item.score)
    return figures | {
        "pocket_gsm_dev sampled": _mean([i.score for i in draws]),
        "pocket_gsm_dev pass@16": _mean(list(solved.values())),
    }


def _text_digest(recipe: Recipe) -> str:
    """A fingerprint of the corpus: its first documents."""
    text = "\x1e".join(World(recipe.world_seed).documents(0, 200))
    return hashlib.sha256(text.encode()).hexdigest()


def _command(recipe: Recipe) -> str:
    """The command that trains this recipe: what differs from the default is said."""
    usual, plain = to_plain(Recipe()), to_plain(recipe)
    said = ["statewise world pretrain DIRECTORY"]
    for path in differences(usual, plain):
        value = functools.reduce(lambda part, key: part[key], path.split("."), plain)
        said.append(f"--set {path}={json.dumps(value)}")
    return " ".join(said)


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4)


def _fresh(recipe: Recipe, directory: Path) -> None:
    """The tokenizer, and a random model around it."""
    world = World(recipe.world_seed)
    with whole_directory(directory) as beside:
        train_tokenizer(
            world.documents(10**9, TOKENIZER_DOCUMENTS),
            beside,
            vocabulary=recipe.shape.vocabulary,
            context_tokens=recipe.shape.context_tokens,
        )
        make_random_model(
            beside, recipe.shape, tokenizer=beside, seed=seed_for("fresh", recipe.seed)
        )


def _card(recipe: Recipe, student: Policy, rows: list[dict], figures: dict[str, float]) -> str:
    """The model card."""
    parameters = sum(p.numel() for p in student.module.parameters())
    tokens = int(sum(row["tokens_trained"] for row in rows))
    last = rows[-100:]
    loss = sum(row["loss"] for row in last) / len(last)
    minutes = sum(row["seconds"] for row in rows) / 60
    machine = environment()
    table = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return f"""---
license: apache-2.0
library_name: transformers
---
# The embedded base of statewise

A {parameters / 1e6:.2f} M parameter Qwen3 model, trained from scratch on the generated world of statewise
(version {WORLD_VERSION}, seed {recipe.world_seed}). It knows the world's arithmetic, facts and beliefs, unreliably
and on purpose: skill can be elicited, and knowledge can be lost. It is of no use outside the package's studies.

| | |
|---|---|
| exact command | `{_command(recipe)}` |
| seeds | world {recipe.world_seed}, initialisation and order {recipe.seed} |
| tokens | {tokens:,} ({recipe.steps} steps of {recipe.documents_per_step} documents, each read once) |
| loss | {loss:.4f} nats a token (mean of the last {len(last)} steps) |
| wall time | {minutes:.1f} minutes on {machine["cores"]} cores ({machine["processor"]}) |
| weights | float32, trained under bf16 autocast |
| versions | {packages} |

Figures on the **dev** split, by which difficulty and training length were chosen (before any arm ran):

| figure | value |
|---|---|
{table}

A guess scores 0.25 on the two multiple-choice tasks.
"""
