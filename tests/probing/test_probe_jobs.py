"""Probes as part of a study: which files, whose states, continued to the bit, and training left alone."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from statewise.cli.main import main
from statewise.config import from_plain, to_plain
from statewise.errors import ConfigError
from statewise.jobs import probe as probe_jobs
from statewise.jobs.executor import Job, plan, run_study
from statewise.jobs.folder import differing
from statewise.jobs.probe import is_probed, probe_arm
from statewise.jobs.train import train_arm
from statewise.policy import Ema, PolicyRef
from statewise.probes import per_state
from statewise.probes.coverage import precision_recall
from statewise.probes.drift import hidden_features, prefixes
from statewise.probes.splice import SpliceMatrix
from statewise.probing import catalogue as probing
from statewise.probing import samples as probe_samples
from statewise.probing.catalogue import PLACES, PROBES, run_probe
from statewise.probing.context import answers, applies, trained_role
from statewise.probing.inputs import Asked
from statewise.results.summary import summarise
from statewise.rewards import ExactAnswer
from statewise.sources import (
    Continuation,
    Dataset,
    Filtered,
    Learner,
    Mixture,
    Replay,
    Stored,
    Teacher,
)
from statewise.store import RunFolder, read_json, read_rows, write_json, write_text
from statewise.study.arm_run import ArmRun
from statewise.study.models import fingerprint
from statewise.study.probes import CHEAP, KINDS, Probing
from statewise.study.spec import Study, read_study
from statewise.trajectory_store import read_about, read_states
from statewise.yaml12 import dump_yaml

ARMS = ("mild_sft", "opd_from_mild", "grpo")
NULLS = ("part_way", "early")
TAUGHT = {name for name, kind in KINDS.items() if kind.taught}
MILD = PolicyRef("mild")
ROLES = {"dataset", "base", "learner", "retention"}


class Killed(BaseException):
    """Stands for the end of the process."""


def nobody(*_: object) -> None:
    """Progress that no one watches."""


def rows_of(run: RunFolder, arm: str) -> pd.DataFrame:
    return pd.read_parquet(run.arm(arm, 0) / "probes.parquet")


# ---- what a study file may say ----------------------------------------------------------------------


def test_every_probe_has_a_line_that_says_what_it_needs():
    assert list(KINDS) == list(PROBES)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("probes.after=[localty]", "probes: after: no probe 'localty'; did you mean 'locality'?"),
        ("probes.after=[audit, audit]", "probes: after: 'audit' is listed twice"),
        ("probes.during=[splice]", "probes: during: 'splice' is too dear to run while an arm trains"),
        ("probes.evry_steps=5", "probes.evry_steps: unknown key; did you mean 'every_steps'"),
        ("probes.every_steps=0", "probes.every_steps: must be from 1 to"),
        ("probes.microscope=-1", "probes.microscope: must be from 0 to"),
        ("probes.depths_tokens=[8, 120]", "probes.depths_tokens: splice cuts completions of at most 120 tokens"),
        ("probes.depths_tokens=[24, 8]", "probes: depths_tokens must rise"),
        ("probes={after: [repair], depths_tokens: []}", "probes.depths_tokens: repair cuts"),
        ("probes.prompts=world_documents", "probes.prompts: documents have no prompt"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_probes_is_named(assignment, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_study("pocket", [assignment])


def test_probes_need_prompts_from_somewhere():
    with pytest.raises(ConfigError, match=r"probes.prompts: say which prompts"):
        read_study("pocket", ["probes={}", "drift=null", "claims=[]"])
    # Up to 100,000 of them would be generated before the first job.
    with pytest.raises(
        ConfigError, match=r"probes.prompts: those of `drift`, which stand in, are doc"
    ):
        read_study("pocket", ["probes={}", "drift.prompts=world_documents"])
    assert read_study("pocket", ["probes=null", "drift.prompts=world_documents"]).probes is None
    assert read_study("pocket", ["probes=null", "drift=null", "claims=[]"]).probes is None


def test_depths_do_not_matter_to_probes_that_cut_nothing():
    study = read_study("pocket", ["probes={after: [locality], depths_tokens: [500]}"])
    assert study.probes == Probing(after=("locality",), depths_tokens=(500,))


# ---- the jobs ---------------------------------------------------------------------------------------


def test_a_probing_job_waits_for_the_base_and_for_its_teachers_of_the_same_seed(
    probed_study, tmp_path
):
    study, run = replace(probed_study, seeds=(0, 1)), RunFolder(tmp_path)
    needs = plan(study, run)
    base = Job("probe", "base", 0)
    assert needs[base] == {Job("measure", "base", 0)}
    for seed in (0, 1):
        mild, taught = Job("probe", "mild_sft", seed), Job("probe", "opd_from_mild", seed)
        assert needs[mild] == {Job("measure", "mild_sft", seed), base}
        assert needs[taught] == {Job("measure", "opd_from_mild", seed), base, mild}
    place = {job: i for i, job in enumerate(needs)}
    assert all(place[need] < place[job] for job, wanted in needs.items() for need in wanted)
    assert str(base) == "probing base"
    assert str(taught) == "probing opd_from_mild, seed 1"


def test_a_study_that_only_watches_training_has_no_probing_job(probed_study, tmp_path):
    probes = replace(probed_study.probes, after=(), microscope=0)
    needs = plan(replace(probed_study, probes=probes), RunFolder(tmp_path))
    assert {job.task for job in needs} == {"train", "measure"}


def test_every_arm_is_asked_every_probe_that_applies(probed_study, probed_run):
    assert plan(probed_study, probed_run) == {}
    for arm in ARMS:
        folder = probed_run.arm(arm, 0)
        known = [r for r in read_json(folder / "probes.skipped.json") if r["kind"] != "in part"]
        skipped = {row["probe"]: row for row in known}
        assert set(skipped) == (set() if arm == "opd_from_mild" else TAUGHT)
        assert set(rows_of(probed_run, arm).probe) == set(KINDS) - set(skipped)
        assert {row["kind"] for row in skipped.values()} <= {"does not apply"}
        assert not (folder / "probing").exists()
    of_base = {name for name, kind in KINDS.items() if kind.of_base}
    assert set(rows_of(probed_run, "base").probe) == of_base


def test_samples_are_named_by_role_and_rows_are_about_the_arm_itself(probed_run):
    for arm in ARMS:
        rows = rows_of(probed_run, arm)
        taught = {"teacher:mild_sft"} if arm == "opd_from_mild" else set()
        named = {part for s in rows["sample"] for part in re.split(r" / | - ", s)} - {""}
        assert named - {"new task"} == ROLES | taught
        assert set(rows[rows.probe != "splice"].policy) == {arm}
        locality = rows[(rows.probe == "locality") & (rows.measure == "kappa")]
        assert set(locality["sample"]) == ROLES | taught
        assert set(locality.reference) == {"base"}
    spliced = rows_of(probed_run, "opd_from_mild").query("probe == 'splice'")
    three = ("base", "opd_from_mild", "mild_sft")
    assert set(spliced.policy) == {f"{a}>{b}" for a in three for b in three}
    assert {at.split()[0] for at in spliced["at"]} == {"2", "4"}
    assert set(rows_of(probed_run, "base").policy) == {"base"}


def test_gradients_are_of_the_arms_own_terms_and_of_what_others_wrote(probed_study, probed_run):
    """Cross-entropy on a policy's own samples is a score, whose mean is 0."""
    for arm in ("mild_sft", "opd_from_mild"):
        found = rows_of(probed_run, arm).query("probe == 'gradients' and measure == 'norms'")
        others = {"teacher:mild_sft"} if arm == "opd_from_mild" else set()
        assert set(found["at"]) == {"dataset", "base", "retention", "own terms"} | others
    # Of the base every sample but the gold one is its own; a student that stopped learning is told apart.
    of_base = rows_of(probed_run, "base").query("probe == 'gradients' and measure == 'norms'")
    assert set(of_base["at"]) == {"dataset"}
    for row in read_json(probed_run.arm("grpo", 0) / "probes.skipped.json"):
        # The reason is the one that the probe met, and no guess.
        assert row["probe"] != "gradients" or "has no gradient" in row["reason"]
    # What training would have seen: the source's own rows under the arm's own terms.
    scene, prompts = probe_jobs._scene(probed_study, probed_run, "opd_from_mild", 0)
    (rollout,) = scene.update()
    stream = probed_study.arm("opd_from_mild").streams[0]
    assert [t.objective for t in rollout.stream.terms] == [t.objective for t in stream.terms]
    assert {row.prompt.id for row in rollout.trajectories} == {p.id for p in prompts}
    assert {owner.split("@")[0] for row in rollout.trajectories for owner in row.owners} <= {
        "prompt", "student", "teacher:mild_sft",
    }  # fmt: skip


