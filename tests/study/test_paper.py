"""The paper's study, shrunk, on the real benchmark files and a random model of the real vocabulary."""

from __future__ import annotations

import pytest

from statewise.cli.main import main
from statewise.evaluate import read_items
from statewise.store import RunFolder, read_json

DISTILLED = ("opd_from_mild", "opd_from_stress", "one_step_opd_from_stress")
ARMS = ("mild_sft", "stress_sft", *DISTILLED, "grpo")
SHRINK = {
    "tasks.gsm8k.limit": 3,
    "tasks.gsm8k.max_new_tokens": 8,
    "tasks.truthfulqa_mc1.limit": 3,
    "tasks.mmlu.limit": 1,
    "dev.task.limit": 2,
    "dev.task.max_new_tokens": 8,
    "drift.prompts.limit": 4,
    "drift.max_new_tokens": 8,
    "probes": "null",
    "arms.stress_sft.budget.epochs": 1,
    **{f"arms.{name}.streams.0.prompts_per_step": 2 for name in ARMS},
    **{f"arms.{name}.streams.0.prompts.limit": 8 for name in ARMS},
    **{f"arms.{name}.streams.0.source.max_new_tokens": 8 for name in (*DISTILLED, "grpo")},
    **{f"arms.{name}.budget.steps": 2 for name in (*DISTILLED, "grpo")},
}


@pytest.mark.slow
def test_every_arm_of_the_paper_runs_end_to_end_with_lora(tiny_base, shared_data, tmp_path, capsys):
    small = {"width": 16, "layers": 1, "heads": 2, "key_value_heads": 1, "head_width": 8}
    shape = [f"--set={key}={value}" for key, value in (small | {"feed_forward": 16}).items()]
    base, run = tmp_path / "random", RunFolder(tmp_path / "run")
    made = main(
        ["random-model", str(base), "--shape", "qwen3-0.6b", "--tokenizer", str(tiny_base), *shape]
    )
    assert made == 0
    overrides = [f"--set={key}={value}" for key, value in SHRINK.items()]
    ran = main(
        [
            *("run", "paper", "--data", str(shared_data), "--set", f"base={base}", "--seeds", "1"),
            *("--workers", "0", "--out", str(run.root), *overrides),
        ]
    )
    assert ran == 0
    assert "randomly initialised" in capsys.readouterr().out
    for name in ARMS:
        adapter = run.arm(name, 0) / "policy" / "adapter_model.safetensors"
        assert adapter.is_file()
        tasks = {item.task for item in read_items(run.arm(name, 0) / "items.parquet")}
        assert tasks == {"gsm8k", "truthfulqa_mc1", "mmlu"}
    assert read_json(run.arm("mild_sft", 0) / "budget.json")["update_norm"] > 0
