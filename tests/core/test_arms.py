"""What may be combined, what a budget accepts, and how names become policies."""

from __future__ import annotations

import itertools

import pytest
from enumerable import A, prompt, tiny

from statewise.arms import (
    Arm,
    Budget,
    Stream,
    Term,
    bind,
    continuation_opd,
    grpo,
    opd,
    policies,
    pretraining,
    references,
    sft,
)
from statewise.data import JsonLines, Prompts
from statewise.errors import ConfigError, PairingError
from statewise.methods import (
    blended_opd,
    gkd,
    iterative_sft,
    offline_kd,
    prefix_reset_rl,
    rejection_sft,
    sequence_kd,
    with_rehearsal,
    with_replay,
)
from statewise.objectives import (
    ClippedSurrogate,
    CrossEntropy,
    KLStudentTeacher,
    KLTeacherStudent,
)
from statewise.policy import LIVE, Ema, Lora, PolicyRef
from statewise.rewards import ExactAnswer
from statewise.sources import (
    Blended,
    Continuation,
    Dataset,
    Filtered,
    Learner,
    Mixture,
    PrefixReset,
    Replay,
    Stored,
    Teacher,
)
from statewise.supervision import GroupAdvantage, OwnActions, TeacherDistribution

MILD = PolicyRef("mild")
OWN, TOLD, GROUPED = OwnActions(), TeacherDistribution(MILD), GroupAdvantage(ExactAnswer())
ACCEPTED = {
    ("own_actions", "cross_entropy"),
    ("teacher_distribution", "kl_student_teacher"),
    ("teacher_distribution", "kl_teacher_student"),
    ("group_advantage", "clipped_surrogate"),
}
DATA = JsonLines("train.jsonl")
BUDGET = Budget(1e-3, steps=2)
LEARNER = Learner(8, samples_per_prompt=4)
BRANCH = Continuation(teacher=MILD, branch_tokens=2, max_new_tokens=8)
RESET = PrefixReset(8, samples_per_prompt=4)
BLEND = Blended(MILD, 0.1, 8)
SAMPLE = Stored("states.parquet", "learner", samples_per_prompt=4)
TAUGHT = Teacher(MILD, 8, samples_per_prompt=4)
MIXED = Mixture((Learner(8), Dataset()), (0.5,))
KEPT = Filtered(LEARNER, ExactAnswer())


def stream(source, *terms: Term, **options) -> Stream:
    return Stream(DATA, source, terms, **({"prompts_per_step": 1} | options))


# ---- pairing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("supervision", "objective"),
    list(
        itertools.product(
            (OWN, TOLD, GROUPED),
            (CrossEntropy(), KLStudentTeacher(), KLTeacherStudent(), ClippedSurrogate()),
        )
    ),
    ids=lambda x: x.kind,
)
def test_the_signal_decides_which_objective_fits_and_a_refusal_names_both_sides(
    supervision, objective
):
    if (supervision.kind, objective.kind) in ACCEPTED:
        assert Term(supervision, objective).objective is objective
        return
    with pytest.raises(PairingError) as refusal:
        Term(supervision, objective)
    message = str(refusal.value)
    assert supervision.kind in message
    assert objective.kind in message
    assert "takes" in message
    assert "gives" in message


SURROGATE = Term(GROUPED, ClippedSurrogate())
DISTIL = Term(TOLD, KLStudentTeacher())
LIKELIHOOD = Term(OWN, CrossEntropy())


