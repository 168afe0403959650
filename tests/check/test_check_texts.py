"""Token ids of training against evaluation, stop tokens of teachers, and marks in rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from one_arm import opened, supervised, taught

from statewise.check.stops import marked, stop_tokens
from statewise.check.subject import Fit
from statewise.check.texts import token_ids
from statewise.data import Prompts
from statewise.templates import Template


def test_ids_of_the_worlds_rows_and_requests_are_those_of_training(one):
    study = one(supervised())
    subject, fits, _ = opened(study)
    said = token_ids(subject, fits, study)
    assert said.status == "pass"
    assert said.values["rows"] == 40
    assert said.values["requests"] >= 2
    assert "read alike in training and evaluation" in said.figure


def test_a_prompt_that_ends_in_a_space_is_read_otherwise_by_evaluation_and_shown(one, rows):
    template = Template(prompt="{question} ", completion="{answer}")
    study = one(supervised(rows([("a", "bee"), ("a", "ab")], template=template)))
    subject, fits, _ = opened(study)
    said = token_ids(subject, fits, study)
    assert said.status == "warn"
    assert said.values["rows_different"] == 2
    space, word, joint = (subject.student.tokenizer.encode(text) for text in (" ", "bee", " bee"))
    assert [*space, *word] != joint, "this vocabulary cannot show it"
    assert f"Ġ={space[0]}" in said.figure
    assert f"={joint[0]}" in said.figure
    assert "jsonl/1, at " in said.figure
    assert "let no prompt end in white space" in said.fix


def test_rows_in_which_a_token_would_span_the_border_are_counted(one, rows):
    template = Template(prompt="{question}", completion="{answer}")
    study = one(supervised(rows([("Ques", "tion"), ("Question:", " b")], template=template)))
    subject, fits, _ = opened(study)
    joint, apart = (subject.student.to_ids(t).tolist() for t in ("Question", "Ques"))
    assert joint[: len(apart)] != apart, "this vocabulary cannot show it"
    said = token_ids(subject, fits, study)
    assert (said.status, said.values["rows_spanned"]) == ("warn", 1)
    assert "in 1 rows a token would span prompt and completion" in said.figure


def test_ids_that_did_not_come_from_the_one_encoding_are_a_finding(one):
    study = one(supervised())
    subject, (fit,), _ = opened(study)
    items = list(fit.prompts.items)
    items[3] = replace(items[3], token_ids=subject.student.to_ids(" " + items[3].text))
    said = token_ids(subject, [Fit(0, Prompts(items))], study)
    assert (said.status, said.values["rows_different"]) == ("warn", 1)
    assert items[3].id in said.figure


def test_a_teacher_with_a_stop_token_of_its_own_fails_until_the_study_chooses(one, copy_of):
    elsewhere = copy_of(
        "tuned", "generation_config.json", lambda found: found | {"eos_token_id": [1, 5]}
    )
    study = one(taught(elsewhere))
    said = stop_tokens(opened(study)[0], study)
    assert said.status == "fail"
    assert "(id 5)" in said.figure
    assert "stop_tokens: merge" in said.fix
    for choice, words in (("merge", "joined (stop_tokens: merge)"), ("student", "accepted")):
        chosen = replace(study, stop_tokens=choice)
        said = stop_tokens(opened(chosen)[0], chosen)
        assert said.status == "pass"
        assert words in said.figure


@pytest.mark.parametrize(
    ("pairs", "status", "words"),
    [
        ([("1", "2"), ("1", "3")], "pass", "of 2 rows"),
        (
            [("1", "2"), ("a<|eos|>b", "3")],
            "warn",
            "row 2: the prompt holds the stop token <|eos|> (id 1)",
        ),
        (
            [("1", "2"), ("a<|pad|>b", "3")],
            "warn",
            "row 2: the prompt holds the special token <|pad|> (id 0)",
        ),
        (
            [("1", "x<|eos|>y"), ("1", "3")],
            "fail",
            "row 1: the gold completion holds the stop token",
        ),
        (
            [("1", "2"), ("a Question: b", "3")],
            "pass",
            "1 prompts hold a stop string ('Question:'; first: ",
        ),
        (
            [("1", "x\nQuestion: y"), ("1", "3")],
            "warn",
            "1 of 2 gold completions hold the stop string 'Question:'",
        ),
    ],
)
def test_marks_in_the_text_of_rows_are_told_with_the_row(one, rows, pairs, status, words):
    study = one(supervised(rows(pairs)))
    subject, fits, _ = opened(study)
    said = marked(subject, fits, study)
    assert said.status == status
    assert words in said.figure
    assert bool(said.fix) == (status != "pass")


def test_stop_strings_in_prompts_are_counted_beyond_those_of_the_template(one, rows):
    """The template writes `Question:` into every prompt; only the second row says it itself."""
    study = one(supervised(rows([("1", "2"), ("a Question: b", "3"), ("2", "4")])))
    subject, fits, _ = opened(study)
    assert all("Question:" in prompt.text for prompt in fits[0].prompts.items)
    said = marked(subject, fits, study)
    assert said.values["prompts_with_stop_strings"] == 1
    assert "row 2), which ends nothing" in said.figure
    assert "only a completion's own text is searched" in said.figure
