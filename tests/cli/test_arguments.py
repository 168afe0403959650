"""Arguments that nobody means: one line on standard error and exit code 2, as they are read."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import statewise
from statewise.cli.main import _parser, main

SOURCES = str(Path(statewise.__file__).resolve().parents[1])
MILD = "arms.mild_sft.streams.0"
HEAVY = {
    *("torch", "transformers", "peft", "lm_eval", "datasets", "pandas", "pyarrow", "scipy"),
    *("statsmodels", "sklearn", "matplotlib"),
}
"""What takes long to import."""


def every_parser() -> Iterator[argparse.ArgumentParser]:
    """The parser of each command, however deep."""
    waiting = [_parser()]
    while waiting:
        parser = waiting.pop()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting += action.choices.values()
        yield parser


HOSTILE = {
    "": "empty",
    " ": "blank",
    "9" * 5000: "many digits",
    "1e400": "beyond floats",
    "nan": "nan",
    "-1": "negative",
    "n" * 300: "long name",
    "a/" * 3000: "long path",
    "a\0b": "NUL",
    "caf\udce9": "bytes that are not UTF-8",
}
TYPED = [
    (parser.prog.split()[1:], action)
    for parser in every_parser()
    for action in parser._actions  # argparse lists them nowhere else
    if action.type is not None
]


@pytest.mark.parametrize("value", HOSTILE, ids=HOSTILE.get)
@pytest.mark.parametrize(
    ("command", "action"), TYPED, ids=[f"{' '.join(c)} {a.dest}" for c, a in TYPED]
)
def test_an_argument_that_nobody_means_is_refused_as_it_is_read(command, action, value, capsys):
    """What has a type is refused by it; what may be any text is at least a path that could be."""
    text = action.type.__name__ in ("path", "place", "words")
    if text and HOSTILE[value] in ("beyond floats", "nan", "negative"):
        pytest.skip("a name like another")
    if action.type.__name__ == "words" and HOSTILE[value].startswith(("many", "long")):
        pytest.skip("refused later, by who knows the names")
    given = [f"{action.option_strings[-1]}={value}"] if action.option_strings else [value]
    assert main([*command, *given]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("statewise: ")
    assert len(line.splitlines()) == 1
    assert len(line) < 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["rnu"], "invalid choice: 'rnu'"),
        (["run"], "the following arguments are required: study"),
        (["run", "pocket", "--seed", "3"], "unrecognized arguments: --seed 3"),
        (["run", "pocket", "--seeds", "0"], "--seeds: must be from 1 to 1,000, found 0"),
        (["run", "pocket", "--seeds", "two"], "--seeds: must be a whole number from 1 to 1,000"),
        (["run", "pocket", "--seeds", str(10**30)], "--seeds: must be from 1 to 1,000, found more"),
        (["run", "pocket", "--out", "f"], "f is a file, not a folder"),
        (["run", "pocket", "--out", "f/x"], "f is a file, not a folder"),
        (["run", "pocket", "--data", "f"], "--data: no folder at f"),
        (["run", "f"], "f: the top level must be a mapping"),
        (["run", "gone"], "gone is a link to"),
        (["run", "."], "is a folder, not a study file"),
        (["run", "pocket", "--set", "arms"], "--set arms: expected path=value"),
        (["run", "pocket", "--set", ""], "--set : expected path=value"),
        (["run", "pocket", "--set", "arms.9.name=x"], "arms has no item '9'"),
        (["run", "pocket", "--set", "seeds.0.a.b=1"], "seeds.0 is 0 (int) and has no key 'a'"),
        (["run", "pocket", "--set", f"a{'.b' * 3000}=1"], "the study has no key 'a'"),
        (["run", "pocket", "--set", f"notes={'[' * 60_000}"], "nested more than 64 levels deep"),
        (["run", "pocket", "--set", f"notes=[{'1,' * 60_000}]"], "more than 20000 values"),
        (["serve", ".", "--port", "99999"], "--port: must be from 0 to 65,535, found 99999"),
        (["eval", "world", "--task", "pocket_nothing"], "unknown task 'pocket_nothing'"),
        (
            ["random-model", "new", "--set", "layers=60000"],
            "parameters; a random model has at most",
        ),
        (["world", "pretrain", "new", "--set", "steps=0"], "steps: must be from 1"),
        (["probe", "--probe", "splice", "--depths", "8,x"], "--depths: expected numbers such as"),
    ],
)
def test_bad_arguments_end_with_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text("mine")
    (tmp_path / "gone").symlink_to("nowhere")
    assert main(arguments) == 2
    line = capsys.readouterr().err.strip()
    assert words in line
    assert len(line.splitlines()) == 1
    assert len(line) < 2100
    assert {p.name for p in tmp_path.iterdir()} == {"f", "gone"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "broken.yaml"], "line 1, column 5: mapping values are not allowed here"),
        (["train", "itself.yaml", "--arm", "a"], "the value of the anchor 'a' holds itself"),
        (["check", "laughs.yaml"], "more than 20000 values"),
        (["plan", "nowhere.yaml"], "no study file at nowhere.yaml"),
        (["search", "pocket", "--set", "arms.grop.name=x"], "arms has no item 'grop'"),
        (["run", "pocket", "--data", "nowhere"], "--data: no folder at nowhere"),
        (["run", "code.yaml"], "reward: names code to run, mine.py:pay"),
        (["run", "pocket", "--seeds", "0"], "--seeds: must be from 1 to 1,000"),
        (["run", "pocket", "--set", "sedes=[0]"], "sedes: unknown key; did you mean 'seeds'?"),
        (
            ["check", "pocket", "--set", "arms.grpo.budget.steps=many"],
            "grpo.budget.steps: expected",
        ),
        (
            ["plan", "pocket", "--set", "arms.grpo.budget.steps=-1"],
            "grpo.budget.steps: must be from",
        ),
        (["run", "pocket", "--set", "drift.permutations=0"], "drift.permutations: must be from"),
        (["search", "pocket", "--set", f"{MILD}.source=lerner"], "unknown kind 'lerner'; did you"),
        (
            ["run", "pocket", "--set", f"{MILD}.terms.0.objective={{kind: clipped_surrogate}}"],
            "'clipped_surrogate' takes Advantages, but supervision 'own_actions' gives Actions",
        ),
        (
            ["run", "pocket", "--set", f"{MILD}.source={{kind: learner, max_new_tokens: 8}}"],
            "own_actions at the learner's own states",
        ),
        (
            ["run", "pocket", "--set", "arms.opd_from_mild.start=mld"],
            "arms.opd_from_mild: no arm or model directory 'mld'",
        ),
        (
            ["run", "pocket", "--set", "varies=[]"],
            "the study declares that arms vary in nothing only",
        ),
        (["train", "pocket", "--arm", "grop"], "--arm: no arm 'grop'; did you mean 'grpo'?"),
    ],
)
def test_what_is_wrong_with_a_study_is_said_before_torch_is_imported(arguments, words, tmp_path):
    """In a process of its own, by what was imported when it had been refused."""
    (tmp_path / "broken.yaml").write_text("a: b: c\n")
    (tmp_path / "itself.yaml").write_text("a: &a [*a]\n")
    lines = [f"a{i}: &a{i} [{'*a' + str(i - 1) + ', '}{'*a' + str(i - 1)}]" for i in range(1, 30)]
    (tmp_path / "laughs.yaml").write_text("\n".join(["a0: &a0 [x]", *lines]) + "\n")
    (tmp_path / "code.yaml").write_text("reward: {kind: python, function: 'mine.py:pay'}\n")
    done = heavy_after(arguments, tmp_path)
    assert done.stdout == "2 []\n", done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("study", ["pocket", "controls", "paper"])
def test_a_study_is_read_and_printed_without_torch(study, tmp_path):
    done = heavy_after(["run", study, "--dry-run"], tmp_path)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert done.stdout.startswith(f"name: {study}\n")


def heavy_after(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own; it prints its exit code and what it imported that takes long."""
    program = (
        f"import sys; sys.path.insert(0, {SOURCES!r}); import statewise.cli.main as cli\n"
        f"code = cli.main({arguments!r})\n"
        f"print(code, sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
