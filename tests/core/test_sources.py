"""Which states each source visits, who is written down as their author, and where rows end."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml
from enumerable import (
    CONTEXT,
    EOS,
    ONE,
    A,
    B,
    blended_step,
    ids,
    prompt,
    step_logprobs,
    tiny,
    tokenizer,
)
from kinds import exchanged

from statewise.config import from_plain, to_plain
from statewise.errors import ConfigError, DataError
from statewise.policy import Ema, Lora, PolicyRef
from statewise.rewards import ExactAnswer
from statewise.sources import (
    Blended,
    Continuation,
    Dataset,
    Filtered,
    Learner,
    Mixture,
    PrefixReset,
    PythonSource,
    Replay,
    Schedule,
    Source,
    Stored,
    Teacher,
)
from statewise.sources.continuation import cut_position
from statewise.trajectory import Prompt, Sampling, gather_states, origins, role
from statewise.trajectory_store import write_states
from statewise.yaml12 import dump_yaml

STUDENT = tiny(0, name="student", version=7)
TEACHER = tiny(1, name="teacher:mild", version=3)
SAMPLED = [
    Learner(max_new_tokens=6, samples_per_prompt=3),
    Continuation(teacher=TEACHER, branch_tokens=5, max_new_tokens=6, samples_per_prompt=3),
]
MILD = PolicyRef("mild")
BRANCHED = SAMPLED[1]
STORE = Path(tempfile.mkdtemp(prefix="statewise-sources-")) / "states.parquet"
RESET = PrefixReset(6, TEACHER, 0.7, samples_per_prompt=3)
SOURCES = [
    Dataset(),
    *SAMPLED,
    replace(BRANCHED, supervised=("student", "teacher")),
    replace(BRANCHED, supervised=("student",)),
    Teacher(TEACHER, 6, samples_per_prompt=3),
    PrefixReset(6, samples_per_prompt=3),
    RESET,
    Blended(TEACHER, 0.1, 6, samples_per_prompt=3),
    Stored(str(STORE), "learner", samples_per_prompt=3),
    Filtered(SAMPLED[0], ExactAnswer()),
    Mixture((SAMPLED[0], Teacher(TEACHER, 6, 3), RESET), (0.4, 0.3)),
    Mixture((SAMPLED[0], Teacher(TEACHER, 6, 3)), (0.5,), per="step"),
    Replay(SAMPLED[0], 0.5, age_limit=2),
    PythonSource("enumerable:turns", ("student",), given=("teacher",), teacher=TEACHER),
]
FIXED = (Dataset, Stored)


def every(test):
    return pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.kind)(test)


def gold(*tokens: int, reference: str = "ab#### 1", name: str | None = None) -> Prompt:
    return prompt(*tokens, name=name or f"p{tokens}", reference=reference)


LONG = [A] * (CONTEXT - 6)


@pytest.fixture(scope="module", autouse=True)
def stored():
    """A sample of the learner's rollouts, for every prompt that the contract uses."""
    prompts = [gold(A), gold(B), gold(B, ONE), gold(B, ONE, A), gold(*LONG)]
    write_states(STORE, {"learner": SAMPLED[0](prompts, student=STUDENT, seed=99)})
    yield
    shutil.rmtree(STORE.parent)


def walk(source, prompts, seed: int = 0, progress: float = 0.0):
    """Replaced, so that what remembers starts anew."""
    return replace(source)(prompts, student=STUDENT, seed=seed, progress=progress)


def tokens_of(rows) -> list[list[int]]:
    return [r.token_ids.tolist() for r in rows]


# ---- contract -----------------------------------------------------------------------------------