def test_the_cells_of_signal_mass_are_all_there_and_sum_to_1(probed_run):
    """So that their means over seeds sum to 1 as well."""
    rows = rows_of(probed_run, "opd_from_mild").query("probe == 'signal_mass'")
    for measure in ("states", "mass"):
        found = rows[rows.measure == measure]
        assert len(set(found["at"])) == 9
        assert found.value.sum() == pytest.approx(1)
        assert found[found.value == 0].stderr.isna().all()


def test_the_trained_states_of_an_arm_are_those_its_source_visits(probed_run):
    index = {
        arm: set(rows_of(probed_run, arm).query("measure == 'index'")["sample"]) for arm in ARMS
    }
    assert index["mild_sft"] == {"dataset / retention"}
    assert index["opd_from_mild"] == {"learner / retention"}
    assert index["grpo"] == set()  # it never moved, so its movement has no ratio
    (why,) = [
        r
        for r in read_json(probed_run.arm("grpo", 0) / "probes.skipped.json")
        if r["kind"] == "in part" and r["probe"] == "locality"
    ]
    assert why == {
        "probe": "locality",
        "kind": "in part",
        "reason": "no index: it did not move at the retention states",
    }


def test_nulls_are_asked_what_needs_no_teacher(probed_run):
    """What lies between two policies has no states that it was trained on; what stopped early has its arm's."""
    for null in NULLS:
        folder, rows = probed_run.arm(null, 0), rows_of(probed_run, null)
        known = read_json(folder / "probes.skipped.json")
        without = {r["probe"]: (r["kind"], r["reason"]) for r in known if r["kind"] != "in part"}
        assert without == dict.fromkeys(TAUGHT, ("does not apply", "the arm has no teacher"))
        assert set(rows.probe) == set(KINDS) - TAUGHT
        assert set(rows.policy) == {null}
        locality = rows.query("probe == 'locality'")
        assert set(locality[locality.measure == "kappa"]["sample"]) == ROLES
        assert (locality.value > 0).all()
        index = set(locality[locality.measure == "index"]["sample"])
        part = [r["reason"] for r in known if r["kind"] == "in part"]
        kinds = [
            [rollout["kind"] for rollout in prompt["rollouts"]]
            for prompt in read_json(folder / "microscope.json")["prompts"]
        ]
        if null == "early":
            assert (index, part) == ({"dataset / retention"}, [])
            assert kinds == [["own", "trained"]] * 3
        else:
            missing = "no index: no one sample has the states that it was trained on"
            assert (index, part) == (set(), [missing])
            assert kinds == [["own"]] * 3
        assert (folder / "probes.jsonl").exists() is (null == "early")


