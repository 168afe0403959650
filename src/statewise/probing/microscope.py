"""The state microscope: what an arm does at each state of a few completions, as `microscope.json`.

    arm, seed, teacher      the teacher is the first that the arm names; null without one
    trains                  false for the base, and for what lies between two policies
    vocabulary              text of every token id in the file; parts of a character by their bytes, as ⟨F0 9F⟩
    prompts[]               id, text, reference, and one or two rollouts:
        kind                own: the trained policy's own completion. trained: what the arm's source visits of
                            this prompt with the trained policy as learner; left out where that is its own
        trained_on          true where the arm's source visits it; no rollout of an arm that trains has it where
                            the source has nothing to show of these prompts (a stored sample of others)
        score, stopped      exact answer (null where the prompt has no gold one); ended by its stop token
        owners, owner       who chose each token: a table, and an index into it
        weight              supervision weight of the state before the token, 0 where no term applies
        logprob, entropy    of the token and of the next token, under the trained policy; nats
        kl_to_base          kl(policy||base) at the state before the token; nats
        gap                 log pi_teacher - log pi_policy of the token; null without a teacher
        advantage           where a term gives one, labelled with its whole group; of the group's first alone
        top                 the five likeliest next tokens of base, teacher and student: id, probability, id, ...

Lists have one entry a token of the completion, the stop token included. A state is the prompt and the
tokens before the one in question. Divergences are exact over the vocabulary, at temperature 1. Numbers
are rounded to 3 significant digits, probabilities to 3 decimals; what is below 1e-6 is 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from statewise.objectives.divergence import entropy, kl
from statewise.policy import pieces
from statewise.probes.per_state import Visited, visit
from statewise.probing.context import Scene
from statewise.probing.microscope_rollouts import ShownRollout, source_rollouts
from statewise.probing.samples import LEARNER
from statewise.rewards import ExactAnswer, final_answer
from statewise.store import write_text
from statewise.study.spec import BASE, Study
from statewise.trajectory import Prompt, Trajectory

SHOWN = 5
"""Likeliest next tokens of each policy."""


def write_microscope(
    path: Path, study: Study, scene: Scene, prompts: Sequence[Prompt], seed: int
) -> None:
    """Write the file of one arm, whole; compact, because a page holds those of all arms."""
    assert study.probes is not None
    few = list(prompts[: study.probes.microscope])
    about = {"seed": seed, "trains": study.trained_as(scene.name) is not None}
    found = about | microscope(scene, few, source_rollouts(study, scene, few, seed))
    write_text(path, json.dumps(found, separators=(",", ":"), allow_nan=False) + "\n")


def microscope(
    scene: Scene, prompts: Sequence[Prompt], trained_on: Mapping[str, ShownRollout]
) -> dict[str, Any]:
    """The document, but for `seed` and `trains`. `trained_on` has what the arm's source visits, by the prompt's id."""
    own = {row.prompt.id: row for row in scene.samples[BASE if scene.is_base else LEARNER]}
    rollouts: list[ShownRollout] = []
    for prompt in prompts:
        visited = trained_on.get(prompt.id)
        if visited is None or visited.kind != "own":
            row = own[prompt.id]
            rollouts.append(ShownRollout("own", row, np.zeros(len(row.completion_ids))))
        if visited is not None:
            rollouts.append(visited)
    teacher = next(iter(scene.teachers), None)
    tables = _tables(scene, [rollout.row for rollout in rollouts], teacher)
    shown = [_document(rollout, i, *tables) for i, rollout in enumerate(rollouts)]
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for rollout, document in zip(rollouts, shown, strict=True):
        by_prompt.setdefault(rollout.row.prompt.id, []).append(document)
    return {
        "arm": scene.name,
        "teacher": teacher,
        "vocabulary": {
            str(i): pieces.piece(scene.base.tokenizer, i).text for i in sorted(_ids(shown))
        },
        "prompts": [
            {"id": p.id, "text": p.text, "reference": p.reference, "rollouts": by_prompt[p.id]}
            for p in prompts
        ],
    }


# ---- numbers at every state ----------------------------------------------------------------------

Rows = Sequence[np.ndarray]
Tables = tuple[Visited, Visited | None, Rows]


def _tables(scene: Scene, rows: Sequence[Trajectory], teacher: str | None) -> Tables:
    """Policy beside base, and the teacher, at every state; and which states are whose row's."""
    mine = visit(scene.policy, scene.base, rows, _compared)
    of_teacher = None if teacher is None else visit(scene.teachers[teacher], None, rows, _alone)
    ends = np.cumsum([len(row.completion_ids) for row in rows])
    return mine, of_teacher, np.split(np.arange(len(mine)), ends[:-1])


