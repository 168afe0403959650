"""docs/study.md: its tables are what the code says now, its fragments are read, its example runs."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from docs import generate_study as generator
from examples import own
from statewise.arms import Term
from statewise.claims.claim import Claim
from statewise.claims.controls import Null
from statewise.cli.main import main
from statewise.config import from_plain
from statewise.data import Data
from statewise.objectives import Objective, Reinforce
from statewise.rewards import Reward, TokenReward
from statewise.signals import Advantages
from statewise.sources import PythonSource, Source
from statewise.store import read_json, read_rows
from statewise.study.spec import Study, read_study
from statewise.supervision import Supervision
from statewise.testing import states, trajectory
from statewise.yaml12 import load_yaml
from tests.test_docs import sections

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "study.md"
UNIONS = {
    "data": Data,
    "source": Source,
    "supervision": Supervision,
    "objective": Objective,
    "reward": Reward,
    "token reward": TokenReward,
    "claim": Claim,
    "null": Null,
}


# ---- the tables ---------------------------------------------------------------------------------


def test_the_tables_are_what_would_be_written_now():
    text = PAGE.read_text("utf-8")
    assert text == generator.page(text), "say: make docs"


def test_every_kind_and_every_key_of_a_study_file_stands_in_a_table():
    """Kinds and keys as the classes have them, not as the generator finds them."""
    tables = sections(PAGE)
    for title, union in UNIONS.items():
        found: dict[str, list[list[str]]] = {}
        for kind, *cells in tables[title]:
            found.setdefault(kind.strip("*`") or list(found)[-1], []).append(cells)
        assert list(found) == [kind.kind for kind in get_args(union)]
        for kind in get_args(union):
            head, *rows = found[kind.kind]
            assert head[-1]
            assert [row[0].strip("`") for row in rows] == [f.name for f in fields(kind) if f.init]
            assert all(all(row) for row in rows)
    study = {row[0].strip("`"): row for row in tables["study"]}
    assert list(study) == [f.name for f in fields(Study)]
    for field in fields(Study):
        bare = field.default is MISSING and field.default_factory is MISSING
        assert (study[field.name][2] == "required") == bare
    assert [row[0].strip("`") for row in tables["normaliser"]] == ["token", "sequence", "constant"]


def test_a_default_in_a_table_is_the_one_that_a_file_gets():
    """Read back as YAML would read it, for every kind that needs nothing."""
    cells = {(row[1].strip("`"), row[3].strip("`")) for row in sections(PAGE)["objective"]}
    assert {("clip_high", "0.0004"), ("over", "mean"), ("threshold_nats", "0.8")} <= cells
    template = {row[0].strip("`"): row[2].strip("`") for row in sections(PAGE)["template"]}
    data = from_plain(Data, {"kind": "jsonl", "path": "x"})
    assert json.loads(template["prompt"]) == data.template.prompt
    assert json.loads(template["completion"]) == data.template.completion


def test_every_link_leads_to_a_heading_or_a_file():
    text = PAGE.read_text("utf-8")
    headings = {h.lower().replace(" ", "-") for h in re.findall(r"^##+ (.+)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\((.+?)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings
        else:
            assert (PAGE.parent / target).is_file(), target
    assert "(study.md#term)" in (PAGE.parent / "methods.md").read_text("utf-8")


def test_a_key_without_a_meaning_a_meaning_without_a_key_and_a_class_without_a_table_stop_it(
    monkeypatch,
):
    @dataclass(frozen=True)
    class Planted:
        flavour: int = 0

    with pytest.raises(SystemExit, match=r"Planted\.flavour: write a docstring below the field"):
        generator.keys_of(Planted)
    with pytest.raises(SystemExit, match="which table shows it"):
        generator.type_words(Planted)
    keys = generator.KEYS
    monkeypatch.setattr(generator, "KEYS", keys | {"Study.flavour": "What it tastes of."})
    with pytest.raises(SystemExit, match=r"explains what no class has: Study\.flavour"):
        generator.check_complete()
    monkeypatch.setattr(generator, "KEYS", keys)
    rest = {name: shown for name, shown in generator.TABLES.items() if name != "dose"}
    monkeypatch.setattr(generator, "TABLES", rest)
    with pytest.raises(SystemExit, match="no table shows Dose"):
        generator.check_complete()


# ---- the fragments ------------------------------------------------------------------------------


def fragments() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", fragments(), ids=lambda text: text.split()[1])
def test_a_fragment_of_the_page_is_read(text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    plain = load_yaml(path)
    if "arms" in plain:
        study = read_study(str(path))
        assert [arm.name for arm in study.arms] == ["sft", "grpo"]
        assert study.arm("sft").streams[0].prompts.template.prompt.startswith("Question: {problem}")
    elif "supervision" in plain:
        term = from_plain(Term, plain)
        own = [part for part in (term.supervision, term.objective) if part.kind == "python"]
        assert own or isinstance(term.supervision.reward, get_args(Reward)[-1])
    else:
        assert isinstance(from_plain(Source, plain), PythonSource)


def test_there_are_as_many_fragments_as_the_page_promises():
    assert len(fragments()) == 5


# ---- the example --------------------------------------------------------------------------------

OWN = REPOSITORY / "examples" / "own.yaml"
SHRINK = (
    "seeds=[0]",
    "claims=[]",
    "tasks.pocket_gsm.limit=2",
    "tasks.pocket_gsm.max_new_tokens=8",
    "tasks.pocket_mmlu.limit=2",
    *(f"arms.{name}.budget={{learning_rate: 0.01, steps: 2}}" for name in ("grpo", "partial_credit", "brief")),
    *(f"arms.{name}.streams.0.prompts_per_step=2" for name in ("grpo", "partial_credit", "brief")),
    *(f"arms.{name}.streams.0.source.max_new_tokens=8" for name in ("grpo", "partial_credit")),
    "arms.brief.streams.0.source.room_tokens=8",
    "arms.brief.streams.0.source.arguments.tokens=8",
)  # fmt: skip


@pytest.fixture
def shrunk(tiny_base, monkeypatch) -> list[str]:
    """Arguments of a command on the example, on the tiny base: seconds."""
    monkeypatch.chdir(REPOSITORY)
    sets = [part for a in (f"base={tiny_base}", *SHRINK) for part in ("--set", a)]
    return ["examples/own.yaml", *sets]


def test_the_example_is_refused_until_its_code_is_trusted(shrunk, capsys):
    assert main(["check", *shrunk]) == 2
    printed = capsys.readouterr()
    assert "names code to run, examples/own.py:partial; read it, then say --trust" in printed.err
    assert printed.out == ""


def test_the_example_is_checked(shrunk, capsys):
    assert main(["check", *shrunk, "--trust-code", "--items", "2", "--json"]) == 0
    arms = {arm["arm"]: arm for arm in json.loads(capsys.readouterr().out)["arms"]}
    assert list(arms) == ["grpo", "partial_credit", "brief"]
    (judged,) = [x for x in arms["partial_credit"]["lines"] if x["name"] == "reward"]
    assert judged["status"] == "pass"
    assert judged["values"] == {"judged": 48, "gold": 1.0, "other_answer_mean": 0.0}


def test_the_example_runs(shrunk, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["run", *shrunk, "--trust-code", "--out", str(out), "--workers", "0"]) == 0
    assert (out / "report.html").is_file()
    rows = read_rows(out / "arms" / "brief" / "seed-0" / "metrics.jsonl")
    # 2 completions of at most 8 tokens, none of them right: less than 0.002 a token, more than nothing.
    assert all(-0.0161 < row["worth_mean"] < 0 for row in rows)
    assert {a["name"] for a in load_yaml(out / "study.yaml")["arms"]} == {
        "grpo",
        "partial_credit",
        "brief",
    }
    assert read_json(out / "results.json")["study"] == "own"
    hashes = re.findall(r"sha256: (\w{64})", (out / "study.yaml").read_text())
    assert len(hashes) == 4
    assert len(set(hashes)) == 1  # one file


def test_what_the_example_pays_by_hand():
    asked = trajectory(1, reference="6*7=42\n#### 42").prompt
    paid = [own.partial(asked, text, credit=0.5) for text in ("#### 42", "it is 42", "#### 41", "")]
    assert paid == [1.0, 0.5, 0.0, 0.0]
    bare = trajectory(1, reference="no mark").prompt
    with pytest.raises(ValueError, match="has no answer behind ####"):
        own.partial(bare, "#### 1", credit=0.5)


def test_what_the_example_s_objective_and_supervision_say_by_hand():
    """Probabilities 1/4 and 3/4, advantages 2 and -2: log 4 times 2, and half of log(4/3) times -2."""
    seen = states(0, 1)
    logits = torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log()
    told = Advantages(torch.tensor([2.0, -2.0]))
    found = own.gentle(logits, seen, told, keep=0.5)
    assert found.tolist() == pytest.approx([2 * np.log(4), -np.log(4 / 3)], rel=1e-6)
    whole = own.gentle(logits, seen, told, keep=1.0)
    torch.testing.assert_close(whole, Reinforce()(logits, seen, told))
    # Worth 1 - 0.1 * 2 and 0 - 0.1 * 4: mean 0.2, and 0.6 away from it on either side.
    rows = [
        trajectory(1, 2, completion="#### 1", reference="#### 1"),
        trajectory(1, 2, 3, 4, completion="#### 2", reference="#### 1"),
    ]
    labels = own.Brief(price=0.1, credit=0.5).label(rows)
    assert labels.values.tolist() == pytest.approx([0.6, -0.6])
    assert labels.figures["worth_mean"] == pytest.approx(0.2)


def test_the_example_s_source_cools_down(monkeypatch):
    drawn = []
    monkeypatch.setattr(own.Learner, "__call__", lambda self, *_, **__: drawn.append(self) or [])
    for progress in (0.0, 0.5, 1.0):
        own.cooling([], student=None, seed=0, progress=progress, tokens=8, hot=1.2)
    assert [walk.temperature for walk in drawn] == pytest.approx([1.2, 1.1, 1.0])


def test_every_function_of_the_example_is_named_in_it():
    text = OWN.read_text("utf-8")
    public = [
        name
        for name, value in vars(own).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == own.__name__
    ]
    assert sorted(public) == ["Brief", "cooling", "gentle", "partial"]
    assert all(f"examples/own.py:{name}" in text for name in public)
