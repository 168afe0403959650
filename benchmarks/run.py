"""Run benchmarks: every part, or those that are named.

    python -m benchmarks.run                     # everything
    python -m benchmarks.run rollout sft         # some parts
    python -m benchmarks.run --list
    python -m benchmarks.run --table             # write the tables of docs/performance.md from the results

Each part writes `benchmarks/results/<part>.json` (`<part>-cuda.json` with `--device cuda`) when it ends.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

PARTS = ("rollout", "sft", "opd", "grpo", "evaluation", "kl", "big", "growth", "study")
ON_CUDA = ("rollout", "sft", "opd", "grpo")
"""Parts that a GPU can do too, there with Qwen3-0.6B's shape."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, and say where."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="Benchmarks of statewise and its peers."
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)} (default: all)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each contender (default 5)")
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count(),
        help="threads of everyone (default: all cores)",
    )
    parser.add_argument(
        "--device", default="cpu", help="cpu, or cuda for Qwen3-0.6B's shape on a GPU"
    )
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument(
        "--out", type=Path, help="folder of the results (default benchmarks/results)"
    )
    parser.add_argument(
        "--table", action="store_true", help="rewrite docs/performance.md from the results and stop"
    )
    parser.add_argument("--list", action="store_true", help="name the parts and stop")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(PARTS))
        return 0
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds must be 1 or more, found {options.rounds}")

    from benchmarks import table

    if options.table:
        table.write()
        return 0
    return _measure(options)


def _measure(options: argparse.Namespace) -> int:
    # Before any library of theirs is imported: thread pools are made once.
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import torch

    from benchmarks.harness import Options, compare, say
    from benchmarks.peaks import measure_peaks, surroundings
    from statewise.store import write_json

    torch.set_num_threads(options.threads)
    chosen = Options(
        quick=options.quick,
        rounds=options.rounds or (2 if options.quick else 5),
        threads=options.threads,
        device=options.device,
        peers=not options.alone,
        results=options.out or Path(__file__).parent / "results",
    )
    if chosen.cuda and not torch.cuda.is_available():
        say("benchmarks: no GPU here, nothing to measure with --device cuda")
        return 0
    for part in options.parts or (ON_CUDA if chosen.cuda else PARTS):
        if chosen.cuda and part not in ON_CUDA:
            say(f"{part}: not measured on a GPU")
            continue
        say(part)
        module = importlib.import_module(f"benchmarks.{part}")
        peaks = measure_peaks(chosen)
        result = {
            "part": part,
            "quick": chosen.quick,
            "rounds": chosen.rounds,
            "environment": surroundings(chosen),
        }
        if hasattr(module, "comparisons"):
            found = {"comparisons": [compare(c, chosen, peaks) for c in module.comparisons(chosen)]}
        else:
            found = module.measure(chosen, peaks)
        path = chosen.results / f"{part}{'-cuda' if chosen.cuda else ''}.json"
        write_json(path, result | {"peaks": peaks} | found)
        say(f"  -> {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
