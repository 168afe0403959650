"""Probes as part of a study: whose states, what is resumed, what is shown, what is summed up."""

from tests.mutants.mutant import Mutant

JOBS, MICROSCOPE, FIGURES = (
    f"study/test_{name}.py" for name in ("probe_jobs", "microscope", "probe_results")
)
STATE = f"{MICROSCOPE}::test_numbers_at_a_state_are_the_models_own"
WALKS = f"{MICROSCOPE}::test_trained_walks_say_who_wrote_what_and_what_was_taught"

MUTANTS = (
    Mutant(
        "whose states",
        "an arm's own retention states pass for the base's",
        "study/scene.py",
        "return (rest or BASE) if part",
        "return BASE if part",
        (f"{JOBS}::test_forgetting_reads_each_policys_own_retention_states",),
    ),
    Mutant(
        "whose states",
        "a teacher's states are the student's",
        "study/probe_jobs.py",
        "drawn(study, run, other, prompts, teacher, seed).learner",
        "mine.learner",
        (f"{JOBS}::test_numbers_are_those_of_the_role_they_name",),
    ),
    Mutant(
        "whose states",
        "what drift drew is drawn again",
        "study/probe_samples.py",
        "if row is not None and np.array_equal(row.prompt.token_ids, prompt.token_ids)",
        "if False",
        (f"{JOBS}::test_what_drift_drew_is_not_drawn_again",),
    ),
    Mutant(
        "whose states",
        "an arm's file repeats what is true of the base",
        "study/scene.py",
        "alone = probe in ALONE and not scene.is_base",
        "alone = False",
        (f"{JOBS}::test_every_arm_is_asked_every_probe_that_applies",),
    ),
    Mutant(
        "resume",
        "a look that a kill undid stands twice",
        "study/jobs.py",
        '"dev.jsonl", "probes.jsonl", ',
        '"dev.jsonl", ',
        (f"{JOBS}::test_looks_that_a_kill_undid_are_cut_and_made_again",),
    ),
    Mutant(
        "resume",
        "a probe that was asked before the kill is asked again",
        "study/probe_jobs.py",
        "    if not path.is_file():\n",
        "    if True:\n",
        (f"{JOBS}::test_an_arm_that_is_killed_while_it_is_probed_ends_as_if_it_never_was",),
    ),
    Mutant(
        "resume",
        "a student is probed before its teacher",
        "study/executor.py",
        '            *(Job("probe", teacher, seed) for teacher in study.parents(study.arm(name))),\n',
        "",
        (f"{JOBS}::test_a_probing_job_waits_for_the_base_and_for_its_teachers_of_the_same_seed",),
    ),
    Mutant(
        "watching",
        "a probe looks at the student as it began",
        "study/during.py",
        'policy=student.view("student")',
        'policy=student.snapshot("student")',
        (f"{JOBS}::test_cheap_probes_are_asked_every_so_many_steps_and_at_the_end",),
    ),
    Mutant(
        "watching",
        "a probe leaves the student frozen",
        "study/during.py",
        "    scene.policy.version = step\n",
        "    scene.policy.version = step\n    scene.policy.module.requires_grad_(False)\n",
        (f"{JOBS}::test_an_arm_trains_as_it_would_unwatched",),
    ),
    Mutant(
        "microscope",
        "the divergence from base the other way round",
        "study/microscope.py",
        '"kl": kl(own, other)',
        '"kl": kl(other, own)',
        (STATE,),
    ),
    Mutant(
        "microscope",
        "the gap is the student's over the teacher's",
        "study/microscope.py",
        'told["logprob"][at] - mine["logprob"][at]',
        'mine["logprob"][at] - told["logprob"][at]',
        (STATE,),
    ),
    Mutant(
        "microscope",
        "every token of a trained walk counts as taught",
        "study/walks.py",
        "return (row.weights * spoken)[row.prompt_tokens :]",
        "return row.everywhere().weights[row.prompt_tokens :]",
        (WALKS,),
    ),
    Mutant(
        "microscope",
        "a completion is shown with another one's advantage",
        "study/walks.py",
        "labels.select([i])",
        "labels.select([0])",
        (f"{MICROSCOPE}::test_an_advantage_is_labelled_with_the_whole_group",),
    ),
    Mutant(
        "summing up",
        "the base has a spread over seeds",
        "study/probe_results.py",
        "if (of_base or len(rows) == 1)",
        "if len(rows) == 1",
        (f"{FIGURES}::test_the_bases_figures_stand_once_and_are_its_own",),
    ),
    Mutant(
        "summing up",
        "a teacher with two students counts twice",
        "study/probe_results.py",
        ".setdefault(seed, row)",
        ".setdefault((seed, arm), row)",
        (f"{FIGURES}::test_two_students_of_one_teacher_do_not_count_its_seed_twice",),
    ),
    Mutant(
        "summing up",
        "a probe that one arm cannot answer is said to apply to none",
        "study/probe_results.py",
        'if all(row is not None and row["kind"] == "does not apply" for row in rows)',
        'if any(row is not None and row["kind"] == "does not apply" for row in rows)',
        (f"{JOBS}::test_a_probe_that_applies_to_some_arm_is_no_note",),
    ),
    Mutant(
        "summing up",
        "equal seeds are certainty",
        "stats/estimate.py",
        "if float(np.ptp(array)) <= ROUNDING * float(np.abs(array).max()):",
        "if n == 1:",
        (f"{FIGURES}::test_what_no_seed_changes_has_no_known_error",),
    ),
)
