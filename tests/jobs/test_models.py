"""Whose files are whose: teachers of the same seed, and tokens that are equal and not only as many."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers.normalizers import Lowercase

from statewise.arms import Arm, Budget, opd
from statewise.data import WorldProblems
from statewise.errors import ModelError, RunError
from statewise.jobs import folder as folder_module
from statewise.jobs.folder import claim_folder
from statewise.jobs.preflight import preflight
from statewise.policy import Policy, PolicyRef
from statewise.store import RunFolder
from statewise.study.arm_run import ArmRun
from statewise.study.models import (
    check_same_encoding,
    exchanged,
    fingerprint,
    fingerprints,
)
from statewise.supervision import Context
from statewise.trajectory_store import same_fingerprint
from tests.evaluate.conftest import tiny_policy
from tests.evaluate.kinds_of_tokenizer import byte_level, tiny_llama

TEXTS = ["abab"] * 20


def widths(*policies: Policy) -> set[int]:
    return {policy.head_weight()[0].shape[0] for policy in policies}


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
    sizes = {"max_new_tokens": 8}
    prompts = WorldProblems("prompts", limit=8)
    arm = Arm.of(
        "arm",
        opd(teacher=PolicyRef(str(folder)), **sizes),
        prompts,
        Budget(0.01, steps=1),
        prompts_per_step=4,
    )
    (stream,) = arm.streams
    (term,) = stream.terms
    term = replace(term, supervision=replace(term.supervision, context=context))
    arm = replace(arm, streams=(replace(stream, terms=(term,)),))
    bare = {"arms": (arm,), "claims": (), "doses": {}, "dev": None, "drift": None}
    study, run = replace(tiny_study, **bare), RunFolder(tmp_path / "run")
    if context:
        preflight(study, run)
        ArmRun(study, run, "arm", 0).loaded()
        return
    for refused in (lambda: preflight(study, run), lambda: ArmRun(study, run, "arm", 0).loaded()):
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


# ---- fingerprints -----------------------------------------------------------------------------------


@pytest.fixture
def outside(tiny_study, tiny_base, tmp_path):
    """A study whose arm has two teachers from outside, in folders of one name."""
    places = [str(tmp_path / owner / "mine") for owner in ("a", "b")]
    for place in places:
        shutil.copytree(tiny_base, place)
    sizes = {"max_new_tokens": 8}
    prompts = WorldProblems("prompts", limit=8)
    taught = tuple(
        Arm.of(
            f"arm{i}",
            opd(teacher=PolicyRef(place), **sizes),
            prompts,
            Budget(0.01, steps=1),
            prompts_per_step=4,
        )
        for i, place in enumerate(places)
    )
    bare = {"claims": (), "doses": {}, "dev": None, "drift": None}
    return replace(tiny_study, arms=taught, **bare), places


def before(print_: str) -> str:
    """A fingerprint as runs of before have it."""
    return print_.split("+")[0]


def claimed(study, root, monkeypatch):
    monkeypatch.setattr(folder_module, "preflight", lambda *_: None)
    claim_folder(study, RunFolder(root))
    return json.loads((root / "environment.json").read_text())


@pytest.mark.parametrize("file", ["generation_config.json", "tokenizer_config.json"])
def test_a_fingerprint_sees_where_a_model_stops(tiny_base, tmp_path, file):
    place = Path(shutil.copytree(tiny_base, tmp_path / "m"))
    first = fingerprint(str(place))
    config = json.loads((place / file).read_text())
    (place / file).write_text(json.dumps(config | {"eos_token_id": [1, 5]}))
    second = fingerprint(str(place))
    assert first != second
    assert not same_fingerprint(first, second)
    # Runs of before did not look there, and go on.
    assert same_fingerprint(before(first), second)
    (place / "config.json").write_text("{}")
    assert not same_fingerprint(before(first), fingerprint(str(place)))


def test_a_fingerprint_of_before_is_the_first_part_of_todays(tmp_path):
    """sha256 of `NAME DIGEST` of each file in order, by hand."""
    files = {"config.json": b"{}", "generation_config.json": b"[]", "model.safetensors": b"w"}
    for name, held in files.items():
        (tmp_path / name).write_bytes(held)
    digests = {name: hashlib.sha256(held).hexdigest() for name, held in files.items()}
    old, stops = (
        hashlib.sha256("".join(f"{n} {digests[n]}" for n in names).encode()).hexdigest()
        for names in (("config.json", "model.safetensors"), ("generation_config.json",))
    )
    assert fingerprint(str(tmp_path)) == f"sha256:{old}+{stops}"


def test_environments_hold_no_path_of_a_model_and_tell_two_of_one_name_apart(
    outside, tmp_path, monkeypatch
):
    study, places = outside
    stored = claimed(study, tmp_path / "run", monkeypatch)
    assert str(tmp_path) not in json.dumps(stored)
    names = set(stored["models"]) - {"base"}
    assert len(names) == 2
    assert all(re.fullmatch("mine-[0-9a-f]{8}", name) for name in names)
    alone = claimed(replace(study, arms=study.arms[:1]), tmp_path / "alone", monkeypatch)
    assert set(alone["models"]) == {"base", "mine"}
    # One that is exchanged is found, by its place.
    config = Path(places[1]) / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(RunError, match=rf"begun with another model at {re.escape(places[1])}"):
        claim_folder(study, RunFolder(tmp_path / "run"))
    (other,) = set(exchanged(study, stored["models"], fingerprints(study)).values())
    assert other == places[1]


def test_a_run_of_before_goes_on_and_still_refuses_an_exchanged_model(
    outside, tmp_path, monkeypatch
):
    study, places = outside
    stored = claimed(study, tmp_path / "run", monkeypatch)
    prints = {"base": before(stored["models"]["base"])}
    prints |= {place: before(fingerprint(place)) for place in places}
    path = tmp_path / "run" / "environment.json"
    path.write_text(json.dumps(stored | {"models": prints}))
    claim_folder(study, RunFolder(tmp_path / "run"))
    assert str(tmp_path) not in path.read_text(), "the old names stay"
    path.write_text(json.dumps(stored | {"models": prints}))
    config = Path(places[0]) / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(RunError, match=rf"begun with another model at {re.escape(places[0])}"):
        claim_folder(study, RunFolder(tmp_path / "run"))
