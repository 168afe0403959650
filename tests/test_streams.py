"""Terminals that know ASCII alone, pipes that close, outputs that are full: the command ends cleanly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "statewise"]
LOUD = """
import sys
from statewise.streams import with_streams

def command():
    for _ in range(20_000):
        print("\\u2713 caf\\u00e9 \\ud800")
    return 0

sys.exit(with_streams(command))
"""


def environment(**more: str) -> dict[str, str]:
    source = str(Path(__file__).resolve().parents[1] / "src")
    return os.environ | {"PYTHONPATH": source, "PYTHONWARNINGS": "ignore"} | more


@pytest.mark.parametrize(
    "encoding", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]
)
def test_a_terminal_of_ascii_gets_escapes(encoding):
    done = subprocess.run(
        [sys.executable, "-c", LOUD], capture_output=True, env=environment(**encoding), check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"caf\\xe9 \\ud800" in done.stdout or "café".encode() in done.stdout


def test_whoever_reads_one_line_and_goes_ends_it_quietly():
    with subprocess.Popen(
        [sys.executable, "-c", LOUD],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_output_is_one_line():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", LOUD],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "statewise: standard output cannot be written (No space left on device); send it elsewhere"
    ]


def test_a_command_that_is_started_without_outputs_runs():
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" >&- 2>&-', "sh", *COMMAND, "--version"],
        env=environment(),
        check=False,
    )
    assert done.returncode == 0