@pytest.mark.parametrize(
    ("source", "role"),
    [
        (Teacher(MILD, max_new_tokens=8), "teacher:mild"),
        (Filtered(Teacher(MILD, max_new_tokens=8), ExactAnswer()), "teacher:mild"),
        (Filtered(Learner(max_new_tokens=8), ExactAnswer()), "learner"),
        (Mixture((Teacher(MILD, 8), Filtered(Teacher(MILD, 8), ExactAnswer())), (0.5,)), "teacher:mild"),
        (Mixture((Teacher(MILD, 8), Dataset()), (0.5,)), None),
        (Mixture((Learner(8), Dataset()), (0.5,)), None),
        (Replay(Filtered(Learner(8), ExactAnswer()), 0.5, capacity=4), "learner"),
        (Continuation(MILD, 2, 8), "learner"),
        (Teacher(PolicyRef("student"), 8), "learner"),
        (Teacher(Ema(0.9), 8), "learner"),
        (Stored("states.parquet", "base"), None),
    ],
)  # fmt: skip
def test_a_source_has_the_role_that_it_visits_or_none_where_it_mixes_them(source, role):
    assert trained_role(source) == role


def test_why_an_index_is_missing_is_kept(probed_study, probed_run):
    scene, _ = probe_jobs._scene(probed_study, probed_run, "mild_sft", 0)
    without = {name: rows for name, rows in scene.samples.items() if name != "retention"}
    few = {name: rows for name, rows in without.items() if name != "dataset"}
    for other, reason in (
        (replace(scene, trained=None), "no one sample has the states that it was trained on"),
        (replace(scene, samples=without), "there is no sample 'retention'"),
        (replace(scene, samples=few), "there is no sample 'dataset'"),
    ):
        rows, why = answers("locality", other)
        assert rows
        assert why == f"no index: {reason}"


