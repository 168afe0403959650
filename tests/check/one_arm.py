"""Studies of one arm, and what may be wrong with one."""

from __future__ import annotations

from dataclasses import replace

from statewise.arms import Arm, Budget, grpo, opd, sft
from statewise.check.finding import Line
from statewise.check.subject import load_subject, read_prompts, walk
from statewise.data import WorldProblems
from statewise.objectives import PythonObjective
from statewise.policy import PolicyRef
from statewise.rewards import PythonReward
from statewise.study.arm_run import ArmRun

BUDGET = Budget(0.01, steps=2)
DEMONSTRATIONS, PROMPTS = (
    WorldProblems("demonstrations", limit=40),
    WorldProblems("prompts", limit=40),
)


LONG = " ".join(["and"] * 400)
"""More than the context of the tiny base."""


def supervised(prompts=DEMONSTRATIONS):
    return Arm.of("arm", sft(), prompts, BUDGET, prompts_per_step=4)


def rewarded(prompts=PROMPTS, **options):
    sizes = {"max_new_tokens": 8, "samples_per_prompt": 2}
    return Arm.of("arm", grpo(**(sizes | options)), prompts, BUDGET, prompts_per_step=4)


def taught(teacher="base", **options):
    sizes = {"max_new_tokens": 8}
    return Arm.of(
        "arm",
        opd(teacher=PolicyRef(teacher), **(sizes | options)),
        PROMPTS,
        BUDGET,
        prompts_per_step=4,
    )


def with_objective(arm, objective):
    (stream,) = arm.streams
    terms = tuple(replace(term, objective=objective) for term in stream.terms)
    return replace(arm, streams=(replace(stream, terms=terms),))


def opened(study):
    """The only arm of a study with its prompts read, and a few rows."""
    subject, fits = read_prompts(load_subject(ArmRun(study, None, study.arms[0].name, 0)))
    return subject, fits, walk(subject, 4, 0)


def by_name(found):
    return {x.name: x for x in found if isinstance(x, Line)}


def scored(tmp_path, body):
    path = tmp_path / "mine.py"
    path.write_text(f"def score(prompt, completion):\n    return {body}\n")
    return PythonReward(f"{path}:score")


def weighted(rollouts, weights):
    return [
        replace(r, trajectories=[t.with_weights(weights(t)) for t in r.trajectories])
        for r in rollouts
    ]


def objective(tmp_path, body, takes):
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n\n\ndef loss(logits, states, signal):\n"
        "    logp = logits.log_softmax(-1)\n"
        f"    {body}\n"
    )
    return PythonObjective(f"{path}:loss", takes)
