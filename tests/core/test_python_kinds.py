"""`kind: python`: a user's own code is data until it is trusted, and its source is on record."""

from __future__ import annotations

import hashlib

import pytest
from enumerable import A, prompt

from statewise.config import from_plain, to_plain
from statewise.errors import ConfigError
from statewise.rewards import PythonReward, Reward
from statewise.study.spec import read_study
from statewise.user_code import distrust, load, seal, source_hash

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
    with pytest.raises(ConfigError, match=r"gave nan \(float\) .*\(mine\.py, line 8\)"):
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


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\ndef f(:\n", r"could not be imported: SyntaxError: .* \(own\.py, line 2\)"),
        (
            "x = 1\nraise RuntimeError('no\\nway')\n",
            r"imported: RuntimeError: no way \(own\.py, line 2\)",
        ),
        ("import sys\n\nsys.exit(0)\n", r"imported: SystemExit: 0 \(own\.py, line 3\)"),
        ("raise SystemExit\n", r"imported: SystemExit \(own\.py, line 1\)"),
        (
            "\nimport not_there_at_all\n",
            r"ModuleNotFoundError: .*not_there_at_all.* \(own\.py, line 2\)",
        ),
        (
            "from . import sibling\n",
            r"ImportError: attempted relative import .* \(own\.py, line 1\)",
        ),
        ("from statewise.rewards import gone\n", r"ImportError: .*gone.* \(own\.py, line 1\)"),
        (b"\x7fELF\0\1\xff", r"could not be imported: \w+: .*\(own\.py"),
        (b"x = '\xff'\n", r"could not be imported: SyntaxError: .*\(own\.py"),
        ("(" * 5_000, r"could not be imported: \w+: .*\(own\.py"),
        ("class Odd:\n    pass\nf = Odd()\n", r"no function 'f' in it"),
    ],
)
def test_code_that_cannot_be_imported_is_one_line_with_its_file_and_line(tmp_path, source, says):
    path = tmp_path / "own.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    plain = {"reward": {"kind": "python", "function": f"{path}:f"}}
    with pytest.raises(ConfigError, match=rf"^reward: .*{says}") as caught:
        seal(plain, trust=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import sys; sys.exit(3)", r"raised SystemExit: 3 \(own\.py, line 2\)"),
        ("return 'high'", r"gave 'high' \(str\) for a completion of .* \(own\.py, line 1\)"),
        ("return '1.0'", r"gave '1\.0' \(str\)"),
        ("return None", r"gave None \(NoneType\)"),
        ("return True", r"gave True \(bool\) .*; return a finite float there"),
        ("return float('inf')", r"gave inf \(float\)"),
        ("return 10**400", r"gave 1000.*\.\.\. \(int\)"),
        ("import numpy; return numpy.ones(2)", r"gave array"),
        ("return 1j", r"gave 1j \(complex\)"),
        ("return (yield)", r"gave <generator"),
        ("return f(prompt, completion)", r"raised RecursionError: .*\(own\.py, line 2\)"),
    ],
)
def test_what_a_reward_gives_that_is_no_number_is_one_line(tmp_path, body, says):
    path = tmp_path / "own.py"
    path.write_text(f"def f(prompt, completion):\n    {body}\n")
    with pytest.raises(ConfigError, match=says) as caught:
        PythonReward(f"{path}:f")(prompt(A), "1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given", ["1", "1.0", "numpy.float32(1)", "numpy.array(1.0)", "torch.tensor(1.0)"]
)
def test_numbers_as_python_numpy_and_torch_write_them_are_rewards(tmp_path, given):
    path = tmp_path / "own.py"
    path.write_text(f"import numpy, torch\ndef f(prompt, completion):\n    return {given}\n")
    assert PythonReward(f"{path}:f")(prompt(A), "1") == 1.0


def test_ctrl_c_in_a_users_code_is_the_users(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("def f(prompt, completion):\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        PythonReward(f"{path}:f")(prompt(A), "1")


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (".own:f", "expected package.module:name"),
        ("..own:f", "expected package.module:name"),
        ("a b:f", "expected package.module:name"),
        ("math.nothing:f", "math.nothing"),
        ("__main__.x:f", "__main__"),
        ("{folder}:f", "a folder, no source file"),
        ("own.py\0:f", "expected package.module:name"),
    ],
)
def test_places_that_hold_no_code_are_one_line(tmp_path, where, says):
    (tmp_path / "own.py").mkdir()
    with pytest.raises(ConfigError, match=says):
        load(where.format(folder=tmp_path / "own.py"))


def test_what_a_strangers_run_folder_names_is_not_run(file, monkeypatch):
    monkeypatch.setattr("statewise.user_code._DISTRUSTED", set())
    plain = {
        "arms": [{"reward": {"kind": "python", "function": f"{file}:shorter", "sha256": None}}]
    }
    distrust(plain)
    with pytest.raises(ConfigError, match=r"names; read it, then say --trust-code to run it"):
        PythonReward(f"{file}:shorter")(prompt(A), "1")
    assert not file.with_suffix(".ran").exists()
    assert load("statewise.rewards:final_answer")("#### 7") == "7"