@pytest.fixture(scope="module")
def drawn(probed_study, probed_run):
    """Samples by role, as the file of each policy has them, and the policies themselves."""

    def of(arm: str, sample: str):
        return read_states(probed_run.arm(arm, 0) / "probe_states.parquet", sample)

    def policy(arm: str):
        return ArmRun(probed_study, probed_run, arm, 0).policy(role=arm)

    return of, policy


def test_precision_and_recall_of_the_base_against_itself_are_the_null(probed_run, drawn):
    of, policy = drawn
    found = rows_of(probed_run, "base").query("measure in ('precision', 'recall')")
    places = {*zip(found.policy, found.reference, found["sample"], strict=True)}
    assert places == {("base", "base", "again")}
    base, sides = policy("base"), []
    for sample in ("several", "several_again"):
        those = of("base", sample)
        states = [state for row in those for state in prefixes(row, PLACES)]
        prompts = [row.prompt.id for row in those for _ in PLACES]
        sides.append((hidden_features(base, states), prompts))
    (x, x_prompts), (y, y_prompts) = sides
    assert x.shape == y.shape
    assert not np.array_equal(x, y)
    expected = precision_recall(x, y, first_prompts=x_prompts, second_prompts=y_prompts)
    null = dict(zip(found.measure, found.value, strict=True))
    assert null == pytest.approx(
        {"precision": expected.precision.value, "recall": expected.recall.value}
    )
    for arm in ARMS:
        others = rows_of(probed_run, arm).query("measure in ('precision', 'recall')")
        assert set(others["sample"]) == {"learner"}


def test_numbers_are_those_of_the_role_they_name(probed_run, drawn):
    """kappa on each role against the divergence computed here on that role's states."""
    of, policy = drawn
    rows = rows_of(probed_run, "opd_from_mild").query("probe == 'locality' and measure == 'kappa'")
    found = dict(zip(rows["sample"], rows.value, strict=True))
    samples = {
        "base": of("base", "learner"),
        "learner": of("opd_from_mild", "learner"),
        "teacher:mild_sft": of("mild_sft", "learner"),
        "retention": of("base", "retention"),
    }
    for role, those in samples.items():
        table = per_state(policy("opd_from_mild"), those, policy("base"))
        assert found[role] == pytest.approx(table.kl_policy_reference.mean(), rel=1e-4), role
    assert len({round(value, 9) for value in found.values()}) == 5


def test_forgetting_reads_each_policys_own_retention_states(probed_run, drawn):
    of, policy = drawn
    rows = rows_of(probed_run, "opd_from_mild").query("probe == 'forgetting'")
    found = dict(zip(zip(rows["sample"], rows.measure, strict=True), rows.value, strict=True))
    mine, base = policy("opd_from_mild"), policy("base")
    for measure, sampler, other, arm in (
        ("policy_base", mine, base, "opd_from_mild"),
        ("base_policy", base, mine, "base"),
    ):
        for place, sample in (("new task", "learner"), ("retention", "retention")):
            those = of(arm, sample)
            table = per_state(sampler, those, other)
            expected = table.kl_policy_reference.sum() / len(those)
            assert found[place, measure] == pytest.approx(expected, rel=1e-4), (place, measure)


def test_what_drift_drew_is_not_drawn_again(probed_run, drawn):
    of, _ = drawn
    for arm in ("base", *ARMS):
        stored = read_states(probed_run.arm(arm, 0) / "states.parquet", "learner")
        mine = of(arm, "learner")
        assert len(stored) == 6
        assert len(mine) == 8  # drift has 6 prompts, the probes 8
        for a, b in zip(stored, mine, strict=False):
            assert a.prompt.id == b.prompt.id
            assert a.token_ids.tolist() == b.token_ids.tolist()
        assert [row.prompt.id for row in mine] == [f"world_problems/{i}" for i in range(1, 9)]
    assert {t.supervised_tokens for t in of("grpo", "retention")} == {0}
    # Two retention tasks, 3 items each, and the same questions for everyone.
    asked = [[row.prompt.id for row in of(arm, "retention")] for arm in ("base", *ARMS)]
    assert len(asked[0]) == 6
    assert all(those == asked[0] for those in asked)
    assert [len(of(arm, "several")) for arm in ARMS] == [8, 8, 8]  # 4 each of 2 prompts


