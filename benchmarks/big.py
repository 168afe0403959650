"""A model of Qwen3-0.6B's shape with an adapter: SFT and OPD steps at 512 tokens, time and peak memory.

Each round is a process of its own that loads, takes one step to warm up, and is timed on the next. Memory is the
most that the whole process ever held, and of our settings the fastest enters that takes no more of it than the
peer's fastest. The frozen weights are bfloat16 on either side, the adapter float32. Weights are random: what they
say does not change what they cost.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from benchmarks import peer_trl, workload
from benchmarks.child import in_child, peak_memory
from benchmarks.cost import Cost
from benchmarks.harness import OURS, Comparison, Contender, Options, Run, Setting, Target, Work

Method = Literal["sft", "opd"]
ROWS, RANK, ALPHA = 2, 16, 32
TOKENS = {"sft": (128, 384), "opd": (384, 128)}
"""Tokens of a prompt and of what follows it: 512 a row. OPD samples the latter."""
QUICK = {"sft": (24, 24), "opd": (24, 8)}
GIBIBYTE = 1 << 30
MEMORY_FLOOR_GIB = 12


def comparisons(options: Options) -> list[Comparison]:
    """SFT, then OPD."""
    sizes = QUICK if options.quick else TOKENS
    made: list[Comparison] = []
    for method, peer in (("sft", "TRL SFTTrainer"), ("opd", "TRL DistillationTrainer")):
        contenders = [_contender(OURS, method, _settings(), sizes[method], options)]
        if options.peers:
            contenders.append(_contender(peer, method, _settings(), sizes[method], options))
        made.append(
            Comparison(
                f"Qwen3-0.6B shape, {method.upper()}, LoRA",
                "tokens/s",
                "higher",
                contenders,
                (Target(peer, 1.5, 1.1),),
                {
                    "rows": ROWS,
                    "prompt_tokens": sizes[method][0],
                    "completion_tokens": sizes[method][1],
                    "memory_floor_gib": MEMORY_FLOOR_GIB,
                },
                no_more="peak_gib",
            )
        )
    return made


def _settings() -> list[dict[str, Any]]:
    """For either side. Checkpointing computes the forward pass twice, so it is no candidate for the fastest.

    Weights in float32 take half as much memory again on either side (docs/LOG.md).
    """
    return [{"weights": "bf16", "precision": "bf16", "microbatch": rows} for rows in (ROWS, 1)]


def _contender(
    name: str, method: str, settings: list[dict[str, Any]], tokens: Sequence[int], options: Options
) -> Contender:
    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        if name != OURS:
            peer_trl.require()
        places = [workload.location("cpu")] * 2
        if not options.quick:
            places = [workload.big_model(seed=0), workload.big_model(seed=1)]

        def run(seed: int) -> Work:
            found = in_child(
                "benchmarks.big:once",
                threads=options.threads,
                name=name,
                method=method,
                setting=dict(setting),
                tokens=list(tokens),
                places=places,
                seed=seed,
            )
            return Work(
                found["tokens"],
                found["seconds"],
                flops=_flops(places[0], method, found["lengths"], int(found["states"])),
                dtype=setting["precision"],
                details={
                    "peak_gib": found["peak"] / GIBIBYTE,
                    "seconds_per_step": found["seconds"],
                },
            )

        yield run

    return Contender(name, settings, opens)


def _flops(place: str, method: str, lengths: list[int], states: int) -> float:
    from transformers import AutoConfig

    cost = Cost.of(AutoConfig.from_pretrained(place))
    flops = cost.training(lengths, states, frozen=True, teachers=int(method == "opd"))
    if method == "opd":
        each = states // len(lengths)
        flops += cost.rollout([length - each for length in lengths], [each] * len(lengths))
    return flops


# ---- in the child -------------------------------------------------------------------------------------


def once(
    name: str,
    method: Method,
    setting: dict[str, Any],
    tokens: list[int],
    places: list[str],
    seed: int,
    threads: int,
) -> dict[str, Any]:
    """Load, warm up, time one step. Tokens are those of the rows, prompts included."""
    step = _our_step if name == OURS else _their_step
    with peak_memory() as peak:
        seconds, lengths, states = step(method, setting, tokens, places, seed)
    return {
        "seconds": seconds,
        "tokens": sum(lengths),
        "lengths": lengths,
        "states": states,
        "peak": peak.whole,
    }


def _texts(reader: Any, tokens: Sequence[int]) -> list[tuple[str, str]]:
    """Prompts and completions of about these many tokens, cut out of the world's demonstrations."""
    found = []
    items = iter(workload.demonstrations(reader, 512).items)
    for _ in range(2 * ROWS):
        parts = []
        for count in tokens:
            ids: list[int] = []
            while len(ids) < count:
                item = next(items)
                ids += reader.to_ids(f"{item.text}{item.reference}\n").tolist()
            parts.append(reader.to_text(ids[:count]))
        found.append((parts[0], parts[1]))
    return found


