"""What may be combined, what a budget accepts, and how names become policies."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from enumerable import A, prompt, tiny

from statewise import arms
from statewise.arms import (
    Arm,
    Budget,
    Method,
    Stream,
    Term,
    bind,
    only_in_contexts,
    policies,
    references,
    sft,
)
from statewise.config import from_plain, to_plain
from statewise.data import JsonLines, Prompts
from statewise.errors import ConfigError, PairingError
from statewise.objectives import (
    JSD,
    Cispo,
    ClippedSurrogate,
    CrossEntropy,
    DynamicFineTuning,
    EntropyGated,
    Importance,
    ImportanceWeighted,
    KLStudentTeacher,
    KLTeacherStudent,
    PythonObjective,
    Reinforce,
    SequenceRatio,
)
from statewise.policy import LIVE, Ema, Lora, PolicyRef
from statewise.rewards import ExactAnswer, Outcome
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
from statewise.supervision import (
    ConstantAdvantage,
    Context,
    GroupAdvantage,
    LeaveOneOut,
    OwnActions,
    ProcessReward,
    PythonSupervision,
    ReferenceActions,
    RewardBaseline,
    TeacherDistribution,
    TeacherLogRatio,
    TeacherMixture,
)

MILD = PolicyRef("mild")
OWN, TOLD, GROUPED = OwnActions(), TeacherDistribution(MILD), GroupAdvantage(ExactAnswer())
DIVERGENCES = (KLStudentTeacher(), KLTeacherStudent(), JSD(), EntropyGated())
GRADIENTS = (Reinforce(), ClippedSurrogate(), Cispo(), SequenceRatio())
REWARD = ExactAnswer()
SAYS = {
    "actions": (OWN, PythonSupervision("x:y", "actions")),
    "reference": (ReferenceActions(MILD), PythonSupervision("x:y", "reference")),
    "distribution": (
        TOLD,
        TeacherDistribution(MILD, top_k=4),
        TeacherMixture((TOLD, TOLD), (0.5, 0.5)),
        PythonSupervision("x:y", "distribution"),
    ),
    "advantages": (
        GROUPED,
        LeaveOneOut(REWARD),
        RewardBaseline(REWARD),
        ProcessReward(Outcome(REWARD)),
        ConstantAdvantage(),
        TeacherLogRatio(MILD),
        PythonSupervision("x:y", "advantages"),
    ),
}
MOVES = {
    "actions": (CrossEntropy(), DynamicFineTuning(), PythonObjective("x:y", "actions")),
    "reference": (ImportanceWeighted(), PythonObjective("x:y", "reference")),
    "distribution": (*DIVERGENCES, PythonObjective("x:y", "distribution")),
    "advantages": (*GRADIENTS, PythonObjective("x:y", "advantages")),
}
DATA = JsonLines("train.jsonl")
BUDGET = Budget(1e-3, steps=2)
LEARNER = Learner(8, samples_per_prompt=4)
BRANCH = Continuation(teacher=MILD, branch_tokens=2, max_new_tokens=8)
WHOLE = Continuation(MILD, 2, 8, samples_per_prompt=4, supervised=("student", "teacher"))
RESET = PrefixReset(8, samples_per_prompt=4)
BLEND = Blended(MILD, 0.1, 8)
SAMPLE = Stored("states.parquet", "learner", samples_per_prompt=4)
TEACHES = Teacher(MILD, 8, samples_per_prompt=4)
MIXED = Mixture((Learner(8), Dataset()), (0.5,))
KEPT = Filtered(LEARNER, ExactAnswer())


def users(gives, teacher=None, context=None) -> PythonSupervision:
    """A user's own supervision; nothing is imported before it is asked."""
    return PythonSupervision("x:y", gives, teacher, context)


def stream(source, *terms: Term, **options) -> Stream:
    return Stream(DATA, source, terms, **({"prompts_per_step": 1} | options))


# ---- pairing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "moved"), list(itertools.product(SAYS, MOVES)))
def test_the_signal_decides_which_objective_fits_and_a_refusal_names_both_sides(said, moved):
    for supervision, objective in itertools.product(SAYS[said], MOVES[moved]):
        if said == moved:
            assert Term(supervision, objective).objective is objective
            continue
        with pytest.raises(PairingError) as refusal:
            Term(supervision, objective)
        message = str(refusal.value)
        # A user's own goes by its function: every one of them is of kind python.
        names = [getattr(part, "function", part.kind) for part in (supervision, objective)]
        for word in (*names, "takes", "gives"):
            assert word in message


