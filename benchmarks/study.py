"""The pocket study, whole: what `make study` does after everything is installed, once, by the wall clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import Any

from benchmarks.child import ROOT
from benchmarks.harness import Options, say
from statewise.store import read_json

AIM_MINUTES, FLOOR_MINUTES = 6.0, 10.0
SHRINK = (
    "seeds=[0]", "search=null", "doses={}", "dev=null", "probes=null", "drift.prompts.limit=8", "drift.permutations=9",
    "tasks.pocket_gsm.limit=4", "tasks.pocket_mmlu.limit=4", "tasks.pocket_truthfulqa_mc1.limit=4",
    "arms.mild_sft.budget.epochs=0.02", "arms.stress_sft.budget.epochs=0.2",
    "arms.opd_from_mild.budget.steps=1", "arms.opd_from_stress.budget.steps=1",
    "arms.one_step_opd_from_stress.budget.steps=1", "arms.grpo.budget.steps=1",
)  # fmt: skip
"""What makes a quick run of it."""


def measure(options: Options, peaks: dict[str, float]) -> dict[str, Any]:
    """Seconds of one run into an empty folder. Raises RuntimeError where it fails."""
    settings = [part for value in SHRINK for part in ("--set", value)] if options.quick else []
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    # The command decides for itself how many threads each of its workers gets.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    folder = ROOT / "build" / "bench-study"  # left there, to be looked at
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "statewise",
            "run",
            "pocket",
            "--out",
            str(folder),
            *settings,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(
            f"statewise run pocket ended with {done.returncode}: {done.stderr[-800:]}"
        )
    say(f"  {seconds / 60:.1f} minutes")
    worked = read_json(folder / "results.json")["environment"]
    return {
        "minutes": seconds / 60,
        "aim_minutes": AIM_MINUTES,
        "floor_minutes": FLOOR_MINUTES,
        "seconds_of_work": worked.get("seconds", {}),
        "share_of_probes": worked.get("share_of_probes", 0.0),
    }