@every
def test_contract_every_row_is_whole_and_within_the_context(source):
    prompts = [gold(A), gold(B, ONE, A), gold(*LONG)]
    for made in walk(source, prompts):
        arrays = (made.weights, made.owner_codes, made.behaviour_logprobs)
        assert {len(a) for a in arrays} == {len(made)}
        assert len(made) <= CONTEXT
        assert made.token_ids[: made.prompt_tokens].tolist() == made.prompt.token_ids.tolist()
        assert not made.weights[: made.prompt_tokens].any(), "a prompt token is supervised"
        assert set(made.owner_codes[: made.prompt_tokens]) == {0}
        assert 0 not in made.owner_codes[made.prompt_tokens :]
        assert made.owners[0] == "prompt"
        assert made.owner_codes.max() < len(made.owners)
        assert not np.isposinf(made.behaviour_logprobs).any()
        assert (made.completion_ids[:-1] != EOS).all(), "something follows a stop token"
        assert made.stopped == (made.token_ids[-1] == EOS)
        assert len(gather_states([made])) == made.supervised_tokens


@every
def test_contract_equal_prompts_never_merge_and_groups_follow_the_prompts(source):
    rows = walk(source, [gold(A), gold(A), gold(B)])
    samples = len(rows) // 3
    groups = [r.group_id for r in rows]
    for i in range(3):
        assert len(set(groups[i * samples : (i + 1) * samples])) == 1
    assert len(set(groups)) == 3
    starts = [r.prompt.token_ids.tolist() for r in rows[:: max(1, samples)]]
    # A mixture gives its rows source by source.
    assert (sorted(starts) if isinstance(source, Mixture) else starts) == [[A], [A], [B]]


@every
def test_contract_rows_are_a_function_of_the_seed(source):
    prompts = [gold(A), gold(B, ONE)]
    first = walk(source, prompts)
    assert tokens_of(first) == tokens_of(walk(source, prompts))
    other = tokens_of(walk(source, prompts, seed=1))
    assert (tokens_of(first) == other) is isinstance(source, FIXED)
    # Other groups, whatever the source: two rollouts never share one.
    assert not {r.group_id for r in first} & {r.group_id for r in walk(source, prompts, seed=1)}


@every
def test_contract_a_row_does_not_depend_on_its_neighbours(source):
    def mine(prompts, seed):
        rows = [r for r in walk(source, prompts, seed) if r.prompt.id == gold(B).id]
        return [(r.token_ids.tolist(), r.weights.tolist(), r.owners, r.group_id) for r in rows], [
            r.behaviour_logprobs for r in rows
        ]

    for seed in range(4):
        one, two = (
            mine([left, gold(B), right], seed)
            for left, right in ((gold(A), gold(A)), (gold(B, ONE, A), gold(*LONG)))
        )
        assert one[0] == two[0]
        for x, y in zip(one[1], two[1], strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-6)


@every
def test_contract_the_stop_token_is_supervised_as_the_token_before_it(source):
    prompts = [gold(A), gold(B)] * 8
    stopped = [r for r in walk(source, prompts) if r.stopped and len(r.completion_ids) > 1]
    if isinstance(source, Continuation) and source.supervised == ("student",):
        assert len(stopped) > 2
        assert not any(r.weights[-1] for r in stopped), "the stop token is the teacher's"
        return
    assert sum(r.weights[-1] == 1 for r in stopped) > 2, "no stop token is supervised"
    for made in stopped:
        before, last = made.weights[-2:].tolist()
        reached = made.owner_codes[-1] != made.owner_codes[-2]  # the last author's first token
        assert last == before or reached
        assert made.weights[-1] == 1 or not made.weights.any()


@every
def test_contract_behaviour_logprobs_are_those_of_the_policy_that_chose(source):
    """The whole row through the model again: the full softmax, for all of them sample at 1."""
    recomputed = 0
    for made in walk(source, [gold(A), gold(B, ONE)] * 3):
        for column in range(made.prompt_tokens, len(made)):
            owner = made.owners[made.owner_codes[column]]
            prefix, token = made.token_ids[:column].tolist(), int(made.token_ids[column])
            match role(owner):
                case "dataset":
                    assert np.isnan(made.behaviour_logprobs[column])
                    continue
                case "blend":
                    assert owner == "blend:student@7+teacher:mild@3"
                    exact = float(blended_step(STUDENT, TEACHER, prefix, 0.1, 1.0)[token])
                case name:
                    policy = {"student": STUDENT, "teacher": TEACHER}[name]
                    assert owner == policy.owner
                    (exact,) = step_logprobs(policy, prefix, [token], Sampling())
            assert made.behaviour_logprobs[column] == pytest.approx(exact, abs=1e-6)
            recomputed += 1
    assert (recomputed > 20) is (source.owners != ("dataset",))


