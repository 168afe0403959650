"""What is said at each state: advantages, rewards, teachers that read other rows."""

from tests.mutants.mutant import Mutant

TEST = "core/test_supervision.py"
ADVANTAGE = "supervision/advantage.py"
RATIO = "supervision/log_ratio.py"
PROCESS = "supervision/process.py"
CLIPPED = f"{TEST}::test_the_log_ratio_is_clipped_token_by_token_and_then_summed_to_the_end"
PAID = f"{TEST}::test_process_rewards_are_paid_to_the_tokens_before_them_and_not_after"
PRIVILEGED = f"{TEST}::test_a_privileged_teacher_reads_its_own_prompt_and_the_same_completion"
REWARDS = "core/test_rewards.py"

MUTANTS = (
    Mutant(
        "group",
        "the mean is that of the rollout",
        ADVANTAGE,
        "rewards[members] - rewards[members].mean()",
        "rewards[members] - rewards.mean()",
        (f"{TEST}::test_equal_prompts_in_two_groups_are_compared_within_their_group_alone",),
    ),
    Mutant(
        "group",
        "equal prompts are one group",
        ADVANTAGE,
        "found[trajectory.group_id]",
        "found[trajectory.prompt.id]",
        (f"{TEST}::test_equal_prompts_in_two_groups_are_compared_within_their_group_alone",),
    ),
    Mutant(
        "group",
        "the spread is that of a population",
        ADVANTAGE,
        "rewards[members].std(ddof=1) + 1e-4",
        "rewards[members].std() + 1e-4",
        (f"{TEST}::test_group_advantage_by_hand_divides_by_the_sample_deviation",),
    ),
    Mutant(
        "group",
        "equal rewards divide by 0",
        ADVANTAGE,
        "rewards[members].std(ddof=1) + 1e-4",
        "rewards[members].std(ddof=1)",
        (f"{TEST}::test_a_group_of_equal_rewards_says_nothing",),
    ),
    Mutant(
        "group",
        "a partial group of one is normalised as if whole",
        ADVANTAGE,
        "if len(members) < 2:",
        "if len(members) < 1:",
        (f"{TEST}::test_a_group_of_one_is_refused",),
    ),
    Mutant(
        "group",
        "leave-one-out leaves nobody out",
        ADVANTAGE,
        "(rewards[members].sum() - rewards[members]) / (len(members) - 1)",
        "rewards[members].sum() / len(members)",
        (f"{TEST}::test_leave_one_out_by_hand_is_the_centred_reward_times_n_over_n_minus_1",),
    ),
    Mutant(
        "group",
        "a group with one right answer counts as silent",
        ADVANTAGE,
        "not advantages[members].any()",
        "not advantages[members].all()",
        (
            "core/test_supervision.py::test_a_group_is_silent_where_every_advantage_is_0_and_not_where_one_is",
        ),
    ),
    Mutant(
        "baseline",
        "a number as baseline is replaced by the mean",
        ADVANTAGE,
        'rewards.mean() if self.baseline == "mean" else self.baseline',
        "rewards.mean()",
        (f"{TEST}::test_reward_baseline_by_hand_is_of_the_rollout_and_not_of_the_group",),
    ),
    Mutant(
        "log-ratio",
        "student over teacher",
        RATIO,
        "told.of_actions(states.action_ids, states.temperature) - states.behaviour_logprobs",
        "states.behaviour_logprobs - told.of_actions(states.action_ids, states.temperature)",
        (
            "core/test_exact_expectations.py::test_the_sampled_log_ratio_is_the_state_divergence_in_expectation",
        ),
    ),
    Mutant(
        "clip side",
        "a log-ratio is clipped above alone",
        RATIO,
        "gaps.clamp(-self.clip, self.clip)",
        "gaps.clamp(max=self.clip)",
        ("core/test_supervision.py::test_a_log_ratio_is_clipped_on_both_sides",),
    ),
    Mutant(
        "clip side",
        "a log-ratio is summed first and clipped then",
        RATIO,
        "return Advantages(returns_to_go(gaps, states, self.discount))",
        "return Advantages(returns_to_go(told.of_actions(states.action_ids, states.temperature) - "
        "states.behaviour_logprobs, states, self.discount).clamp(-(self.clip or 99), self.clip or 99))",
        (CLIPPED,),
    ),
    Mutant(
        "discount",
        "a log-ratio to come is not discounted",
        RATIO,
        "grid[:, column] += discount * grid[:, column + 1]",
        "grid[:, column] += grid[:, column + 1]",
        ("core/test_supervision.py::test_returns_to_go_by_hand",),
    ),
    Mutant(
        "discount",
        "a process reward to come is not discounted",
        PROCESS,
        "float(rewards[t]) + discount * after",
        "float(rewards[t]) + after",
        (PAID,),
    ),
    Mutant(
        "discount",
        "a token answers for what came before it",
        PROCESS,
        "for t in range(len(rewards) - 1, -1, -1):",
        "for t in range(len(rewards)):",
        (PAID,),
    ),
    Mutant(
        "discount",
        "the outcome is paid at the first token",
        "rewards/tokens.py",
        "values[-1] = self.reward",
        "values[0] = self.reward",
        (
            "core/test_supervision.py::test_process_rewards_are_paid_to_the_tokens_before_them_and_not_after",
        ),
    ),
    Mutant(
        "fault as score",
        "a token that nobody sampled has log-ratio 0",
        RATIO,
        "if unknown := int((states.behaviour_logprobs.isnan() & spoken).sum()):",
        "if unknown := 0:",
        (f"{TEST}::test_the_log_ratio_of_a_token_that_nobody_sampled_is_refused",),
    ),
    Mutant(
        "shift",
        "the teacher is read at the token's own position",
        "supervision/teacher.py",
        "teacher.hidden_at(token_ids, lengths, states.row, column - 1)",
        "teacher.hidden_at(token_ids, lengths, states.row, column)",
        (f"{TEST}::test_the_teachers_distribution_is_read_at_the_state_and_not_beside_it",),
    ),
    Mutant(
        "shift",
        "a privileged teacher is read at the student's position",
        "supervision/teacher.py",
        "column = column + (lengths - states.lengths)[states.row]",
        "column = column + 0 * (lengths - states.lengths)[states.row]",
        (PRIVILEGED,),
    ),
    Mutant(
        "template",
        "a privileged teacher reads the student's own prompt",
        "supervision/context.py",
        "Template(prompt=self.template).prompt_text(known)",
        "prompt.text",
        (PRIVILEGED,),
    ),
    Mutant(
        "template",
        "a privileged prompt does not begin as the tokenizer begins texts",
        "supervision/context.py",
        "parts = [teacher.prefix_ids, teacher.to_ids(self.text(prompt))]",
        "parts = [teacher.to_ids(self.text(prompt))]",
        (
            "core/test_supervision.py::test_a_privileged_prompt_begins_as_the_tokenizer_begins_every_text",
        ),
    ),
    Mutant(
        "context",
        "a privileged row is measured without its completion",
        "supervision/context.py",
        "self._fits([len(row) for row in rows], teacher)",
        "self._fits([t.prompt_tokens for t in trajectories], teacher)",
        (f"{TEST}::test_a_privileged_row_that_the_teacher_cannot_read_is_refused_with_the_count",),
    ),
    Mutant(
        "extraction",
        "the last mark is read, not the first",
        "rewards/exact.py",
        "return None if match is None else match[1].replace",
        "return None if match is None else _MARKED.findall(text)[-1].replace",
        ("core/test_rewards.py::test_final_answer",),
    ),
    Mutant(
        "extraction",
        "thousands commas count",
        "rewards/exact.py",
        'match[1].replace(",", "").removesuffix(".")',
        'match[1].removesuffix(".")',
        ("core/test_rewards.py::test_final_answer",),
    ),
    Mutant(
        "extraction",
        "the first number is taken for the last",
        "rewards/exact.py",
        "found[-1])",
        "found[0])",
        ("core/test_rewards.py::test_flexible_extraction_reads_the_last_number",),
    ),
    Mutant(
        "fault as score",
        "no answer equals a reference without an answer",
        "rewards/exact.py",
        "if gold is None:",
        "if prompt.reference is None:",
        (f"{REWARDS}::test_a_reference_without_an_answer_is_a_fault_and_no_score",),
    ),
    Mutant(
        "fault as score",
        "a user's reward of nan is a score",
        "rewards/python.py",
        "if not math.isfinite(value):",
        "if value is None:",
        (
            "core/test_supervision.py::test_a_users_reward_that_is_no_number_is_a_fault_and_no_score",
        ),
    ),
)
