"""What a policy gradient pulls towards: the expectation of every advantage under every normaliser.

`tests/core/test_advantages.py` lists each of these laws over every completion of a small world, by the text
that stands here; docs/methods.md is written out of it.
"""

from __future__ import annotations

from dataclasses import dataclass

LEGEND = """\
The direction in which one update moves the policy in expectation (minus the gradient of the loss), while the policy is
still the one that sampled: one prompt, M rows. `T` is the number of states of a completion, `R` its reward, `r = E[R]`
a number that is held fixed, `C` is `constant_tokens`. `grad E[X]` differentiates who samples, not X. Under `token` a
row is divided by the states of the whole update: `h(T) = E[M / (T + T_2 + ... + T_M)]` and
`k(T) = E[R_2 M / (T + T_2 + ... + T_M)]` are expectations over the other rows, held fixed.

A normaliser that depends on a completion's own length is a part of its reward. `E[1/T]` and `E[h(T)]` fall as
completions grow, so a negative advantage that is the same everywhere is, under `sequence`, a reward for length
(`length_reward`), and under `constant` nothing at all (`negative_advantage`). GRPO divides by length too: beside the
reward it has the term `-r grad E[1/T]`, which lengthens completions the more the more of them are right, and what a
wrong token costs falls with the length of its row. Under `token` the length term fades as 1/M."""


@dataclass(frozen=True)
class Law:
    """The expected directions of one kind of advantage, by normaliser.

    >>> [law.constant for law in LAWS if law.kind == "constant_advantage"]
    ['0']
    """

    kind: str
    """The supervision's kind."""
    settings: str
    constant: str
    sequence: str
    token: str


LAWS = (
    Law("constant_advantage", "value c", "0", "c grad E[1/T]", "c grad E[h(T)]"),
    Law(
        "reward_baseline",
        "a number b",
        "grad E[R] / C",
        "grad E[(R - b) / T]",
        "grad E[(R - b) h(T)]",
    ),
    Law(
        "reward_baseline",
        "mean of the M rows",
        "(M-1)/M grad E[R] / C",
        "(M-1)/M grad E[(R - r) / T]",
        "(M-1)/M grad E[R h(T) - k(T)]",
    ),
    Law(
        "leave_one_out",
        "",
        "grad E[R] / C",
        "grad E[(R - r) / T]",
        "grad E[R h(T) - k(T)]",
    ),
    Law(
        "group_advantage",
        "scale none, n = M samples",
        "(n-1)/n grad E[R] / C",
        "(n-1)/n grad E[(R - r) / T]",
        "(n-1)/n grad E[R h(T) - k(T)]",
    ),
    Law(
        "group_advantage",
        "scale std, n = M = 2, rewards 0 and 1; q = 1 / (sqrt(2) + 0.0002)",
        "q grad E[R] / C",
        "q grad E[(R - r) / T]",
        "q grad E[R h(T) - k(T)]",
    ),
    Law(
        "process_reward",
        "discount 1, baseline b, paid at the last token",
        "grad E[R] / C",
        "grad E[(R - b) / T]",
        "grad E[(R - b) h(T)]",
    ),
    Law(
        "process_reward",
        "discount 1, baseline b, paid by token: A_t the rewards from token t on, less b",
        "grad E[R] / C",
        "E[sum_t A_t / T grad log pi_t]",
        "E[sum_t A_t h(T) grad log pi_t]",
    ),
    Law(
        "teacher_log_ratio",
        "discount 0: A_t of one token",
        "-E[sum_t grad kl(student||teacher) at s_t] / C",
        "E[sum_t A_t / T grad log pi_t]",
        "E[sum_t A_t h(T) grad log pi_t]",
    ),
    Law(
        "teacher_log_ratio",
        "discount 1: A_t of the tokens from t on",
        "-grad kl(student||teacher) of completions / C",
        "E[sum_t A_t / T grad log pi_t]",
        "E[sum_t A_t h(T) grad log pi_t]",
    ),
)
