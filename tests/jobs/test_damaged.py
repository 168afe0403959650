"""A damaged run folder: every file of it, in every way; one line each, and what the line says heals it."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from statewise.data import WorldProblems
from statewise.errors import RunError, StatewiseError
from statewise.jobs.executor import Job, plan, run_study
from statewise.jobs.train import measure_arm, train_arm
from statewise.probing.resolve import find_policies
from statewise.report import write_report
from statewise.report.server.progress import status
from statewise.results.summary import summarise
from statewise.store import RunFolder, held, read_json, read_rows, seal, write_json
from statewise.store.finished import fail, standing
from statewise.study.arm_run import ArmRun
from statewise.study.probes import Probing
from tests.jobs.test_executor import Killed, nobody

ARM = "mild_sft"
HERE = Path(f"arms/{ARM}/seed-0")
BASE = Path("arms/base/seed-0")
OF_TRAINING = ("metrics.jsonl", "dev.jsonl", "probes.jsonl", "policy/model.safetensors")
OF_TRAINING += ("policy/config.json", "policy/statewise.json", "policy/tokenizer.json")
OF_MEASURING = ("items.parquet", "states.parquet", "drift.json", "budget.json")
OF_PROBING = (
    *("probe_states.parquet", "probes.parquet", "probes.skipped.json", "microscope.json"),
)
MANIFESTS = tuple(f"{job}.manifest.json" for job in ("train", "measure", "probe"))
EVERY = (
    *(HERE / name for name in (*OF_TRAINING, *OF_MEASURING, *OF_PROBING, *MANIFESTS)),
    *(BASE / name for name in (*OF_MEASURING, *OF_PROBING, *MANIFESTS[1:])),
    Path("environment.json"),
    Path("study.yaml"),
)
SECONDS = (*("timing.jsonl", "probes.timing.jsonl", "jobs.timing.jsonl", ".verified.json"),)
"""Of the clock: no two runs have the same, and none is ever needed."""


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbled(path: Path) -> None:
    path.write_bytes(b"\x00\xff[[[{:&*!" * 20 + b"\n")


def of_another_kind(path: Path) -> None:
    path.write_bytes(b"[1, 2, 3]\n")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = (truncated, emptied, garbled, of_another_kind, a_folder, a_pipe)


@pytest.fixture(scope="module")
def small_study(tiny_study):
    """One arm with a dev curve, drift, looks while it trains, a probe and a microscope."""
    probing = Probing(
        after=("audit",),
        during=("locality",),
        every_steps=2,
        prompts=WorldProblems("dev", limit=4),
        retention_limit=2,
        depths_tokens=(2, 4),
        microscope=2,
    )
    arms = (tiny_study.arm(ARM),)
    return replace(tiny_study, arms=arms, claims=(), probes=probing)


@pytest.fixture(scope="module")
def whole(small_study, tmp_path_factory):
    """The study, run to its end."""
    run = run_study(small_study, tmp_path_factory.mktemp("small") / "run", workers=0)
    assert {str(path) for path in EVERY} <= set(contents(run.root))
    return run


@pytest.fixture
def run(whole, tmp_path):
    """A copy of the run that a test may damage."""
    shutil.copytree(whole.root, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def contents(root: Path) -> dict[str, object]:
    """Every file that repeats, by its name: bytes, or figures without the clock's."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_file() and path.name not in (*SECONDS, "measure.manifest.json"):
            if path.name == "budget.json":
                found[name] = read_json(path) | {"wall_seconds": 0}
            else:
                found[name] = path.read_bytes()
        elif path.is_file():
            found[name] = b""
    return found


def read_everything(run: RunFolder) -> None:
    """What `report`, `serve`, `states` and `probe` read of a run."""
    write_report(run.root)
    status(run.root)
    find_policies([str(run.root)])


