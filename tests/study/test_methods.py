"""`method:` in a study file stands for the streams that the method's function makes."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from statewise.arms import Arm, Budget, dft, opd, with_rehearsal
from statewise.arms.methods import KEYS, functions, with_streams
from statewise.config import differences, from_plain, to_plain
from statewise.data import JsonLines, WorldProblems
from statewise.errors import ConfigError, PairingError
from statewise.policy import PolicyRef
from statewise.study.spec import Study, read_study

PROMPTS = {"kind": "world_problems", "split": "prompts"}
BUDGET = {"learning_rate": 3e-5, "steps": 40, "passes": 1, "minibatches": 2}
GRPO = {"kind": "grpo", "max_new_tokens": 120, "samples_per_prompt": 8}


def arm(method: object, **others: object) -> dict[str, object]:
    given = {"name": "x", "method": method, "prompts": PROMPTS, "prompts_per_step": 16}
    return given | {"budget": BUDGET} | others


def expanded(method: object, **others: object) -> Arm:
    (plain,) = with_streams({"arms": [arm(method, **others)]})["arms"]
    assert "method" not in plain
    return from_plain(Arm, plain)


def pocket_with_a_method(folder: Path) -> str:
    """pocket.yaml with its arm `grpo` written by its method."""
    text = files("statewise.studies") / "pocket.yaml"
    lines = text.read_text("utf-8").splitlines(keepends=True)
    begin = next(i for i, line in enumerate(lines) if line == "  - name: grpo\n")
    end = next(i for i in range(begin, len(lines)) if lines[i].startswith("    budget:"))
    written = [
        "  - name: grpo\n",
        "    method: {kind: grpo, max_new_tokens: 120, samples_per_prompt: 8}\n",
        "    prompts: *prompts\n",
        "    prompts_per_step: 16\n",
    ]
    path = folder / "study.yaml"
    path.write_text("".join(lines[:begin] + written + lines[end:]), "utf-8")
    return str(path)


def test_an_arm_by_its_method_is_the_arm_by_its_streams(tmp_path):
    assert read_study(pocket_with_a_method(tmp_path)) == read_study("pocket")


def test_a_key_of_the_method_is_set_from_the_command_line_and_reaches_its_value_alone(tmp_path):
    study = read_study(pocket_with_a_method(tmp_path), ["arms.grpo.method.clip=0.1"])
    paths = differences(to_plain(read_study("pocket")), to_plain(study))
    objective = "arms.grpo.streams[0].terms[0].objective"
    assert paths == [f"{objective}.clip_low", f"{objective}.clip_high"]
    assert study.arm("grpo").streams[0].terms[0].objective.clip_low == 0.1
    with pytest.raises(ConfigError, match=r"arms\.grpo has no key 'streams'"):
        read_study(pocket_with_a_method(tmp_path), ["arms.grpo.streams.0.share=2"])


def test_what_is_stored_has_the_streams_and_reads_back(tmp_path):
    study = read_study(pocket_with_a_method(tmp_path))
    plain = to_plain(study)
    assert all("streams" in arm and "method" not in arm for arm in plain["arms"])
    assert from_plain(Study, with_streams(plain)) == study


def test_a_bare_name_and_a_method_of_a_method():
    prompts, budget = WorldProblems("prompts"), Budget(3e-5, steps=40, minibatches=2)
    assert expanded("dft") == Arm.of("x", dft(), prompts, budget, prompts_per_step=16)
    teacher = {"kind": "opd", "teacher": "mild", "max_new_tokens": 8}
    nested = {
        "kind": "with_rehearsal",
        "method": teacher,
        "prompts": {"kind": "jsonl", "path": "old.jsonl"},
        "prompts_per_step": 2,
        "share": 0.3,
    }
    method = with_rehearsal(
        opd(teacher=PolicyRef("mild"), max_new_tokens=8),
        JsonLines("old.jsonl"),
        prompts_per_step=2,
        share=0.3,
    )
    whole = Arm.of("x", method, prompts, budget, prompts_per_step=16, start=PolicyRef("mild"))
    assert expanded(nested, start="mild") == whole
    assert [stream.share for stream in expanded(nested, share=0.5).streams] == [0.5, 0.3]


def test_every_row_of_the_methods_page_has_its_keys():
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text("utf-8")
    assert list(KEYS) == list(functions())
    assert all(f"\n| `{name}` | " in page for name in KEYS)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("gpro", r"^arms\.x\.method: unknown kind 'gpro'; did you mean 'gspo'"),
        ("grpo", r"^arms\.x\.method: kind 'grpo' needs max_new_tokens, samples_per_prompt; write "),
        (GRPO | {"clop": 0.1}, r"^arms\.x\.method\.clop: unknown key; did you mean 'clip'"),
        (GRPO | {"clip": 5}, r"^arms\.x\.method\.clip: must be from 0 to 1, found 5"),
        (
            {"kind": "with_replay", "share": 0.5, "method": {"kind": "with_replay"}},
            r"^arms\.x\.method\.method\.kind: unknown kind 'with_replay'",
        ),
        (3, r"^arms\.x\.method: expected kind 'sft' or "),
    ],
)
def test_a_wrong_method_is_refused_with_its_path(method, message):
    with pytest.raises(ConfigError, match=message):
        expanded(method)


def test_a_method_that_its_own_function_refuses_has_the_path_in_front():
    with pytest.raises(PairingError, match=r"^arms\.x\.method: group_advantage compares"):
        expanded(GRPO | {"samples_per_prompt": 1})


def test_method_and_streams_exclude_each_other_and_other_keys_are_named():
    with pytest.raises(ConfigError, match=r"^arms\.x: give `method` or `streams`, not both"):
        expanded("sft", streams=[])
    with pytest.raises(ConfigError, match=r"^arms\.x\.promts: unknown key; did you mean 'prompts'"):
        expanded("sft", promts=[])
    with pytest.raises(ConfigError, match=r"^arms\[0\]: required keys are missing: name, prompts"):
        with_streams({"arms": [{"method": "sft"}]})


def test_what_is_no_arm_with_a_method_stays_for_the_study_to_refuse():
    for plain in ({}, [], {"arms": 3}, {"arms": [3, {"name": "x"}]}):
        assert with_streams(plain) == plain


def test_methods_are_expanded_without_torch(tmp_path):
    path = pocket_with_a_method(tmp_path)
    code = (
        "import sys\nfrom statewise.study.spec import read_study\n"
        f"read_study({path!r})\n"
        "print(sorted({'torch', 'transformers', 'lm_eval'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
