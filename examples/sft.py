"""Supervised fine-tuning in one flat loop: the states are a dataset's.

A state is a prompt and the tokens written so far. Here somebody else wrote them: the learner is
trained at every prefix of a worked solution, whether or not it would ever get there by itself.
`grpo.py` and `opd.py` train at prefixes that the learner wrote; nothing else is as different.

    python examples/sft.py              # about a minute on one core
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from statewise.policy import Policy
from statewise.rewards import ExactAnswer
from statewise.trajectory import Prompt, Sampling, pad
from statewise.world import World

PROMPTS_PER_STEP = 32
ROWS_AT_ONCE = 16  # rows of one forward and backward pass: a matter of memory, never of the result
DEV_ITEMS = 100
COMPLETION_TOKENS = 120


def load_base(name: str) -> Policy:
    """The embedded base: a language model of a million weights, with its tokenizer."""
    return Policy.load(str(files("statewise.world") / "base"), name=name)


def problems(split: str, policy: Policy) -> list[Prompt]:
    """Generated word problems. `reference` is a worked solution that ends in `#### answer`."""
    found = []
    for i, record in enumerate(World().gsm(split)):
        text = f"Question: {record['question']}\nAnswer:"
        found.append(Prompt(f"{split}/{i}", text, policy.to_ids(text), f" {record['answer']}"))
    return found


def accuracy(policy: Policy) -> float:
    """Share of the dev problems whose greedy completion ends in the right number."""
    prompts, greedy = problems("dev", policy)[:DEV_ITEMS], Sampling(temperature=0.0)
    rows = policy.sample(prompts, sampling=greedy, max_new_tokens=COMPLETION_TOKENS, seed=0)
    return float(np.mean([ExactAnswer()(row.prompt, row.completion) for row in rows]))


def gold_rows(prompts: Sequence[Prompt], policy: Policy) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [M, L], padded on the right, and mask [M, L]: True at the tokens to learn."""
    rows, masks = [], []
    for prompt in prompts:
        # The stop token is a label like any other. A policy that never learns it never stops.
        gold = np.append(policy.to_ids(prompt.reference or ""), policy.eos_token_id)
        rows.append(np.concatenate([prompt.token_ids, gold]))
        # The mask comes from lengths and never from ids: in many tokenizers padding *is* the stop
        # token, and a mask of "everything that is not padding" would lose the stop with it.
        masks.append(np.arange(len(rows[-1])) >= len(prompt.token_ids))
    return torch.as_tensor(pad(rows, 0)).long(), torch.as_tensor(pad(masks, fill=False))


def add_gradient(student: Policy, token_ids: torch.Tensor, mask: torch.Tensor) -> float:
    """Add the gradient of `-mean log pi(gold token | state)` to the student; return that loss."""
    # A position holds the prediction of the *next* token: logits at j are read against token j + 1,
    # and the first token, which has no prefix, is nobody's label.
    labels, mask = token_ids[:, 1:], mask[:, 1:]
    # The denominator is that of the whole update, counted before the first forward pass. A mean
    # taken batch by batch would make a token count for more where it shares its batch with few.
    learned_tokens = mask.sum()
    loss = 0.0
    for part in torch.arange(len(token_ids)).split(ROWS_AT_ONCE):
        # No attention mask: attention is causal, so no token ever sees the padding to its right.
        logits = student.module(input_ids=token_ids[part]).logits[:, :-1]
        logprobs = logits.log_softmax(-1).gather(-1, labels[part][..., None]).squeeze(-1)
        share = -(logprobs * mask[part]).sum() / learned_tokens
        share.backward()
        loss += share.item()
    return loss


def fine_tune(student: Policy, steps: int) -> None:
    """The loop: take states from the dataset, say what comes next there, move."""
    demonstrations = problems("demonstrations", student)
    optimizer = torch.optim.AdamW(student.module.parameters(), lr=1e-4, weight_decay=0.0)
    rng = np.random.default_rng(0)
    for step in range(1, steps + 1):
        picked = rng.choice(len(demonstrations), PROMPTS_PER_STEP, replace=False)
        token_ids, mask = gold_rows([demonstrations[i] for i in picked], student)
        loss = add_gradient(student, token_ids, mask)
        clip_grad_norm_(student.module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0 or step == steps:
            print(f"step {step}: loss {loss:.3f} nats a token")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fine-tune the embedded base and say what it can do before and after."""
    parser = argparse.ArgumentParser(description="Supervised fine-tuning in one flat loop.")
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args(arguments).steps
    student = load_base("student")
    print(f"dev accuracy before: {accuracy(student):.3f}")
    fine_tune(student, steps)
    print(f"dev accuracy after:  {accuracy(student):.3f}")


if __name__ == "__main__":
    main()