@pytest.mark.parametrize(
    ("source", "term"),
    [
        (Dataset(), LIKELIHOOD),
        (Dataset(), DISTIL),
        (LEARNER, DISTIL),
        (LEARNER, SURROGATE),
        (Learner(8, top_p=0.9), DISTIL),
        (BRANCH, LIKELIHOOD),
        (BRANCH, DISTIL),
        (TAUGHT, LIKELIHOOD),
        (TAUGHT, DISTIL),
        (MIXED, DISTIL),
        (MIXED, Term(OWN, CrossEntropy(), on=("dataset",))),
        (KEPT, LIKELIHOOD),
        (Mixture((KEPT, LEARNER), (0.5,)), DISTIL),
        (Mixture((KEPT, TAUGHT), (0.5,)), LIKELIHOOD),
        (Replay(KEPT, 0.5, 2), LIKELIHOOD),
        (RESET, SURROGATE),
        (Mixture((LEARNER, RESET), (0.5,)), SURROGATE),
        (Replay(LEARNER, 0.5, 2), SURROGATE),
        (Replay(MIXED, 0.5, 2), DISTIL),
        (BLEND, DISTIL),
        (BLEND, Term(TOLD, KLStudentTeacher(), on=("blend",))),
        (SAMPLE, LIKELIHOOD),
        (SAMPLE, DISTIL),
        (SAMPLE, SURROGATE),
        (LEARNER, Term(TeacherDistribution(Ema(0.9)), KLStudentTeacher())),
    ],
    ids=lambda x: getattr(x, "kind", None) or x.supervision.kind,
)
def test_a_source_and_a_term_that_fit_are_accepted(source, term):
    assert stream(source, term).source is source


@pytest.mark.parametrize(
    ("source", "term", "says"),
    [
        (LEARNER, LIKELIHOOD, ["own_actions", "learner"]),
        (Dataset(), SURROGATE, ["group_advantage", "dataset"]),
        (BRANCH, SURROGATE, ["group_advantage", "continuation"]),
        (Learner(8), SURROGATE, ["group_advantage", "samples_per_prompt"]),
        (Learner(8, 4, top_p=0.9), SURROGATE, ["policy gradient", "top_p"]),
        (Learner(8, 4, top_k=5), SURROGATE, ["policy gradient", "top_k"]),
        (Learner(8, 4, temperature=0.0), SURROGATE, ["policy gradient", "temperature"]),
        (MIXED, LIKELIHOOD, ["own_actions", "learner"]),
        (RESET, LIKELIHOOD, ["own_actions", "prefix_reset"]),
        (Replay(LEARNER, 0.5, 2), LIKELIHOOD, ["own_actions", "learner"]),
        (Mixture((KEPT, LEARNER), (0.5,)), LIKELIHOOD, ["own_actions", "learner"]),
        (TAUGHT, SURROGATE, ["group_advantage", "teacher"]),
        (BLEND, SURROGATE, ["group_advantage", "blended"]),
        (Mixture((LEARNER, TAUGHT), (0.5,)), SURROGATE, ["group_advantage", "teacher"]),
        (PrefixReset(8), SURROGATE, ["group_advantage", "samples_per_prompt"]),
        (Filtered(Learner(8, 4, top_p=0.9), ExactAnswer()), SURROGATE, ["policy gradient"]),
        (Replay(Learner(8, 4, top_k=3), 0.5, 2), SURROGATE, ["policy gradient"]),
        (
            LEARNER,
            Term(TeacherDistribution(PolicyRef(LIVE)), KLStudentTeacher()),
            ["its own teacher"],
        ),
        (Teacher(PolicyRef(LIVE), 8), LIKELIHOOD, ["learner source"]),
        (
            Mixture((Blended(PolicyRef(LIVE), 0.1, 8), Dataset()), (0.5,)),
            DISTIL,
            ["learner source"],
        ),
        (Filtered(Teacher(PolicyRef(LIVE), 8), ExactAnswer()), LIKELIHOOD, ["learner source"]),
        (MIXED, Term(TOLD, KLStudentTeacher(), on=("teacher",)), ["`on` names teacher"]),
    ],
    ids=str,
)
def test_a_source_and_a_term_that_mean_nothing_together_are_refused(source, term, says):
    with pytest.raises(PairingError) as refusal:
        stream(source, term)
    assert all(word in str(refusal.value) for word in says)


def test_every_term_of_a_stream_is_checked():
    with pytest.raises(PairingError):
        stream(LEARNER, DISTIL, LIKELIHOOD)