def _alone(own: Tensor, _other: Tensor, action_ids: Tensor) -> dict[str, Tensor]:
    found = {"logprob": own.gather(-1, action_ids[:, None]).squeeze(-1)}
    return found | _likeliest("own", own)


def _compared(own: Tensor, other: Tensor, action_ids: Tensor) -> dict[str, Tensor]:
    found = {"entropy": entropy(own), "kl": kl(own, other)}
    return found | _alone(own, other, action_ids) | _likeliest("other", other)


def _likeliest(name: str, logprobs: Tensor) -> dict[str, Tensor]:
    top = logprobs.topk(min(SHOWN, logprobs.shape[-1]), -1)
    found = {f"{name}.id{k}": top.indices[:, k] for k in range(top.indices.shape[1])}
    return found | {f"{name}.p{k}": top.values[:, k].exp() for k in range(top.values.shape[1])}


def _document(
    rollout: ShownRollout, place: int, mine: Visited, of_teacher: Visited | None, rows: Rows
) -> dict[str, Any]:
    """One completion as the file has it."""
    row, at = rollout.row, rows[place]
    codes = row.owner_codes[row.prompt_tokens :]
    table = list(dict.fromkeys(int(code) for code in codes))
    gold = row.prompt.reference is not None and final_answer(row.prompt.reference) is not None
    return {
        "kind": rollout.kind,
        "trained_on": rollout.trained_on,
        "score": _short(ExactAnswer()(row.prompt, row.completion)) if gold else None,
        "stopped": row.stopped,
        "owners": [row.owners[code] for code in table],
        "token_ids": row.completion_ids.tolist(),
        "owner": [table.index(int(code)) for code in codes],
        "weight": _shorts(rollout.weights),
        "logprob": _shorts(mine["logprob"][at]),
        "kl_to_base": _shorts(mine["kl"][at]),
        "gap": None
        if of_teacher is None
        else _shorts(of_teacher["logprob"][at] - mine["logprob"][at]),
        "entropy": _shorts(mine["entropy"][at]),
        "advantage": None if rollout.advantages is None else _shorts(rollout.advantages),
        "top": {
            "base": _tops(mine, "other", at),
            "teacher": None if of_teacher is None else _tops(of_teacher, "own", at),
            "student": _tops(mine, "own", at),
        },
    }


def _tops(table: Visited, name: str, at: np.ndarray) -> list[list[float | int]]:
    """`[id, p, id, p, ...]` a state, the likeliest first."""
    shown = [k for k in range(SHOWN) if f"{name}.id{k}" in table.values]
    ids = np.stack([table[f"{name}.id{k}"][at] for k in shown], 1).astype(int)
    chances = np.stack([table[f"{name}.p{k}"][at] for k in shown], 1)
    return [
        [part for i, p in zip(row, ps, strict=True) for part in (int(i), round(float(p), 3))]
        for row, ps in zip(ids, chances, strict=True)
    ]


def _ids(rollouts: Sequence[Mapping[str, Any]]) -> set[int]:
    """Every token id that occurs."""
    found: set[int] = set()
    for rollout in rollouts:
        found.update(rollout["token_ids"])
        for lists in rollout["top"].values():
            for top in lists or ():
                found.update(top[::2])
    return found


def _short(value: float) -> float | None:
    """3 significant digits; None for what is not defined.

    >>> _short(0.123456), _short(-1e-9), _short(float("nan"))
    (0.123, 0.0, None)
    """
    if not isfinite(value):
        return None
    return 0.0 if abs(value) < 1e-6 else float(f"{value:.3g}")


def _shorts(values: np.ndarray) -> list[float | None]:
    return [_short(float(value)) for value in values]