def refusal_of(run: RunFolder) -> str | None:
    """What is said of a run that cannot be read; anything but our own errors is a fault."""
    try:
        read_everything(run)
    except StatewiseError as error:
        return str(error)
    return None


def as_before(run: RunFolder) -> None:
    """Make it a run of before: no job has a manifest, and nobody expects one."""
    for path in (*run.root.rglob("*.manifest.json"), *run.root.rglob(".verified.json")):
        path.unlink()
    known = read_json(run.root / "environment.json")
    write_json(run.root / "environment.json", {k: v for k, v in known.items() if k != "manifests"})


def delete_what_it_names(message: str, root: Path) -> Path:
    """Do what the line says."""
    named = re.search(r"delete (\S+?)(?=[ ,;]|$)", message)
    assert named, message
    place = Path(named[1])
    assert place.is_relative_to(root), message
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    return place


@pytest.mark.parametrize("path", EVERY, ids=str)
def test_a_damaged_file_is_one_line_that_names_it(run, small_study, path):
    place = run.root / path
    before = place.read_bytes()
    for damage in DAMAGES:
        damage(place)
        with pytest.raises(RunError) as refused:
            run_study(small_study, run.root, workers=0)
        message = str(refused.value)
        assert str(path) in message, (damage.__name__, message)
        assert "\n" not in message
        assert "delete" in message
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        place.write_bytes(before)


@pytest.mark.parametrize("path", [p for p in EVERY if "manifest" not in p.name], ids=str)
def test_a_damaged_file_of_a_run_without_manifests_is_one_line_or_changes_nothing(
    run, small_study, path
):
    as_before(run)
    place = run.root / path
    before = place.read_bytes()
    for damage in DAMAGES:
        damage(place)
        told = refusal_of(run)
        if told is not None:
            assert "\n" not in told, told
            # With rows missing an arm counts as untrained, and who wants its policy says so.
            untrained = path.name == "metrics.jsonl" and "holds no trained policy" in told
            assert path.name in told or untrained, (damage.__name__, told)
        elif path.suffix == ".jsonl" and damage in (truncated, emptied):
            # A file of rows that ends too early looks whole; but steps are counted.
            assert path.name != "metrics.jsonl" or not summarise(run.root).complete
        elif path.name == "study.yaml" and damage is truncated:
            # Cut between two lines it may read as a shorter study; whoever goes on is held to the whole one.
            with pytest.raises(RunError, match=r"study\.yaml|another study"):
                run_study(small_study, run.root, workers=0)
        else:
            # Weights and samples are read where they are used, and not by a report.
            used = ("model.safetensors", "config.json", "tokenizer.json", *OF_PROBING[:1])
            used += ("states.parquet",)
            unread = BASE / "probes.skipped.json"  # what applies to no arm is told of arms
            assert path.name in used or path == unread, (damage.__name__, path)
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        place.write_bytes(before)


HEALED = (
    *(HERE / name for name in ("metrics.jsonl", "policy/model.safetensors", "policy/config.json")),
    *(
        HERE / name
        for name in ("budget.json", "items.parquet", "probes.parquet", "microscope.json")
    ),
    *(HERE / name for name in MANIFESTS),
    BASE / "states.parquet",
    Path("environment.json"),
    Path("study.yaml"),
)
"""Files that are made again in ways of their own."""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path in HEALED else pytest.mark.rare, id=str(path))
        for path in EVERY
    ],
)
def test_deleting_what_the_line_names_and_running_again_heals(run, whole, small_study, path):
    garbled(run.root / path)
    with pytest.raises(RunError) as refused:
        run_study(small_study, run.root, workers=0)
    delete_what_it_names(str(refused.value), run.root)
    run_study(small_study, run.root, workers=0)
    assert contents(run.root) == contents(whole.root)
    assert plan(small_study, run) == {}


