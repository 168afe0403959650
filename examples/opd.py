"""On-policy distillation in one flat loop: the states are the learner's own, and a teacher speaks there.

Compare with `grpo.py`: the same states, but instead of one number a completion a whole next-token
distribution a state. Compare with `sft.py`: the same knowledge (the teacher *is* what `sft.py`
trains), but said where the learner goes, not where the dataset went.

    python examples/opd.py              # a minute or two on one core
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from sft import COMPLETION_TOKENS, accuracy, fine_tune, load_base, problems
from torch.nn.utils import clip_grad_norm_

from statewise.policy import Policy
from statewise.trajectory import Sampling, Trajectory, pad

PROMPTS_PER_STEP = 32
ROWS_AT_ONCE = 16


def own_rows(trajectories: Sequence[Trajectory]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [M, L], padded on the right, and mask [M, L]: True at the tokens that were sampled."""
    # From lengths, never from ids: a stop token that doubles as padding must stay. The state in
    # which the learner chose to stop is one that the teacher has an opinion about.
    masks = [np.arange(len(t)) >= t.prompt_tokens for t in trajectories]
    ids = pad([t.token_ids for t in trajectories], 0)
    return torch.as_tensor(ids).long(), torch.as_tensor(pad(masks, fill=False))


def add_gradient(
    student: Policy, teacher: Policy, token_ids: torch.Tensor, mask: torch.Tensor
) -> float:
    """Add the gradient of `mean kl(pi_student || pi_teacher)` over the states; return that loss.

    The states are taken as given: that other choices would have led to other states is left out,
    so this is not the gradient of the KL between whole sequences.
    """
    # Position j holds the distribution over token j + 1, so the last position of a row predicts
    # nothing that was sampled, and the state of token j + 1 is masked by that token's mask.
    mask = mask[:, 1:]
    # The denominator is that of the whole update: every state counts the same, whatever it shares
    # a forward pass with.
    states = mask.sum()
    loss = 0.0
    for part in torch.arange(len(token_ids)).split(ROWS_AT_ONCE):
        with torch.no_grad():  # the teacher reads the student's rows; it is not moved by them
            theirs = teacher.module(input_ids=token_ids[part]).logits[:, :-1].log_softmax(-1)
        own = student.module(input_ids=token_ids[part]).logits[:, :-1].log_softmax(-1)
        # The whole vocabulary: the log-ratio of the sampled token alone is right on average as a
        # *score*, but differentiated as a *loss* its expected gradient is 0.
        kl = (own.exp() * (own - theirs)).sum(-1)
        share = (kl * mask[part]).sum() / states
        share.backward()
        loss += share.item()
    return loss


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a teacher, distil it on the learner's own states, and say what both can do."""
    parser = argparse.ArgumentParser(description="On-policy distillation in one flat loop.")
    parser.add_argument("--steps", type=int, default=30, help="of the teacher and of the student")
    steps = parser.parse_args(arguments).steps
    student, teacher = load_base("student"), load_base("teacher")
    print(f"dev accuracy before: {accuracy(student):.3f}")
    fine_tune(teacher, steps)
    teacher = teacher.snapshot("teacher")  # frozen from here on
    print(f"the teacher's:       {accuracy(teacher):.3f}")
    prompts, rng = problems("prompts", student), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(student.module.parameters(), lr=1e-4, weight_decay=0.0)
    for step in range(1, steps + 1):
        picked = rng.choice(len(prompts), PROMPTS_PER_STEP, replace=False)
        trajectories = student.sample(  # the states of this step, by the policy of this step
            [prompts[i] for i in picked],
            sampling=Sampling(temperature=1.0),
            max_new_tokens=COMPLETION_TOKENS,
            seed=step,
        )
        token_ids, mask = own_rows(trajectories)
        loss = add_gradient(student, teacher, token_ids, mask)
        clip_grad_norm_(student.module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0 or step == steps:
            print(f"step {step}: kl(student || teacher) {loss:.3f} nats a state")
    print(f"dev accuracy after:  {accuracy(student):.3f}")


if __name__ == "__main__":
    main()
