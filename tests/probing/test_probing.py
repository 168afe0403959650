"""`statewise states` and `statewise probe`, on a tiny run and on models; the file they share."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from statewise.cli.main import main
from statewise.probing.catalogue import PROBES
from statewise.probing.inputs import Asked
from statewise.sources import Stored
from statewise.study.models import fingerprint
from statewise.trajectory import origins
from statewise.trajectory_store import (
    SCHEMA,
    About,
    read_about,
    read_states,
    sample_names,
    write_states,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_page_has_a_row_for_every_probe_and_every_row_a_function():
    lines = (REPOSITORY / "docs" / "probes.md").read_text("utf-8").splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == list(PROBES)
    source = "".join(p.read_text() for p in (REPOSITORY / "src/statewise/probes").glob("*.py"))
    for row in rows:
        for name in row[-1].strip(" |").replace("`", "").split(", "):
            assert f"def {name}(" in source


@pytest.fixture(scope="module")
def sample(tiny_run, tmp_path_factory):
    """The samples of two arms of the tiny run, stored."""
    path = tmp_path_factory.mktemp("samples") / "samples.parquet"
    options = ["--arm", "mild_sft", "--arm", "opd_from_mild", "--out", str(path)]
    options += ["--samples-per-prompt", "2", "--retention-limit", "3", "--retention-tokens", "4"]
    assert main(["states", str(tiny_run.root), *options]) == 0
    return path


def test_a_run_gives_the_samples_that_the_docstring_names(sample, tiny_run):
    learners = ["mild_sft@5", "opd_from_mild@5"]
    retained = ["retention", *(f"retention/{name}" for name in learners)]
    assert sorted(sample_names(sample)) == sorted(["base", "dataset", *learners, *retained])
    counts = {name: len(read_states(sample, name)) for name in sample_names(sample)}
    # drift's 6 prompts; 3 items of each of the two retention tasks; twice each.
    assert counts["dataset"] == 6
    assert {counts[name] for name in ("base", *learners, *retained)} == {12}
    about = read_about(sample)
    policy = str(tiny_run.arm("mild_sft", 0) / "policy")
    assert about["mild_sft@5"].fingerprint == fingerprint(policy)
    assert about["retention/mild_sft@5"].prompts == "pocket_truthfulqa_mc1,pocket_mmlu"
    assert about["dataset"].policy is None


def test_pandas_reads_the_file_as_the_docstring_says(sample):
    frame = pd.read_parquet(sample)
    assert list(frame.columns) == SCHEMA.names
    lists = ["token_ids", "origins", "depths", "behaviour_logprobs"]
    tokens = frame.explode(lists)
    written = tokens[tokens.depths >= 0]
    means = written.groupby("sample").behaviour_logprobs.mean()
    rows = read_states(sample, "base")
    flat = np.concatenate([t.behaviour_logprobs[t.prompt_tokens :] for t in rows])
    assert means["base"] == pytest.approx(flat.mean(), rel=1e-5)
    assert np.isnan(means["dataset"])  # nobody sampled it
    base = written[written["sample"] == "base"]
    assert list(base.origins) == [o for t in rows for o in origins(t)[t.prompt_tokens :]]
    assert set(base[base.depths == 0].origins) == {"prompt"}
    assert set(base[base.depths > 0].origins) == {"student"}
    # No file that any other reader would trip over: plain columns, no extension types.
    assert {str(f.type) for f in pq.read_schema(sample)} <= {
        "string", "int32", "double", "bool",
        *(f"list<element: {t}>" for t in ("int32", "int16", "float", "string")),
    }  # fmt: skip


def test_the_same_command_draws_the_same_states(sample, tiny_run, tmp_path):
    again = tmp_path / "again.parquet"
    options = ["--arm", "mild_sft", "--samples-per-prompt", "2", "--retention-limit", "3"]
    options += ["--retention-tokens", "4", "--out", str(again)]
    assert main(["states", str(tiny_run.root), *options]) == 0
    for name in sample_names(again):
        mine, theirs = read_states(sample, name), read_states(again, name)
        assert [t.token_ids.tolist() for t in mine] == [t.token_ids.tolist() for t in theirs]


def test_what_nobody_drew_is_nobodys_own():
    """Gold completions have no fingerprint, and neither has a policy that was not given."""
    asked = Asked(None, {}, {}, {}, about={"dataset": About()}, prints={})
    assert asked.own("opd_from_mild") is None


def test_samples_are_drawn_once_unless_told_otherwise(sample, tiny_run, tmp_path, capsys):
    kept = tmp_path / "kept.parquet"
    kept.write_bytes(sample.read_bytes())
    options = [str(tiny_run.root), "--arm", "mild_sft", "--out", str(kept), "--limit", "2"]
    options += ["--retention-limit", "1", "--retention-tokens", "2", "--max-new-tokens", "2"]
    assert main(["states", *options]) == 2
    assert "is there, and samples are drawn once; give another --out" in capsys.readouterr().err
    assert kept.read_bytes() == sample.read_bytes()
    assert main(["states", *options, "--overwrite"]) == 0
    assert "opd_from_mild@5" not in sample_names(kept)


def test_retention_states_train_nobody(sample):
    rows = read_states(sample, "retention")
    assert {t.supervised_tokens for t in rows} == {0}
    assert all(t.prompt.reference is None for t in rows)
    assert all(t.supervised_tokens > 0 for t in read_states(sample, "dataset"))
    # As a source it gives them back as they are: nothing to learn.
    source = Stored(str(sample), "retention", samples_per_prompt=2)
    assert source.path == str(sample)


@pytest.mark.parametrize("name", [name for name in PROBES if name != "exposure"])
def test_every_probe_runs_over_a_run_and_says_so_in_rows(name, sample, tiny_run, tmp_path, capsys):
    out = tmp_path / "rows.parquet"
    given = ["--arm", "opd_from_mild", "--arm", "mild_sft", "--states", str(sample)]
    options = ["--depths", "2,4", "--max-new-tokens", "8", "--probe", name, "--out", str(out)]
    assert main(["probe", str(tiny_run.root), *given, *options]) == 0
    rows = pd.read_parquet(out)
    assert len(rows) > 0
    assert set(rows.probe) == {name}
    assert np.isfinite(rows.value).all()
    known = rows[rows.low.notna()]
    assert ((known.low <= known.value) & (known.value <= known.high)).all()
    assert rows[["measure", "at", "policy", "reference", "sample"]].duplicated().sum() == 0 or (
        name == "c2st"
    )
    assert "measure" in capsys.readouterr().out


def test_the_teacher_of_an_arm_is_the_one_of_its_study(sample, tiny_run, tmp_path, capsys):
    given = ["--arm", "opd_from_mild", "--arm", "mild_sft", "--states", str(sample), "--json"]
    out = ["--out", str(tmp_path / "rows.json")]
    assert main(["probe", str(tiny_run.root), *given, "--probe", "exposure", *out]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "rows.json").read_text())
    assert {(r["policy"], r["reference"]) for r in printed} == {("opd_from_mild", "mild_sft")}
    assert {r["sample"] for r in printed} == {"opd_from_mild@5 - mild_sft@5"}


def test_an_arm_alone_brings_its_teacher(sample, tiny_run, tmp_path, capsys):
    given = [str(tiny_run.root), "--arm", "opd_from_mild", "--states", str(sample), "--json"]
    out = ["--out", str(tmp_path / "rows.json")]
    assert main(["probe", *given, "--probe", "fidelity", *out]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {(r["policy"], r["reference"]) for r in printed} == {("opd_from_mild", "mild_sft")}


def test_a_teacher_that_was_brought_is_asked_nothing_itself(sample, tiny_run, tmp_path, capsys):
    """The samples hold none that it drew, and `--teacher` makes no student of it."""
    given = [str(tiny_run.root), "--arm", "opd_from_mild", "--json"]
    mine = ["base", "dataset", "opd_from_mild@5"]
    given += [f"--states={sample}:{name}" for name in mine]
    out = ["--out", str(tmp_path / "rows.json")]
    assert main(["probe", *given, "--probe", "audit", *out]) == 0
    assert {r["policy"] for r in json.loads(capsys.readouterr().out)} == {"base", "opd_from_mild"}
    assert main(["probe", *given, "--probe", "overlap", "--teacher", "base", *out]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {(r["policy"], r["reference"]) for r in printed} == {("opd_from_mild", "base")}


@pytest.mark.parametrize(("drawn_by", "index"), [("mild_sft", 0), ("opd_from_mild", 1)])
def test_anothers_learner_is_not_what_an_arm_was_trained_on(
    drawn_by, index, sample, tiny_run, tmp_path, capsys
):
    """Every file of a study calls its policy's sample `learner`: the fingerprint tells whose it is."""
    drawer = About(fingerprint=fingerprint(str(tiny_run.arm(drawn_by, 0) / "policy")))
    rows = read_states(sample, "retention")
    path = tmp_path / "s.parquet"
    write_states(path, {"learner": rows, "retention": rows}, {"learner": drawer})
    given = [str(tiny_run.root), "--arm", "opd_from_mild", "--states", str(path), "--json"]
    out = ["--out", str(tmp_path / "rows.json"), "--probe", "locality"]
    assert main(["probe", *given, *out]) == 0
    measures = [r["measure"] for r in json.loads(capsys.readouterr().out)]
    assert measures == ["kappa", "kappa", *["index"] * index]


