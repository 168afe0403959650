"""Prompt to trajectory to states: padding, the off-by-one, owners."""

from tests.mutants.mutant import Mutant

HOME, TEST = "trajectory.py", "core/test_trajectory.py"

MUTANTS = (
    Mutant(
        "padding",
        "rows are padded on the left",
        HOME,
        "target[: len(row)] = row",
        "target[len(target) - len(row) :] = row",
        (f"{TEST}::test_pad_keeps_the_type_and_fills_the_right",),
    ),
    Mutant(
        "shift",
        "the action is the token before it",
        HOME,
        "action_ids=tensor(token_ids[row, column], torch.long)",
        "action_ids=tensor(token_ids[row, column - 1], torch.long)",
        (f"{TEST}::test_the_state_before_a_token_is_the_prefix_that_ends_just_before_it",),
    ),
    Mutant(
        "shift",
        "a token's label is that of the one before",
        "signals.py",
        "pad(self.per_token, 0.0), device=device)[states.row, states.column]",
        "pad(self.per_token, 0.0), device=device)[states.row, states.column - 1]",
        (
            "core/test_supervision.py::test_process_rewards_are_paid_to_the_tokens_before_them_and_not_after",
        ),
    ),
    Mutant(
        "mask",
        "the token of column 0 is a state",
        HOME,
        "weights[:, 0] = 0.0",
        "weights[:, 0] *= 1.0",
        (f"{TEST}::test_column_0_is_never_supervised_whatever_its_weight",),
    ),
    Mutant(
        "mask",
        "prompt tokens are supervised",
        HOME,
        "Segment(PROMPT, prompt.token_ids, None, 0.0)",
        "Segment(PROMPT, prompt.token_ids, None, 1.0)",
        (f"{TEST}::test_prompt_tokens_are_never_supervised",),
    ),
    Mutant(
        "role",
        "two teachers are two roles",
        HOME,
        'return owner.split("@")[0].split(":")[0]',
        'return owner.split("@")[0]',
        (f"{TEST}::test_owned_by_reads_roles_and_versions_do_not_split_them",),
    ),
    Mutant(
        "role",
        "the prompt counts as an author of the state behind it",
        HOME,
        "if position >= trajectory.prompt_tokens and name not in seen:",
        "if name not in seen:",
        (f"{TEST}::test_origins_name_who_wrote_the_prefix_not_who_chose_the_token",),
    ),
    Mutant(
        "role",
        "a blend's tokens carry no version",
        HOME,
        'r"(?:blend:)?student@(',
        'r"student@(',
        ("core/test_replay.py::test_the_blends_tokens_age_with_the_student",),
    ),
    Mutant(
        "temperature",
        "the temperature of sampling is forgotten",
        HOME,
        "t.sampling.temperature if t.sampling else 1.0 for",
        "1.0 for",
        ("core/test_train.py::test_the_ratio_starts_at_1_at_the_temperature_of_sampling",),
    ),
    Mutant(
        "temperature",
        "every row has the first row's temperature",
        HOME,
        "np.array(temperatures, np.float32)[row]",
        "np.array(temperatures, np.float32)[row * 0]",
        (
            "core/test_trajectory.py::test_the_state_before_a_token_is_the_prefix_that_ends_just_before_it",
        ),
    ),
    Mutant(
        "old policy",
        "an unmoved policy has old log-probs of 0",
        HOME,
        "old_logprobs = [np.full(len(t), np.nan, np.float32)",
        "old_logprobs = [np.full(len(t), 0.0, np.float32)",
        (f"{TEST}::test_without_old_logprobs_the_policy_has_not_moved_since",),
    ),
    Mutant(
        "top-k",
        "top-k 50 passes for the whole distribution",
        HOME,
        "self.temperature > 0 and self.top_p >= 1 and self.top_k == 0",
        "self.temperature > 0 and self.top_p >= 1",
        ("core/test_arms.py::test_a_source_and_a_term_that_mean_nothing_together_are_refused",),
    ),
)
