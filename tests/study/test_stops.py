"""Stop tokens of student and teacher: refused where they differ, joined where the study says so."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from statewise.arms import Arm, Budget, opd
from statewise.claims.controls import Interpolation
from statewise.data import JsonLines, WorldProblems
from statewise.errors import DataError, ModelError
from statewise.jobs import interpolate as nulls
from statewise.jobs.folder import claim_folder, differing
from statewise.jobs.preflight import preflight
from statewise.jobs.special_tokens import marks
from statewise.policy import Lora, Policy, PolicyRef
from statewise.results.notes import stop_notes
from statewise.store import RunFolder, write_json
from statewise.study.arm_run import ArmRun
from statewise.study.stops import check_stops, merge_stops
from statewise.templates import Template
from statewise.trajectory import Prompt, Sampling
from tests.evaluate.kinds_of_tokenizer import EOS, byte_level, tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
TURN = "<|im_end|>"


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level("<s> $A", extra=(TURN,))


@pytest.fixture
def pair(tokenizer):
    """A base that stops at `</s>`, and a teacher that was tuned to end its turns."""
    student, teacher = tiny_llama(tokenizer), tiny_llama(tokenizer, "teacher:tuned")
    turn = tokenizer.convert_tokens_to_ids(TURN)
    teacher.stop_token_ids = frozenset({turn})
    return student, teacher, turn


def test_a_teacher_that_stops_where_the_student_goes_on_is_refused_with_the_choice(pair):
    student, teacher, turn = pair
    with pytest.raises(ModelError) as caught:
        check_stops(student, teacher, None)
    said = str(caught.value)
    assert f"teacher:tuned ends its texts at {TURN} (id {turn})" in said
    assert f"the student at {EOS} (id {student.eos_token_id})" in said
    assert "stop_tokens: merge" in said
    assert "stop_tokens: student" in said
    for choice in ("merge", "student"):
        check_stops(student, teacher, choice)
    # A teacher with fewer stop tokens ends where the student ends.
    student.stop_token_ids |= {turn}
    check_stops(student, teacher, None)


def test_merged_policies_stop_at_either_token_and_are_saved_so(pair, tmp_path):
    student, teacher, turn = pair
    both = frozenset({student.eos_token_id, turn})
    merge_stops([student, teacher])
    assert student.stop_token_ids == teacher.stop_token_ids == both
    for made in (student.view("v"), student.snapshot("s"), student.twin()):
        assert made.stop_token_ids == both
    student.save(tmp_path / "whole")
    assert Policy.load(tmp_path / "whole", name="again").stop_token_ids == both
    assert student.ending(student.to_ids("7")).tolist()[-1] == student.eos_token_id


def test_what_is_sampled_ends_at_the_teachers_stop_token_after_merging(pair):
    student, teacher, turn = pair
    prefixes = [student.encode("Question: 1+1?")[0]] * 200
    options = {"sampling": Sampling(), "max_new_tokens": 40, "seeds": range(200)}
    alone = student.complete(prefixes, **options)
    merge_stops([student, teacher])
    merged = student.complete(prefixes, **options)
    held = [place for place, row in enumerate(alone) if turn in row.token_ids.tolist()]
    assert held, "no row wrote the token: nothing is shown"
    for place, (before, after) in enumerate(zip(alone, merged, strict=True)):
        ids = before.token_ids.tolist()
        cut = ids[: ids.index(turn) + 1] if place in held else ids
        assert after.token_ids.tolist() == cut
        assert after.stopped == (before.stopped or place in held)


def test_an_adapter_keeps_the_stop_tokens_that_it_was_trained_with(pair, tmp_path):
    student, teacher, turn = pair
    student.save(tmp_path / "base")
    base = Policy.load(tmp_path / "base", name="student")
    adapted = base.with_adapter(Lora(rank=2, target_modules=("q_proj",)), seed=0)
    merge_stops([adapted, teacher])
    adapted.save(tmp_path / "adapter")
    again = Policy.load(tmp_path / "adapter", name="again")
    assert again.stop_token_ids == frozenset({student.eos_token_id, turn})
    assert again.merged().stop_token_ids == again.stop_token_ids
    assert Policy.load(tmp_path / "base", name="b").stop_token_ids == {student.eos_token_id}


@pytest.fixture(scope="module")
def adapter(tokenizer, tmp_path_factory):
    """An adapter on a saved base, one of its stop tokens its own."""
    place = tmp_path_factory.mktemp("stops")
    tiny_llama(tokenizer).save(place / "base")
    base = Policy.load(place / "base", name="student")
    adapted = base.with_adapter(Lora(rank=2, target_modules=("q_proj",)), seed=0)
    adapted.stop_also_at(frozenset({5}))
    adapted.save(place / "adapter")
    return place / "adapter"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "holds a list where a JSON object belongs"),
        ("[" * 100_000, "nested more than 64 levels deep"),
        ('{"eos_token_id": [-1]}', "holds -1, no id below"),
        ('{"eos_token_id": [5, 999999]}', "holds 999999, no id below"),
        ('{"eos_token_id": true}', "holds True, no id below"),
        ('{"eos_token_id": 5, "eos_token_id": 6}', "eos_token_id"),
    ],
)
def test_an_adapters_stop_file_goes_through_the_door_of_models(adapter, tmp_path, text, said):
    folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        Policy.load(folder, name="again")
    assert "generation_config.json" in str(caught.value)
    assert said in str(caught.value)
    assert "delete the file to stop where the adapter's base stops" in str(caught.value)


@pytest.mark.parametrize("text", ["{}", '{"eos_token_id": null}', None])
def test_an_adapter_without_stop_tokens_of_its_own_stops_where_its_base_does(
    adapter, tmp_path, text
):
    folder, file = Path(shutil.copytree(adapter, tmp_path / "adapter")), "generation_config.json"
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    policy = Policy.load(folder, name="again")
    assert policy.stop_token_ids == {policy.eos_token_id}


def test_an_adapter_on_the_hub_keeps_its_stop_tokens(adapter, monkeypatch):
    from statewise.policy import loading

    monkeypatch.setattr(loading, "_fetch", lambda name, end: adapter)
    policy = Policy.load("someone/an-adapter", name="hub")
    assert policy.stop_token_ids == {policy.eos_token_id, 5}


@pytest.mark.parametrize("odd", [99_999, -1, [1, 99_999], "1", True, [1.5]])
def test_a_stop_token_that_the_model_cannot_write_is_refused(pair, odd):
    student, _, _ = pair
    student.module.generation_config.eos_token_id = odd
    with pytest.raises(ModelError, match="is no id below the model's"):
        student.view("again")


def test_a_stop_string_in_a_prompt_or_across_its_end_ends_no_completion(pair):
    """Only the completion's own text is searched: by policies, and so by the harness's adapter, which asks them."""
    student, _, _ = pair
    text = "Question: 1+1? Question:"
    options = {"sampling": Sampling(), "max_new_tokens": 12, "seeds": [3]}
    (free,) = student.complete([student.encode(text)[0]], **options)
    written = student.completion_text(free.token_ids)
    across = text[-2:] + written[:2]
    assert "Question:" not in written
    assert across not in written
    for string in ("Question:", across):
        (same,) = student.complete([student.encode(text)[0]], stop_strings=(string,), **options)
        assert same.token_ids.tolist() == free.token_ids.tolist()
        assert same.stopped == free.stopped
    (cut,) = student.complete([student.encode(text)[0]], stop_strings=(written[:2],), **options)
    assert len(cut.token_ids) < len(free.token_ids)
    assert cut.stopped


# ---- in a study -----------------------------------------------------------------------------------


@pytest.fixture
def tuned(tiny_base, tmp_path):
    """The tiny base, with one more stop token."""
    folder = Path(shutil.copytree(tiny_base, tmp_path / "tuned"))
    config = folder / "generation_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": [1, 5]}))
    return str(folder)


@pytest.fixture
def study(tiny_study, tuned):
    sizes = {"max_new_tokens": 8}
    prompts = WorldProblems("prompts", limit=8)
    arm = Arm.of(
        "arm",
        opd(teacher=PolicyRef(tuned), **sizes),
        prompts,
        Budget(0.01, steps=1),
        prompts_per_step=4,
    )
    bare = {"arms": (arm,), "claims": (), "doses": {}, "dev": None, "drift": None}
    return replace(tiny_study, **bare)


def test_a_study_that_did_not_choose_is_refused_before_its_folder_is_begun(study, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ModelError, match=r"arms\.arm: .* ends its texts at .*\(id 5\)"):
        preflight(study, run)
    with pytest.raises(ModelError, match="ends its texts at"):
        ArmRun(study, run, "arm", 0).loaded()
    assert not run.root.exists()


def test_merge_ends_student_and_teacher_of_the_arm_and_student_changes_nothing(study, tmp_path):
    run = RunFolder(tmp_path / "run")
    student, arm = ArmRun(replace(study, stop_tokens="merge"), run, "arm", 0).loaded()
    teacher = arm.streams[0].terms[0].supervision.teacher
    assert student.stop_token_ids == teacher.stop_token_ids == {1, 5}
    student.save(tmp_path / "saved")
    assert Policy.load(tmp_path / "saved", name="s").stop_token_ids == {1, 5}
    alone, _ = ArmRun(replace(study, stop_tokens="student"), run, "arm", 0).loaded()
    assert alone.stop_token_ids == {1}


def test_a_run_of_before_the_key_is_the_same_study(study, tmp_path, monkeypatch):
    from statewise.jobs import folder as module

    monkeypatch.setattr(module, "preflight", lambda *_: None)
    run, chosen = RunFolder(tmp_path / "run"), replace(study, stop_tokens="merge")
    claim_folder(chosen, run)
    assert differing(chosen, run) == []
    assert differing(study, run) == ["stop_tokens"]
    claim = run.root / "study.yaml"
    claim.write_text(
        "".join(x for x in claim.read_text().splitlines(True) if not x.startswith("stop_tokens"))
    )
    assert differing(study, run) == []
    assert differing(chosen, run) == ["stop_tokens"]


def test_an_interpolation_stops_where_either_of_its_ends_stops(
    study, tiny_study, tuned, tmp_path, monkeypatch
):
    """Whichever end comes first: an arm whose stops were merged, and the base without them."""
    monkeypatch.setattr(nulls, "kl_to_base", lambda *_: lambda policy: (0.5, 0.0))
    for ends in (("base", "arm"), ("arm", "base")):
        null = Interpolation("between", ends, "arm", prompts_limit=4)
        run = RunFolder(tmp_path / ends[0])
        shutil.copytree(tuned, run.arm("arm", 0) / "policy")
        run.arm("between", 0).mkdir(parents=True)
        mixed = replace(study, drift=tiny_study.drift, nulls=(null,), stop_tokens="merge")
        nulls.make_interpolation(ArmRun(mixed, run, "between", 0), lambda *_: None)
        made = Policy.load(run.arm("between", 0) / "policy", name="made")
        assert made.stop_token_ids == {1, 5}


def test_the_report_says_where_students_and_teachers_stop(tmp_path):
    folder = tmp_path / "arms" / "a" / "seed-0"
    known = {"student": "</s> (id 1), <t> (id 2)", "teacher:x": "</s> (id 1), <t> (id 2)"}
    (folder / "policy").mkdir(parents=True)
    write_json(folder / "policy" / "statewise.json", {"stop_tokens": known})
    assert stop_notes({"stop_tokens": None}, {"a": {0: folder}}) == []
    (note,) = stop_notes({"stop_tokens": "merge"}, {"a": {0: folder, 1: folder}})
    assert note == (
        "Stop tokens (merge) of a: student at </s> (id 1), <t> (id 2); teacher:x at </s> (id 1), <t> (id 2)."
    )


# ---- marks in rows --------------------------------------------------------------------------------


def rows_of(path: Path, *pairs: tuple[str, str], **template: str) -> JsonLines:
    path.write_text("".join(json.dumps({"q": q, "a": a}) + "\n" for q, a in pairs))
    return JsonLines(
        str(path), template=Template(**({"prompt": "{q}", "completion": "{a}"} | template))
    )


def prompts_of(data: JsonLines, policy: Policy) -> list[Prompt]:
    made = []
    for number, record in data.records():
        text = data.template.prompt_text(record)
        gold = data.template.completion_text(record)
        made.append(Prompt(f"jsonl/{number}", text, policy.encode(text)[0], gold))
    return made


def found(
    data: JsonLines, policy: Policy, *, reads_gold: bool = True
) -> list[tuple[str, bool, bool]]:
    prompts = prompts_of(data, policy)
    return [
        (mark.said.split(": ", 1)[1], mark.gold, mark.stops)
        for mark in marks(prompts, data, policy, reads_gold=reads_gold)
    ]


def test_special_tokens_of_a_rows_own_text_are_found_and_those_of_a_template_are_not(
    pair, tmp_path
):
    student, _, turn = pair
    eos = student.eos_token_id
    data = rows_of(tmp_path / "d.jsonl", ("1+1?", "2"), (f"a{EOS}b", "2"), ("1", f"x{EOS}y"))
    assert found(data, student) == [
        (f"the prompt holds the stop token {EOS} (id {eos})", False, True),
        (f"the gold completion holds the stop token {EOS} (id {eos})", True, True),
    ]
    assert len(found(data, student, reads_gold=False)) == 1
    chat = rows_of(
        tmp_path / "c.jsonl", ("1", "2"), prompt=f"{{q}}{TURN}", completion=f"{{a}}{EOS}"
    )
    assert found(chat, student) == []
    injected = rows_of(tmp_path / "i.jsonl", (f"1{TURN}", "2"), prompt=f"{{q}}{TURN}")
    assert found(injected, student) == [
        (f"the prompt holds the special token {TURN} (id {turn})", False, False)
    ]


def test_preflight_refuses_a_gold_completion_that_goes_on_behind_a_stop_token(
    tiny_study, tmp_path, caplog
):
    arm = tiny_study.arm("mild_sft")
    bare = {"claims": (), "doses": {}, "dev": None, "drift": None}

    def with_rows(*pairs: tuple[str, str]):
        stream = replace(arm.streams[0], prompts=rows_of(tmp_path / "d.jsonl", *pairs))
        return replace(tiny_study, arms=(replace(arm, streams=(stream,)),), **bare)

    run = RunFolder(tmp_path / "run")
    with pytest.raises(
        DataError, match=r"d\.jsonl, row 2: the gold completion holds the stop token"
    ):
        preflight(with_rows(("1+1?", " 2"), ("1+2?", " <|eos|> 3")), run)
    with caplog.at_level(logging.WARNING):
        preflight(with_rows(("1<|eos|>+1?", " 2"), ("1+2?", " 3<|eos|>")), run)
    assert "row 1: the prompt holds the stop token <|eos|> (id 1), and 1 of 2 rows" in caplog.text
