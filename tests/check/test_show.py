"""What a user sees of `statewise check`: the text, the JSON, the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from one_arm import opened, supervised
from rich.cells import cell_len

import statewise
from statewise.check import Line, Skip, check_study
from statewise.check.item import Item, Run, Token, items
from statewise.check.show import arm_text, exit_code, plain, summary_text
from statewise.check.study import ArmReport, Cost
from statewise.check.wrapped import token_lines
from statewise.cli.main import main
from statewise.errors import ConfigError, ModelError
from statewise.study.spec import read_study

TOKENS = (
    Token(5, "1+1=", None, "prompt", 0.0, None, stop=False),
    Token(6, " so", None, "student@0", 0.0, -0.5, stop=False),
    Token(7, " 2\n", None, "teacher:mild@3", 1.0, -0.25, stop=False),
    Token(2, "<|eos|>", None, "teacher:mild@3", 1.0, float("nan"), stop=True),
)
RUNS = tuple(Run((t,), t.text) for t in TOKENS)
WELL = Line("pass", "masks", "2 of 4 tokens", values={"rows": 1})
ILL = Line("fail", "reward", "0 for gold \x1b[2J", "fix [it]", {"gold": float("nan")})
REPORT = ArmReport(
    "arm",
    ("a note",),
    (Item(0, "p/1", True, TOKENS, RUNS, (-0.5,), 0.25),),
    (WELL, ILL, Skip("dropout", "no gradient"), Skip("padding", "no gradient")),
    Cost(4, 1200, 1.25),
)


def test_the_text_says_without_colour_who_chose_what_and_what_is_taught():
    text = arm_text(REPORT)
    assert text.split("one training item (p/1)\n")[1].split("\n\n")[0].split("\n") == [
        "┆ prompt, 1 token, weight 0",
        "┆   1+1=",
        "┆   5",
        "┆ student@0, 1 token, weight 0",
        "┆    so",
        "┆   6",
        "┃ teacher:mild@3, 1 token, weight 1",
        "┃    2⏎",
        "┃   7",
        "┃   <|eos|>   ← the stop token, taught, id 2",
        "    advantage of this row -0.500; mean reward of these rows 0.250",
    ]
    assert "✓ pass  masks   2 of 4 tokens" in text
    assert "✗ fail  reward  0 for gold \\x1b[2J\n                fix: fix [it]" in text
    assert "nothing to check: dropout, padding (no gradient)" in text
    assert "4 rows, 1,200 tokens sampled, 1.2 s" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [40, 60, 100])
def test_no_name_is_broken_inside_however_narrow_the_terminal(width):
    """A path or a key that is cut by the edge of a cell can be neither copied nor searched for."""
    path = "runs/pocket/arms/one_step_opd_from_stress/seed-0/policy"
    words = f"arms.one_step_opd_from_stress.streams[0] reads other tokens than {path} on row-000017"
    line = Line("warn", "teacher reads the same tokens", words, f"give --set base={path}", {})
    found = (WELL, line, Skip("a_name_that_is_long_enough_for_every_width", "no gradient"))
    text = arm_text(replace(REPORT, notes=(words,), items=(), found=found), width=width)
    wanted = f"{words} {line.name} fix: {line.fix} {words}".split()
    assert [word for word in wanted if word not in text.split()] == []
    assert "(no gradient)" in " ".join(text.split())
    for row in text.splitlines():
        assert cell_len(row) <= width or len(row.split()) <= 2, row


def test_with_colour_an_owner_and_a_weight_have_a_style_each():
    text = arm_text(REPORT, colour=True)
    assert "\x1b[1;35m┃    2⏎" in text  # the teacher, taught: bold magenta
    assert "\x1b[32m┆    so" in text  # the student, given: plain green
    assert "\x1b[2J" not in text


def test_a_long_run_is_shortened_and_a_cut_row_is_said_to_be():
    lines = tuple(Token(n, f"{n}\n", None, "dataset", 1.0, None, stop=False) for n in range(40))
    run = Run(lines, "".join(t.text for t in lines))
    item = Item(1, "p/2", False, TOKENS[:1], (run,), (), None)
    report = ArmReport("arm", (), (item, item), (), Cost())
    text = arm_text(report)
    assert "(stream 1, p/2)" in text
    assert "┃   ... 26 more lines ..." in text
    assert "(cut before a stop token)" in text


def test_tokens_keep_their_borders_and_ids_and_steer_no_terminal():
    texts = {
        41: "a",
        42: " ⟨F0 9F 98⟩",
        43: "⟨80⟩",
        44: "e",
        45: "\u0301",
        46: "\x1b[2J\n\n",
        47: " " * 300,
    }
    parts = {42: "20f09f98", 43: "80"}
    tokens = tuple(
        Token(i, text, parts.get(i), "dataset", 1.0, None, stop=False) for i, text in texts.items()
    )
    run = Run(tokens, "a 😀e\u0301\x1b[2J\n\n" + " " * 300)
    item = Item(0, "p/3", True, TOKENS[:1], (run,), (), None)
    text = arm_text(ArmReport("arm", (), (item,), (), Cost()))
    lines = text.split("one training item (p/3)\n")[1].split("\n")[:6]
    assert lines[:3] == [
        "┃ dataset, 7 tokens, weight 1",
        "┃   a│ ⟨F0 9F 98⟩│⟨80⟩│e│◌\u0301│\\x1b[2J⏎⏎",
        "┃   41 42 43 44 45 46",
    ]
    assert lines[3].strip("┃ ") == "…"  # 300 spaces are shortened to one line
    assert lines[4] == "┃   47"
    assert lines[5].startswith("┃   as a text: a 😀e\u0301\\x1b[2J⏎⏎")
    assert all(len(line) <= 100 for line in lines)


def test_a_token_is_never_divided_between_lines():
    """Every line is the text of whole tokens and fits, and every id stands below its token."""
    tokens = tuple(
        Token(100_000 + n, word, None, "prompt", 0.0, None, stop=False)
        for n, word in enumerate(["Ques", "tion", ":", " 数字", " of", " nuts", ".\n", "x", "-" * 19] * 3)
    )  # fmt: skip
    lines = token_lines(tokens, 20)
    assert [int(i) for _, ids in lines for i in ids.split()] == [t.id for t in tokens]
    shown = [part for text, _ in lines for part in text.split("│")]
    assert shown == [t.text.replace("\n", "⏎") for t in tokens]
    assert all(cell_len(text) <= 20 and len(ids) <= 20 for text, ids in lines)


def test_plain_data_hold_every_token_line_and_reason():
    found = json.loads(json.dumps(plain("study", [REPORT]), allow_nan=False))
    assert found.keys() == {"study", "exit_code", "counts", "arms"}
    assert (found["exit_code"], found["counts"]) == (1, {"pass": 1, "warn": 0, "fail": 1})
    (arm,) = found["arms"]
    assert arm.keys() == {"arm", "notes", "items", "lines", "skipped", "cost"}
    assert arm["lines"][1] == {
        "status": "fail",
        "name": "reward",
        "figure": "0 for gold \x1b[2J",
        "fix": "fix [it]",
        "values": {"gold": None},
    }
    assert arm["skipped"][0] == {"name": "dropout", "reason": "no gradient"}
    (item,) = arm["items"]
    assert item["tokens"][2] == {
        "id": 7,
        "text": " 2\n",
        "part": None,
        "owner": "teacher:mild@3",
        "weight": 1.0,
        "logprob": -0.25,
        "stop": False,
    }
    assert item["tokens"][3]["logprob"] is None
    assert exit_code([REPORT]) == 1
    assert summary_text([REPORT]) == "1 arm: 1 pass, 0 warn, 1 fail; failing: arm"


# ---- the command --------------------------------------------------------------------------------


def test_an_emoji_in_a_row_is_four_tokens_with_ids_and_bytes(one, rows):
    """From the row itself to the document and the terminal, under the world's byte-level tokenizer."""
    study = one(supervised(rows([("a", "😀"), ("b", "1")])))
    subject, _, rollouts = opened(study)
    rollouts = [
        replace(r, trajectories=[t for t in r.trajectories if "😀" in t.completion])
        for r in rollouts
    ]
    (item,) = items(subject, rollouts)
    ids = subject.student.to_ids("😀").tolist()
    found = [t for t in item.tokens if t.id in ids]
    assert [(t.id, t.text, t.part) for t in found] == [
        (i, f"⟨{byte}⟩", byte.lower())
        for i, byte in zip(ids, ("F0", "9F", "98", "80"), strict=True)
    ]
    report = ArmReport("arm", (), (item,), (), Cost())
    text = arm_text(report)
    assert " │⟨F0⟩│⟨9F⟩│⟨98⟩│⟨80⟩\n" in text
    assert " ".join(map(str, ids)) in text
    assert "as a text:  😀\n" in text
    assert "\ufffd" not in text + json.dumps(plain("study", [report]), ensure_ascii=False)