SURROGATE = Term(GROUPED, ClippedSurrogate())
DISTIL = Term(TOLD, KLStudentTeacher())
LIKELIHOOD = Term(OWN, CrossEntropy())
RATIOED = Term(ReferenceActions(MILD), ImportanceWeighted())
REWEIGHED = Term(GROUPED, ClippedSurrogate(), on=("student",), importance=Importance())


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
        (WHOLE, DISTIL),
        (WHOLE, Term(OWN, CrossEntropy(), on=("teacher",))),
        (WHOLE, Term(GROUPED, ClippedSurrogate(), on=("student",))),
        (TEACHES, LIKELIHOOD),
        (TEACHES, DISTIL),
        (MIXED, DISTIL),
        (MIXED, Term(OWN, CrossEntropy(), on=("dataset",))),
        (KEPT, LIKELIHOOD),
        (Mixture((KEPT, LEARNER), (0.5,)), DISTIL),
        (Mixture((KEPT, TEACHES), (0.5,)), LIKELIHOOD),
        (Replay(KEPT, 0.5, 2), LIKELIHOOD),
        (RESET, SURROGATE),
        (Mixture((LEARNER, RESET), (0.5,)), SURROGATE),
        (Replay(LEARNER, 0.5, 2), SURROGATE),
        (Replay(MIXED, 0.5, 2), DISTIL),
        (BLEND, DISTIL),
        (BLEND, Term(TOLD, KLStudentTeacher(), on=("blend",))),
        (SAMPLE, LIKELIHOOD),
        (SAMPLE, DISTIL),
        (SAMPLE, REWEIGHED),
        (LEARNER, Term(TeacherDistribution(Ema(0.9)), KLStudentTeacher())),
        (Mixture((LEARNER, TEACHES), (0.5,)), Term(GROUPED, ClippedSurrogate(), on=("student",))),
        (Learner(8), Term(RewardBaseline(REWARD), Reinforce())),
        (Learner(8), Term(ConstantAdvantage(), Reinforce(), importance=Importance())),
        (
            Learner(8),
            Term(TeacherDistribution(PolicyRef(LIVE), context=Context("{answer}")), JSD()),
        ),
        (BRANCH, Term(OWN, CrossEntropy(), on=("teacher",), importance=Importance())),
        (LEARNER, Term(users("distribution", MILD), JSD())),
        (LEARNER, Term(users("distribution", Ema(0.9)), JSD())),
        (LEARNER, Term(users("distribution", PolicyRef(LIVE), Context("{answer}")), JSD())),
        # A number made of the student's own distribution (how sure it is) says something new.
        (LEARNER, Term(users("advantages", PolicyRef(LIVE)), Reinforce())),
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
        (WHOLE, LIKELIHOOD, ["own_actions", "continuation"]),
        (WHOLE, SURROGATE, ["group_advantage", "student and teacher"]),
        (
            Continuation(MILD, 2, 8, 0.0, 1.0, 0.0, 0.0, 4, ("student",)),
            SURROGATE,
            ["policy gradient", "temperature"],
        ),
        (Learner(8), SURROGATE, ["group_advantage", "samples_per_prompt"]),
        (Learner(8, 4, top_p=0.9), SURROGATE, ["policy gradient", "top_p"]),
        (Learner(8, 4, top_k=5), SURROGATE, ["policy gradient", "top_k"]),
        (Learner(8, 4, temperature=0.0), SURROGATE, ["policy gradient", "temperature"]),
        (MIXED, LIKELIHOOD, ["own_actions", "learner"]),
        (RESET, LIKELIHOOD, ["own_actions", "prefix_reset"]),
        (Replay(LEARNER, 0.5, 2), LIKELIHOOD, ["own_actions", "learner"]),
        (Mixture((KEPT, LEARNER), (0.5,)), LIKELIHOOD, ["own_actions", "learner"]),
        (TEACHES, SURROGATE, ["group_advantage", "teacher"]),
        (BLEND, SURROGATE, ["group_advantage", "blended"]),
        (Mixture((LEARNER, TEACHES), (0.5,)), SURROGATE, ["group_advantage", "teacher"]),
        (PrefixReset(8), SURROGATE, ["group_advantage", "samples_per_prompt"]),
        (Filtered(Learner(8, 4, top_p=0.9), ExactAnswer()), SURROGATE, ["policy gradient"]),
        (Replay(Learner(8, 4, top_k=3), 0.5, 2), SURROGATE, ["policy gradient"]),
        (SAMPLE, Term(GROUPED, ClippedSurrogate(), on=("student",)), ["stored", "importance"]),
        (SAMPLE, SURROGATE, ["group_advantage", "dataset and student and teacher"]),
        (Teacher(PolicyRef(LIVE), 8), LIKELIHOOD, ["learner source"]),
        (
            Mixture((Blended(PolicyRef(LIVE), 0.1, 8), Dataset()), (0.5,)),
            DISTIL,
            ["learner source"],
        ),
        (Filtered(Teacher(PolicyRef(LIVE), 8), ExactAnswer()), LIKELIHOOD, ["learner source"]),
        (MIXED, Term(TOLD, KLStudentTeacher(), on=("teacher",)), ["`on` names teacher"]),
        (LEARNER, Term(ReferenceActions(MILD), ImportanceWeighted()), ["reference_actions"]),
        (Teacher(MILD, 8, temperature=0.0), RATIOED, ["reference_actions", "greedily"]),
        (
            Filtered(Teacher(MILD, 8, temperature=0.0), ExactAnswer()),
            RATIOED,
            ["reference_actions", "temperature above 0"],
        ),
        (
            Mixture((Dataset(), Teacher(MILD, 8, temperature=0.0)), (0.5,)),
            RATIOED,
            ["reference_actions", "'teacher'"],
        ),
        (
            Continuation(MILD, 2, 8, teacher_temperature=0.0),
            replace(RATIOED, on=("teacher",)),
            ["reference_actions", "'continuation'"],
        ),
        (
            Teacher(MILD, 8, temperature=0.0),
            Term(OWN, CrossEntropy(), importance=Importance()),
            ["importance", "temperature"],
        ),
        (
            Learner(8, top_p=0.9),
            replace(DISTIL, importance=Importance()),
            ["importance", "top_p 1"],
        ),
        (Learner(8), Term(LeaveOneOut(REWARD), Reinforce()), ["leave_one_out", "2 or more"]),
        (Dataset(), Term(ConstantAdvantage(), Reinforce()), ["constant_advantage", "dataset"]),
        (Dataset(), Term(TeacherLogRatio(MILD), Reinforce()), ["teacher_log_ratio", "dataset"]),
        (Learner(8, top_p=0.9), Term(TeacherLogRatio(MILD), Reinforce()), ["policy gradient"]),
        (Dataset(), Term(OWN, CrossEntropy(), importance=Importance()), ["importance", "dataset"]),
        (LEARNER, Term(TeacherDistribution(PolicyRef(LIVE)), JSD()), ["live student", "context"]),
        (LEARNER, Term(TeacherLogRatio(PolicyRef(LIVE)), Reinforce()), ["live student"]),
        (
            LEARNER,
            Term(TeacherMixture((TOLD, TeacherDistribution(PolicyRef(LIVE))), (0.5, 0.5)), JSD()),
            ["live student", "context"],
        ),
        (
            Dataset(),
            Term(ReferenceActions(PolicyRef(LIVE)), ImportanceWeighted()),
            ["reference_actions", "every ratio is 1"],
        ),
        (LEARNER, Term(users("distribution", PolicyRef(LIVE)), JSD()), ["live student", "context"]),
        (Dataset(), Term(users("advantages", MILD), Reinforce()), ["x:y", "dataset"]),
        (
            Dataset(),
            Term(users("reference", PolicyRef(LIVE)), ImportanceWeighted()),
            ["live student", "context"],
        ),
    ],
    ids=str,
)
def test_a_source_and_a_term_that_mean_nothing_together_are_refused(source, term, says):
    with pytest.raises(PairingError) as refusal:
        stream(source, term)
    assert all(word in str(refusal.value) for word in says)


