"""Whose files are whose: teachers of the same seed, and tokens that are equal and not only as many."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers.normalizers import Lowercase

from statewise.arms import Budget, opd
from statewise.data import WorldProblems
from statewise.errors import ModelError
from statewise.policy import Policy, PolicyRef
from statewise.store import RunFolder
from statewise.study.jobs import load_arm
from statewise.study.models import check_same_encoding, location_of, world_base
from statewise.study.preflight import preflight
from statewise.supervision import Context
from tests.evaluate.conftest import tiny_policy
from tests.evaluate.kinds_of_tokenizer import byte_level, tiny_llama

TEXTS = ["abab"] * 20


def widths(*policies: Policy) -> set[int]:
    return {policy.head_weight()[0].shape[0] for policy in policies}


def test_an_arm_is_read_from_the_folder_of_its_seed(tiny_study, tmp_path):
    study, run = replace(tiny_study, seeds=(0, 1)), RunFolder(tmp_path)
    places = [location_of(PolicyRef("mild_sft"), study, run, seed) for seed in (0, 1)]
    assert places == [str(run.arm("mild_sft", seed) / "policy") for seed in (0, 1)]
    assert location_of(PolicyRef("base"), study, run, 1) == study.base
    assert location_of(PolicyRef("base"), replace(study, base="world"), run, 1) == world_base()
    assert location_of(PolicyRef("./mine"), study, run, 1) == "./mine"


def test_as_many_tokens_are_not_the_same_tokens():
    student, teacher = tiny_policy(TEXTS), tiny_policy(["cdcd"] * 20)
    assert len(widths(student, teacher)) == 1
    with pytest.raises(ModelError, match="encodes text differently"):
        check_same_encoding(student, teacher)
    check_same_encoding(student, tiny_policy(TEXTS))


def test_the_same_tokens_read_in_another_way_are_refused():
    student, teacher = tiny_policy(TEXTS), tiny_policy(TEXTS)
    changed: Any = teacher.tokenizer
    changed.backend_tokenizer.normalizer = Lowercase()
    assert student.tokenizer.get_vocab() == teacher.tokenizer.get_vocab()
    with pytest.raises(ModelError, match="encodes text differently"):
        check_same_encoding(student, teacher)


def test_a_teacher_that_begins_every_text_otherwise_is_refused():
    """Equal vocabularies, equal ids of a text alone: one begins every text with bos, the other with nothing."""
    student, teacher = (
        tiny_llama(byte_level(template), name)
        for template, name in ((None, "student"), ("<s> $A", "teacher:begun"))
    )
    bos = teacher.tokenizer.bos_token_id
    assert student.to_ids("a b").tolist() == teacher.to_ids("a b").tolist()
    for one, other, said in (
        (student, teacher, f"begins every text with <s> (ids [{bos}]), the student with no token"),
        (teacher, student, "begins every text with no token (ids []), the student with <s>"),
    ):
        with pytest.raises(ModelError) as caught:
            check_same_encoding(one, other)
        assert said in str(caught.value)
        # A context of its own may begin as it likes: the student's prompt is not read.
        check_same_encoding(one, other, own_prompts=True)
    check_same_encoding(teacher, tiny_llama(byte_level("<s> $A")))


@pytest.mark.parametrize("context", [None, Context("{question} (It is {answer}.)")])
def test_a_teacher_of_another_beginning_passes_the_preflight_with_a_context_of_its_own_alone(
    tiny_study, tiny_base, tmp_path, context
):
    folder = Path(shutil.copytree(tiny_base, tmp_path / "begun"))
    words = json.loads((folder / "tokenizer.json").read_text())
    eos = Policy.load(tiny_base, name="base").tokenizer.eos_token
    name, ids = str(eos), [1]
    words["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": name, "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": ids, "tokens": [name]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(words))
    sizes = {"max_new_tokens": 8, "prompts_per_step": 4}
    prompts = WorldProblems("prompts", limit=8)
    arm = opd("arm", prompts, Budget(0.01, steps=1), teacher=PolicyRef(str(folder)), **sizes)
    (stream,) = arm.streams
    (term,) = stream.terms
    term = replace(term, supervision=replace(term.supervision, context=context))
    arm = replace(arm, streams=(replace(stream, terms=(term,)),))
    bare = {"arms": (arm,), "claims": (), "doses": {}, "dev": None, "drift": None}
    study, run = replace(tiny_study, **bare), RunFolder(tmp_path / "run")
    if context:
        preflight(study, run)
        load_arm(study, run, "arm", 0)
        return
    for refused in (lambda: preflight(study, run), lambda: load_arm(study, run, "arm", 0)):
        with pytest.raises(ModelError, match="begins every text with"):
            refused()


def test_heads_of_two_widths_over_one_tokenizer_are_refused():
    student, teacher = tiny_policy(TEXTS), tiny_policy(TEXTS)
    (width,) = widths(student)
    module: Any = teacher.module
    module.resize_token_embeddings(width + 8, mean_resizing=False)
    wide = Policy(module, teacher.tokenizer, name="teacher:wide")
    with pytest.raises(ModelError, match=f"scores {width + 8} tokens and the student {width}"):
        check_same_encoding(student, wide)
