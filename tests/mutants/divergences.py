"""Divergences: directions, tails, teachers' temperatures and mixtures."""

from tests.mutants.mutant import Mutant

TEST, EXACT = "core/test_objectives.py", "core/test_exact_expectations.py"
DIVERGENCE = "objectives/divergence.py"
DIRECTION = f"{TEST}::test_the_two_divergences_by_hand_and_their_direction"
PLAIN = "core/test_fused.py::test_divergences_equal_the_plain_formula_in_value_and_gradient"
TOP_K = f"{TEST}::test_top_2_and_the_tail_by_hand"

MUTANTS = (
    Mutant(
        "direction",
        "kl(student||teacher) is kl(teacher||student)",
        DIVERGENCE,
        "return divergence(logits, signal, 1.0)",
        "return divergence(logits, signal, 0.0)",
        (DIRECTION,),
    ),
    Mutant(
        "estimator as loss",
        "k1 of the sampled token is the loss",
        DIVERGENCE,
        "return divergence(logits, signal, 1.0)",
        "student, teacher = signal.compare(logits.log_softmax(-1))\n"
        "        return (student - teacher)[torch.arange(len(states)), states.action_ids]",
        (f"{EXACT}::test_opd_is_the_gradient_of_the_state_divergence_with_visitation_held_fixed",),
    ),
    Mutant(
        "direction",
        "kl(teacher||student) is kl(student||teacher)",
        DIVERGENCE,
        "return divergence(logits, signal, 0.0)",
        "return divergence(logits, signal, 1.0)",
        (DIRECTION,),
    ),
    Mutant(
        "direction",
        "beta weighs the student in the middle of a JSD",
        DIVERGENCE,
        "torch.logaddexp(teacher + math.log(beta), student + math.log(1 - beta))",
        "torch.logaddexp(student + math.log(beta), teacher + math.log(1 - beta))",
        (PLAIN,),
    ),
    Mutant(
        "direction",
        "beta weighs the student's half of a JSD",
        DIVERGENCE,
        "beta * kl(teacher, middle) + (1 - beta) * kl(student, middle)",
        "beta * kl(student, middle) + (1 - beta) * kl(teacher, middle)",
        (PLAIN,),
    ),
    Mutant(
        "direction",
        "the ends of a JSD are swapped",
        DIVERGENCE,
        "kl(student, teacher) if beta else kl(teacher, student)",
        "kl(teacher, student) if beta else kl(student, teacher)",
        (PLAIN,),
    ),
    Mutant(
        "direction",
        "the gate asks whether the student hesitates",
        DIVERGENCE,
        "entropy(teacher) > self.threshold_nats",
        "entropy(student) > self.threshold_nats",
        (f"{TEST}::test_the_entropy_gate_by_hand",),
    ),
    Mutant(
        "entry clip",
        "each entry of a divergence is clamped at 0",
        DIVERGENCE,
        "masked_fill(log_p == -math.inf, 0.0)).sum(-1)",
        "masked_fill(log_p == -math.inf, 0.0)).clamp(min=0).sum(-1)",
        (PLAIN,),
    ),
    Mutant(
        "fault as score",
        "a divergence of nan is 0",
        DIVERGENCE,
        ".masked_fill(log_p == -math.inf, 0.0)",
        ".nan_to_num(0.0)",
        ("core/test_probes.py::test_mean_kl_of_a_broken_policy_is_a_fault_and_not_0",),
    ),
    Mutant(
        "teacher temperature",
        "a teacher's logits are multiplied by its temperature",
        "signals.py",
        "logits /= self.temperature",
        "logits *= self.temperature",
        (f"{TEST}::test_the_teachers_temperature_divides_its_logits",),
    ),
    Mutant(
        "teacher temperature",
        "a reference is read at temperature 1",
        "signals.py",
        "self._logits(chunk) / temperature[chunk, None]",
        "self._logits(chunk)",
        ("core/test_supervision.py::test_the_log_ratio_is_taken_at_the_temperature_of_sampling",),
    ),
    Mutant(
        "tail",
        "the tail is 1 minus the rest",
        "signals.py",
        "tail = logprobs.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)",
        "tail = (1 - logprobs.gather(-1, ids).exp().sum(-1, keepdim=True)).log()",
        (f"{TEST}::test_a_tail_too_small_to_see_from_1_is_still_there",),
    ),
    Mutant(
        "tail",
        "the top k are renormalised and the tail is empty",
        "signals.py",
        "torch.cat([logprobs.gather(-1, ids), tail], -1)",
        "torch.cat([logprobs.gather(-1, ids).log_softmax(-1), tail - 1e9], -1)",
        (TOP_K,),
    ),
    Mutant(
        "support",
        "the student's top k are the teacher's",
        "signals.py",
        'student if self.support == "student" else teacher',
        "teacher",
        (TOP_K,),
    ),
    Mutant(
        "support",
        "a token that both hold stands twice in the union",
        "signals.py",
        "others = student.detach().scatter(-1, chosen, -torch.inf)",
        "others = student.detach()",
        (f"{TEST}::test_the_union_holds_both_top_k_and_no_token_twice",),
    ),
    Mutant(
        "mixture counts",
        "a mixture of teachers is a mean of log-probs",
        "signals.py",
        "torch.stack(parts).logsumexp(0)",
        "torch.stack(parts).mean(0).log_softmax(-1)",
        (f"{TEST}::test_a_mixture_of_teachers_mixes_probabilities_and_not_logits",),
    ),
    Mutant(
        "vocabulary",
        "heads of two widths are cut and not renormalised",
        "signals.py",
        "student[:, :width].log_softmax(-1), teacher[:, :width].log_softmax(-1)",
        "student[:, :width], teacher[:, :width]",
        (f"{TEST}::test_heads_of_different_width_are_compared_over_the_ids_that_both_have",),
    ),
)