@every
def test_contract_a_source_says_truly_who_chooses_and_who_is_supervised(source):
    rows = [r for seed in range(4) for r in walk(source, [gold(A), gold(B)] * 4, seed)]
    chosen = {role(r.owners[c]) for r in rows for c in r.owner_codes[r.prompt_tokens :]}
    weighed = {role(r.owners[c]) for r in rows for c in r.owner_codes[r.weights > 0]}
    if isinstance(source, Stored):  # it cannot know before it reads
        assert chosen <= set(source.owners)
        assert weighed <= set(source.supervised)
    else:
        assert chosen == set(source.owners)
        assert weighed == set(source.supervised)
    assert len(walk(source, [gold(A), gold(B)])) == 2 * source.samples_per_prompt
    for made in rows:
        authors = [role(made.owners[c]) for c in made.owner_codes]
        for author in {"student", "teacher", "blend"} & set(authors):
            assert authors.count(author) <= 6


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@every
def test_contract_walking_leaves_the_policies_as_they_are(source, lora):
    student, teacher = STUDENT, TEACHER
    if lora:
        student, teacher = (
            p.with_adapter(Lora(rank=2, dropout=0.5), seed=0)
            for p in (
                tiny(0, name="student", version=7),
                tiny(1, name="teacher:mild", version=3),
            )
        )
        teacher.module.eval()
        source = exchanged(source, TEACHER, teacher)
        student.module.train()
        for _, p in student.trainable_parameters():
            p.grad = torch.full_like(p, 0.5)

    def snapshot():
        return [
            (
                [m.training for m in p.module.modules()],
                {k: v.clone() for k, v in p.module.state_dict().items()},
                {k: v.requires_grad for k, v in p.module.named_parameters()},
                {k: v.grad.clone() for k, v in p.module.named_parameters() if v.grad is not None},
            )
            for p in (student, teacher)
        ]

    before = snapshot()
    replace(source)([gold(A)], student=student, seed=0, progress=0.0)
    for (modes, weights, free, grads), (mode, now, freed, grad) in zip(
        before, snapshot(), strict=True
    ):
        assert (modes, free, grads.keys()) == (mode, freed, grad.keys())
        assert all(torch.equal(weights[k], now[k]) for k in weights)
        assert all(torch.equal(grads[k], grad[k]) for k in grads)
    assert bool(before[0][3]) is lora


@every
def test_contract_no_prompts_are_no_rows(source):
    assert walk(source, []) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"supervised": ("student", "teacher"), "given": ()}, None),
        ({"supervised": ("teacher",), "given": ("student",)}, "tokens of student"),
        ({"supervised": ("student",), "given": ()}, "tokens of teacher"),
        ({"supervised": ("student",), "given": ("teacher",), "samples_per_prompt": 2}, "2 traj"),
    ],
    ids=str,
)
def test_a_users_source_is_held_to_what_it_says(options, says):
    source = PythonSource("enumerable:turns", teacher=TEACHER, **options)
    if says is None:
        assert len(walk(source, [gold(A)] * 4)) == 4
        return
    with pytest.raises(ConfigError, match=says):
        walk(source, [gold(A)] * 4)


@pytest.mark.parametrize(
    "source",
    [
        Teacher(MILD, 6, top_p=0.9),
        PrefixReset(6, Ema(0.9), Schedule(0.2, 0.8, "cosine"), low=0.3),
        Blended(MILD, 0.1, 6),
        Stored("states.parquet", "learner", 4),
        Filtered(Teacher(MILD, 6), ExactAnswer(), 0.5),
        Mixture(
            (Learner(6), Filtered(Learner(6), ExactAnswer()), Dataset()), (0.4, 0.2), per="step"
        ),
        Replay(Mixture((Learner(6), Dataset()), (Schedule(1.0, 0.0),)), 0.5, capacity=9),
        PythonSource("my.module:walk", ("student",), teacher=MILD, arguments={"depth": 3}),
    ],
    ids=lambda s: s.kind,
)
def test_every_source_is_a_value_in_a_study_file(source):
    assert from_plain(Source, yaml.safe_load(dump_yaml(to_plain(source)))) == source