def test_a_missing_file_of_a_finished_job_is_told_and_its_job_done_again(run, whole, small_study):
    (run.root / HERE / "drift.json").unlink()
    results = summarise(run.root)
    assert not results.complete
    assert any("has lost drift.json" in note for note in results.notes)
    told: list[str] = []
    run_study(small_study, run.root, workers=0, tell=told.append)
    (line,) = told
    assert "drift.json is missing: measuring mild_sft, seed 0 is done again" in line
    assert contents(run.root) == contents(whole.root)
    assert summarise(run.root).complete


def test_digests_are_taken_once_a_size_and_time(run, monkeypatch):
    from statewise.store import manifest

    taken: list[Path] = []
    real = manifest._digest
    monkeypatch.setattr(manifest, "_digest", lambda path: (taken.append(path), real(path))[1])
    folder = run.root / HERE
    held(folder, "train")
    first = len(taken)
    held(folder, "train")
    assert len(taken) == first  # a copy is read at most once
    os.utime(folder / "metrics.jsonl", ns=(1, 1))
    held(folder, "train")
    held(folder, "train")
    assert taken[first:] == [folder / "metrics.jsonl"]
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(text.replace("1", "2", 1))
    with pytest.raises(RunError, match="another than the finished job 'train' wrote"):
        held(folder, "train")


def test_a_manifest_names_no_file_outside_its_folder(tmp_path):
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "secret").write_text("x")
    for name in ("../secret", "/etc/passwd", ""):
        wrote = {"files": {name: {"bytes": 1, "sha256": "0"}}, "rests_on": ""}
        write_json(tmp_path / "seed-0" / "train.manifest.json", wrote)
        with pytest.raises(RunError, match="is no file of its folder"):
            held(tmp_path / "seed-0", "train")


# ---- whose a folder is ----------------------------------------------------------------------


def test_a_folder_that_lost_its_study_is_no_other_studys(run, whole, small_study):
    (run.root / "study.yaml").unlink()
    other = replace(small_study, question="another")
    with pytest.raises(RunError, match=r"has lost its study.yaml and holds arms of another study"):
        run_study(other, run.root, workers=0)
    assert not (run.root / "study.yaml").exists()
    run_study(small_study, run.root, workers=0)
    assert contents(run.root) == contents(whole.root)
    as_before(run)
    known = read_json(run.root / "environment.json")
    write_json(run.root / "environment.json", {k: v for k, v in known.items() if k != "study"})
    (run.root / "study.yaml").unlink()
    with pytest.raises(RunError, match="nothing says of which study; restore that file"):
        run_study(small_study, run.root, workers=0)
    with pytest.raises(RunError, match=r"has lost its study\.yaml"):
        summarise(run.root)


def test_a_run_of_before_is_read_and_marked_unverified(run, small_study):
    as_before(run)
    assert plan(small_study, run) == {}
    results = summarise(run.root)
    assert results.complete
    assert any(
        note.startswith("Unverified: 5 of 5 jobs were done before") for note in results.notes
    )
    (run.root / HERE / "metrics.jsonl").unlink()
    results = summarise(run.root)
    assert not results.complete
    assert any("no rows of its training for seed 0" in note for note in results.notes)
    assert Job("train", ARM, 0) in plan(small_study, run)


def test_names_and_links_lead_nowhere_else(run, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "items.parquet").write_bytes(
        (run.root / HERE / "items.parquet").read_bytes()
    )
    text = (run.root / "study.yaml").read_text()
    for name in ("../../outside", "/etc", "..", "a/b"):
        (run.root / "study.yaml").write_text(text.replace(f"name: {ARM}", f"name: {name}"))
        for reader in (summarise, status):
            with pytest.raises(RunError, match="is no name of an arm"):
                reader(run.root)
    (run.root / "study.yaml").write_text(text)
    with pytest.raises(RunError, match="no name of an arm"):
        run.arm("../../outside", 0)
    link = run.root / HERE / "items.parquet"
    link.unlink()
    link.symlink_to(tmp_path / "outside" / "items.parquet")
    for reader in (summarise, status, lambda root: find_policies([str(root)])):
        with pytest.raises(RunError, match="is a link that leaves the run folder"):
            reader(run.root)