# ---- values that cannot be ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"normaliser": "constant"},
        {"constant_tokens": 5.0},
        {"normaliser": "sequence", "constant_tokens": 5.0},
        {"normaliser": "constant", "constant_tokens": 0.0},
    ],
    ids=str,
)
def test_a_constant_normaliser_and_its_constant_go_together(options):
    with pytest.raises(ConfigError, match="constant_tokens"):
        Term(OWN, CrossEntropy(), **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "steps.*epochs"),
        ({"steps": 3, "epochs": 1.0}, "steps.*epochs"),
        ({"steps": 3, "passes": 0}, "passes"),
        ({"steps": 3, "minibatches": 0}, "minibatches"),
        ({"steps": 3, "tokens_per_microbatch": 0}, "tokens_per_microbatch"),
        ({"steps": 3, "max_grad_norm": 0.0}, "max_grad_norm"),
        ({"steps": 3, "learning_rate": 0.0}, "learning_rate"),
        ({"steps": 3, "learning_rate": -1.0}, "learning_rate"),
        ({"steps": 3, "learning_rate": float("nan")}, "learning_rate"),
        ({"steps": 0}, "steps must be 1"),
        ({"epochs": 0.0}, "epochs"),
        ({"epochs": float("inf")}, "epochs"),
        ({"steps": 3, "warmup_steps": -1}, "warmup_steps"),
        ({"steps": 3, "weight_decay": -0.1}, "weight_decay"),
    ],
    ids=str,
)
def test_a_budget_that_cannot_be_spent_is_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        Budget(**({"learning_rate": 1e-3} | options))


def test_a_stream_needs_terms_and_prompts_and_an_arm_streams():
    with pytest.raises(ConfigError, match="at least one term"):
        stream(Dataset())
    with pytest.raises(ConfigError, match="prompts_per_step"):
        stream(Dataset(), LIKELIHOOD, prompts_per_step=0)
    with pytest.raises(ConfigError, match="'empty' has no streams"):
        Arm("empty", (), BUDGET)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Learner(0), "max_new_tokens"),
        (lambda: Learner(8, samples_per_prompt=0), "samples_per_prompt"),
        (lambda: Learner(8, temperature=-1.0), "temperature"),
        (lambda: Learner(8, top_p=0.0), "top_p"),
        (lambda: Learner(8, top_k=-1), "top_k"),
        (lambda: Continuation(MILD, branch_tokens=0, max_new_tokens=8), "branch_tokens"),
        (lambda: Continuation(MILD, 2, 8, cut_high=1.5), "cuts are fractions"),
        (lambda: Continuation(MILD, 2, 8, cut_low=0.6, cut_high=0.5), "cuts are fractions"),
        (lambda: Continuation(MILD, 2, 8, teacher_temperature=float("inf")), "temperature"),
        (lambda: TeacherDistribution(MILD, temperature=0.0), "temperature"),
        (lambda: Lora(rank=0), "rank"),
        (lambda: Lora(dropout=1.0), "dropout"),
    ],
)
def test_sources_and_teachers_that_mean_nothing_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_a_term_cannot_speak_of_owners_that_the_source_never_writes():
    for source, owner in ((Dataset(), "teacher"), (LEARNER, "dataset"), (BRANCH, "dataset")):
        with pytest.raises(PairingError, match=f"`on` names {owner}.*speak of no state"):
            stream(source, Term(TOLD, KLStudentTeacher(), on=(owner,)))
    stream(BRANCH, Term(OWN, CrossEntropy(), on=("teacher",)))


def test_dropout_and_ratios_do_not_go_together():
    grouped = Term(GROUPED, ClippedSurrogate())
    noisy = Budget(1e-3, steps=2, adapter=Lora(dropout=0.1))
    with pytest.raises(ConfigError, match="dropout"):
        Arm("grpo", (stream(LEARNER, grouped),), noisy)
    Arm("sft", (stream(Dataset(), Term(OWN, CrossEntropy())),), noisy)


def test_epochs_of_prompts_that_are_not_loaded_have_no_steps():
    arm = sft("sft", DATA, Budget(1e-3, epochs=1.0), prompts_per_step=2)
    with pytest.raises(ConfigError, match="'sft' counts epochs over prompts that are not loaded"):
        arm.steps  # noqa: B018


@pytest.mark.parametrize(
    ("epochs", "prompts", "per_step", "steps"),
    [(1.0, 150, 32, 5), (5.0, 150, 32, 24), (1.0, 64, 32, 2), (0.5, 64, 32, 1), (0.1, 3, 32, 1)],
)
def test_epochs_become_steps_rounded_up(epochs, prompts, per_step, steps):
    budget = Budget(1e-3, epochs=epochs)
    assert budget.rollouts(prompts, per_step) == steps
    loaded = Prompts([prompt(A, name=str(i)) for i in range(prompts)])
    arm = sft("mild", loaded, budget, prompts_per_step=per_step)
    assert arm.steps == steps