def test_the_live_student_is_refused_when_it_is_bound_too():
    mirror = tiny(0).view(f"teacher:{LIVE}")
    with pytest.raises(PairingError, match="live student"):
        stream(LEARNER, Term(TeacherDistribution(mirror), JSD()))
    told = TeacherDistribution(mirror, context=Context("{answer}"))
    assert stream(LEARNER, Term(told, JSD())).terms[0].supervision is told


def test_the_student_is_no_other_author_of_its_states_and_its_bare_name_makes_nobody_live():
    for mirror in (PolicyRef(LIVE), tiny(0).view(f"teacher:{LIVE}")):
        with pytest.raises(PairingError, match="is the student itself: that is the learner source"):
            stream(Teacher(mirror, 8), LIKELIHOOD)
    other = tiny(1)  # another model, whose role nobody has named
    assert other.name == LIVE
    stream(Teacher(other, 8), LIKELIHOOD)
    stream(LEARNER, Term(TeacherDistribution(other), JSD()))


def test_a_ratio_of_rows_takes_weights_of_rows():
    with pytest.raises(PairingError, match=r"importance\.level"):
        Term(GROUPED, SequenceRatio(), importance=Importance())
    Term(GROUPED, SequenceRatio(), importance=Importance(level="sequence"))


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
        (lambda: Continuation(MILD, 2, 8, supervised=()), "names nobody"),
        (
            lambda: Continuation(MILD, 2, 8, temperature=0.5, supervised=("student",)),
            "a trajectory states one",
        ),
        (lambda: Continuation(MILD, 2, 8, cut_low=0.6, cut_high=0.5), "cuts are fractions"),
        (lambda: Continuation(MILD, 2, 8, teacher_temperature=float("inf")), "temperature"),
        (lambda: TeacherDistribution(MILD, temperature=0.0), "temperature"),
        (lambda: Lora(rank=0), "rank"),
        (lambda: users("advantages", None, Context("{answer}")), "give `teacher` too"),
        (
            lambda: PythonSupervision("x:y", "actions", MILD, arguments={"teacher": 1}),
            "teacher stands in `arguments` too",
        ),
        (lambda: Lora(dropout=1.0), "dropout"),
    ],
)
def test_sources_and_teachers_that_mean_nothing_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_a_term_cannot_speak_of_owners_that_the_source_never_writes():
    for source, owner in ((Dataset(), "teacher"), (LEARNER, "dataset"), (BRANCH, "dataset")):
        with pytest.raises(PairingError, match=f"`on` names {owner}.*apply to no token"):
            stream(source, Term(TOLD, KLStudentTeacher(), on=(owner,)))
    stream(BRANCH, Term(OWN, CrossEntropy(), on=("teacher",)))


