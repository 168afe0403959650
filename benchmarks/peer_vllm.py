"""vLLM on the CPU (or GPU), in a process and a virtual environment of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.harness import Contender, MissingError, Options, Run, Setting, Work
from benchmarks.peer_hf import rollout_work

WORKER = Path(__file__).with_name("vllm_worker.py")
PYTHON = Path(
    os.environ.get("STATEWISE_VLLM")
    or Path(__file__).resolve().parents[1] / ".venv-vllm" / "bin" / "python"
)


def vllm(
    prompts: Sequence[Sequence[int]], each: int, new_tokens: int, options: Options
) -> Contender:
    """One process for each setting, kept for all its rounds and waiting on its input between them."""
    settings = [
        {"weights": dtype, "rows": rows, "threads": threads}
        for dtype in ("bf16", "fp32")
        for rows in (128, 256)
        for threads in ("bound", "free")
    ]

    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        if not PYTHON.exists():
            raise MissingError(
                f"vLLM is not there: `make bench-vllm` makes {PYTHON.parents[1]} for it"
            )
        with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
            process = _start(setting, options, log)
            try:
                _send(process, log, _engine(setting, options))

                def run(seed: int) -> Work:
                    work = {
                        "prompts": [list(p) for p in prompts],
                        "samples_per_prompt": each,
                        "max_new_tokens": new_tokens,
                    }
                    answer = _send(process, log, work)
                    if not answer["has_logprobs"]:
                        raise RuntimeError("vLLM gave no log-probs")
                    lengths = [len(p) for p in prompts]
                    return rollout_work(
                        lengths,
                        answer["completions"],
                        answer["seconds"],
                        setting["weights"],
                        options,
                    )

                yield run
            finally:
                process.stdin.close()  # pyright: ignore[reportOptionalMemberAccess]
                process.wait()

    return Contender("vLLM", settings, opens)


def _engine(setting: Setting, options: Options) -> dict[str, Any]:
    engine: dict[str, Any] = {
        "model": workload.location(options.device),
        "dtype": {"bf16": "bfloat16", "fp32": "float32"}[setting["weights"]],
        "max_model_len": 320,
        "max_num_seqs": setting["rows"],
        "max_num_batched_tokens": 16384,
        "enable_prefix_caching": True,
        "seed": 0,
    }
    # On a CPU, compiling a model of this size took a minute and made nothing faster.
    return engine if options.cuda else engine | {"enforce_eager": True}


def _start(setting: Setting, options: Options, log: Any) -> subprocess.Popen[str]:
    bound = setting["threads"] == "bound"
    cores = f"0-{options.threads - 1}" if options.threads > 1 else "0"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "PYTHON"))},
        "OMP_NUM_THREADS": str(options.threads),
        "VLLM_CPU_OMP_THREADS_BIND": cores if bound else "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # In the worker's own process: a second one would poll while others are measured.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.Popen(
        [str(PYTHON), str(WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment,
    )


def _send(process: subprocess.Popen[str], log: Any, value: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(value) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        process.wait()
        log.seek(0)
        raise RuntimeError(f"vLLM's process ended: {log.read().strip()[-600:]}")
    return json.loads(line)