def test_every_sample_says_who_drew_it_and_how_long_it_may_be(
    probed_study, probed_run, tiny_base, tmp_path
):
    policy = str(probed_run.arm("mild_sft", 0) / "policy")
    about = read_about(probed_run.arm("mild_sft", 0) / "probe_states.parquet")
    limits = {name: known.max_new_tokens for name, known in about.items()}
    assert limits == {"learner": 8, "several": 8, "retention": 32}
    assert {(a.policy, a.fingerprint, a.seed) for a in about.values()} == {
        ("mild_sft", fingerprint(policy), 0)
    }
    assert {known.location for known in about.values()} == {None}  # the same bytes in any folder

    # A teacher from outside has no file of its own: its sample stands in the arm's.
    run, teacher = RunFolder(tmp_path / "run"), str(tiny_base)
    shutil.copytree(probed_run.root, run.root)
    path = run.arm("opd_from_mild", 0) / "probe_states.parquet"
    path.unlink()
    plain = json.dumps(to_plain(probed_study)).replace(
        '"teacher": "mild_sft"', json.dumps({"teacher": teacher})[1:-1]
    )
    study = from_plain(Study, json.loads(plain))
    student = ArmRun(study, run, "opd_from_mild", 0).policy()
    prompts = probe_samples.probe_prompts(study, student)
    probe_samples.drawn(study, run, student, prompts, "opd_from_mild", 0)
    found = read_about(path)
    assert set(found) == {"learner", "several", f"teacher:{teacher}", "retention"}
    theirs = found[f"teacher:{teacher}"]
    assert (theirs.policy, theirs.fingerprint) == (teacher, fingerprint(teacher))
    assert found["learner"].policy == "opd_from_mild"


def test_statewise_probe_asks_the_states_that_a_study_stored(probed_run, tmp_path, capsys):
    """An arm is known by its weights, the base by those of its second draw."""
    files = {
        arm: str(probed_run.arm(arm, 0) / "probe_states.parquet") for arm in ("base", "mild_sft")
    }
    out = ["--out", str(tmp_path / "rows.json"), "--json"]
    states = ["--states", files["mild_sft"], "--states", f"{files['base']}:again"]
    given = [str(probed_run.root), "--arm", "mild_sft", *states, "--probe", "audit"]
    assert main(["probe", *given, *out]) == 0
    rows = json.loads(capsys.readouterr().out)
    asked = {(row["policy"], row["sample"]) for row in rows}
    assert asked == {("mild_sft", "learner"), ("base", "again")}
    assert all(row["value"] < 1e-4 for row in rows if row["measure"] == "gap")


# ---- killed and continued -----------------------------------------------------------------------------

WRITTEN = ("probes.parquet", "probes.skipped.json", "microscope.json", "probe_states.parquet")


