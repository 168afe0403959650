"""Work that is done in a process of its own, so that its peak memory is its own.

    python -m benchmarks.child benchmarks.kl:once '{"variant": "statewise"}'

calls the function with these arguments and writes what it returns as the last line of its output.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
MARK = "benchmark result: "


def in_child(target: str, *, threads: int, **arguments: Any) -> dict[str, Any]:
    """Call `module:function` in a new process. Raises RuntimeError with the end of its errors."""
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.child",
            target,
            json.dumps(arguments | {"threads": threads}),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        raise RuntimeError(f"{target} ended with {done.returncode}: {done.stderr.strip()[-800:]}")
    return json.loads(lines[-1].removeprefix(MARK))


class Peak:
    """Most memory above what was there when the block began, bytes; and the most in all."""

    above: int = 0
    whole: int = 0


@contextlib.contextmanager
def peak_memory(device: str = "cpu") -> Iterator[Peak]:
    """Watch the resident memory of this process (Linux), or what an accelerator has allocated.

    The kernel keeps the high-water mark itself: nothing is sampled, so no peak is missed.
    """
    peak = Peak()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        peak.whole = torch.cuda.max_memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _resident("VmRSS")
        yield peak
        peak.whole = _resident("VmHWM")
    peak.above = peak.whole - before


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"/proc/self/status has no {key}")


def main() -> None:
    target, arguments = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(arguments["threads"])
    module, function = target.split(":")
    result = getattr(importlib.import_module(module), function)(**arguments)
    print(f"{MARK}{json.dumps(result)}", flush=True)


if __name__ == "__main__":
    main()