# ---- values of the wrong kind ---------------------------------------------------------------

VALUES = (
    ("budget.json", {"update_norm": "much"}),
    ("budget.json", {"update_norm": [1]}),
    ("drift.json", {"features": {"hidden": {"mmd2": None, "p_value": 1}}}),
    ("drift.json", {"features": []}),
    ("drift.json", {}),
    ("probes.skipped.json", [{"probe": 1, "kind": "x", "reason": "y"}]),
    ("probes.skipped.json", {"probe": 1}),
    ("microscope.json", {"arm": ARM, "teacher": None, "vocabulary": {}, "prompts": [{}]}),
    ("policy/statewise.json", {"steps": "five"}),
)


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_plain_data_of_another_shape_is_damage(run, name, value):
    as_before(run)
    write_json(run.root / HERE / name, value)
    with pytest.raises(RunError, match=rf"{name} is damaged"):
        read_everything(run)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("metrics.jsonl", '{"step": "one"}'),
        ("metrics.jsonl", '{"step": 1, "loss": NaN}'),
        ("metrics.jsonl", '{"step": 1, "loss": {}}'),
        ("metrics.jsonl", '{"loss": 1}'),
        ("metrics.jsonl", "[" * 9000),
        ("metrics.jsonl", '{"step": ' + "9" * 9000 + "}"),
        ("dev.jsonl", '{"step": 1, "task": [], "score": 1}'),
        ("probes.jsonl", '{"step": 1}'),
    ],
)
def test_a_row_of_another_shape_is_damage(run, name, line):
    as_before(run)
    path = run.root / HERE / name
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(RunError, match=rf"{name}, line \d+ is damaged"):
        write_report(run.root)


def columns_of(path: Path, change) -> None:
    """Change a Parquet file's table."""
    table = pq.read_table(path)
    pq.write_table(change(table), path)


