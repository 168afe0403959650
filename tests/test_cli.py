"""Bad input at the command line: one clear line on standard error, exit code 2, nothing written."""

from __future__ import annotations

import pytest

from statewise.cli import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "pockt"], "no study file at pockt; shipped studies: paper, pocket"),
        (["run", "pocket", "--set", "sedes=[1]"], "sedes: unknown key; did you mean 'seeds'"),
        (["run", "pocket", "--set", "base=./nowhere", "--workers", "0"], "no model at ./nowhere"),
        (["run", "paper", "--data", "./nowhere"], "--data: no folder at ./nowhere"),
        (["run", "pocket", "--workers", "-1"], "--workers must be 0 or more"),
        (["train", "pocket", "--arm", "mild"], "--arm: no arm 'mild'; did you mean 'mild_sft'"),
        (["report", "."], "is no run folder"),
        (["eval", "./nowhere", "--task", "pocket_gsm"], "no model at ./nowhere"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert error.startswith("statewise: ")
    assert len(error.splitlines()) == 1


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
