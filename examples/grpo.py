"""GRPO in one flat loop: the states are the learner's own, and a reward speaks there.

Compare with `sft.py`. No gold token is read: the learner completes each prompt several times, a
reward says which completions were right, and every token of a completion is made more or less
likely by how its completion did beside the others (Shao et al., 2024, arXiv 2402.03300).

    python examples/grpo.py             # a minute or two on one core
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from sft import COMPLETION_TOKENS, accuracy, load_base, problems
from torch.nn.utils import clip_grad_norm_

from statewise.policy import Policy
from statewise.rewards import ExactAnswer
from statewise.trajectory import Sampling, Trajectory, pad

PROMPTS_PER_STEP, SAMPLES_PER_PROMPT = 8, 8
UPDATES_PER_STEP = 2
ROWS_AT_ONCE = 16
CLIP = 0.2


def own_rows(trajectories: Sequence[Trajectory]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [M, L], padded on the right, and mask [M, L]: True at the tokens that were sampled."""
    # A completion that ended by itself ends with its stop token, and that was a choice too: leave
    # it out and the policy gradient never touches the decision to stop.
    masks = [np.arange(len(t)) >= t.prompt_tokens for t in trajectories]
    ids = pad([t.token_ids for t in trajectories], 0)
    return torch.as_tensor(ids).long(), torch.as_tensor(pad(masks, fill=False))


def logprobs(student: Policy, token_ids: torch.Tensor) -> torch.Tensor:
    """`log pi(token | state)` of every token but the first, [M, L - 1]: position j predicts j + 1.

    The full softmax, because the tokens are sampled from it (temperature 1). At any other
    temperature the logits are divided by it here too, or the ratios below are another policy's.
    """
    logits = student.module(input_ids=token_ids).logits[:, :-1]
    return logits.log_softmax(-1).gather(-1, token_ids[:, 1:, None]).squeeze(-1)


def group_advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Rewards [prompts, samples] to advantages [prompts * samples]: each against its own group.

    The same prompt drawn twice makes two groups. A group whose rewards are all equal says nothing.
    """
    spread = rewards.std(1, keepdim=True) + 1e-4
    return ((rewards - rewards.mean(1, keepdim=True)) / spread).flatten()


def add_gradient(
    student: Policy,
    token_ids: torch.Tensor,
    mask: torch.Tensor,
    advantages: torch.Tensor,
    old_logprobs: torch.Tensor,
) -> float:
    """Add the gradient of the clipped surrogate to the student; return the loss.

    `old_logprobs` [M, L - 1] are those of the policy before this rollout's first update.
    """
    mask, loss = mask[:, 1:], 0.0
    for part in torch.arange(len(token_ids)).split(ROWS_AT_ONCE):
        ratio = (logprobs(student, token_ids[part]) - old_logprobs[part]).exp()
        gain = advantages[part, None]
        surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain)
        # GRPO's own denominator: the mean over a completion's tokens, then over all completions of
        # the update, however many of them share this forward pass.
        means = (surrogate * mask[part]).sum(1) / mask[part].sum(1)
        share = -means.sum() / len(token_ids)
        share.backward()
        loss += share.item()
    return loss


def main(arguments: Sequence[str] | None = None) -> None:
    """Reinforce the embedded base and say what it can do before and after."""
    parser = argparse.ArgumentParser(description="GRPO in one flat loop.")
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args(arguments).steps
    student, reward = load_base("student"), ExactAnswer()
    prompts, rng = problems("prompts", student), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(student.module.parameters(), lr=1e-4, weight_decay=0.0)
    print(f"dev accuracy before: {accuracy(student):.3f}")
    for step in range(1, steps + 1):
        picked = rng.choice(len(prompts), PROMPTS_PER_STEP, replace=False)
        trajectories = student.sample(  # the states of this step, by the policy of this step
            [prompts[i] for i in picked],
            samples_per_prompt=SAMPLES_PER_PROMPT,
            sampling=Sampling(temperature=1.0),
            max_new_tokens=COMPLETION_TOKENS,
            seed=step,
        )
        rewards = torch.tensor([reward(t.prompt, t.completion) for t in trajectories])
        advantages = group_advantages(rewards.view(PROMPTS_PER_STEP, SAMPLES_PER_PROMPT))
        token_ids, mask = own_rows(trajectories)
        with torch.no_grad():
            old = torch.cat([logprobs(student, part) for part in token_ids.split(ROWS_AT_ONCE)])
        for k in range(UPDATES_PER_STEP):  # from the second on the ratio is no longer 1
            rows = torch.arange(k, len(token_ids), UPDATES_PER_STEP)
            add_gradient(student, token_ids[rows], mask[rows], advantages[rows], old[rows])
            clip_grad_norm_(student.module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        if step % 5 == 0 or step == steps:
            print(f"step {step}: {rewards.mean():.3f} of the sampled completions are right")
    print(f"dev accuracy after:  {accuracy(student):.3f}")


if __name__ == "__main__":
    main()