def test_dropout_and_ratios_do_not_go_together():
    grouped = Term(GROUPED, ClippedSurrogate())
    noisy = Budget(1e-3, steps=2, adapter=Lora(dropout=0.1))
    with pytest.raises(ConfigError, match="dropout"):
        Arm("grpo", (stream(LEARNER, grouped),), noisy)
    weighed = Term(ConstantAdvantage(), Reinforce(), importance=Importance())
    with pytest.raises(ConfigError, match="dropout"):
        Arm("weighed", (stream(Learner(8), weighed),), noisy)
    Arm("sft", (stream(Dataset(), Term(OWN, CrossEntropy())),), noisy)


def test_epochs_of_prompts_that_are_not_loaded_have_no_steps():
    arm = Arm.of("sft", sft(), DATA, Budget(1e-3, epochs=1.0), prompts_per_step=2)
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
    arm = Arm.of("mild", sft(), loaded, budget, prompts_per_step=per_step)
    assert arm.steps == steps


def test_steps_are_steps_whatever_the_prompts():
    assert Arm.of("mild", sft(), DATA, Budget(1e-3, steps=7), prompts_per_step=9).steps == 7


# ---- the methods --------------------------------------------------------------------------------

ROLLOUT = {"max_new_tokens": 8}
GROUP = ROLLOUT | {"samples_per_prompt": 4}
TAUGHT = {"teacher": MILD}
OPTIONS = {
    "sft": {},
    "dft": {},
    "iw_sft": {},
    "pretraining": {},
    "opd": ROLLOUT | TAUGHT,
    "jsd_opd": ROLLOUT | TAUGHT,
    "topk_opd": ROLLOUT | TAUGHT,
    "entropy_gated_opd": ROLLOUT | TAUGHT,
    "sampled_opd": ROLLOUT | TAUGHT,
    "self_distillation": ROLLOUT | {"context": "{question} {answer}"},
    "continuation_opd": ROLLOUT | TAUGHT | {"branch_tokens": 2},
    "grpo": GROUP,
    "dr_grpo": GROUP,
    "dapo": GROUP,
    "gspo": GROUP,
    "cispo": GROUP,
    "rloo": GROUP,
    "reinforce": ROLLOUT,
    "anchored_grpo": GROUP,
    "rl_with_opd": GROUP | TAUGHT,
    "negative_advantage": ROLLOUT,
    "length_reward": ROLLOUT,
    "sequence_kd": ROLLOUT | TAUGHT,
    "offline_kd": ROLLOUT | TAUGHT,
    "gkd": ROLLOUT | TAUGHT,
    "blended_opd": ROLLOUT | TAUGHT | {"epsilon": 0.1},
    "rejection_sft": GROUP,
    "iterative_sft": GROUP,
    "prefix_reset_rl": GROUP,
}
METHODS = {name: getattr(arms, name)(**options) for name, options in OPTIONS.items()}
ARMS = {
    name: Arm.of("x", method, DATA, BUDGET, prompts_per_step=4) for name, method in METHODS.items()
}
ROWS = {
    "sft": ("dataset", "own_actions", "cross_entropy", "token"),
    "dft": ("dataset", "own_actions", "dft", "token"),
    "iw_sft": ("dataset", "reference_actions", "importance_weighted", "token"),
    "pretraining": ("dataset", "own_actions", "cross_entropy", "token"),
    "opd": ("learner", "teacher_distribution", "kl_student_teacher", "token"),
    "jsd_opd": ("learner", "teacher_distribution", "jsd", "token"),
    "topk_opd": ("learner", "teacher_distribution", "kl_teacher_student", "token"),
    "entropy_gated_opd": ("learner", "teacher_distribution", "entropy_gated", "token"),
    "sampled_opd": ("learner", "teacher_log_ratio", "reinforce", "token"),
    "self_distillation": ("learner", "teacher_distribution", "kl_student_teacher", "token"),
    "continuation_opd": ("continuation", "own_actions", "cross_entropy", "token"),
    "grpo": ("learner", "group_advantage", "clipped_surrogate", "sequence"),
    "dr_grpo": ("learner", "group_advantage", "clipped_surrogate", "constant"),
    "dapo": ("learner", "group_advantage", "clipped_surrogate", "token"),
    "gspo": ("learner", "group_advantage", "sequence_ratio", "sequence"),
    "cispo": ("learner", "group_advantage", "cispo", "token"),
    "rloo": ("learner", "leave_one_out", "reinforce", "constant"),
    "reinforce": ("learner", "reward_baseline", "reinforce", "constant"),
    "anchored_grpo": ("learner", "group_advantage", "clipped_surrogate", "sequence"),
    "rl_with_opd": ("learner", "group_advantage", "clipped_surrogate", "sequence"),
    "negative_advantage": ("learner", "constant_advantage", "clipped_surrogate", "constant"),
    "length_reward": ("learner", "constant_advantage", "clipped_surrogate", "sequence"),
    "sequence_kd": ("teacher", "own_actions", "cross_entropy", "token"),
    "offline_kd": ("teacher", "teacher_distribution", "kl_teacher_student", "token"),
    "gkd": ("mixture", "teacher_distribution", "jsd", "token"),
    "blended_opd": ("blended", "teacher_distribution", "kl_student_teacher", "token"),
    "rejection_sft": ("filtered", "own_actions", "cross_entropy", "token"),
    "iterative_sft": ("filtered", "own_actions", "cross_entropy", "token"),
    "prefix_reset_rl": ("prefix_reset", "group_advantage", "clipped_surrogate", "sequence"),
}


