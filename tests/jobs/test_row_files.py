"""Rows that a study names: one run never mixes two versions of a file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statewise.data import Gsm8k, JsonLines
from statewise.errors import RunError
from statewise.jobs import executor
from statewise.jobs.executor import Job, run_jobs
from statewise.jobs.folder import claim_folder
from statewise.jobs.row_files import row_digests, row_files
from statewise.sources import Stored
from statewise.store import RunFolder
from statewise.study.probes import Probing


def on_rows(study, path, **more):
    """The study with one arm, whose prompts are the rows of a file."""
    arm = study.arm("mild_sft")
    streams = (replace(arm.streams[0], prompts=JsonLines(str(path)), **more),)
    return replace(study, arms=(replace(arm, streams=streams),), claims=())


@pytest.fixture
def begun(tiny_study, tmp_path):
    """A study of a file's rows and its folder, in which an arm has begun."""
    rows, run = tmp_path / "d.jsonl", RunFolder(tmp_path / "run")
    rows.write_text('{"question": "1+1", "answer": "2"}\n')
    study = on_rows(tiny_study, rows)
    claim_folder(study, run)
    run.arm("mild_sft", 0).mkdir(parents=True)
    return study, run, rows


def go_on(study, run, monkeypatch):
    """A second call that has one job left; what was done."""
    done: list[Job] = []
    monkeypatch.setattr(executor, "_do", lambda job, *_: done.append(job))
    claim_folder(study, run)
    run_jobs({Job("train", "mild_sft", 0): set()}, study, run, workers=0)
    return len(done)


def test_work_that_is_left_is_not_done_with_other_rows(begun, monkeypatch):
    study, run, rows = begun
    assert go_on(study, run, monkeypatch) == 1
    first = rows.read_text()
    rows.write_text(first.replace("2", "3"))
    for _ in range(2):  # a refusal forgets nothing
        with pytest.raises(RunError, match=r"d.jsonl has changed since .* put the first file back"):
            go_on(study, run, monkeypatch)
    run_jobs({}, study, run, workers=0)  # nothing is left that would read them
    rows.unlink()
    with pytest.raises(RunError, match=r"d.jsonl is gone since"):
        go_on(study, run, monkeypatch)
    rows.write_text(first)
    assert go_on(study, run, monkeypatch) == 1


def test_a_folder_of_before_goes_on_and_one_without_arms_begins_anew(begun, monkeypatch):
    study, run, rows = begun
    (run.root / ".rows.json").unlink()
    rows.write_text(rows.read_text().replace("2", "3"))
    assert go_on(study, run, monkeypatch) == 1
    rows.write_text(rows.read_text().replace("3", "4"))
    with pytest.raises(RunError, match="has changed"):
        go_on(study, run, monkeypatch)
    run.arm("mild_sft", 0).rmdir()
    assert go_on(study, run, monkeypatch) == 1


def test_every_file_that_a_study_names_has_a_digest(tiny_study, tmp_path):
    names = ["arm.jsonl", "drift.jsonl", "probes.jsonl", "stored.parquet", "data/gsm8k/test.jsonl"]
    for name in (*names, "data/mmlu/dev.csv", "more/gsm8k/train.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}\n")
    at = {name: str(tmp_path / name) for name in names}
    study = on_rows(tiny_study, at["arm.jsonl"], source=Stored(at["stored.parquet"], "learner"))
    task = replace(study.tasks[0], name="gsm8k", data=str(tmp_path / "data"))
    study = replace(
        study,
        drift=replace(study.drift, prompts=JsonLines(at["drift.jsonl"])),
        probes=Probing(after=("locality",), prompts=JsonLines(at["probes.jsonl"])),
        tasks=(task, *study.tasks[1:]),
    )
    assert sorted(row_files(study)) == sorted(at.values())
    first = row_digests(study, {})
    (tmp_path / "arm.jsonl").write_text("{} \n")
    assert row_digests(study, first) == first != row_digests(study, {})
    more = replace(study.drift, prompts=Gsm8k(folder=str(tmp_path / "more")))
    assert str(tmp_path / "more/gsm8k/train.jsonl") in row_files(replace(study, drift=more))