def test_the_contract_runs_over_every_source():
    assert {type(source) for source in SOURCES} == set(get_args(Source))


RISING = Blended(TEACHER, Schedule(0.0, 2.0, "step"), 6)


@pytest.mark.parametrize(
    "source",
    [
        RISING,
        Filtered(RISING, ExactAnswer()),
        Mixture((RISING, Learner(6)), (1.0,)),
        Replay(RISING, 0.5, 1),
    ],
    ids=lambda s: s.kind,
)
def test_progress_reaches_the_schedules_inside(source):
    for progress, follows in ((0.0, True), (0.49, True), (0.5, False), (0.99, False)):
        (made,) = walk(source, [gold(A, B)], progress=progress)
        exact = step_logprobs(STUDENT, [A, B], made.completion_ids, Sampling())
        assert np.allclose(made.behaviour_logprobs[2:], exact, rtol=0, atol=1e-6) is follows


# ---- dataset ------------------------------------------------------------------------------------


def test_dataset_supervises_the_gold_tokens_and_the_stop_token_and_nothing_else():
    (made,) = walk(Dataset(), [gold(A, B, reference="b#### 1")])
    assert made.token_ids.tolist() == [A, B, B, ONE, EOS]
    assert made.weights.tolist() == [0, 0, 1, 1, 1]
    assert [made.owners[c] for c in made.owner_codes] == ["prompt"] * 2 + ["dataset"] * 3
    assert np.isnan(made.behaviour_logprobs).all()
    assert made.sampling is None
    assert made.stopped
    assert origins(made) == ["prompt"] * 3 + ["dataset"] * 2


def test_dataset_supervises_the_stop_token_where_pad_is_eos():
    shared = tiny(0, tokenizer=tokenizer(pad="<eos>"))
    starts = [gold(A, reference="ab"), gold(A, reference="abab")]
    rows = Dataset()(starts, student=shared, seed=0)
    states = gather_states(rows)
    assert states.action_ids.tolist() == [A, B, EOS, A, B, A, B, EOS]


def test_dataset_cuts_at_the_context_without_a_stop_token():
    start = gold(A, reference="ab" * 20)
    (made,) = walk(Dataset(), [start])
    assert len(made) == CONTEXT
    assert EOS not in made.token_ids
    assert not made.stopped
    (fits,) = walk(Dataset(), [gold(A, reference="a" * (CONTEXT - 2))])
    assert (len(fits), fits.stopped, int(fits.token_ids[-1])) == (CONTEXT, True, EOS)


def test_dataset_gives_a_document_its_first_token_as_prompt():
    document = Prompt("d", "", np.empty(0, np.int32), "abab")
    (made,) = walk(Dataset(), [document])
    assert made.token_ids.tolist() == [A, B, A, B, EOS]
    assert made.weights.tolist() == [0, 1, 1, 1, 1]
    assert made.prompt.token_ids.tolist() == [A]
    assert len(document.token_ids) == 0


def test_dataset_refuses_a_prompt_without_a_reference():
    with pytest.raises(DataError, match="'lonely' has no reference"):
        walk(Dataset(), [prompt(A, name="lonely")])


def test_dataset_never_lets_a_prompt_that_fills_the_context_grow_beyond_it():
    rows = walk(Dataset(), [gold(*[A] * CONTEXT), gold(*[A] * (CONTEXT + 2), reference="abababab")])
    assert [r.supervised_tokens for r in rows] == [0, 0]


# ---- learner ------------------------------------------------------------------------------------


def test_learner_samples_by_the_student_with_its_version():
    rows = walk(SAMPLED[0], [gold(A), gold(B)])
    assert len(rows) == 6
    for made in rows:
        assert made.owners == ("prompt", "student@7")
        assert made.weights.tolist() == [0.0] + [1.0] * (len(made) - 1)
        exact = step_logprobs(STUDENT, made.prompt.token_ids, made.completion_ids, Sampling())
        np.testing.assert_allclose(made.behaviour_logprobs[1:], exact, rtol=0, atol=1e-6)