def test_every_method_of_the_package_is_in_the_table():
    values = {
        "Arm",
        "Budget",
        "Method",
        "Stream",
        "Term",
        "bind",
        "bind_arm",
        "only_in_contexts",
        "parts",
        "policies",
        "references",
    }
    values |= {name for name in arms.__all__ if name.startswith("with_")}
    assert set(arms.__all__) - values == set(METHODS) == set(ROWS)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_one_choice_on_each_axis(name):
    method = METHODS[name]
    term = method.terms[0]
    assert ROWS[name] == (
        method.source.kind,
        term.supervision.kind,
        term.objective.kind,
        term.normaliser,
    )
    assert method.further == ()
    assert len(method.terms) == 1 + (name in ("anchored_grpo", "rl_with_opd"))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_plain_data_and_back(name):
    assert from_plain(Arm, to_plain(ARMS[name])) == ARMS[name]


def test_what_tells_two_methods_apart_that_share_their_kinds():
    def term(name: str) -> Term:
        return METHODS[name].terms[0]

    assert (term("grpo").supervision.scale, term("dr_grpo").supervision.scale) == ("std", "none")
    assert term("dr_grpo").constant_tokens == 8
    assert term("dapo").objective.clip_high > term("dapo").objective.clip_low
    assert term("rloo").constant_tokens == 1
    assert term("jsd_opd").objective.beta == 0.5
    walks = METHODS["gkd"].source
    assert [source.kind for source in walks.sources] == ["learner", "dataset"]
    assert term("topk_opd").supervision.top_k == 32
    assert term("self_distillation").supervision.teacher.name == LIVE
    assert term("negative_advantage").supervision.value == -1
    assert term("negative_advantage").constant_tokens == 8
    assert term("length_reward").supervision == term("negative_advantage").supervision
    reward, taught = METHODS["rl_with_opd"].terms
    assert (reward.coefficient, taught.coefficient) == (1.0, 0.1)
    assert taught.supervision == TeacherLogRatio(MILD, clip=1.0)
    anchor = METHODS["anchored_grpo"].terms[1]
    assert (anchor.supervision, anchor.objective) == (
        TeacherDistribution(PolicyRef("base")),
        KLStudentTeacher(),
    )


