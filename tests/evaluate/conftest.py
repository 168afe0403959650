"""Tiny random Qwen3 policies with a byte-level BPE tokenizer, and small benchmark files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from statewise.policy import Policy

EOS, PAD = "<|eos|>", "<|pad|>"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A second thread gains nothing at this size, and costs fifty times on a busy core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def byte_bpe(texts: Iterable[str], vocabulary: int = 512) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD)


def tiny_policy(
    texts: Iterable[str], *, dtype: torch.dtype = torch.float64, context_tokens: int = 4096
) -> Policy:
    """Random weights, drawn wide: a narrow draw is near uniform, and every argmax a near-tie."""
    tokenizer = byte_bpe(texts)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=context_tokens,
        initializer_range=0.2,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = Qwen3ForCausalLM(config)
    return Policy(module.to(dtype).eval(), tokenizer, name="tiny")


@pytest.fixture(scope="session")
def policy() -> Policy:
    words = (
        "Question: how many apples? Answer: 2 + 3 = 5, so five apples. #### 5\nA. B. C. D. Q: A:"
    )
    return tiny_policy([words] * 20)


GSM8K = [
    {
        "question": f"What is {n} plus {n}?",
        "answer": f"It is <<{n}+{n}={2 * n}>>{2 * n}.\n#### {2 * n}",
    }
    for n in range(1, 8)
]
TRUTHFULQA = [
    {
        "question": f"Is {n} a number?",
        "mc1_targets": {"Yes.": 1, "No.": 0, "Nobody knows.": 0},
        "mc2_targets": {"Yes.": 1, "It is.": 1, "No.": 0},
    }
    for n in range(5)
]
SUBJECTS = ("anatomy", "virology")
MMLU = [
    [subject, f"Which is {n}?\nChoose.", "None", "1, 2", 'a "b"', "d", "ABCD"[n % 4]]
    for subject in SUBJECTS
    for n in range(6)
]

WriteData = Callable[..., Path]


@pytest.fixture
def write_data(tmp_path: Path) -> WriteData:
    """Write a folder of benchmark files; keywords replace the rows or the text of one file."""

    def write(
        *, gsm8k_test: str | None = None, mc_task: str | None = None, mmlu_test: str | None = None
    ) -> Path:
        for folder in ("gsm8k", "truthfulqa/v1", "mmlu"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in GSM8K)
        (tmp_path / "gsm8k/train.jsonl").write_text(lines)
        (tmp_path / "gsm8k/test.jsonl").write_text(lines if gsm8k_test is None else gsm8k_test)
        (tmp_path / "truthfulqa/v1/mc_task.json").write_text(
            json.dumps(TRUTHFULQA) if mc_task is None else mc_task, encoding="utf-8-sig"
        )
        for stem in ("dev", "val", "test"):
            with (tmp_path / f"mmlu/{stem}.csv").open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["subject", "question", *"ABCD", "answer"])
                writer.writerows(MMLU)
        if mmlu_test is not None:
            (tmp_path / "mmlu/test.csv").write_text(mmlu_test)
        return tmp_path

    return write
