"""`kind: python`: a user's own code is data until it is trusted, and its source is on record."""

from __future__ import annotations

import hashlib

import pytest
from enumerable import A, prompt

from statewise.code import load, seal, source_hash
from statewise.errors import ConfigError, DataError
from statewise.plain import from_plain, to_plain
from statewise.rewards import PythonReward, Reward
from statewise.study.spec import read_study

CODE = """
import pathlib
pathlib.Path(__file__).with_suffix(".ran").touch()

def shorter(prompt, completion, per_character=0.0):
    return 1.0 - per_character * len(completion)

def broken(prompt, completion):
    return float("nan")

number = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def test_a_reward_from_a_file_with_its_arguments(file):
    reward = PythonReward(f"{file}:shorter", {"per_character": 0.25})
    assert reward(prompt(A), "ab") == 0.5
    with pytest.raises(DataError, match="gave nan"):
        PythonReward(f"{file}:broken")(prompt(A), "ab")


def test_plain_data_names_the_function_and_nothing_runs_as_it_is_read(file):
    plain = {"kind": "python", "function": f"{file}:shorter", "arguments": {"per_character": 0.5}}
    reward = from_plain(Reward, plain)
    assert reward == PythonReward(f"{file}:shorter", {"per_character": 0.5})
    assert to_plain(reward) == plain | {"sha256": None}
    with pytest.raises(ConfigError, match=r"reward: names code to run, .*--trust-code"):
        seal({"reward": plain}, trust=False)
    assert not file.with_suffix(".ran").exists()


def test_trust_writes_the_hash_of_the_source_and_another_source_is_refused(file):
    plain = {"terms": [{"kind": "python", "function": f"{file}:shorter"}]}
    sealed = seal(plain, trust=True)
    expected = hashlib.sha256(CODE.encode()).hexdigest()
    assert sealed["terms"][0]["sha256"] == expected == source_hash(f"{file}:shorter")
    assert "sha256" not in plain["terms"][0], "what was given was changed"
    assert seal(sealed, trust=True) == sealed
    file.write_text(CODE + "\n# another")
    with pytest.raises(ConfigError, match=r"terms\[0\]: the source of .* is not the one"):
        seal(sealed, trust=True)
    with pytest.raises(ConfigError, match="is not the one"):
        PythonReward(f"{file}:shorter", sha256=expected)(prompt(A), "ab")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("nowhere.py:f", "no source file at nowhere.py"),
        ("no_such_package.module:f", "no_such_package"),
        ("math", "expected package.module:name"),
        ("statewise.rewards.exact:nothing", "no function 'nothing'"),
        ("statewise.rewards.exact:_MARKED", "no function '_MARKED'"),
    ],
)
def test_a_function_that_is_not_there_is_refused_by_name(function, says):
    with pytest.raises(ConfigError, match=says):
        load(function)


def test_a_module_is_found_by_its_dotted_path():
    assert load("statewise.rewards:final_answer")("#### 7") == "7"
    assert len(source_hash("statewise.rewards.exact:final_answer")) == 64


def test_a_study_file_that_names_code_is_refused_without_trust_and_hashed_with_it(file):
    at = "arms.grpo.streams.0.terms.0.supervision.reward"
    assignment = f"{at}={{kind: python, function: '{file}:shorter'}}"
    with pytest.raises(ConfigError, match="--trust-code"):
        read_study("pocket", [assignment])
    study = read_study("pocket", [assignment], trust_code=True)
    reward = study.arm("grpo").streams[0].terms[0].supervision.reward
    assert reward == PythonReward(f"{file}:shorter", {}, source_hash(f"{file}:shorter"))


def test_what_a_users_code_raises_names_the_function_its_file_and_line(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("def reward(prompt, completion):\n    return prompt.answer\n")
    pay = PythonReward(f"{path}:reward")
    with pytest.raises(
        ConfigError, match=r"wrong\.py:reward raised AttributeError: .*'answer'.*line 2"
    ):
        pay(prompt(A), "1")
