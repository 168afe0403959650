"""`statewise check`: a check that always passes is worse than none."""

from tests.mutants.mutant import Mutant

CHANGES = "check/test_check_gradients.py::test_what_changes_with_padding_with_the_batch_or_with_time_fails"
STOPS = (
    "check/test_check_tokens.py::test_a_model_that_stops_in_under_half_of_the_rows_with_room_warns"
)

MUTANTS = (
    Mutant(
        "check",
        "what moves the gradient in float64 passes",
        "check/gradients.py",
        'return Line("fail", name, f"{figure}, {small(exact)} in float64", fix, values)',
        'return Line("pass", name, f"{figure}, {small(exact)} in float64", fix, values)',
        (
            CHANGES,
            "check/test_check_gradients.py::test_an_objective_of_the_users_own_that_divides_inside_fails",
        ),
    ),
    Mutant(
        "check",
        "nothing is padded where padding is checked",
        "check/gradients.py",
        "with padded(policies, PADDING_TOKENS):",
        "with padded(policies, 0):",
        (CHANGES,),
    ),
    Mutant(
        "check",
        "all rows at once are still one by one",
        "check/gradients.py",
        "lambda: gradient(student, rollouts, tokens=two_rows(rollouts))",
        "lambda: gradient(student, rollouts, tokens=1)",
        (CHANGES,),
    ),
    Mutant(
        "check",
        "any divergence is least at the teacher",
        "check/equal.py",
        "no_gradient = no_gradient or exact <= EXACT",
        "no_loss = no_gradient = True",
        ("check/test_check_equal.py::test_a_divergence_that_is_not_least_at_the_teacher",),
    ),
    Mutant(
        "check",
        "the trainer is compared with itself",
        "check/gap.py",
        "np.abs(logprobs[at].astype(np.float64) - row.behaviour_logprobs[at])",
        "np.abs(logprobs[at].astype(np.float64) - logprobs[at])",
        ("check/test_check_gap.py::test_a_gap_between_sampler_and_trainer",),
    ),
    Mutant(
        "check",
        "test items in the training set warn",
        "check/leakage.py",
        '"fail" if struck["test"] else "warn"',
        '"warn"',
        ("check/test_check_data.py::test_a_held_out_item_in_the_training_set_is_found",),
    ),
    Mutant(
        "check",
        "only the first words of an item are compared",
        "check/leakage.py",
        "if text[start : start + len(i.words)] == i.words",
        "if True",
        ("check/test_check_data.py::test_a_prompt_that_begins_as_an_item_does_is_no_overlap",),
    ),
    Mutant(
        "check",
        "a reward that pays for anything but little is passed",
        "check/data.py",
        "> PAID:",
        ">= 1.0:",
        (
            "check/test_check_data.py::test_a_reward_that_rejects_the_gold_answer_or_pays_for_anything",
        ),
    ),
    Mutant(
        "check",
        "what wrong answers earn by token is not held against a right one",
        "check/data.py",
        "max(_share(gold, others), _share(sums, other_sums))",
        "_share(gold, others)",
        ("check/test_check_data.py::test_a_reward_by_token_is_judged_on_the_gold_completion",),
    ),
    Mutant(
        "check",
        "a row that was cut early counts as one that went on",
        "check/tokens.py",
        "sum(t.stopped or _had_room(t, subject.student) for t in rows)",
        "len(rows)",
        (STOPS,),
    ),
    Mutant(
        "check",
        "one row that stops is enough",
        "check/tokens.py",
        "if stopped and stopped >= STOPPING * roomy:",
        "if stopped:",
        (STOPS,),
    ),
    Mutant(
        "check",
        "the legend comes before what is refused",
        "check/study.py",
        "    return _reports(study, chosen, run, items, Wanted(wanted, watch))",
        "    yield from _reports(study, chosen, run, items, Wanted(wanted, watch))",
        (
            "check/test_show.py::test_what_is_refused_is_refused_before_the_first_report_is_asked_for",
        ),
    ),
)
