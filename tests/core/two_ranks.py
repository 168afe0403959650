"""One rank of a data-parallel update: runs in a process of its own (see test_ranks.py).

python two_ranks.py RANK FOLDER
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

SHARES = {
    "interleaved": ([0, 2], [1, 3]),
    "uneven": ([3], [0, 1, 2]),
    "nothing": ([], [0, 1, 2, 3]),
}
"""Which rows of a minibatch each rank holds, by the name of the split."""


def main(rank: int, folder: Path) -> None:
    from enumerable import gradient
    from test_gradient import cases

    from statewise.ranks import sum_gradients

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    found = {}
    for name, (student, minibatch) in cases().items():
        for split, rows in SHARES.items():
            mine = [
                rollout.select([i for i in rows[rank] if i < len(rollout.trajectories)])
                for rollout in minibatch
            ]
            loss, grads = gradient(student, *mine, tokens_per_microbatch=9)
            for key, parameter in student.trainable_parameters():
                parameter.grad = grads.get(key)
            parameters = [p for _, p in student.trainable_parameters()]
            sum_gradients(parameters)
            found[name, split] = (loss, {k: p.grad for k, p in student.trainable_parameters()})
            student.module.zero_grad(set_to_none=True)
    torch.save(found, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
