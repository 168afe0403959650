"""The door for writing: whole, on the disk, or not at all, and one line where the system refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from statewise.cli.main import main
from statewise.errors import LockedError, RunError
from statewise.evaluate import write_items
from statewise.evaluate.items import ItemResult
from statewise.policy import Policy
from statewise.probing.asking import write_rows
from statewise.probing.inputs import Row
from statewise.random_model import Shape, make_random_model
from statewise.store import (
    append_rows,
    check_file,
    check_folder,
    exclusive,
    read_rows,
    tidy,
    whole_directory,
    whole_file,
    write_json,
    write_text,
    written,
)
from statewise.trajectory import Prompt, Trajectory
from statewise.trajectory_store import write_states

LONG = "a" * 60_000


def sample() -> list[Trajectory]:
    """Too many random tokens to be packed small."""
    tokens = np.random.default_rng(0).integers(0, 2**31 - 1, 40_000).astype(np.int32)
    prompt = Prompt("p", "a", tokens[:1])
    unsampled = np.full(len(tokens), np.nan, np.float32)
    ones, codes = np.ones(len(tokens), np.float32), np.zeros(len(tokens), np.int16)
    return [Trajectory(prompt, "0", tokens, ones, codes, ("gold",), unsampled, None, "b", True)]


def items() -> list[ItemResult]:
    noise = np.random.default_rng(0).bytes(60_000).hex()
    return [ItemResult("t", "0", "0", "a", 0, "greedy", 0, "acc", 1.0, noise, None, None)]


def rows() -> list[Row]:
    noise = np.random.default_rng(0).bytes(60_000).hex()
    return [Row("audit", "a", "base", "learner", "m", "", 1.0, None, None, None, 1, "share", noise)]


def policy_folder(place: Path, policy: Policy) -> None:
    with whole_directory(place) as beside:
        policy.save(beside)


@pytest.fixture(scope="module")
def policy(tiny_base) -> Policy:
    return Policy.load(str(tiny_base), name="student")


Writer = Callable[[Path, Policy], None]
WRITERS: dict[str, Writer] = {
    "text": lambda place, _: write_text(place, LONG),
    "json": lambda place, _: write_json(place, {"a": LONG}),
    "rows": lambda place, _: append_rows(place, [{"a": LONG}]),
    "items": lambda place, _: write_items(place, items()),
    "states": lambda place, _: write_states(place, {"learner": sample()}),
    "answers": lambda place, _: write_rows(place.with_suffix(".parquet"), rows()),
    "policy": policy_folder,
}
"""Everything that is written, by the function that writes it: more than 50,000 bytes each."""


def everything_in(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b""
        for p in folder.rglob("*")
    }


def refuses(writer: Writer, place: Path, policy: Policy, reason: str) -> None:
    """One line with the place and a remedy; nothing is left and nothing is lost."""
    before = everything_in(place.parent)
    with pytest.raises(RunError) as refused:
        writer(place, policy)
    message = str(refused.value)
    assert reason in message
    assert str(place.parent) in message
    assert "; " in message
    assert "\n" not in message
    assert everything_in(place.parent) == before


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A real disk of that size; the test is skipped where none may be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if (
        not shutil.which("mount")
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("no disk can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk(tmp_path, policy, what):
    with small_disk(tmp_path / "disk", "48k"):
        (tmp_path / "disk" / "mine").write_text("mine")
        place = tmp_path / "disk" / "file"
        refuses(WRITERS[what], place, policy, "cannot be written (No space left on device); free")


def test_rows_on_a_full_disk_keep_those_that_are_there(tmp_path):
    with small_disk(tmp_path / "disk", "16k"):
        path = tmp_path / "disk" / "metrics.jsonl"
        count = 0
        with contextlib.suppress(RunError):
            for count in range(1000):
                append_rows(path, [{"step": count, "text": "x" * 900}])
        assert 0 < count < 999
        assert [row["step"] for row in read_rows(path)] == list(range(count))
        assert path.read_bytes().endswith(b"\n")


def test_a_disk_that_may_not_be_written_to(tmp_path, policy):
    with small_disk(tmp_path / "disk", "1m"):
        (tmp_path / "disk" / "mine").write_text("mine")
        again = ["mount", "-o", "remount,ro", str(tmp_path / "disk")]
        subprocess.run(again, check=True)
        for writer in WRITERS.values():
            refuses(writer, tmp_path / "disk" / "file", policy, "Read-only file system")
        for check in (check_folder, check_file):
            with pytest.raises(RunError, match="cannot be written to; give another --out"):
                check(tmp_path / "disk" / "a" / "b")


@pytest.mark.parametrize("what", WRITERS)
def test_a_limit_of_a_files_size(tmp_path, policy, what):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(RunError, match=r"File too large\); raise the limit") as refused:
            WRITERS[what](tmp_path / "file", policy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(refused.value)
    assert everything_in(tmp_path) == {}


CODES = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENOENT,
)


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("step", ["fsync", "replace", "mkdir"])
def test_whatever_the_system_refuses_at_any_step(tmp_path, policy, monkeypatch, code, step):
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / "file").write_text("as it was")
    writers = dict(WRITERS)
    del writers["policy"]
    del writers["rows"]
    if step == "mkdir":
        monkeypatch.setattr(Path, "mkdir", fail)
        writers = WRITERS
    else:
        monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    for writer in writers.values():
        refuses(writer, tmp_path / "file", policy, os.strerror(code))


def test_what_stands_in_the_way(tmp_path, policy):
    here = tmp_path / "here"
    here.mkdir()
    (here / "folder").mkdir()
    (here / "folder.parquet").mkdir()
    (here / "link").symlink_to(tmp_path / "nowhere")
    (here / "loop").symlink_to(here / "loop")
    (here / "mine").write_text("mine")
    for what, writer in WRITERS.items():
        if what != "policy":
            refuses(writer, here / "folder", policy, "Is a directory")
            with pytest.raises(RunError, match=r"name too long\); give a shorter name"):
                writer(here / ("b" * 300), policy)
        for between in ("link", "loop", "mine"):
            with pytest.raises(RunError, match="; "):
                writer(here / between / "deep" / "file", policy)
    assert everything_in(here).keys() == {"folder", "folder.parquet", "link", "loop", "mine"}


def test_a_fault_of_ours_is_none_of_the_disk(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a"):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), whole_directory(tmp_path / "b" / "c"):
        raise ZeroDivisionError
    assert everything_in(tmp_path) == {}  # nor the folder that was made for it


def test_a_directory_that_cannot_be_moved_leaves_the_old_one(tmp_path, monkeypatch):
    place = tmp_path / "policy"
    place.mkdir()
    (place / "weights").write_text("old")
    real = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == ".policy.new":
            raise OSError(errno.EIO, "no")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(RunError), whole_directory(place) as beside:
        (beside / "weights").write_text("new")
    assert everything_in(tmp_path) == {"policy": b"", "policy/weights": b"old"}


def test_everything_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done: list[str] = []
    real_sync, real_move, real_rename = os.fsync, Path.replace, Path.rename

    def fsync(handle: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        real_sync(handle)

    def replace(self: Path, target: Path) -> Path:
        done.append("move")
        return real_move(self, target)

    def rename(self: Path, target: Path) -> Path:
        done.append("move")
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "rename", rename)
    write_text(tmp_path / "a", "text")
    assert done == [f"sync .a.{os.getpid()}.part", "move", f"sync {tmp_path.name}"]
    done.clear()
    with whole_directory(tmp_path / "d") as beside:
        (beside / "weights").write_text("w")
    assert done == ["sync weights", "sync .d.new", "move", f"sync {tmp_path.name}"]


def test_names_of_255_bytes_can_be_written(tmp_path):
    name = "ä" * 120 + ".json"
    write_text(tmp_path / name, "text")
    assert everything_in(tmp_path) == {name: b"text"}


def test_a_torn_line_is_cut_before_the_next_is_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [{"step": 1}])
    path.write_text(path.read_text() + '{"step": 2, "te' + "x" * 9000)
    append_rows(path, [{"step": 3}])
    assert [row["step"] for row in read_rows(path)] == [1, 3]
    path.write_text("torn")
    append_rows(path, [{"step": 4}])
    assert read_rows(path) == [{"step": 4}]


def test_tidy_takes_what_no_living_process_writes(tmp_path):
    write_text(tmp_path / "budget.json", "whole")
    for name in (f".a.json.{os.getpid()}.part", ".b.json.4194300.part", ".c.json.99999999999.part"):
        (tmp_path / name).write_text("half")
    (tmp_path / f".d.json.{os.getppid()}.part").write_text("half")
    (tmp_path / ".mine").write_text("mine")
    tidy(tmp_path)
    tidy(tmp_path / "nowhere")
    assert everything_in(tmp_path).keys() == {
        "budget.json",
        ".mine",
        f".d.json.{os.getppid()}.part",
    }


def test_a_lock_names_its_folder_and_nothing_else_is_taken_for_one(tmp_path):
    with (
        exclusive(tmp_path / ".lock"),
        pytest.raises(LockedError, match="another process is writing to"),
        exclusive(tmp_path / ".lock"),
    ):
        pass
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".lock").mkdir()
    with pytest.raises(RunError, match="Is a directory"), exclusive(tmp_path / "a" / ".lock"):
        pass


# ---- commands -------------------------------------------------------------------------------

PLACES = {
    "a file": "mine",
    "below a file": "mine/deep",
    "a dead link": "link",
    "below a dead link": "link/deep",
    "a link to itself": "loop/deep",
    "a name too long": "b" * 300,
    "a name too long, deeper": "new/" + "b" * 300,
}


@pytest.mark.parametrize("what", PLACES)
def test_a_command_refuses_a_place_before_it_computes_anything(tmp_path, capsys, tiny_base, what):
    here = tmp_path / "here"
    here.mkdir()
    (here / "mine").write_text("mine")
    (here / "link").symlink_to(tmp_path / "nowhere")
    (here / "loop").symlink_to(here / "loop")
    place = str(here / PLACES[what])
    commands = [
        ["run", "pocket", "--out", place],
        ["train", "pocket", "--arm", "mild_sft", "--out", place],
        ["search", "pocket", "--out", place],
        ["random-model", place],
    ]
    if what not in ("a file", "a dead link"):  # where a file takes their place
        commands += [
            ["states", f"a={tiny_base}", "--out", f"{place}/s.parquet"],
            ["eval", str(tiny_base), "--task", "pocket_mmlu", "--out", f"{place}/i.parquet"],
        ]
    for command in commands:
        assert main(command) == 2, command
        told = capsys.readouterr()
        assert told.err.startswith("statewise: "), told.err
        assert told.err.count("\n") == 1
        assert "; " in told.err
    assert everything_in(here).keys() == {"mine", "link", "loop"}


def test_a_random_model_is_whole_or_not_there(tmp_path, capsys, monkeypatch):
    import statewise.random_model

    def cut_short(directory: Path, shape: Shape, **_: object) -> int:
        (directory / "config.json").write_text("{}")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert make_random_model is statewise.random_model.make_random_model
    monkeypatch.setattr(statewise.random_model, "make_random_model", cut_short)
    assert main(["random-model", str(tmp_path / "new" / "model")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert everything_in(tmp_path) == {}


def test_a_file_that_could_not_be_read_is_not_said_of_the_one_that_was_written(tmp_path):
    with (
        pytest.raises(RunError, match=r"elsewhere.json: cannot be used \(No such file"),
        whole_directory(tmp_path / "policy"),
    ):
        (tmp_path / "elsewhere.json").read_text()
    with (
        pytest.raises(RunError, match=r"a: cannot be written \(OSError\)"),
        written(tmp_path / "a"),
    ):
        raise OSError
