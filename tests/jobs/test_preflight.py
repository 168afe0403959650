"""What would fail in the third hour fails before the first step, and the folder is not begun."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest

from statewise.check.study import check_study
from statewise.cli.main import main
from statewise.errors import ConfigError, DataError, ModelError, RunError
from statewise.jobs import preflight as preflight_module
from statewise.jobs.folder import claim_folder
from statewise.jobs.preflight import preflight
from statewise.jobs.search import search
from statewise.policy import PolicyRef
from statewise.random_model import Shape, make_random_model
from statewise.store import RunFolder
from statewise.study.spec import Search, Study
from statewise.study.worlds import world_of
from statewise.world import World, train_tokenizer


def taught_by(study: Study, teacher: str) -> Study:
    """The study with another teacher for one-step distillation."""
    arm = study.arm("one_step_opd_from_stress")
    term = arm.streams[0].terms[0]
    term = replace(term, supervision=replace(term.supervision, teacher=PolicyRef(teacher)))
    arm = replace(arm, streams=(replace(arm.streams[0], terms=(term,)),))
    return replace(study, arms=tuple(arm if a.name == arm.name else a for a in study.arms))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A model that reads other tokens than the tiny base."""
    folder = tmp_path_factory.mktemp("stranger")
    train_tokenizer(World().documents(50, 300), folder, vocabulary=310, context_tokens=320)
    shape = Shape(310, 16, 1, heads=2, key_value_heads=1, head_width=8, feed_forward=16)
    make_random_model(folder, shape, tokenizer=folder, seed=0)
    return str(folder)


def test_a_teacher_from_outside_must_be_there_and_read_the_same_tokens(
    tiny_study, stranger, tmp_path
):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ModelError, match=r"arms.one_step_opd_from_stress: no model at typo"):
        preflight(taught_by(tiny_study, "./typo"), run)
    with pytest.raises(ModelError, match=r"arms.one_step_opd_from_stress: .* encodes text differ"):
        preflight(taught_by(tiny_study, stranger), run)
    begun = replace(tiny_study.arm("mild_sft"), start=PolicyRef(stranger))
    arms = tuple(begun if arm.name == "mild_sft" else arm for arm in tiny_study.arms)
    varied = replace(tiny_study, arms=arms, varies=(*tiny_study.varies, "start"))
    with pytest.raises(ModelError, match=r"arms.opd_from_mild: .* encodes text differently"):
        preflight(varied, run)
    assert not run.root.exists()


def test_drift_tasks_and_clusters_are_tried(tiny_study, tmp_path):
    run, drift = RunFolder(tmp_path / "run"), tiny_study.drift
    with pytest.raises(DataError, match=re.escape("drift.prompts: world_problems, row 1:")):
        preflight(replace(tiny_study, drift=replace(drift, max_new_tokens=300)), run)
    alone = replace(drift, prompts=replace(drift.prompts, limit=1))
    with pytest.raises(DataError, match=r"drift\.prompts: 1 prompt: .* give 2 or more"):
        preflight(replace(tiny_study, drift=alone), run)
    rule = Search((100,), replace(tiny_study.dev.task, name="pocket_gms_dev"), {})
    with pytest.raises(ConfigError, match="unknown task 'pocket_gms_dev'"):
        preflight(replace(tiny_study, search=rule), run)
    target, truth, facts = tiny_study.tasks
    tasks = (target, replace(truth, cluster="beleif"), facts)
    with pytest.raises(ConfigError, match="no field 'beleif' to cluster by; did you mean 'belief'"):
        preflight(replace(tiny_study, tasks=tasks), run)
    assert not run.root.exists()


def test_it_is_skipped_where_it_has_passed_and_not_where_a_study_was_written(
    tiny_study, tmp_path, monkeypatch
):
    run = RunFolder(tmp_path)
    claim_folder(tiny_study, run)
    monkeypatch.setattr(preflight_module, "_load", lambda _: pytest.fail("loaded again"))
    preflight(tiny_study, run)
    preflight_module.mark(run).unlink()
    with pytest.raises(pytest.fail.Exception, match="loaded again"):
        preflight(tiny_study, run)


def test_a_search_is_tried_too(tiny_study, tmp_path):
    task = tiny_study.dev.task
    rule = Search((100,), task, {"mild_sft": ({"budget.learning_rate": 0.1},)})
    wrong = replace(taught_by(tiny_study, "./typo"), search=rule)
    with pytest.raises(ModelError, match=r"no model at typo"):
        search(wrong, tmp_path / "search", workers=0)
    assert not (tmp_path / "search").exists()


def test_a_file_is_no_run_folder(tiny_study, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    for place in ("README.md", "README.md/run"):
        with pytest.raises(
            RunError, match=r"README.md is a file, not a folder; give another --out"
        ):
            preflight(tiny_study, RunFolder(tmp_path / place))


# ---- worlds -----------------------------------------------------------------------------------------


def of_world(study: Study, seed: int) -> Study:
    return replace(study, tasks=tuple(replace(task, world_seed=seed) for task in study.tasks))


@pytest.fixture(scope="module")
def other_world(tmp_path_factory, tiny_base):
    """The tiny base, said to have been pretrained on world 1."""
    folder = tmp_path_factory.mktemp("worlds") / "base"
    shutil.copytree(tiny_base, folder)
    (folder / "statewise.json").write_text(json.dumps({"steps": 1, "recipe": {"world_seed": 1}}))
    return str(folder)


def test_a_study_of_two_worlds_is_refused(tiny_study, other_world, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"of world 1; a base, its prompts and its tasks must be"):
        preflight(replace(tiny_study, base=other_world), run)
    # Prompts of one world and items of another, whatever is known of the base.
    with pytest.raises(ConfigError, match=r"tasks\.pocket_gsm: the generated world 1, but "):
        preflight(of_world(tiny_study, 1), run)
    drift = replace(tiny_study.drift, prompts=replace(tiny_study.drift.prompts, world_seed=2))
    with pytest.raises(ConfigError, match=r"drift\.prompts: the generated world 2, but "):
        preflight(replace(tiny_study, drift=drift), run)
    with pytest.raises(ConfigError, match=r"of world 1"):
        next(check_study(replace(tiny_study, base=other_world)))
    assert not run.root.exists()


def test_eval_of_a_base_asks_the_items_of_its_own_world(other_world, capsys):
    assert main(["eval", other_world, "--task", "pocket_mmlu_dev", "--limit", "2"]) == 2
    assert capsys.readouterr().err.strip().endswith("pretrained on world 1; say --world-seed 1")
    wanted = ["--task", "pocket_mmlu_dev", "--limit", "2", "--world-seed", "1"]
    assert main(["eval", other_world, *wanted]) == 0
    assert world_of(other_world) == 1
    assert world_of("hub/name") is None
