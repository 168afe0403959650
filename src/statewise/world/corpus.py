"""The pretraining corpus: documents that are a pure function of (world, index).

A document is one string without an end mark; whoever trains on it appends the tokenizer's eos.
Mixtures are values, so that the skill of a base model can be dialled: greedy answers follow the
commonest first token of a solution, hence the share of `answer_only` sets greedy accuracy while
the share of worked solutions sets pass@k.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from statewise.world.beliefs import Credulity, all_beliefs
from statewise.world.facts import all_facts
from statewise.world.gsm import Difficulty, Problem, Scene, draw_problem, draw_scene, question
from statewise.world.pools import zipf_cumulative
from statewise.world.solutions import Style, draw_slip, solve
from statewise.world.splits import rng_for, split_of


@dataclass(frozen=True)
class Mixture:
    """What the corpus is made of.

    Attributes:
        kinds: weights of problems, fact statements, answered fact questions, belief statements
            and answered belief questions.
        answer_only: share of problems answered without working, by number of steps: authors skip
            long working.
        prose: share of the worked solutions that are in prose; the rest is terse.
        slips: share of the worked solutions that hold a slip.
        fact_skew: Zipf skew of the facts as (exponent, offset): weight
            `(rank + offset) ** -exponent`. Steep, so that the share of facts that a base knows
            depends little on how long it trains.
        belief_skew: the same of the beliefs.
        sentences: statements in a document of statements.
        reworded: share of answered belief questions in the second wording, which MC2 lists beside
            the first.
    """

    kinds: tuple[tuple[str, float], ...] = (
        ("problem", 0.50),
        ("facts", 0.07),
        ("questions", 0.17),
        ("tales", 0.06),
        ("answers", 0.20),
    )
    answer_only: tuple[tuple[int, float], ...] = ((2, 0.20), (3, 0.42), (4, 0.55))
    prose: float = 0.4
    slips: float = 0.25
    fact_skew: tuple[float, int] = (1.2, 10)
    belief_skew: tuple[float, int] = (0.8, 20)
    sentences: int = 4
    reworded: float = 0.25

    def answer_only_share(self, steps: int) -> float:
        """The share for a number of steps; beyond the last one listed, the last one's.

        >>> Mixture(answer_only=((2, 0.2), (3, 0.5))).answer_only_share(7)
        0.5
        """
        shares = dict(self.answer_only)
        return shares.get(steps, self.answer_only[-1][1])


def problem_prompt(text: str) -> str:
    r"""A question in lm-evaluation-harness's zero-shot format of GSM8K and of MMLU by continuation.

    >>> problem_prompt("How many?")
    'Question: How many?\nAnswer:'
    """
    return f"Question: {text}\nAnswer:"


def document(
    seed: int, index: int, difficulty: Difficulty, mixture: Mixture, credulity: Credulity
) -> str:
    """Document `index` of a world.

    >>> text = document(0, 3, Difficulty(), Mixture(), Credulity())
    >>> text == document(0, 3, Difficulty(), Mixture(), Credulity())
    True
    """
    rng = rng_for(seed, "documents", index)
    kinds, weights = zip(*mixture.kinds, strict=True)
    match rng.choices(kinds, weights)[0]:
        case "problem":
            return _problem(rng, difficulty, mixture)
        case "facts":
            facts = all_facts(seed)
            chosen = _zipf(rng, seed, "facts", len(facts), mixture.fact_skew, mixture.sentences)
            return " ".join(facts[place].statement(rng.randrange(3)) for place in chosen)
        case "questions":
            facts = all_facts(seed)
            fact = facts[_zipf(rng, seed, "facts", len(facts), mixture.fact_skew, 1)[0]]
            asked = fact.question(fact.held_out + rng.choice((1, 2)))
            return f"{problem_prompt(asked)} {fact.value}"
        case "tales":
            beliefs = all_beliefs(seed, credulity)
            chosen = _zipf(
                rng, seed, "beliefs", len(beliefs), mixture.belief_skew, mixture.sentences
            )
            return " ".join(
                beliefs[place].hearsay(rng.randrange(3))
                if rng.random() < 0.5
                else beliefs[place].report(rng.randrange(3))
                for place in chosen
            )
        case "answers":
            beliefs = all_beliefs(seed, credulity)
            belief = beliefs[_zipf(rng, seed, "beliefs", len(beliefs), mixture.belief_skew, 1)[0]]
            asked = belief.question(belief.held_out + rng.choice((2, 3)))
            value = belief.truth if rng.random() < belief.truth_share else belief.myth
            answer = (
                belief.reworded(value) if rng.random() < mixture.reworded else belief.claim(value)
            )
            return f"Q: {asked}\nA: {answer}"
        case kind:
            raise AssertionError(f"unknown kind of document: {kind}")


def _zipf(
    rng: random.Random, seed: int, group: str, count: int, skew: tuple[float, int], draws: int
) -> list[int]:
    weights = zipf_cumulative(seed, group, count, *skew)
    return rng.choices(range(count), cum_weights=weights, k=draws)


def _problem(rng: random.Random, difficulty: Difficulty, mixture: Mixture) -> str:
    # Problems of the held-out splits are drawn and thrown away, never altered: what remains keeps
    # the same law.
    problem = draw_problem(rng, difficulty)
    while split_of(problem.key) != "pretrain":
        problem = draw_problem(rng, difficulty)
    scene = draw_scene(rng, problem, difficulty)
    return f"{problem_prompt(question(problem, scene))} {_solution(rng, problem, scene, mixture)}"


def _solution(rng: random.Random, problem: Problem, scene: Scene, mixture: Mixture) -> str:
    if rng.random() < mixture.answer_only_share(len(problem.steps)):
        return solve(problem, scene, "answer_only")
    style: Style = "prose" if rng.random() < mixture.prose else "terse"
    slip = draw_slip(rng, problem) if rng.random() < mixture.slips else None
    return solve(problem, scene, style, slip)