@pytest.fixture
def command(tiny_base, tmp_path, monkeypatch):
    """`statewise check` of a study file with one SFT arm on the tiny base, and what is in its folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        f"name: mine\nquestion: is it well?\nbase: {tiny_base}\nvaries: []\nseeds: [0]\n"
        "tasks: [{name: pocket_gsm, role: target, metric: exact_match, limit: 4, max_new_tokens: 8}]\n"
        "arms:\n  - name: sft\n    streams:\n"
        "      - prompts: {kind: world_problems, split: demonstrations, limit: 20}\n        source: dataset\n"
        "        terms: [{supervision: own_actions, objective: cross_entropy}]\n        prompts_per_step: 4\n"
        "    budget: {learning_rate: 0.01, steps: 2}\n"
    )
    return lambda *arguments: main(["check", "mine.yaml", *arguments])


def test_exit_code_0_without_a_fail_and_nothing_is_written(command, tmp_path, capsys):
    assert command("--items", "2") == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("checking sft (arm 1 of 1): loading its models\n")
    assert printed.out.startswith("mine: 1 arm, 2 prompts each; nothing is trained or written\n")
    assert printed.out.rstrip().endswith("1 arm: 12 pass, 0 warn, 0 fail")
    assert "← the stop token, taught" in printed.out
    assert "\x1b" not in printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_exit_code_1_on_a_fail_and_json_alone_on_stdout(command, capsys):
    long = "{answer}" + " and" * 400
    data = f"{{kind: world_problems, limit: 20, template: {{completion: '{long}'}}}}"
    assert command("--json", "--set", f"arms.sft.streams.0.prompts={data}") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == 1
    (arm,) = found["arms"]
    (failing,) = [line for line in arm["lines"] if line["status"] == "fail"]
    assert failing["name"] == "prompts"
    assert failing["figure"].startswith("world_problems, row 1: ")
    assert "exceed the context of 320" in failing["figure"]
    assert "too_long: drop" in failing["fix"]


def test_a_model_that_is_not_there_is_a_fail_that_json_holds(command, capsys):
    assert command("--json", "--set", "base=./nowhere") == 1
    (arm,) = json.loads(capsys.readouterr().out)["arms"]
    (only,) = arm["lines"]
    assert (only["status"], only["name"]) == ("fail", "model")
    assert only["figure"].startswith("arms.sft: no model at nowhere")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--arm", "stf"], "--arm: no arm 'stf'; did you mean 'sft'"),
        (["--items", "0"], "--items: must be from 1 to 65,536, found 0"),
        (["--run", "nowhere"], "--run: nowhere is no run folder"),
        (["--set", "arms.sft.streams.0.terms.0.objective={kind: python, function: 'a.py:f'}"], "--trust-code"),
    ],
)  # fmt: skip
def test_exit_code_2_on_bad_input(command, capsys, arguments, words):
    assert command(*arguments) == 2
    printed = capsys.readouterr()
    error = printed.err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert printed.out == ""  # no legend of what will not be shown


def test_what_is_refused_is_refused_before_the_first_report_is_asked_for(command):
    study = read_study("mine.yaml")
    with pytest.raises(ConfigError, match="--arm: no arm 'stf'"):
        check_study(study, arms=["stf"])
    with pytest.raises(ConfigError, match="--items must be 1 or more"):
        check_study(study, items=0)


def test_a_model_that_is_not_there_is_tried_once_and_told_of_every_arm(
    command, tmp_path, capsys, monkeypatch
):
    from statewise.policy import Policy

    tried = []

    def load(directory, **_):
        tried.append(directory)
        raise ModelError("cannot load a model from it; name another")

    monkeypatch.setattr(Policy, "load", load)
    text = (tmp_path / "mine.yaml").read_text()
    arm = text[text.index("  - name: sft") :]
    (tmp_path / "mine.yaml").write_text(text + arm.replace("name: sft", "name: again"))
    assert command("--json") == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [arm["lines"][0]["figure"] for arm in found["arms"]] == [
        "arms.sft: cannot load a model from it",
        "arms.again: cannot load a model from it",
    ]
    assert len(tried) == 1
    assert printed.err == (
        "checking sft (arm 1 of 2): loading its models\n"
        "checking again (arm 2 of 2): loading its models\n"
    )


OFFLINE = """
import sys, time
time.sleep = lambda seconds: None   # the hub's client waits between its retries
from statewise.cli.main import main
sys.exit(main(["check", "mine.yaml", "--set", "base=nobody/nothing"]))
"""


def test_a_hub_that_cannot_be_reached_is_one_line(command, tmp_path):
    """In a process of its own: the client reads its address and how loud it is as it is imported."""
    closed = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    source = str(Path(statewise.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        cwd=tmp_path,
        env=quiet | closed | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == "checking sft (arm 1 of 1): loading its models\n"
    text = " ".join(done.stdout.split())
    assert text.count("the hub cannot be reached, and its cache on this machine does not hold") == 1
    assert "fix: go online, or name a directory" in text
    assert "Retrying" not in text
