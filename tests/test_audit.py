"""Nothing that a stranger writes is opened, imported or run: a marker in every string, and an audit hook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_no_string_of_a_stranger_is_opened_imported_or_run(tiny_base, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.audited", str(tmp_path), str(tiny_base)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONWARNINGS": "ignore"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert found["heard"] == []
    assert not found["ran"]
    codes = found["codes"]
    assert codes["places"] > 40, "the study holds fewer strings than were to be planted"
    for name in ("dry run", "plan", "train", "run", "report", "states", "probe", "eval"):
        assert codes[name] == 0, (name, codes)
    strangers = {name: code for name, code in codes.items() if "of a stranger" in name}
    for name in ("states", "probe"):
        assert strangers[f"{name} of a stranger 0"] == strangers[f"{name} of a stranger 3"] == 2
    assert strangers["eval of a stranger"] == 2
    assert codes["check"] in (0, 1), codes
    assert all(code == 200 for name, code in codes.items() if name.startswith("serve")), codes
