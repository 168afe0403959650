"""A folder of an arm and seed that was copied from elsewhere is refused, and the line says whose it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from statewise.errors import RunError
from statewise.jobs.folder import clear
from statewise.results.summary import summarise
from statewise.store import RunFolder, read_json, write_json
from statewise.store.finished import finish, standing


def done(run: RunFolder, arm: str, seed: int) -> Path:
    """The folder of an arm that was trained and measured, as far as manifests go."""
    folder = run.arm(arm, seed)
    if arm != "base":
        write_json(folder / "policy" / "statewise.json", {"arm": arm, "seed": seed, "steps": 0})
        finish(folder, "train")
    for name in ("items.parquet", "budget.json"):
        write_json(folder / name, {})
    finish(folder, "measure")
    return folder


def without_owner(folder: Path) -> None:
    """Make its manifests those of before, which do not say whose they are."""
    for path in folder.glob("*.manifest.json"):
        write_json(path, {k: v for k, v in read_json(path).items() if k != "of"})


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    write_json(tmp_path / "run" / "environment.json", {"manifests": 1, "study": "a digest"})
    return RunFolder(tmp_path / "run")


@pytest.mark.parametrize("task", ["train", "measure"])
@pytest.mark.parametrize(("arm", "seed"), [("hot", 0), ("sft", 1)])
def test_a_copied_folder_is_one_line_that_says_whose_it_is(run, arm, seed, task):
    shutil.copytree(done(run, "sft", 0), run.arm(arm, seed))
    assert standing(run, "sft", 0, task) == "yes"
    for path in run.arm(arm, seed).glob("policy/*"):
        path.unlink()  # the manifest alone says it
    with pytest.raises(RunError) as raised:
        standing(run, arm, seed, task)
    folder = run.arm(arm, seed)
    assert str(raised.value) == (
        f"{folder} is a copy: its {task}.manifest.json is of arm 'sft', seed 0; delete {folder} and run the "
        "study again, which makes it anew"
    )


def test_a_copy_of_before_is_known_by_its_policy(run):
    without_owner(done(run, "sft", 0))
    shutil.copytree(run.arm("sft", 0), run.arm("sft", 1))
    with pytest.raises(
        RunError, match=r"its policy/statewise.json is of arm 'sft', seed 0; delete"
    ):
        standing(run, "sft", 1, "measure")
    assert standing(run, "sft", 0, "train") == standing(run, "sft", 0, "measure") == "yes"


def test_manifests_and_policies_that_say_nothing_are_read_as_before(run):
    folder = run.arm("sft", 0)
    write_json(folder / "policy" / "statewise.json", {"steps": 0})
    finish(folder, "train")
    without_owner(folder)
    assert standing(run, "sft", 0, "train") == "yes"


def test_the_base_is_no_arm_and_a_study_of_the_same_names_is_another(run, tmp_path):
    shutil.copytree(done(run, "base", 0), run.arm("hot", 0))
    with pytest.raises(RunError, match=r"hot/seed-0 is a copy: .* of arm 'base', seed 0; delete"):
        standing(run, "hot", 0, "measure")
    other = RunFolder(tmp_path / "other")
    write_json(other.root / "environment.json", {"manifests": 1, "study": "another digest"})
    shutil.copytree(done(run, "sft", 0), other.arm("sft", 0))
    with pytest.raises(RunError, match="of arm 'sft', seed 0 of another study; delete"):
        standing(other, "sft", 0, "train")
    shutil.rmtree(other.root)
    shutil.copytree(run.root, other.root)  # a whole run may be moved
    assert standing(other, "sft", 0, "train") == "yes"


def test_a_link_is_a_copy_but_for_what_stands_in_for_a_searched_arm(run):
    done(run, "sft-0", 0)
    run.arm_folder("sft").mkdir()
    run.arm("sft", 0).symlink_to(run.arm("sft-0", 0), target_is_directory=True)
    with pytest.raises(RunError, match="is of arm 'sft-0', seed 0"):
        standing(run, "sft", 0, "train")
    (run.root / "search.yaml").write_text("")
    assert standing(run, "sft", 0, "train") == "yes"


def test_a_copy_put_aside_is_left_alone(run):
    aside = shutil.copytree(done(run, "sft", 0), run.arm("sft_of_monday", 0))
    (aside / "checkpoint").mkdir()
    clear(run)
    assert (aside / "checkpoint").is_dir()


def test_a_report_names_the_folder_and_not_one_file_of_it(run):
    shutil.copytree(done(run, "sft", 0), run.arm("sft", 1))
    text = "name: s\nquestion: q\nseeds: [1]\ntasks: [{name: t, role: target}]\narms: [{name: sft}]\nclaims: []\n"
    (run.root / "study.yaml").write_text(text)
    shutil.rmtree(run.arm("sft", 0))
    with pytest.raises(RunError, match=r"sft/seed-1 is a copy: .* delete \S*sft/seed-1 and run"):
        summarise(run.root)