TABLES = {
    "a column is missing": lambda t: t.drop_columns([t.column_names[-3]]),
    "text for a number": lambda t: t.set_column(
        t.column_names.index("score"), "score", pa.array(["x"] * len(t))
    ),
    "not a number": lambda t: t.set_column(
        t.column_names.index("score"), "score", pa.array([float("nan")] * len(t))
    ),
    "a gap": lambda t: t.set_column(
        t.column_names.index("task"), "task", pa.array([None] * len(t), pa.string())
    ),
    "of another arm": lambda t: t.set_column(
        t.column_names.index("arm"), "arm", pa.array(["other"] * len(t))
    ),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_of_another_shape_is_damage(run, what):
    as_before(run)
    path = run.root / HERE / "items.parquet"
    columns_of(path, TABLES[what])
    with pytest.raises(RunError, match=r"items.parquet is damaged"):
        summarise(run.root)


def test_more_columns_and_keys_than_we_know_change_nothing(run, whole):
    as_before(run)
    path = run.root / HERE / "items.parquet"
    columns_of(path, lambda t: t.append_column("mine", pa.array([1] * len(t))))
    budget = read_json(run.root / HERE / "budget.json")
    write_json(run.root / HERE / "budget.json", budget | {"mine": 1})
    assert summarise(run.root).arms == summarise(whole.root).arms


# ---- rows, checkpoints, seconds -------------------------------------------------------------


@pytest.fixture
def killed(small_study, tmp_path):
    """The arm, killed one step behind its checkpoint of step 4."""
    run = RunFolder(tmp_path / "killed")
    measure_arm(ArmRun(small_study, run, "base", 0), nobody)

    def kill(phase: str, done: int, total: int, *_: object) -> None:
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        train_arm(ArmRun(small_study, run, ARM, 0), kill)
    assert read_json(run.root / HERE / "checkpoint" / "state.json")["step"] == 4
    return run


def steps_of(study, run) -> list[int]:
    """Train on, and say which steps were done."""
    seen: list[int] = []
    train_arm(ArmRun(study, run, ARM, 0), lambda phase, done, *_: seen.append(done))
    return seen


def is_as_whole(run, whole) -> bool:
    names = ("metrics.jsonl", "dev.jsonl", "probes.jsonl", "policy/model.safetensors")
    mine, theirs = run.root / HERE, whole.root / HERE
    return all((mine / name).read_bytes() == (theirs / name).read_bytes() for name in names)


@pytest.mark.parametrize("damage", [garbled, emptied, a_folder])
def test_seconds_that_are_damaged_cost_no_training(killed, whole, small_study, damage):
    for name in ("timing.jsonl", "probes.timing.jsonl"):
        damage(killed.root / HERE / name)
    if (
        damage is a_folder
    ):  # what cannot be written is said before a step is done, and nothing is lost
        with pytest.raises(RunError, match="a folder is where the file belongs: move it away"):
            steps_of(small_study, killed)
        for name in ("timing.jsonl", "probes.timing.jsonl"):
            (killed.root / HERE / name).rmdir()
    assert steps_of(small_study, killed) == [4, 5]
    assert is_as_whole(killed, whole)


def test_a_torn_line_among_the_seconds_is_left_out(run, small_study):
    as_before(run)
    for name in ("timing.jsonl", "jobs.timing.jsonl", "probes.timing.jsonl"):
        path = run.root / HERE / name
        path.write_text('{"step": 1, "seco\n[]\n' + path.read_text() + '{"torn": ')
    before = read_json(run.root / HERE / "budget.json")["wall_seconds"]
    assert summarise(run.root).complete
    (run.root / HERE / "budget.json").unlink()
    measure_arm(ArmRun(small_study, run, ARM, 0), nobody)
    assert read_json(run.root / HERE / "budget.json")["wall_seconds"] == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "dev.jsonl", "probes.jsonl"])
def test_rows_lost_behind_a_checkpoint_take_the_arm_back(killed, whole, small_study, name):
    path = killed.root / HERE / name
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]))
    assert steps_of(small_study, killed) == [0, 1, 2, 3, 4, 5]
    assert is_as_whole(killed, whole)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_one_line_and_is_trained_again(killed, whole, small_study, file):
    truncated(killed.root / HERE / "checkpoint" / file)
    with pytest.raises(RunError) as refused:
        steps_of(small_study, killed)
    assert f"checkpoint/{file}" in str(refused.value)
    named = delete_what_it_names(str(refused.value), killed.root)
    assert named.name == "checkpoint"
    assert steps_of(small_study, killed) == [0, 1, 2, 3, 4, 5]
    assert is_as_whole(killed, whole)


def test_an_arm_that_was_probed_can_be_trained_again(run, whole, small_study):
    shutil.rmtree(run.root / HERE / "policy")
    run_study(small_study, run.root, workers=0)
    assert contents(run.root) == contents(whole.root)


def test_another_policy_is_measured_and_probed_anew(run, small_study):
    """The weights that measuring rests on are another's: nothing that was said of the first stays."""
    folder = run.root / HERE
    card = read_json(folder / "policy" / "generation_config.json")
    write_json(folder / "policy" / "generation_config.json", card | {"max_length": 7})
    seal(folder, "train", ("metrics.jsonl", "policy/*.json", "policy/*.safetensors"))
    assert standing(run, ARM, 0, "train") == "yes"
    assert {job.task for job in plan(small_study, run)} == {"measure", "probe"}
    before = (folder / "items.parquet").stat().st_mtime_ns
    measure_arm(ArmRun(small_study, run, ARM, 0), nobody)
    assert (folder / "items.parquet").stat().st_mtime_ns > before


