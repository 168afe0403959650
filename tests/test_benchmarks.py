"""The benchmarks run, their page is what their results say, and their counts are right."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import kl, plots, run, table
from benchmarks.child import in_child, peak_memory
from benchmarks.cost import Cost
from benchmarks.harness import (
    OURS,
    Comparison,
    Contender,
    MissingError,
    Options,
    Target,
    Work,
    compare,
    ready,
)
from benchmarks.peaks import measure_peaks

QUICK = Options(quick=True, rounds=3, threads=1)
PEAKS = {"matmul_fp32": 100.0, "matmul_bf16": 1000.0, "copy": 10.0}


# ---- the page -----------------------------------------------------------------------------------


def test_the_committed_page_is_what_the_results_give():
    text = table.PAGE.read_text("utf-8")
    assert table.page(text, table.read_results()) == text, "run `make docs`"


def test_every_part_has_a_block_on_the_page():
    blocks = [name for _, name, _ in table.BLOCK.findall(table.PAGE.read_text("utf-8"))]
    assert sorted(blocks) == sorted(
        ["summary", "environment", *run.PARTS, *(f"{part}-cuda" for part in run.ON_CUDA)]
    )


def test_results_of_a_quick_run_are_refused(tmp_path: Path):
    (tmp_path / "sft.json").write_text('{"quick": true}')
    with pytest.raises(ValueError, match="quick run are no measurements: sft"):
        table.read_results(tmp_path)


# ---- taking turns -------------------------------------------------------------------------------


class Scripted:
    """A contender whose rounds take the seconds that it is told, and that says when it ran."""

    def __init__(self, name: str, seconds: dict[str, float], said: list[str]) -> None:
        self.name, self.seconds, self.said = name, seconds, said

    def opens(self, setting: Any) -> Any:
        def once(seed: int) -> Work:
            self.said.append(f"{self.name}{seed}")
            if self.seconds[setting["kind"]] < 0:
                raise ValueError("cannot do that")
            # The round's number slows it down a little, so that the median is neither first nor last.
            slower = self.seconds[setting["kind"]] * (1 + (seed % 3) / 10)
            return Work(10, slower, flops=500.0, bytes_read=20.0, details={"rows": seed})

        return ready(once)

    def contender(self) -> Contender:
        return Contender(self.name, [{"kind": kind} for kind in self.seconds], self.opens)


def absent(name: str) -> Contender:
    def opens(setting: Any) -> Iterator[Any]:
        raise MissingError("pip install it")

    return Contender(name, [{}], opens)  # pyright: ignore[reportArgumentType]


def scripted(said: list[str], rounds: int = 3, quick: bool = False) -> dict[str, Any]:
    ours = Scripted(OURS, {"only": 1.0}, said).contender()
    peer = Scripted("peer", {"slow": 9.0, "broken": -1.0, "fast": 4.0}, said).contender()
    comparison = Comparison(
        "work", "things/s", "higher", (ours, peer, absent("gone")), (Target("peer", 4.5, 2.0),)
    )
    return compare(comparison, Options(rounds=rounds, quick=quick), PEAKS)


def test_a_peer_enters_with_its_best_setting_and_all_that_was_tried_is_kept():
    peer = scripted([])["contenders"][1]
    assert peer["setting"] == {"kind": "fast"}
    # Round 1 is 1.1 times as slow: 10 / 9.9 and 10 / 4.4.
    assert [trial.get("value") for trial in peer["searched"]] == pytest.approx(
        [1 / 0.99, None, 1 / 0.44]
    )
    assert peer["searched"][1]["refused"] == "ValueError: cannot do that"


def test_contenders_alternate_and_the_order_turns():
    said: list[str] = []
    scripted(said)
    assert said[-8:] == [
        f"{OURS}0", "peer0", f"{OURS}1", "peer1", "peer2", f"{OURS}2", f"{OURS}3", "peer3",
    ]  # fmt: skip


def test_medians_extremes_ratio_and_shares_of_the_limits():
    found = scripted([])
    ours, peer = found["contenders"]
    # Rounds 1, 2, 3 take 1.1, 1.2, 1.0 seconds; 10 things each.
    assert ours["samples"] == pytest.approx([10 / 1.1, 10 / 1.2, 10.0])
    assert [ours[key] for key in ("median", "min", "max")] == pytest.approx(
        [10 / 1.1, 10 / 1.2, 10.0]
    )
    assert ours["share_of_matmul"] == pytest.approx(500 / 1.1 / 100)
    assert peer["share_of_bandwidth"] == pytest.approx(20 / 4.4 / 10)
    assert found["ratios"]["peer"]["ratio"] == pytest.approx(4.0)
    assert found["missing"] == {"gone": "pip install it"}
    assert table.verdict(found["ratios"]["peer"]["ratio"], 4.5, 2.0) == "floor met"


@pytest.mark.parametrize(
    ("ours", "chosen"),
    [
        # Seconds and memory of each of our settings; the peer's best takes 4 of it.
        ({"fast": (1.0, 9), "fair": (2.0, 4), "small": (3.0, 1)}, "fair"),
        ({"fast": (1.0, 9), "slow": (2.0, 5)}, "slow"),
        ({"fast": (1.0, 3), "small": (2.0, 1)}, "fast"),
    ],
)
@pytest.mark.parametrize("unit", ["higher", "lower"])
def test_ours_takes_no_more_than_the_peer_at_its_best(ours, chosen, unit):
    def contender(name: str, settings: dict[str, tuple[float, int]]) -> Contender:
        def opens(setting: Any) -> Any:
            seconds, memory = settings[setting["kind"]]
            return ready(lambda _: Work(1, seconds, details={"memory": memory}))

        return Contender(name, [{"kind": kind} for kind in settings], opens)

    peer = contender("peer", {"hungry": (6.0, 8), "best": (5.0, 4)})
    comparison = Comparison(
        "work", "", unit, (contender(OURS, ours), peer), (Target("peer", 2.0, 1.0),), {}, "memory"
    )
    mine, theirs = compare(comparison, Options(rounds=3), PEAKS)["contenders"]
    assert (mine["setting"], theirs["setting"]) == ({"kind": chosen}, {"kind": "best"})


def test_a_quick_run_tries_one_setting():
    assert scripted([], quick=True)["contenders"][1]["setting"] == {"kind": "slow"}


def test_the_tables_say_what_the_results_say():
    found = scripted([])
    found["contenders"][0]["details"]["peak_gib"] = 9.0
    found["contenders"][1]["details"]["peak_gib"] = 8.0
    found["describes"] = {"memory_floor_gib": 12}
    environment = {"date": "2026-11-24", "commit": "abc", "changed": False, "device": "cpu"}
    environment |= {"processor": "x", "threads": 2, "packages": {"torch": "2", "transformers": "5"}}
    result = {"environment": environment, "peaks": PEAKS, "comparisons": [found], "quick": False}
    results = {"sft": result}
    summary = table.summary(results)
    line = "| work | 9.091 things/s | peer: 2.273 things/s | **4.00×** [4.00, 4.00] | 4.5× / 2× | floor met |"
    assert line in summary
    # Within 12 GiB, and yet more than the peer.
    assert "| 9 GiB | peer: 8 GiB | – | at most 8 GiB | **missed** |" in summary
    text = "before\n<!-- results: sft -->\nold\n<!-- end of results -->\nafter"
    new = table.page(text, results)
    assert "old" not in new
    assert (
        "| peer | 2.273 [2.083, 2.5] | 4.00× | 8 | 114 % | 45.5 % | kind fast (of 3, 1 refused) |"
        in new
    )
    assert "gone was left out: pip install it." in new
    assert table.page(new, results) == new


# ---- counting -----------------------------------------------------------------------------------

TINY = Cost(
    layers=2, width=4, vocabulary=10, heads=2, key_value_heads=1, head_width=4, feed_forward=5
)
# q 4x8, k and v 4x4 each, o 8x4: 96; gate, up and down 4x5 each: 60. Two layers: 312 weights.


def test_operations_of_a_row_by_hand():
    assert TINY.trunk_weights == 312
    # 3 tokens x 2 x 312, and attention over 1 + 2 + 3 tokens x 4 x 8 channels x 2 layers.
    assert TINY.row(3) == 3 * 624 + 6 * 64
    assert TINY.row(3, start=1) == 2 * 624 + 5 * 64
    assert TINY.row(3) == TINY.row(1) + TINY.row(3, start=1)


def test_operations_and_bytes_of_a_rollout_by_hand():
    # Prompt of 2, 2 sampled: tokens 0 to 2 are read, the head is applied twice.
    assert TINY.rollout([2], [2]) == TINY.row(3) + 2 * 80
    one, shared = TINY.rollout([2, 2], [2, 2]), TINY.rollout([2], [2, 2], shared=True)
    assert one - shared == TINY.row(2)
    # Two steps read 312 + 40 weights each; rows of 3 and 4 tokens read 2 x 2 x 1 x 4 numbers a token.
    assert TINY.decode_bytes([2], [2], bytes_each=4) == 4 * (2 * 352 + 16 * (3 + 4))


def test_operations_of_training_by_hand():
    whole = TINY.row(3) + 2 * 80
    assert TINY.training([3], 2) == 3 * whole
    assert TINY.training([3], 2, frozen=True, teachers=1) == 3 * whole


def test_operations_of_a_row_are_what_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=10, hidden_size=4, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, intermediate_size=5, max_position_embeddings=64,
    )  # fmt: skip
    assert Cost.of(config) == TINY
    model = Qwen3ForCausalLM(config).eval()
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.get_decoder()(input_ids=torch.zeros(1, 16, dtype=torch.long), use_cache=False)
    # Eager attention reads the future too: 16 x 16 in place of 16 x 17 / 2, and nothing else differs.
    full = TINY.row(16) + 64 * (16 * 16 - 16 * 17 / 2)
    rotary = counter.get_total_flops() - full
    assert 0 <= rotary <= 2 * 16 * 2  # angles: frequencies by positions


# ---- memory and machine -------------------------------------------------------------------------


def allocate(mebibytes: int, threads: int) -> dict[str, int]:
    """In a child: hold some memory for a moment."""
    with peak_memory() as peak:
        held = np.ones(mebibytes << 20, np.uint8)
        del held
    return {"above": peak.above, "threads": torch.get_num_threads()}


@pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark is the Linux kernel's")
def test_a_child_reports_its_own_peak():
    found = in_child("tests.test_benchmarks:allocate", threads=1, mebibytes=200)
    assert 199 << 20 <= found["above"] < 210 << 20
    assert found["threads"] == 1


def test_a_child_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no_such_function"):
        in_child("benchmarks.kl:no_such_function", threads=1)


def test_peaks_are_measured():
    peaks = measure_peaks(QUICK)
    assert peaks.keys() == PEAKS.keys()
    assert all(1e8 < peak < 1e16 for peak in peaks.values())


# ---- the parts ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_parts_run_without_peers(tmp_path: Path):
    parts = ["rollout", "sft", "opd", "grpo", "evaluation", "growth"]
    arguments = [*parts, "--quick", "--alone", "--threads", "1", "--rounds", "1"]
    assert run.main([*arguments, "--out", str(tmp_path)]) == 0
    for part in parts:
        result = json.loads((tmp_path / f"{part}.json").read_text())
        assert result["quick"] is True
        assert result["environment"]["threads"] == 1
        for comparison in result.get("comparisons", []):
            (ours,) = comparison["contenders"]
            assert ours["name"] == OURS
            assert ours["median"] > 0
            assert ours["share_of_matmul"] if part in ("rollout", "sft", "opd", "grpo") else True
    assert len(json.loads((tmp_path / "growth.json").read_text())["curves"]) == 4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_kl_is_the_same_number(precision: str):
    """Ours has other hidden states; the others share theirs, and none of them is nothing."""
    sizes = [512, 256, 16]
    names = ["unchunked", "plain chunks of 128"]
    if importlib.util.find_spec("trl"):
        names.append("TRL chunked kernel")
    losses = [kl.once(name, precision, sizes, threads=1)["loss"] for name in names]
    assert losses == pytest.approx(
        [losses[0]] * len(losses), rel=0.02 if precision == "bf16" else 1e-5
    )
    assert losses[0] > 0.01
    assert kl.once(OURS, precision, sizes, threads=1)["loss"] > 0.01


def test_what_is_no_part_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        run.main(["rollouts"])
    assert stopped.value.code == 2
    assert "no part rollouts; there are rollout, sft" in capsys.readouterr().err


def test_without_a_gpu_nothing_is_measured_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run.main(["sft", "--device", "cuda", "--threads", "1"]) == 0
    assert "no GPU here" in capsys.readouterr().err


def test_plots_are_the_same_bytes_and_say_the_slopes(tmp_path: Path):
    points = [{"x": x, "median": 8.0 / x, "min": 7.0 / x, "max": 9.0 / x} for x in (1, 2, 4)]
    lines = [{"what": w, "points": points, "slope": -1.0} for w in ("rollouts", "training")]
    result = {"curves": [{"against": "batch", "lines": lines}]}
    (tmp_path / "again").mkdir()
    (first,), (second,) = plots.draw(result, tmp_path), plots.draw(result, tmp_path / "again")
    assert first.name == "growth-batch.svg"
    assert first.read_bytes() == second.read_bytes()
    assert "rollouts, slope -1.00" in first.read_text("utf-8").replace("−", "-")
    assert "| batch | training | -1.00 | 1: 8, 2: 4, 4: 2 |" in table.growth(result)