def test_continuation_distillation_speaks_of_the_teachers_tokens_alone():
    assert METHODS["continuation_opd"].terms[0].on == ("teacher",)


def test_rejection_samples_a_frozen_policy_and_iterative_fine_tuning_the_learner():
    inner = [METHODS[name].source.source for name in ("rejection_sft", "iterative_sft")]
    assert [source.kind for source in inner] == ["teacher", "learner"]
    assert named(ARMS["rejection_sft"]) == ["base", "base"]
    assert named(ARMS["iterative_sft"]) == ["base"]


def test_rehearsal_is_a_second_stream_and_replay_leaves_it_alone():
    other = JsonLines("retention.jsonl")
    method = arms.with_rehearsal(METHODS["sft"], other, prompts_per_step=2, share=0.3)
    first, second = method.streams(DATA, prompts_per_step=4)
    assert (first,) == ARMS["sft"].streams
    assert (second.prompts, second.prompts_per_step, second.share) == (other, 2, 0.3)
    assert (second.source, second.terms) == (Dataset(), first.terms)
    both = arms.with_replay(
        arms.with_rehearsal(METHODS["opd"], other, prompts_per_step=2), share=0.5, age_limit=1
    )
    assert [s.source.kind for s in (both, *both.further)] == ["replay", "dataset"]
    assert arms.with_replay(both, share=0.1, age_limit=9) == both


def test_gkd_flips_its_coin_by_sequence_or_by_step():
    by_step = arms.gkd(**OPTIONS["gkd"], per="step")
    assert METHODS["gkd"].source == Mixture((Learner(8), Dataset()), (0.5,))
    assert by_step.source == Mixture((Learner(8), Dataset()), (0.5,), per="step")