@pytest.fixture
def unprobed(probed_run, tmp_path):
    """A copy of the run in which the taught arm is still to be probed."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(probed_run.root, run.root)
    for file in WRITTEN:
        (run.arm("opd_from_mild", 0) / file).unlink()
    return run


def test_a_folder_takes_more_probes_and_asks_the_new_ones_alone(
    probed_study, probed_run, tmp_path, monkeypatch
):
    run, kept = RunFolder(tmp_path / "run"), ("locality", "splice")
    shutil.copytree(probed_run.root, run.root)
    fewer = replace(probed_study, probes=replace(probed_study.probes, after=kept, microscope=0))
    write_text(run.root / "study.yaml", dump_yaml(to_plain(fewer)))
    folders = [run.arm(name, 0) for name in ("base", *ARMS)]
    for folder in folders:  # as they would be with two probes and no microscope
        table = pq.read_table(folder / "probes.parquet")
        pq.write_table(
            table.filter(pc.is_in(table["probe"], pa.array(kept))), folder / "probes.parquet"
        )
        skipped = read_json(folder / "probes.skipped.json")
        write_json(folder / "probes.skipped.json", [r for r in skipped if r["probe"] in kept])
        (folder / "microscope.json").unlink()
    asked: list[str] = []
    monkeypatch.setattr(
        probe_jobs, "answers", lambda probe, *rest: (asked.append(probe), answers(probe, *rest))[1]
    )
    run_study(probed_study, run.root, workers=0)
    assert set(asked) == set(KINDS) - set(kept)
    for folder in folders:
        of = folder.relative_to(run.root)
        for file in WRITTEN:
            assert (folder / file).read_bytes() == (probed_run.root / of / file).read_bytes(), file


def test_a_folder_takes_no_other_change_of_its_probes(probed_study, probed_run, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.arm("grpo", 0).mkdir(parents=True)
    (run.arm("grpo", 0) / "metrics.jsonl").touch()
    given = probed_study.probes
    for stored, wanted, places in (
        (None, given, ["probes.during[0]"]),  # no arm can be watched when it has trained
        (None, replace(given, during=()), []),
        (replace(given, after=("audit",), microscope=0), given, []),
        (given, replace(given, after=("audit",)), ["probes.after[0]"]),
        (given, replace(given, microscope=2), ["probes.microscope"]),
        (given, replace(given, depths_tokens=(2, 3)), ["probes.depths_tokens[1]"]),
        (given, None, ["probes"]),
    ):
        before = replace(probed_study, probes=stored)
        write_text(run.root / "study.yaml", dump_yaml(to_plain(before)))
        found = differing(replace(probed_study, probes=wanted), run)
        assert found[:1] == places, (stored, wanted)
    (run.arm("grpo", 0) / "metrics.jsonl").unlink()
    write_text(run.root / "study.yaml", dump_yaml(to_plain(replace(probed_study, probes=None))))
    assert differing(probed_study, run) == []


def test_an_arm_that_is_killed_while_it_is_probed_ends_as_if_it_never_was(
    probed_study, probed_run, unprobed, monkeypatch
):
    def kill(phase: str, *_: object) -> None:
        if phase == "probing fidelity":
            raise Killed

    asked: list[str] = []

    def counted(probe: str, *rest: object):
        asked.append(probe)
        return answers(probe, *rest)

    monkeypatch.setattr(probe_jobs, "answers", counted)
    with pytest.raises(Killed):
        probe_arm(probed_study, unprobed, "opd_from_mild", 0, kill)
    assert not is_probed(unprobed, "opd_from_mild", 0)
    probe_arm(probed_study, unprobed, "opd_from_mild", 0, nobody)
    assert asked == list(KINDS)  # each once: what was asked before the kill is not asked again
    mine, theirs = (run.arm("opd_from_mild", 0) for run in (unprobed, probed_run))
    for file in WRITTEN:
        assert (mine / file).read_bytes() == (theirs / file).read_bytes(), file
    assert not (mine / "probing").exists()
    timed = read_rows(mine / "probes.timing.jsonl")
    assert [r["probe"] for r in timed if r["step"] is None] == ["drawing", *KINDS, "microscope"]
    assert {r["step"] for r in timed} == {2, 4, 5, None}


def test_a_probed_arm_is_left_alone(probed_study, probed_run):
    files = [probed_run.arm("opd_from_mild", 0) / file for file in WRITTEN]
    before = [file.stat().st_mtime_ns for file in files]
    probe_arm(probed_study, probed_run, "opd_from_mild", 0, nobody)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_only_the_first_seed_has_a_microscope(probed_study, probed_run, tmp_path):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(probed_run.root, run.root)
    shutil.copytree(run.arm("grpo", 0), run.arm("grpo", 1))
    for file in ("probes.parquet", "microscope.json"):
        (run.arm("grpo", 1) / file).unlink()
    for path in run.arm("grpo", 1).glob("*.manifest.json"):
        path.unlink()
    marker = run.arm("grpo", 1) / "policy" / "statewise.json"
    write_json(marker, read_json(marker) | {"seed": 1})
    study = replace(probed_study, seeds=(0, 1), probes=Probing(after=("geometry",)))
    probe_arm(study, run, "grpo", 1, nobody)
    assert is_probed(run, "grpo", 1)
    assert not (run.arm("grpo", 1) / "microscope.json").exists()


# ---- while an arm trains ------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_trains_as_it_would_unwatched(arm, probed_run, tiny_run):
    """The same arms of the same study, with every cheap probe every other step and without any."""
    watched, alone = (run.arm(arm, 0) for run in (probed_run, tiny_run))
    assert read_rows(watched / "probes.jsonl")
    assert not (alone / "probes.jsonl").exists()
    for file in ("metrics.jsonl", "dev.jsonl"):
        assert (watched / file).read_text() == (alone / file).read_text()
    a, b = (load_file(folder / "policy" / "model.safetensors") for folder in (watched, alone))
    assert all(a[key].equal(b[key]) for key in b)


def test_cheap_probes_are_asked_every_so_many_steps_and_at_the_end(probed_run):
    for arm, steps in (("mild_sft", [2, 4, 5]), ("opd_from_mild", [2, 4, 5]), ("grpo", [2, 3])):
        rows = read_rows(probed_run.arm(arm, 0) / "probes.jsonl")
        assert list(dict.fromkeys(row["step"] for row in rows)) == steps
        asked = set(CHEAP) if arm == "opd_from_mild" else set(CHEAP) - TAUGHT
        assert {row["probe"] for row in rows} == asked
        roles = {part for row in rows for part in row["sample"].split(" / ")} - {"", "new task"}
        assert roles == ROLES
        moved = [r["value"] for r in rows if (r["measure"], r["sample"]) == ("kappa", "dataset")]
        assert (moved[-1] > moved[0] > 0) is (arm != "grpo")  # a silent reward moves nothing


def test_the_last_look_sees_the_policy_that_is_saved(probed_run):
    """Its weights are those whose geometry the probing job takes later."""
    for arm in ("mild_sft", "opd_from_mild"):
        rows = read_rows(probed_run.arm(arm, 0) / "probes.jsonl")
        live = {
            r["measure"]: r["value"] for r in rows if (r["probe"], r["step"]) == ("geometry", 5)
        }
        stored = rows_of(probed_run, arm).query("probe == 'geometry'")
        assert live == dict(zip(stored.measure, stored.value, strict=True))


def test_looks_that_a_kill_undid_are_cut_and_made_again(probed_study, probed_run, tmp_path):
    run = RunFolder(tmp_path)
    probes = replace(probed_study.probes, every_steps=1, during=("locality", "behaviour"))
    study = replace(probed_study, probes=probes)
    study = from_plain(Study, to_plain(study))

    def kill(phase: str, done: int, total: int, *_: object) -> None:
        if done == 4:  # behind the looks at 3 and the checkpoint of 2
            raise Killed

    with pytest.raises(Killed):
        train_arm(ArmRun(study, run, "mild_sft", 0), kill)
    folder = run.arm("mild_sft", 0)
    assert [r["step"] for r in read_rows(folder / "metrics.jsonl")] == [1, 2, 3, 4]
    assert {r["step"] for r in read_rows(folder / "probes.jsonl")} == {1, 2, 3}
    train_arm(ArmRun(study, run, "mild_sft", 0), nobody)
    whole = RunFolder(tmp_path / "whole")
    train_arm(ArmRun(study, whole, "mild_sft", 0), nobody)
    theirs = (whole.arm("mild_sft", 0) / "probes.jsonl").read_text()
    assert (folder / "probes.jsonl").read_text() == theirs
    assert {json.loads(line)["step"] for line in theirs.splitlines()} == {1, 2, 3, 4, 5}
    timed = read_rows(folder / "probes.timing.jsonl")
    assert [r["step"] for r in timed if r["probe"] == "locality"] == [1, 2, 3, 4, 5]


# ---- what a probe cannot answer -----------------------------------------------------------------------


def of_one_prompt(rows):
    return [row for row in rows if row.prompt.id == rows[0].prompt.id]


@pytest.fixture(scope="module")
def lone(probed_study, probed_run):
    """The taught arm and the base, each with the states of a single prompt."""
    found = {}
    for arm in ("opd_from_mild", "base"):
        scene, _ = probe_jobs._scene(probed_study, probed_run, arm, 0)
        found[arm] = replace(
            scene,
            samples={role: of_one_prompt(rows) for role, rows in scene.samples.items()},
            several={role: of_one_prompt(rows) for role, rows in scene.several.items()},
            own_retention=of_one_prompt(scene.own_retention),
            again=of_one_prompt(scene.again),
        )
    return found


@pytest.mark.parametrize("probe", KINDS)
def test_of_a_single_prompt_no_error_is_known(probe, lone):
    for arm, scene in lone.items():
        rows, reason = answers(probe, scene) if applies(probe, scene) is None else ([], "not asked")
        assert rows or reason, arm
        for row in rows:
            assert np.isfinite(row.value), row
            assert (row.stderr, row.low, row.high) == (None, None, None), row


def test_a_splice_is_of_200_prompts_at_3_depths_without_further_words(tiny_base, monkeypatch):
    """Drift's prompts, all of them, each with its gold answer."""
    study = read_study("pocket", [f"base={tiny_base}", "probes={after: [splice]}"])
    base = ArmRun(study, None, "base", 0).policy(role="base")
    samples = {"dataset": probe_samples.gold(probe_samples.probe_prompts(study, base), base)}
    seen = []

    def matrix(_policies, prompts, _reward, *, depths_tokens, **_rest):
        seen.append((len({prompt.id for prompt in prompts}), depths_tokens))
        return SpliceMatrix((), {}, {})

    monkeypatch.setattr(probing, "splice_matrix", matrix)
    depths = study.probes.depths_tokens
    run_probe("splice", Asked(base, {}, {}, samples, {}, {}, depths_tokens=depths))
    assert seen == [(200, (8, 24, 48))]