def test_steps_are_steps_whatever_the_prompts():
    assert sft("mild", DATA, Budget(1e-3, steps=7), prompts_per_step=9).steps == 7


# ---- the methods --------------------------------------------------------------------------------

GIVEN = {"prompts_per_step": 4}
METHODS = {
    "sft": sft("x", DATA, BUDGET, **GIVEN),
    "pretraining": pretraining("x", DATA, BUDGET, **GIVEN),
    "opd": opd("x", DATA, BUDGET, teacher=MILD, max_new_tokens=8, **GIVEN),
    "continuation": continuation_opd(
        "x", DATA, BUDGET, teacher=MILD, max_new_tokens=8, branch_tokens=2, **GIVEN
    ),
    "grpo": grpo("x", DATA, BUDGET, max_new_tokens=8, samples_per_prompt=4, **GIVEN),
    "sequence_kd": sequence_kd("x", DATA, BUDGET, teacher=MILD, max_new_tokens=8, **GIVEN),
    "offline_kd": offline_kd("x", DATA, BUDGET, teacher=MILD, max_new_tokens=8, **GIVEN),
    "gkd": gkd("x", DATA, BUDGET, teacher=MILD, max_new_tokens=8, **GIVEN),
    "rejection_sft": rejection_sft(
        "x", DATA, BUDGET, max_new_tokens=8, samples_per_prompt=4, **GIVEN
    ),
    "iterative_sft": iterative_sft(
        "x", DATA, BUDGET, max_new_tokens=8, samples_per_prompt=4, **GIVEN
    ),
    "prefix_reset_rl": prefix_reset_rl(
        "x", DATA, BUDGET, max_new_tokens=8, samples_per_prompt=4, **GIVEN
    ),
    "blended_opd": blended_opd(
        "x", DATA, BUDGET, teacher=MILD, epsilon=0.1, max_new_tokens=8, **GIVEN
    ),
    "replayed opd": with_replay(
        opd("x", DATA, BUDGET, teacher=MILD, max_new_tokens=8, **GIVEN), share=0.5, age_limit=4
    ),
    "replayed grpo": with_replay(
        grpo("x", DATA, BUDGET, max_new_tokens=8, samples_per_prompt=4, **GIVEN),
        share=0.5,
        capacity=9,
    ),
}


@pytest.mark.parametrize(
    ("name", "row"),
    list(
        {
            "sft": ("dataset", "own_actions", "cross_entropy", "token"),
            "pretraining": ("dataset", "own_actions", "cross_entropy", "token"),
            "opd": ("learner", "teacher_distribution", "kl_student_teacher", "token"),
            "continuation": ("continuation", "own_actions", "cross_entropy", "token"),
            "grpo": ("learner", "group_advantage", "clipped_surrogate", "sequence"),
            "sequence_kd": ("teacher", "own_actions", "cross_entropy", "token"),
            "offline_kd": ("teacher", "teacher_distribution", "kl_teacher_student", "token"),
            "gkd": ("mixture", "teacher_distribution", "kl_student_teacher", "token"),
            "rejection_sft": ("filtered", "own_actions", "cross_entropy", "token"),
            "iterative_sft": ("filtered", "own_actions", "cross_entropy", "token"),
            "prefix_reset_rl": (
                "prefix_reset",
                "group_advantage",
                "clipped_surrogate",
                "sequence",
            ),
            "blended_opd": ("blended", "teacher_distribution", "kl_student_teacher", "token"),
            "replayed opd": ("replay", "teacher_distribution", "kl_student_teacher", "token"),
            "replayed grpo": ("replay", "group_advantage", "clipped_surrogate", "sequence"),
        }.items()
    ),
)
def test_a_method_is_one_choice_on_each_axis(name, row):
    (only,) = METHODS[name].streams
    (term,) = only.terms
    assert row == (
        only.source.kind,
        term.supervision.kind,
        term.objective.kind,
        term.normaliser,
    )


