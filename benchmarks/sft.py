"""Supervised fine-tuning: supervised tokens a second, sampling nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import peer_trl, workload
from benchmarks.harness import OURS, Comparison, Contender, Options, Run, Setting, Target, Work, now
from statewise.arms import Arm, Budget, sft
from statewise.data import Prompts
from statewise.train import make_optimizer, train

WARM_STEPS = 1


def comparisons(options: Options) -> list[Comparison]:
    """One: everyone chooses how many rows make an update, and the precision."""
    size = 16 if options.quick else 1024
    reader = workload.policy(options)
    prompts = workload.demonstrations(reader, size)
    gold = workload.gold(reader, prompts.items)
    lengths = [len(p.token_ids) + len(g) for p, g in zip(prompts.items, gold, strict=True)]
    sizes = Sizes(sum(lengths) / size, sum(map(len, gold)) / size)
    contenders = [_ours(prompts, sizes, options)]
    if options.peers:
        contenders.append(_trl(workload.ids(prompts.items), gold, sizes, options))
    return [
        Comparison(
            "SFT",
            "tokens/s",
            "higher",
            contenders,
            (Target("TRL SFTTrainer", 3.0, 2.5),),
            {
                "rows": size,
                "row_tokens_mean": sizes.row,
                "supervised_tokens_mean": sizes.supervised,
            },
        )
    ]


def _rows(options: Options) -> tuple[int, ...]:
    return (8,) if options.quick else (32, 8, 128)


def _steps(rows: int, options: Options) -> int:
    """Steps of a round: 512 rows, or 8 in a quick run; and one that does not count."""
    return max(2, (8 if options.quick else 512) // rows) + WARM_STEPS


def _ours(prompts: Prompts, sizes: Sizes, options: Options) -> Contender:
    settings = [
        {"rows": rows, "precision": precision}
        for precision in ("bf16", "fp32")
        for rows in _rows(options)
        if rows != 8 or options.quick
    ]

    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        student = workload.policy(options, precision=setting["precision"])
        budget = Budget(peer_trl.LEARNING_RATE, steps=_steps(setting["rows"], options))
        arm = Arm.of("sft", sft(), prompts, budget, prompts_per_step=setting["rows"])

        def run(seed: int) -> Work:
            steps = train(arm, student, make_optimizer(student, budget), seed=seed)
            for _ in range(WARM_STEPS):
                next(steps)
            began = now(options.device)
            tokens = sum(int(row.figures["tokens_trained"]) for row in steps)
            return _work(tokens, now(options.device) - began, sizes, setting["precision"], options)

        yield run

    return Contender(OURS, settings, opens)


def _trl(
    prompts: Sequence[list[int]], gold: Sequence[list[int]], sizes: Sizes, options: Options
) -> Contender:
    plain = [
        {"rows": rows, "packing": 0, "bf16": bf16, "padding_free": False}
        for bf16 in (True, False)
        for rows in _rows(options)
    ]
    # Without padding an update is one row, or rows of `packing` tokens, under a mask that is their square on a
    # CPU: with 32 and 128 rows these were tried and are slower still.
    packed = [
        {"rows": 8, "packing": packing, "bf16": True, "padding_free": True}
        for packing in (0, 320, 1024)
    ]
    settings = plain + packed

    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        trl = peer_trl.require()
        with peer_trl.folder() as place, peer_trl.quiet():
            packing = setting["packing"]
            share = max(1, round(packing / sizes.row)) if packing else 1
            arguments = trl.SFTConfig(
                **peer_trl.common(options, place),
                max_steps=_steps(setting["rows"], options),
                per_device_train_batch_size=max(1, setting["rows"] // share),
                packing=bool(packing),
                padding_free=setting["padding_free"],
                max_length=packing or None,
                bf16=setting["bf16"],
                gradient_checkpointing=False,
                completion_only_loss=True,
            )
            trainer = trl.SFTTrainer(
                model=workload.model(options),
                args=arguments,
                train_dataset=peer_trl.rows(
                    {
                        "input_ids": [p + g for p, g in zip(prompts, gold, strict=True)],
                        "completion_mask": [
                            [0] * len(p) + [1] * len(g) for p, g in zip(prompts, gold, strict=True)
                        ],
                    }
                ),
                processing_class=peer_trl.tokenizer(options),
            )
        clock = peer_trl.Clock(options.device)
        trainer.add_callback(clock)
        peer_trl.watch_labels(trainer, clock)

        def run(seed: int) -> Work:
            trainer.args.data_seed = seed
            _, seconds, tokens = peer_trl.train(trainer, clock)
            precision = "bf16" if setting["bf16"] else "fp32"
            return _work(int(tokens), seconds, sizes, precision, options)

        yield run

    return Contender("TRL SFTTrainer", settings, opens)


@dataclass(frozen=True)
class Sizes:
    """Mean tokens of a row, and those of them that are learnt."""

    row: float
    supervised: float


def _work(tokens: int, seconds: float, sizes: Sizes, precision: str, options: Options) -> Work:
    rows = round(tokens / sizes.supervised)
    return Work(
        tokens,
        seconds,
        flops=workload.cost(options).training([round(sizes.row)] * rows, tokens),
        dtype=precision,
        details={"row_tokens_per_second": rows * sizes.row / seconds},
    )
