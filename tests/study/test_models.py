"""Whose files are whose: teachers of the same seed, and tokens that are equal and not only as many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tokenizers.normalizers import Lowercase

from statewise.errors import ModelError
from statewise.policy import Policy, PolicyRef
from statewise.store import RunFolder
from statewise.study.models import check_same_encoding, location_of, world_base
from tests.evaluate.conftest import tiny_policy

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


def test_heads_of_two_widths_over_one_tokenizer_are_refused():
    student, teacher = tiny_policy(TEXTS), tiny_policy(TEXTS)
    (width,) = widths(student)
    module: Any = teacher.module
    module.resize_token_embeddings(width + 8, mean_resizing=False)
    wide = Policy(module, teacher.tokenizer, name="teacher:wide")
    with pytest.raises(ModelError, match=f"scores {width + 8} tokens and the student {width}"):
        check_same_encoding(student, wide)