def test_continuation_distillation_speaks_of_the_teachers_tokens_alone():
    assert METHODS["continuation"].streams[0].terms[0].on == ("teacher",)


def test_rejection_samples_a_frozen_policy_and_iterative_fine_tuning_the_learner():
    inner = [METHODS[name].streams[0].source.source for name in ("rejection_sft", "iterative_sft")]
    assert [source.kind for source in inner] == ["teacher", "learner"]
    assert named(METHODS["rejection_sft"]) == ["base", "base"]
    assert named(METHODS["iterative_sft"]) == ["base"]


def test_rehearsal_is_a_second_stream_and_replay_leaves_it_alone():
    other = JsonLines("retention.jsonl")
    arm = with_rehearsal(METHODS["sft"], other, prompts_per_step=2, share=0.3)
    first, second = arm.streams
    assert first == METHODS["sft"].streams[0]
    assert (second.prompts, second.prompts_per_step, second.share) == (other, 2, 0.3)
    assert (second.source, second.terms) == (Dataset(), first.terms)
    both = with_replay(
        with_rehearsal(METHODS["opd"], other, prompts_per_step=2), share=0.5, age_limit=1
    )
    assert [s.source.kind for s in both.streams] == ["replay", "dataset"]
    assert with_replay(both, share=0.1, age_limit=9) == both


# ---- names --------------------------------------------------------------------------------------


def named(arm: Arm) -> list[str]:
    return [ref.name for ref in references(arm)]


def test_references_find_every_policy_that_an_arm_names():
    base = ["base"]
    assert named(METHODS["sft"]) == base
    assert named(METHODS["opd"]) == ["mild", *base]
    assert named(METHODS["continuation"]) == ["mild", *base]
    deep = Arm(
        "both",
        (
            stream(BRANCH, Term(TeacherDistribution(PolicyRef("stress")), KLTeacherStudent())),
            stream(Dataset(), LIKELIHOOD),
        ),
        BUDGET,
        start=PolicyRef("other"),
    )
    assert named(deep) == ["mild", "stress", "other"]


def test_bind_puts_policies_and_prompts_in_place_and_leaves_the_start_to_the_caller():
    mild, loaded, asked = tiny(1, name="teacher:mild"), Prompts([prompt(A)]), []
    arm = Arm(
        "both",
        (stream(BRANCH, LIKELIHOOD, DISTIL), stream(Dataset(), LIKELIHOOD, share=0.5)),
        BUDGET,
    )

    def find(ref: PolicyRef):
        asked.append(ref.name)
        return mild

    bound = bind(arm, find, lambda _: loaded)
    assert set(asked) == {"mild"}
    first, second = bound.streams
    assert first.source.teacher is mild
    assert first.terms[1].supervision.teacher is mild
    assert first.prompts is second.prompts is loaded
    assert list(policies(bound)) == [mild]
    assert (bound.start, bound.budget, second.share) == (arm.start, BUDGET, 0.5)
    assert named(arm) == ["mild", "mild", "base"], "the arm itself was changed"
    assert bind(bound, find, lambda _: loaded) == bound


def test_bind_asks_for_averages_too_and_gives_stores_of_their_own():
    average, asked = tiny(1, name="teacher:ema"), []
    arm = with_replay(
        opd("x", DATA, BUDGET, teacher=Ema(0.9), max_new_tokens=8, **GIVEN), share=0.5, age_limit=1
    )

    def find(ref):
        asked.append(ref)
        return average

    first, second = (bind(arm, find, lambda _: Prompts([prompt(A)])) for _ in range(2))
    assert asked == [Ema(0.9)] * 2
    assert first.streams[0].terms[0].supervision.teacher is average
    stores = [x.streams[0].source.stored for x in (arm, first, second)]
    assert stores == [[], [], []]
    assert len({id(store) for store in stores}) == 3
    assert named(arm) == ["base"]


def test_bind_does_not_load_prompts_twice():
    loaded = Prompts([prompt(A)])
    arm = sft("x", loaded, BUDGET, prompts_per_step=1)

    def refuse(_):
        raise AssertionError("loaded again")

    assert bind(arm, refuse, refuse).streams[0].prompts is loaded