def test_learner_passes_its_transform_and_stop_strings_on():
    source = Learner(6, 8, temperature=0.5, top_p=0.75, top_k=2, stop_strings=("b",))
    rows = walk(source, [gold(A)])
    assert {r.sampling for r in rows} == {Sampling(0.5, 0.75, 2)}
    assert all("b" not in r.completion[:-1] for r in rows)
    rows = walk(Learner(8, 40, stop_strings=("b",)), [gold(A)])
    ended = [r for r in rows if r.completion.endswith("b")]
    assert len(ended) > 5
    assert all(r.stopped for r in ended)
    assert all("b" not in r.completion[:-1] for r in rows)


def test_learner_reads_reference_free_prompts():
    assert len(walk(Learner(3), [prompt(A)])) == 1


# ---- continuation -------------------------------------------------------------------------------


def continuation(low: float, high: float, **options) -> Continuation:
    given = {"branch_tokens": 4, "max_new_tokens": 6, "samples_per_prompt": 40} | options
    return Continuation(teacher=TEACHER, cut_low=low, cut_high=high, **given)


def split(made) -> tuple[list[int], list[int]]:
    """Tokens of the root and of the branch."""
    owned = [role(made.owners[c]) for c in made.owner_codes]
    root = [int(t) for t, o in zip(made.token_ids, owned, strict=True) if o == "student"]
    branch = [int(t) for t, o in zip(made.token_ids, owned, strict=True) if o == "teacher"]
    assert made.token_ids.tolist() == [*made.prompt.token_ids.tolist(), *root, *branch]
    return root, branch


def test_only_the_branch_weighs_and_both_authors_are_written_down():
    rows = walk(continuation(0.0, 1.0), [gold(A)])
    assert any(split(r)[0] and split(r)[1] for r in rows)
    for made in rows:
        root, branch = split(made)
        assert made.owners == ("prompt", "student@7", "teacher:mild@3")
        assert made.weights.tolist() == [0.0] * (1 + len(root)) + [1.0] * len(branch)
        names = origins(made)
        prefix = "student" if root else "prompt"
        assert names[1 + len(root) : 2 + len(root)] == [prefix][: len(branch)]
        later = "student+teacher" if root else "teacher"
        assert names[2 + len(root) :] == [later] * max(0, len(branch) - 1)


def test_cut_0_is_the_teachers_whole_answer_and_cut_1_the_students_without_its_stop():
    for made in walk(continuation(0.0, 0.0), [gold(A)]):
        assert split(made)[0] == []
    stops = 0
    plain = Learner(6, 40)
    # The roots are those that the learner would sample under the root's own seed.
    from statewise.seeding import seed_for

    roots = plain([gold(A)], student=STUDENT, seed=seed_for(0, "root"))
    for made, root in zip(walk(continuation(1.0, 1.0), [gold(A)]), roots, strict=True):
        whole = root.completion_ids.tolist()
        assert split(made)[0] == [t for t in whole if t != EOS]
        stops += root.stopped
    assert 0 < stops < 40


def test_the_cut_is_a_fraction_of_the_realised_length_and_never_after_the_stop_token():
    table = {
        (9, True, 0.0): 0,
        (9, True, 0.5): 4,
        (9, True, 0.8): 7,
        (9, True, 0.999): 8,
        (9, True, 1.0): 8,
        (9, False, 1.0): 9,
        (9, False, 0.5): 4,
        (9, False, 0.999): 8,
        (1, True, 1.0): 0,
        (1, False, 1.0): 1,
        (0, False, 1.0): 0,
    }
    for (length, stopped, fraction), cut in table.items():
        assert cut_position(length, stopped=stopped, fraction=fraction) == cut
    for made in walk(continuation(0.0, 1.0), [gold(A), gold(B, ONE)]):
        assert EOS not in split(made)[0]


def test_cuts_spread_over_their_range_and_differ_between_rows():
    source = continuation(0.25, 0.75, max_new_tokens=20, branch_tokens=1)
    roots = [len(split(r)[0]) for r in walk(source, [gold(A)])]
    assert len(set(roots)) > 3
    assert max(roots) <= 15


