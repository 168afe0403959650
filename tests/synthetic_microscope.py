"""Completions of a synthetic run, token by token: `microscope.json` of one arm."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("Tom", "Mia", "Ben", "Ada", "Sam", "Eva", "Leo", "Ida")
THINGS = ("apples", "pens", "coins", "cards", "shells", "books")
WORDS = (" the", " so", " then", " 12", " is", "\n", " more", "####", " 7", " and", " =", "<<")
TOKENS = 40
NUMBERS: dict[str, int] = {}
"""Token ids by text, the same for every arm, as one tokenizer gives them."""


def write(
    folder: Path,
    arm: str,
    seed: int,
    teacher: str | None,
    prompts: int,
    right: float,
    texts: tuple[str, ...],
) -> None:
    """The file of one arm: `prompts` prompts, an own completion each and, with a teacher, a trained one."""
    rng = np.random.default_rng([len(arm), seed, 5])
    used: dict[str, int] = {}

    def number(text: str) -> int:
        used[text] = NUMBERS.setdefault(text, len(NUMBERS) + 3)
        return used[text]

    pool = [number(word) for word in (*WORDS, *texts)]
    shown = []
    for i in range(prompts):
        question, solution, wrong = _problem(i)
        solved = bool(rng.random() < right)
        plants = [number(text) for text in texts]
        rollouts = [
            _rollout(
                arm,
                "own",
                solution if solved else wrong,
                solved,
                teacher,
                rng,
                number,
                pool,
                plants,
            )
        ]
        if teacher:
            rollouts.append(
                _rollout(arm, "trained", solution, None, teacher, rng, number, pool, plants)
            )
        shown.append(
            {"id": f"dev-{i:03d}", "text": question, "reference": solution, "rollouts": rollouts}
        )
    document = {
        "arm": arm,
        "seed": seed,
        "teacher": teacher,
        "trains": arm not in ("base", "stress_in_part"),
        "vocabulary": {str(token): text for text, token in used.items()},
        "prompts": shown,
    }
    (folder / "microscope.json").write_text(json.dumps(document))


def _problem(i: int) -> tuple[str, str, str]:
    rng = np.random.default_rng([9, i])
    a, b, c = (int(v) for v in rng.integers(3, 30, 3))
    who, what = NAMES[i % len(NAMES)], THINGS[i % len(THINGS)]
    question = f"Question: {who} has {a} {what} and buys {b} more. Then {who} finds {c}. "
    question += f"How many {what} has {who} now?\nAnswer:"

    def told(total: int) -> str:
        return (
            f" First {who} has {a}+{b}=<<{a}+{b}={a + b}>>{a + b} {what}.\n"
            f"Then {who} has {a + b}+{c}=<<{a + b}+{c}={total}>>{total} {what}.\n#### {total}"
        )

    return question, told(a + b + c), told(a + b + c + 10)


def _rollout(
    arm: str,
    kind: str,
    text: str,
    solved: bool | None,
    teacher: str | None,
    rng: np.random.Generator,
    number: Any,
    pool: list[int],
    plants: list[int],
) -> dict[str, Any]:
    ids = [number(part) for part in re.findall(r" ?[A-Za-z]+|\d|\n|#+|<<|>>| ?[^\w\s]| ", text)]
    ids = (ids[:5] + plants + ids[5:])[:TOKENS]
    n = len(ids)
    own = kind == "own"
    moved = np.round(rng.gamma(0.4, 0.15, n), 4)
    owners = ["student@60", *([] if own or not teacher else [f"teacher:{teacher}@40"])]
    cut = n if own else n // 2

    def tops(sharp: float) -> list[list[float]]:
        rows = []
        for token in ids:
            p = sharp * rng.random() ** 0.3
            rest = rng.choice(pool, 4, replace=False)
            others = np.sort(rng.dirichlet(np.ones(5))[:4])[::-1] * (1 - p)
            pairs = sorted(
                [(p, token), *zip(others.tolist(), rest.tolist(), strict=True)], reverse=True
            )
            rows.append([x for q, t in pairs for x in (int(t), round(float(q), 3))])
        return rows

    return {
        "kind": kind,
        "trained_on": not own or arm == "grpo",
        "score": None if solved is None else float(solved),
        "stopped": bool(rng.random() < 0.95),
        "owners": owners,
        "token_ids": ids,
        "owner": [0 if t < cut else 1 for t in range(n)],
        "weight": [1.0 if own or t >= cut else 0.0 for t in range(n)],
        "logprob": [round(float(v), 3) for v in -rng.gamma(0.5, 0.6, n)],
        "kl_to_base": [float(v) for v in moved],
        "gap": [round(float(v), 3) for v in rng.normal(0, 0.6, n)] if teacher else None,
        "entropy": [round(float(v), 3) for v in rng.gamma(0.7, 0.5, n)],
        "advantage": [round(float(v), 3) for v in np.full(n, 0.7 if solved else -1.1)]
        if arm == "grpo"
        else None,
        "top": {
            "base": tops(0.7),
            "teacher": tops(0.85) if teacher else None,
            "student": tops(0.95),
        },
    }
