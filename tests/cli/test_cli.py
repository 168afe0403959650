"""Bad input at the command line: one clear line on standard error, exit code 2, nothing written."""

from __future__ import annotations

import json

import pytest

from statewise.cli.main import main
from statewise.evaluate import items, read_items


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "pockt"], "no study file at pockt; shipped studies: controls, paper, pocket"),
        (["run", "pocket", "--set", "sedes=[1]"], "sedes: unknown key; did you mean 'seeds'"),
        (["run", "pocket", "--set", "base=./nowhere", "--workers", "0"], "no model at nowhere"),
        (["run", "paper", "--data", "./nowhere"], "--data: no folder at ./nowhere"),
        (["run", "pocket", "--workers", "-1"], "--workers: must be from 0 to 1,024, found -1"),
        (["run", "pocket", "--dry-run", "--workers", "-2"], "--workers: must be from 0 to 1,024, found -2"),
        (["train", "pocket", "--arm", "mild"], "--arm: no arm 'mild'; did you mean 'mild_sft'"),
        (["report", "."], "is no run folder"),
        (["eval", "./nowhere", "--task", "pocket_gsm"], "no model at nowhere"),
        (
            ["train", "pocket", "--arm", "mild_sft", "--set", "base=./nowhere"],
            "no model at nowhere",
        ),
        (["search", "pocket", "--set", "base=./nowhere"], "no model at nowhere"),
        (
            ["run", "pocket", "--set", "checkpoint_every_steps=0"],
            "checkpoint_every_steps: must be from 1",
        ),
        (
            ["run", "pocket", "--set", "drift.prompts.limit=-1"],
            "drift.prompts.limit: must be from 1 to 1,000,000,000, found -1",
        ),
        (
            ["run", "pocket", "--set", "arms.grpo.streams.0.prompts.limit=-1"],
            "arms.grpo.streams[0].prompts.limit: must be from 1 to 1,000,000,000, found -1",
        ),
        (["run", "paper", "--data", ".", "--set", "tasks=null"], "tasks: expected a list"),
        (
            ["run", "pocket", "--set", "claims.opd_retains.unit=arms"],
            "claims.opd_retains.unit: expected",
        ),
        (["random-model", "new", "--tokenizer", "./nowhere"], "no tokenizer directory at nowhere"),
        (["random-model", "new", "--tokenizer", "."], "cannot load a tokenizer from ."),
    ],
)  # fmt: skip
def test_bad_input_ends_with_one_line_and_exit_code_2(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert error.startswith("statewise: ")
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "pocket", "--out", "mine/README.md"], "README.md is a file, not a folder"),
        (["random-model", "mine"], "mine is not empty and was not written by this command"),
        (["random-model", "mine/README.md"], "mine/README.md is a file"),
        (["random-model", "new", "--set", "layers=0"], "layers: must be from 1 to 65,536, found 0"),
        (["world", "pretrain", "mine"], "mine is not empty and was not written by this command"),
    ],
)
def test_what_statewise_did_not_write_is_left_alone(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "README.md"]
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"


def test_a_trained_policy_is_no_random_model_to_write_over(tmp_path, capsys):
    (tmp_path / "statewise.json").write_text('{"arm": "mild_sft", "steps": 63}')
    assert main(["random-model", str(tmp_path)]) == 2
    assert "no 'randomly_initialised' in its statewise.json" in capsys.readouterr().err


def test_a_random_model_may_be_written_again(tmp_path, capsys):
    sizes = {"width": 16, "layers": 1, "heads": 2, "key_value_heads": 1, "head_width": 8}
    shape = [f"--set={key}={value}" for key, value in (sizes | {"feed_forward": 16}).items()]
    for _ in range(2):
        assert main(["random-model", str(tmp_path / "new"), *shape]) == 0
    found = tmp_path / "items.parquet"
    one_item = ["--task", "pocket_truthfulqa_mc2:acc", "--limit", "1", "--out", str(found)]
    assert main(["eval", str(tmp_path / "new"), *one_item]) == 0
    assert "[unknown] n=1" in capsys.readouterr().out  # one item says nothing of its error
    assert len(read_items(found)) == 1


def test_dry_run_prints_the_resolved_study_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "pocket", "--dry-run", "--seeds", "1"]) == 0
    assert "kind: continuation" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_env_names_versions_and_hardware(capsys):
    assert main(["env"]) == 0
    printed = capsys.readouterr().out
    assert '"torch"' in printed
    assert '"cores"' in printed
    assert '"threads"' in printed
    assert '"accelerators"' in printed


def test_an_evaluation_that_is_killed_goes_on_behind_what_is_done(tmp_path, capsys, monkeypatch):
    """Four parts of two items; the third dies. The next call answers two parts more, to the same rows."""
    monkeypatch.setattr("statewise.evaluate.continued.ITEMS_PER_PART", 2)
    answered, real = [], items.answer

    def answer(lm, questions):
        if len(answered) == 2 and not whole.exists():
            raise KeyboardInterrupt
        answered.append([list(question.documents) for question in questions])
        real(lm, questions)

    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    monkeypatch.setattr(items, "answer", answer)
    words = ["eval", "world", "--task", "pocket_mmlu", "--limit", "8", "--out"]
    assert main([*words, str(out)]) == 130
    assert not out.exists()
    assert main([*words[:5], "7", "--out", str(out)]) == 2
    assert "holds parts of another evaluation" in capsys.readouterr().err
    kept = tmp_path / "out.parquet.parts" / "evaluation.json"
    said = kept.read_text()
    digest = json.loads(said)["items"][0]
    kept.write_text(said.replace(digest, digest[::-1]))
    assert main([*words, str(out)]) == 2  # the items are others than those that were answered
    kept.write_text(said)
    whole.touch()
    assert main([*words, str(out)]) == 0
    assert answered == [[[0, 1]], [[2, 3]], [[4, 5]], [[6, 7]]]
    assert "pocket_mmlu: 8 of 8 items" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if "parts" in p.name] == []
    monkeypatch.setattr(items, "answer", real)
    assert main([*words, str(whole), "--seed", "0"]) == 0
    assert read_items(out) == read_items(whole)


def test_parts_are_not_put_among_files_of_somebodys_own_nor_behind_a_link(tmp_path, capsys):
    words = ["eval", "world", "--task", "pocket_mmlu", "--limit", "1", "--out"]
    own = tmp_path / "a.parquet.parts" / "notes.txt"
    own.parent.mkdir()
    own.write_text("precious")
    assert main([*words, str(tmp_path / "a.parquet")]) == 2
    assert "holds files of somebody's own" in capsys.readouterr().err
    assert own.read_text() == "precious"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "b.parquet.parts").symlink_to(tmp_path / "elsewhere")
    assert main([*words, str(tmp_path / "b.parquet")]) == 2
    assert list((tmp_path / "elsewhere").iterdir()) == []