def test_rows_of_one_call_are_cut_at_fractions_of_their_own(monkeypatch):
    seen = []

    def spy(completion_tokens, stopped, fraction):
        seen.append(fraction)
        return cut_position(completion_tokens, stopped, fraction)

    monkeypatch.setattr("statewise.sources.continuation.cut_position", spy)
    walk(continuation(0.25, 0.75), [gold(A)])
    assert len(set(seen)) == len(seen) == 40
    assert 0.25 <= min(seen) < 0.35
    assert 0.65 < max(seen) <= 0.75


def test_a_branch_ends_at_its_limit_without_a_stop_token():
    rows = walk(continuation(0.0, 0.0, branch_tokens=3), [gold(A)])
    cut = [r for r in rows if not r.stopped]
    assert cut
    assert len(cut) < len(rows)
    for made in rows:
        branch = split(made)[1]
        assert len(branch) <= 3
        assert made.stopped == (branch[-1] == EOS)
    assert {len(split(r)[1]) for r in cut} == {3}


def test_each_part_has_the_logprobs_of_its_author_at_its_temperature():
    source = continuation(0.5, 1.0, temperature=0.75, teacher_temperature=1.5)
    for made in walk(source, [gold(A, B)]):
        root, branch = split(made)
        found = made.behaviour_logprobs[2:]
        first = step_logprobs(STUDENT, [A, B], [*root, EOS], Sampling(0.75))[:-1]
        second = step_logprobs(TEACHER, [A, B, *root], [*branch, EOS], Sampling(1.5))[:-1]
        # One trajectory states one transform: the root was drawn under another.
        assert np.isnan(found[: len(root)]).all()
        np.testing.assert_allclose(found[len(root) :], second, rtol=0, atol=1e-6)
        assert made.sampling == Sampling(1.5)
    source = continuation(0.5, 1.0, temperature=0.75, teacher_temperature=0.75)
    for made in walk(source, [gold(A, B)]):
        root, _ = split(made)
        first = step_logprobs(STUDENT, [A, B], [*root, EOS], Sampling(0.75))[:-1]
        found = made.behaviour_logprobs[2:][: len(root)]
        np.testing.assert_allclose(found, first, rtol=0, atol=1e-6)


def test_the_teacher_writes_at_its_own_temperature():
    source = continuation(0.5, 0.5, teacher_temperature=0.0)
    rows = walk(source, [gold(A)])
    assert len({tuple(split(r)[0]) for r in rows}) > 5, "the roots are greedy too"
    for made in rows:
        root, branch = split(made)
        greedy = TEACHER.complete(
            [ids(A, *root)], sampling=Sampling(0.0), max_new_tokens=4, seeds=[0]
        )
        assert branch == greedy[0].token_ids.tolist()


def test_a_branch_stays_within_the_teachers_context():
    small = tiny(1, name="teacher:small", context=8)
    source = Continuation(
        teacher=small, branch_tokens=20, max_new_tokens=7, cut_low=0.9, samples_per_prompt=20
    )
    rows = walk(source, [gold(A)])
    assert max(len(r) for r in rows) == 8
    full = Continuation(
        teacher=small, branch_tokens=20, max_new_tokens=20, cut_low=1.0, samples_per_prompt=20
    )
    beyond = [r for r in walk(full, [gold(A)]) if len(r) > 8]
    assert beyond
    assert all(r.supervised_tokens == 0 and not r.stopped for r in beyond)


def test_a_branch_stays_within_the_students_context():
    short = tiny(0, name="student", context=8)
    source = Continuation(
        teacher=TEACHER, branch_tokens=20, max_new_tokens=6, cut_low=0.9, samples_per_prompt=20
    )
    rows = source([gold(A)], student=short, seed=0)
    assert max(len(r) for r in rows) == 8
    assert source.room_tokens == 26


def test_samples_of_a_prompt_branch_apart():
    rows = walk(continuation(0.0, 0.0), [gold(A)])
    assert len({tuple(split(r)[1]) for r in rows}) > 5
