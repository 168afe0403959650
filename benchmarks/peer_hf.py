"""transformers as a sampler: `generate` in batches, and continuous batching by `generate_batch`.

Both return every sampled token's log-prob, as ours does, the way their documentation says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from benchmarks import workload
from benchmarks.harness import Contender, Options, Run, Setting, Work, now


def generate_settings(rows: int) -> list[dict[str, Any]]:
    """Batches of a share of the rows, either cache, either type of weights."""
    sizes = sorted({size for size in (32, 64, 128, 256) if size <= rows} or {rows}, reverse=True)
    return [
        {"batch": batch, "cache": cache, "weights": dtype}
        for dtype in workload.PRECISIONS
        for cache in ("dynamic", "static")
        for batch in sizes
    ]


def generate(
    prompts: Sequence[Sequence[int]], each: int, new_tokens: int, options: Options
) -> Contender:
    """`generate`, prompts sorted by length into batches, `each` samples of a prompt side by side."""

    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        model, tokenizer = _load(options, setting)
        rows = [list(p) for p in prompts for _ in range(each)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
        batches = [order[i : i + setting["batch"]] for i in range(0, len(rows), setting["batch"])]
        config = GenerationConfig(
            **_sampling(tokenizer, new_tokens),
            cache_implementation="static" if setting["cache"] == "static" else None,
            return_dict_in_generate=True,
            output_scores=True,
            disable_compile=not options.cuda,  # compiling for the CPU takes longer than the work
        )

        def run(seed: int) -> Work:
            torch.manual_seed(seed)
            lengths = [0] * len(rows)
            began = now(options.device)
            for batch in batches:
                # The tokenizer pads (on the left), as a user's would.
                padded = tokenizer.pad(
                    {"input_ids": [rows[i] for i in batch]}, return_tensors="pt"
                ).to(options.device)
                out = model.generate(**padded, generation_config=config)
                logprobs = model.compute_transition_scores(
                    out.sequences, out.scores, normalize_logits=True
                )
                written = out.sequences[:, padded["input_ids"].shape[1] :]
                assert logprobs.shape == written.shape
                for i, length in zip(batch, _lengths(written, tokenizer.eos_token_id), strict=True):
                    lengths[i] = length
            seconds = now(options.device) - began
            return rollout_work(
                [len(p) for p in prompts], lengths, seconds, setting["weights"], options
            )

        yield run

    return Contender("transformers generate", generate_settings(len(prompts) * each), opens)


def generate_batch(
    prompts: Sequence[Sequence[int]], each: int, new_tokens: int, options: Options
) -> Contender:
    """Continuous batching, its memory and batch set by hand: on a CPU it cannot find them itself."""
    rows = [list(p) for p in prompts for _ in range(each)]
    settings = [
        {"requests": n, "batch_tokens": tokens, "weights": dtype}
        for dtype in workload.PRECISIONS
        for n, tokens in ((64, 1024), (256, 4096))
        if n <= len(rows)
    ] or [{"requests": len(rows), "batch_tokens": 1024, "weights": "fp32"}]

    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        model, tokenizer = _load(options, setting)
        page = 32
        longest = max(map(len, rows)) + new_tokens
        batching = ContinuousBatchingConfig(
            page_size=page,
            num_blocks=setting["requests"] * (longest // page + 2),
            max_batch_tokens=setting["batch_tokens"],
            max_requests_per_batch=setting["requests"],
            return_logprobs=True,
        )
        config = GenerationConfig(**_sampling(tokenizer, new_tokens))

        def run(seed: int) -> Work:
            torch.manual_seed(seed)
            began = now(options.device)
            found = model.generate_batch(
                inputs=rows, generation_config=config, continuous_batching_config=batching
            )
            seconds = now(options.device) - began
            if len(found) != len(rows):
                raise RuntimeError(f"generate_batch answered {len(found)} of {len(rows)} requests")
            # Answers come as they finish; a request's number is the last part of its name.
            answers = [
                found[key] for key in sorted(found, key=lambda k: int(str(k).split("_")[-1]))
            ]
            lengths = [len(answer.generated_tokens) for answer in answers]
            return rollout_work(
                [len(p) for p in prompts], lengths, seconds, setting["weights"], options
            )

        yield run

    return Contender("transformers generate_batch", settings, opens)


def _load(options: Options, setting: Setting) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(
        workload.location(options.device), padding_side="left"
    )
    return workload.model(options, dtype=setting["weights"]), tokenizer


def _sampling(tokenizer: Any, new_tokens: int) -> dict[str, Any]:
    return {
        "max_new_tokens": new_tokens,
        "do_sample": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,  # its default is 50
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _lengths(written: torch.Tensor, eos: int) -> list[int]:
    """Tokens of each row up to its stop token, that one included; padding after it does not count.

    >>> _lengths(torch.tensor([[7, 2, 0], [7, 7, 7], [2, 2, 0]]), eos=2)
    [2, 3, 1]
    """
    ended = written == eos
    first = ended.int().argmax(1) + 1
    return torch.where(ended.any(1), first, written.shape[1]).tolist()


def rollout_work(
    prompts: Sequence[int], lengths: Sequence[int], seconds: float, dtype: str, options: Options
) -> Work:
    """What a rollout was worth: its tokens, and the least operations and bytes for these very lengths."""
    cost = workload.cost(options)
    return Work(
        amount=sum(lengths),
        seconds=seconds,
        flops=cost.rollout(prompts, lengths, shared=len(lengths) > len(prompts)),
        bytes_read=cost.decode_bytes(prompts, lengths, bytes_each=2 if dtype == "bf16" else 4),
        dtype=dtype,
        details={
            "tokens": sum(lengths),
            "mean_tokens": sum(lengths) / len(lengths),
            "longest": max(lengths),
        },
    )