def _our_step(
    method: Method, setting: dict[str, Any], tokens: list[int], places: list[str], seed: int
) -> tuple[float, list[int], int]:
    from statewise import arms
    from statewise.arms import Arm, Budget
    from statewise.data import Prompts
    from statewise.policy import Lora
    from statewise.train import make_optimizer, train
    from statewise.trajectory import Prompt

    base = _policy(places[0], "student", setting)
    student = base.with_adapter(Lora(RANK, ALPHA), seed=0)
    # What is sampled must be as long as what the peer samples: nothing stops before its limit.
    student.stop_token_ids = frozenset()
    prompts = Prompts(
        [
            Prompt(str(i), text, student.to_ids(text), gold)
            for i, (text, gold) in enumerate(_texts(student, tokens))
        ]
    )
    budget = Budget(1e-6, steps=2, tokens_per_microbatch=setting["microbatch"] * (sum(tokens) + 8))
    if method == "sft":
        arm = Arm.of("sft", arms.sft(), prompts, budget, prompts_per_step=ROWS)
    else:
        teacher = _policy(places[1], "teacher:other", setting)
        teacher.module.requires_grad_(False)
        arm = Arm.of(
            "opd",
            arms.opd(teacher=teacher, max_new_tokens=tokens[1]),
            prompts,
            budget,
            prompts_per_step=ROWS,
        )
    steps = train(arm, student, make_optimizer(student, budget), seed=seed)
    next(steps)
    began = time.perf_counter()
    row = next(steps)
    seconds = time.perf_counter() - began
    states = int(row.figures["tokens_trained"])
    mean = round(sum(len(p.token_ids) for p in prompts.items) / len(prompts.items) + states / ROWS)
    return seconds, [mean] * ROWS, states


def _policy(place: str, name: str, setting: dict[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from statewise.policy import Policy

    module = AutoModelForCausalLM.from_pretrained(place, dtype=workload.DTYPES[setting["weights"]])
    tokenizer = AutoTokenizer.from_pretrained(place)
    return Policy(module.eval(), tokenizer, name=name, precision=setting["precision"])


def _their_step(
    method: Method, setting: dict[str, Any], tokens: list[int], places: list[str], seed: int
) -> tuple[float, list[int], int]:
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from statewise.policy import Policy

    trl = peer_trl.require()
    tokenizer = AutoTokenizer.from_pretrained(places[0], padding_side="left")
    dtype = workload.DTYPES[setting["weights"]]
    model: Any
    model, other = (
        AutoModelForCausalLM.from_pretrained(place, dtype=dtype) if wanted else None
        for place, wanted in zip(places, (True, method == "opd"), strict=True)
    )
    reader = Policy(model, tokenizer, name="reader")
    texts = _texts(reader, tokens)
    adapter = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    options = Options()
    with peer_trl.folder() as place, peer_trl.quiet():
        arguments = peer_trl.common(
            options,
            place,
            max_steps=2,
            per_device_train_batch_size=setting["microbatch"],
            gradient_accumulation_steps=ROWS // setting["microbatch"],
            gradient_checkpointing=False,
            bf16=setting["precision"] == "bf16",
            data_seed=seed,
        )
        clock = peer_trl.Clock("cpu")
        if method == "sft":
            pairs = [(reader.to_ids(a).tolist(), reader.to_ids(b).tolist()) for a, b in texts]
            trainer = trl.SFTTrainer(
                model=model,
                args=trl.SFTConfig(**arguments, max_length=None, completion_only_loss=True),
                train_dataset=peer_trl.rows(
                    {
                        "input_ids": [[*a, *b, tokenizer.eos_token_id] for a, b in pairs],
                        "completion_mask": [[0] * len(a) + [1] * (len(b) + 1) for a, b in pairs],
                    }
                ),
                processing_class=tokenizer,
                peft_config=adapter,
            )
            peer_trl.watch_labels(trainer, clock)
        else:
            trainer = trl.DistillationTrainer(
                model=model,
                teacher_model=other,
                args=trl.DistillationConfig(
                    **arguments,
                    beta=1.0,
                    temperature=1.0,
                    top_k=0,
                    max_completion_length=tokens[1],
                    generation_kwargs={"min_new_tokens": tokens[1]},
                ),
                train_dataset=peer_trl.rows({"prompt": [a for a, _ in texts]}),
                processing_class=tokenizer,
                peft_config=adapter,
            )
            peer_trl.watch_completions(trainer, clock)
        trainer.add_callback(clock)
        _, seconds, states = peer_trl.train(trainer, clock)
    mean = round(sum(len(reader.to_ids(a)) for a, _ in texts) / len(texts) + states / ROWS)
    return seconds, [mean] * ROWS, int(states)
