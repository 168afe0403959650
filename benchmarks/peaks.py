"""What this machine can do at best: matrix products and copies, measured in the run they are compared with."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Options, now, say
from statewise.jobs.folder import hardware
from statewise.store import environment

ROOT = Path(__file__).resolve().parents[1]


def measure_peaks(options: Options) -> dict[str, float]:
    """FLOP/s of a square matrix product in float32 and bfloat16, bytes/s of a copy (read and written).

    The best of several: a peak is what the machine reaches when nothing is in its way.
    """
    size = 256 if options.quick else 8192 if options.cuda else 2048
    megabytes = 4 if options.quick else 4096 if options.cuda else 512
    repeats = 2 if options.quick else 8
    peaks = {
        f"matmul_{name}": _matmul(size, dtype, repeats, options)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    peaks["copy"] = _copy(megabytes << 20, repeats, options)
    say(
        f"  peaks: fp32 {peaks['matmul_fp32'] / 1e9:,.0f} GFLOP/s, bf16 {peaks['matmul_bf16'] / 1e9:,.0f} GFLOP/s, "
        f"copy {peaks['copy'] / 1e9:,.1f} GB/s"
    )
    return peaks


def _matmul(size: int, dtype: torch.dtype, repeats: int, options: Options) -> float:
    a = torch.randn(size, size, device=options.device).to(dtype)
    b = torch.randn(size, size, device=options.device).to(dtype)
    out = torch.empty_like(a)
    torch.mm(a, b, out=out)
    best = float("inf")
    for _ in range(repeats):
        began = now(options.device)
        torch.mm(a, b, out=out)
        best = min(best, now(options.device) - began)
    return 2 * size**3 / best


def _copy(size: int, repeats: int, options: Options) -> float:
    a = torch.ones(size // 4, device=options.device)
    b = torch.zeros_like(a)
    best = float("inf")
    for _ in range(repeats):
        began = now(options.device)
        b.copy_(a)
        best = min(best, now(options.device) - began)
    return 2 * size / best


def surroundings(options: Options) -> dict[str, Any]:
    """Machine, versions, threads, date and commit of a run."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        # The files that a run writes do not make its code another one.
        "changed": bool(_git("status", "--porcelain", "--", "src", "benchmarks/*.py")),
        "threads": options.threads,
        "device": torch.cuda.get_device_name() if options.cuda else "cpu",
        **environment(),
        **{key: value for key, value in hardware().items() if key == "accelerators"},
    }


def _git(*arguments: str) -> str | None:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None