def test_a_sample_that_is_named_as_trained_is_taken_whoever_drew_it(
    sample, tiny_run, tmp_path, capsys
):
    rows = read_states(sample, "retention")
    path = tmp_path / "s.parquet"
    write_states(path, {"learner": rows, "retention": rows}, {})
    given = [str(tiny_run.root), "--arm", "mild_sft", "--states", str(path), "--json"]
    out = ["--out", str(tmp_path / "rows.json"), "--probe", "locality", "--trained", "learner"]
    assert main(["probe", *given, *out]) == 0
    index = [r for r in json.loads(capsys.readouterr().out) if r["measure"] == "index"]
    assert [(r["sample"], r["value"]) for r in index] == [("learner / retention", 1.0)]


@pytest.mark.parametrize(
    ("options", "on"),
    [
        ([], {"mild_sft": "dataset", "opd_from_mild": "opd_from_mild@5", "late": "dataset"}),
        (["--trained", "base"], dict.fromkeys(("mild_sft", "opd_from_mild", "late"), "base")),
    ],
)
def test_the_index_calls_trained_what_an_arm_visits(
    options, on, sample, tiny_run, tmp_path, capsys
):
    late = f"late={tiny_run.arm('mild_sft', 0) / 'policy'}"
    given = [str(tiny_run.root), late, "--arm", "opd_from_mild", "--arm", "mild_sft", "--json"]
    given += ["--states", str(sample)]
    out = ["--out", str(tmp_path / "rows.json"), "--probe", "locality"]
    assert main(["probe", *given, *options, *out]) == 0
    rows = json.loads(capsys.readouterr().out)
    moved = {(r["policy"], r["sample"]): r["value"] for r in rows if r["measure"] == "kappa"}
    found = {r["policy"]: r for r in rows if r["measure"] == "index"}
    assert {name: row["sample"] for name, row in found.items()} == {
        name: f"{where} / retention" for name, where in on.items()
    }
    for name, where in on.items():
        assert found[name]["value"] == pytest.approx(
            moved[name, where] / moved[name, "retention"], rel=1e-9
        )