def test_a_probe_without_an_answer_ends_no_study_and_is_a_note(probed_study, probed_run, tmp_path):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(probed_run.root, run.root)
    for arm in ("base", *ARMS):
        for file in ("probes.parquet", "probe_states.parquet"):
            (run.arm(arm, 0) / file).unlink()
    # Four prompts are too few for five folds; no arm of the first two has a teacher.
    few = replace(probed_study.probes.prompts, limit=4)
    probes = Probing(
        after=("c2st", "splice", "geometry"), prompts=few, depths_tokens=(2,), microscope=0
    )
    arms = tuple(probed_study.arm(name) for name in ("mild_sft", "grpo"))
    study = replace(probed_study, arms=arms, claims=(), probes=probes, nulls=())
    for arm in ("base", "mild_sft", "grpo"):
        probe_arm(study, run, arm, 0, nobody)
    assert set(rows_of(run, "mild_sft").probe) == {"geometry"}
    for gone in ("opd_from_mild", *NULLS):
        shutil.rmtree(run.arm(gone, 0).parent)
    (run.root / "study.yaml").write_text(json.dumps(to_plain(study)))
    notes = summarise(run.root).notes
    assert "Probe splice applies to no arm of this study: the arm has no teacher." in notes
    silent = [note for note in notes if note.startswith("Probe c2st has no answer for")]
    assert [note.split(":")[0] for note in silent] == [
        "Probe c2st has no answer for mild_sft, seed 0",
        "Probe c2st has no answer for grpo, seed 0",
    ]
    assert not any("geometry" in note for note in notes)


