"""Two processes with a share of the rows each give the gradient of one process with them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from enumerable import assert_same, gradient
from test_gradient import CASES, cases
from two_ranks import SHARES

import statewise
from statewise.arms import Arm, Budget, sft
from statewise.data import JsonLines
from statewise.errors import ConfigError
from statewise.train import train

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    """What each rank found: loss and summed gradient, by case and split."""
    folder = tmp_path_factory.mktemp("ranks")
    paths = [str(HERE), str(Path(statewise.__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(HERE / "two_ranks.py")]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(folder)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    try:
        # One that dies leaves the other waiting for it: no longer than its timeout, and never behind us.
        told = [process.communicate(timeout=300)[1] for process in running]
        assert [process.returncode for process in running] == [0, 0], "\n".join(told)
    finally:
        for process in running:
            process.kill()
            process.wait()
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("split", SHARES)
@pytest.mark.parametrize("name", CASES)
def test_gradient_does_not_depend_on_the_number_of_ranks(name, split, ranks):
    student, minibatch = cases()[name]
    loss, whole = gradient(student, *minibatch)
    for found in ranks:
        summed, grads = found[name, split]
        assert abs(summed - loss) < 1e-12
        # The divisor of a share is a sum in another order: exact where the sums are, as they are here.
        assert_same(grads, whole, atol=1e-12)


def test_train_refuses_several_ranks(monkeypatch):
    """Each would walk the same prompts, and the sum of their gradients be a multiple of one."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    student, _ = cases()["sft, token"]
    arm = Arm.of(
        "arm", sft(), JsonLines("never-read.jsonl"), Budget(0.1, steps=1), prompts_per_step=1
    )
    optimizer = torch.optim.SGD([p for _, p in student.trainable_parameters()], lr=0.1)
    with pytest.raises(ConfigError, match="train runs in one process, found 2 ranks"):
        next(train(arm, student, optimizer, seed=0))