def test_an_anchor_stands_beside_the_first_term_and_anchored_grpo_is_grpo_with_one():
    assert arms.with_anchor(METHODS["grpo"]) == METHODS["anchored_grpo"]
    anchored = arms.with_anchor(METHODS["continuation_opd"], anchor=MILD, objective=JSD())
    first, anchor = anchored.terms
    assert first == METHODS["continuation_opd"].terms[0]
    assert (anchor.supervision, anchor.objective) == (TOLD, JSD())
    assert (anchor.on, anchor.normaliser, anchor.coefficient) == (("teacher",), "token", 0.04)
    fixed = arms.with_anchor(METHODS["dr_grpo"]).terms[1]
    assert (fixed.normaliser, fixed.constant_tokens) == ("constant", 8.0)


def test_a_retention_anchor_is_a_second_stream_of_gold_states_and_no_gold_tokens():
    other = JsonLines("retention.jsonl")
    method = arms.with_retention_anchor(METHODS["sft"], other, prompts_per_step=2, coefficient=0.5)
    first, second = method.streams(DATA, prompts_per_step=4)
    assert (first,) == ARMS["sft"].streams
    assert (second.prompts, second.source, second.prompts_per_step) == (other, Dataset(), 2)
    base = TeacherDistribution(PolicyRef("base"))
    assert second.terms == (Term(base, KLStudentTeacher(), coefficient=0.5),)


def test_importance_weighs_what_the_student_sampled_and_nothing_else():
    cap = Importance(3.0)

    def weighed(method: Method) -> list[list[Importance | None]]:
        made = arms.with_importance(method, cap)
        return [[term.importance for term in part.terms] for part in (made, *made.further)]

    assert weighed(METHODS["rl_with_opd"]) == [[cap, cap]]
    assert weighed(METHODS["sft"]) == weighed(METHODS["gkd"]) == [[None]]
    assert weighed(METHODS["continuation_opd"]) == [[None]]
    both = arms.with_rehearsal(METHODS["opd"], DATA, prompts_per_step=1)
    assert weighed(both) == [[cap], [None]]
    replayed = arms.with_replay(both, share=0.5, age_limit=2, importance=cap)
    assert replayed == arms.with_importance(arms.with_replay(both, share=0.5, age_limit=2), cap)
    assert [t.importance for s in (replayed, *replayed.further) for t in s.terms] == [cap, None]


def test_replay_corrects_policy_gradients_and_leaves_the_rest_as_it_is():
    def weights(method: Method, **options) -> list[Importance | None]:
        made = arms.with_replay(method, share=0.5, age_limit=2, **options)
        return [term.importance for term in made.terms]

    assert weights(METHODS["grpo"]) == [Importance()]
    assert weights(METHODS["gspo"]) == [Importance(level="sequence")]
    assert weights(METHODS["anchored_grpo"]) == [Importance(), None]
    assert weights(METHODS["opd"]) == weights(METHODS["iterative_sft"]) == [None]
    assert weights(METHODS["grpo"], importance=None) == [None]
    kept = arms.with_importance(METHODS["grpo"], Importance(5.0))
    assert weights(kept) == [Importance(5.0)]


# ---- names --------------------------------------------------------------------------------------


def named(arm: Arm) -> list[str]:
    return [ref.name for ref in references(arm)]


def test_references_find_every_policy_that_an_arm_names():
    base = ["base"]
    assert named(ARMS["sft"]) == base
    assert named(ARMS["opd"]) == ["mild", *base]
    assert named(ARMS["continuation_opd"]) == ["mild", *base]
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
    method = arms.with_replay(arms.opd(teacher=Ema(0.9), max_new_tokens=8), share=0.5, age_limit=1)
    arm = Arm.of("x", method, DATA, BUDGET, prompts_per_step=4)

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
    arm = Arm.of("x", sft(), loaded, BUDGET, prompts_per_step=1)

    def refuse(_):
        raise AssertionError("loaded again")

    assert bind(arm, refuse, refuse).streams[0].prompts is loaded


def test_a_teacher_reads_the_students_prompt_where_one_part_gives_it_no_context():
    mild = PolicyRef("mild")
    bare = TeacherDistribution(mild)
    own = replace(bare, context=Context("{answer}"))
    assert only_in_contexts((own, own), mild)
    assert not only_in_contexts((own, bare), mild)
    assert not only_in_contexts((own, TeacherMixture((bare,), (1.0,))), mild)
    assert not only_in_contexts((own, mild), mild)  # an arm that starts from it
    assert only_in_contexts((own, TeacherDistribution(PolicyRef("other"))), mild)