def test_a_probe_that_applies_to_some_arm_is_no_note(probed_run):
    """Arms without a teacher: their files say so, the report does not. What is missing in part it says."""
    notes = [note for note in summarise(probed_run.root).notes if note.startswith("Probe")]
    (gradients,) = (note for note in notes if note.startswith("Probe gradients"))
    assert "an answer in part for grpo, seed 0: not of the arm's own terms" in gradients
    assert [note for note in notes if note != gradients] == [
        f"Probe locality has an answer in part for {name}, seed 0: no index: {why}"
        for name, why in (
            ("grpo", "it did not move at the retention states"),
            ("part_way", "no one sample has the states that it was trained on"),
        )
    ]


def test_what_is_not_probed_yet_is_said(probed_run, tmp_path):
    root = tmp_path / "run"
    shutil.copytree(probed_run.root, root)
    assert summarise(root).complete
    (root / "arms" / "grpo" / "seed-0" / "probes.parquet").unlink()
    results = summarise(root)
    assert not results.complete
    assert "Unfinished: grpo has no probes for seed 0." in results.notes


def test_the_share_of_the_time_that_probes_take_is_reported(probed_run):
    spent = summarise(probed_run.root).environment
    folders = [Path(probed_run.arm(arm, 0)) for arm in ("base", *ARMS, *NULLS)]
    jobs = [row for folder in folders for row in read_rows(folder / "jobs.timing.jsonl")]
    assert [len(read_rows(folder / "jobs.timing.jsonl")) for folder in folders] == [
        2,
        3,
        3,
        3,
        3,
        3,
    ]
    asked = [row for f in folders for row in read_rows(f / "probes.timing.jsonl")]
    during = sum(row["seconds"] for row in asked if row["step"] is not None)
    probing = sum(row["seconds"] for row in jobs if row["job"] == "probe")
    share = (probing + during) / sum(row["seconds"] for row in jobs)
    assert spent["share_of_probes"] == pytest.approx(share, abs=1e-3)
    assert spent["seconds"]["probe"] == pytest.approx(probing, abs=0.1)
    # A job's seconds hold those of its probes.
    after = sum(row["seconds"] for row in asked if row["step"] is None)
    assert 0.5 * probing < after <= probing


def test_figures_of_a_run_are_finite_and_the_bases_stand_once(probed_run):
    figures = summarise(probed_run.root).probes
    assert all(np.isfinite(f.quantity.estimate.value) for f in figures)
    keys = [
        (f.probe, f.policy, f.reference, f.sample, f.measure, f.at) for f in figures if not f.text
    ]
    assert len(keys) == len(set(keys))
    assert {f.policy for f in figures if f.probe == "audit"} == {"base", *ARMS, *NULLS}
    assert sum(f.policy == "base>base" and f.measure == "score" for f in figures) == 2