def test_a_reason_that_a_part_is_missing_is_the_one_that_was_met(monkeypatch):
    """A source that has nothing to show of these prompts, say: no guess stands in for its own words."""
    from statewise.errors import DataError
    from statewise.probes.interference import Gradients
    from statewise.probing import catalogue as probing

    def refuse():
        raise DataError("kept.parquet holds no row of prompt 'p7'")

    asked = []

    def geometry(_policy, known, **_):
        asked.append(list(known))
        return object.__new__(Gradients)

    monkeypatch.setattr(probing, "gradient_geometry", geometry)
    missing: list[str] = []
    inspect.unwrap(probing._with_own_terms)(None, {"dataset": []}, refuse, missing)
    assert asked == [["dataset"]]
    assert missing == ["kept.parquet holds no row of prompt 'p7'"]


def test_the_list_names_every_probe_and_what_it_tells(capsys):
    assert main(["probe", "--probe", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PROBES)
    assert all(len(line.split()) > 4 for line in lines)
    needy = {line.split()[0] for line in lines if line.endswith("(student and teacher)")}
    assert {"fidelity", "repair"} < needy
    assert "locality" not in needy


def test_a_policys_own_sample_is_known_by_its_weights(sample, tiny_run, tmp_path, capsys):
    """Under another name the policy is still the one that drew its sample."""
    place = f"mine={tiny_run.arm('mild_sft', 0) / 'policy'}"
    options = ["--states", str(sample), "--probe", "audit", "--json"]
    assert main(["probe", place, *options, "--out", str(tmp_path / "rows.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {(r["policy"], r["sample"]) for r in printed} == {("mine", "mild_sft@5")}
    gap = next(r for r in printed if r["measure"] == "gap")
    assert gap["value"] < 1e-4


def test_one_sample_of_a_file_can_be_asked_for(sample, tiny_run, tmp_path, capsys):
    given = [str(tiny_run.root), "--arm", "mild_sft", "--states", f"{sample}:dataset"]
    out = ["--out", str(tmp_path / "rows.json"), "--json"]
    assert main(["probe", *given, "--probe", "locality", *out]) == 0
    assert {r["sample"] for r in json.loads(capsys.readouterr().out)} == {"dataset"}


def test_a_checkpoint_and_a_base_by_hand(sample, tiny_base, tiny_run, tmp_path, capsys):
    place = f"late={tiny_run.arm('mild_sft', 0) / 'policy'}"
    options = ["--base", str(tiny_base), "--states", str(sample), "--probe", "geometry", "--json"]
    assert main(["probe", place, *options, "--out", str(tmp_path / "rows.json")]) == 0
    rows = {r["measure"]: r["value"] for r in json.loads(capsys.readouterr().out)}
    assert rows["norm"] > 0
    assert 0 < rows["changed_share"] <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["probe", "RUN", "--probe", "localty"], "--probe: no probe 'localty'; did you mean 'local"),
        (["probe", "RUN", "--probe", "locality"], "draw them by `statewise states "),
        (["probe", "--probe", "locality"], "name a run folder, a model directory"),
        (["probe", "BASE", "--probe", "audit", "--states", "SAMPLE", "--trained", "datset"],
         "--trained: no sample 'datset'; did you mean 'dataset'"),
        (["probe", "RUN", "--probe", "locality", "--arm", "x"], "--arm: no arm 'x'"),
        (["probe", "RUN", "--probe", "locality", "--seed", "9"], "--seed: 9 is not among"),
        (["probe", "BASE", "--probe", "locality"], "say which samples to read: --states FILE"),
        (["probe", "BASE", "--probe", "locality", "--states", "SAMPLE"], "give one by --base"),
        (["probe", "m=BASE", "--probe", "overlap", "--states", "SAMPLE"], "say which teaches by --teacher"),
        (["probe", "m=BASE", "--probe", "overlap", "--teacher", "q", "--states", "SAMPLE"],
         "--teacher: no policy 'q' among those given (an arm of the run comes by --arm); known: base, m"),
        (["probe", "BASE", "--probe", "audit", "--states", "SAMPLE:nobody"], "no sample 'nobody'"),
        (["probe", "BASE", "--probe", "audit", "--states", "BASE/config.json"], "no state samples"),
        (["probe", "BASE", "--probe", "audit", "--states", "SAMPLE", "--out", "x.csv"], "--out: rows"),
        (["probe", "BASE", "--probe", "splice", "--states", "SAMPLE", "--depths", "a"], "--depths"),
        (["states", "BASE"], "say where the samples go: --out FILE.parquet"),
        (["states", "BASE", "--out", "s.parquet", "--prompts", "x"], "--prompts: 'x' is no file"),
        (["states", "BASE", "--out", "s.parquet", "--limit", "0"], "--limit: must be from 1 to"),
        (["states", "BASE", "--out", "s.parquet", "--arm", "x"], "no run folder was given"),
        (["states", "a=BASE", "a=BASE", "--out", "s.parquet"], "two policies are called 'a'"),
        (["states", "./nowhere", "--out", "s.parquet"], "./nowhere: no such folder; give a run folder"),
        (["states", "runs/nowhere", "--out", "s.parquet"], "runs/nowhere: no such folder"),
        (["states", "mine=RUN", "--out", "s.parquet"], "is a run folder, which is given without a name"),
        (["states", ".", "--out", "s.parquet"], ". is neither a run folder (it has no study.yaml) nor a model"),
        (["states", "BASE", "--out", "s.parquet", "--temperature", "-1"], "--temperature: must be from 0"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(
    arguments, words, sample, tiny_run, tiny_base, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    places = {"RUN": str(tiny_run.root), "BASE": str(tiny_base), "SAMPLE": str(sample)}
    for short, place in places.items():
        arguments = [a.replace(short, place) if short in a else a for a in arguments]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("statewise: ")
    assert words in error
    assert list(tmp_path.iterdir()) == []