@pytest.mark.parametrize("job", ["train", "measure", "probe"])
def test_a_job_killed_before_its_manifest_ends_as_if_it_never_was(
    small_study, tmp_path, whole, monkeypatch, job
):
    from statewise.store import finished

    real = finished.seal

    def kill(folder: Path, task: str, *rest: object, **more: object) -> None:
        if task == job and ARM in str(folder):
            raise Killed
        real(folder, task, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(finished, "seal", kill)
        with pytest.raises(Killed):
            run_study(small_study, tmp_path / "run", workers=0)
    run = RunFolder(tmp_path / "run")
    assert standing(run, ARM, 0, job) == "no"
    run_study(small_study, run.root, workers=0)
    assert contents(run.root) == contents(whole.root)


def test_litter_of_killed_jobs_goes_and_that_of_living_ones_stays(run, whole, small_study):
    folder = run.root / HERE
    dead, alive = 2**22 - 3, os.getppid()
    for place in (folder, run.root):
        (place / f".budget.json.{dead}").write_text("half")
        (place / f".budget.json.{dead}.part").write_text("half")
    for name in (".policy.new", ".policy.old", "checkpoint", "nearest", "probing"):
        (folder / name).mkdir()
        (folder / name / "weights").write_text("half")
    kept = folder / f".drift.json.{alive}.part"
    kept.write_text("half")
    run_study(small_study, run.root, workers=0)
    assert kept.read_text() == "half"
    kept.unlink()
    assert contents(run.root) == contents(whole.root)


def test_a_directory_moved_away_for_one_that_never_came_is_back(run, whole, small_study):
    (run.root / HERE / "policy").rename(run.root / HERE / ".policy.old")
    run_study(small_study, run.root, workers=0)
    assert contents(run.root) == contents(whole.root)


# ---- arms that failed -----------------------------------------------------------------------


def test_a_failed_arm_is_no_result_and_nobody_waits_for_it(
    small_study, tiny_study, tmp_path, monkeypatch
):
    from statewise.jobs import executor

    student = tiny_study.arm("opd_from_mild")
    study = replace(small_study, arms=(*small_study.arms, student), probes=None)
    real = executor.train_arm

    def failing(arm_run, progress) -> None:
        if arm_run.name == ARM:
            fail(arm_run.folder, "its loss is 12 times that of step 1", 5)
        else:
            real(arm_run, progress)

    monkeypatch.setattr(executor, "train_arm", failing)
    run = run_study(study, tmp_path / "run", workers=0)
    results = summarise(run.root)
    assert not results.complete
    assert (
        "Failed: mild_sft, seed 0: its loss is 12 times that of step 1 (step 5). It is not tried again "
        "until arms/mild_sft/seed-0/failed.json is deleted."
    ) in results.notes
    assert plan(study, run) == {}  # it would fail again
    (run.root / HERE / "failed.json").unlink()
    assert {job.arm for job in plan(study, run)} == {ARM, "opd_from_mild"}


def test_rows_of_thousands_of_steps_are_read_quickly(tmp_path):
    """Bounded by time only because it must not become slow; half of it is the checking of annotations."""
    import time

    row = {f"figure_{i}": 0.123456 for i in range(20)}
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": i} | row) + "\n" for i in range(5000)))
    began = time.process_time()
    assert len(read_rows(path, {"step": int, str: (int, float, None)})) == 5000
    assert time.process_time() - began < 3


def test_a_run_with_gaps_exits_with_1_and_says_which(run, monkeypatch, capsys, tiny_base):
    from statewise.cli import main as cli
    from statewise.jobs import executor

    (run.root / HERE / "drift.json").unlink()
    monkeypatch.setattr(executor, "run_study", lambda *_, **__: run)
    command = ["run", "pocket", "--set", f"base={tiny_base}", "--out", str(run.root)]
    assert cli.main(command) == 1
    assert (
        "statewise: Unfinished: mild_sft, seed 0, has lost drift.json." in capsys.readouterr().err
    )
