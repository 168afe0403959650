"""Pretraining continues, and ends, as every other training does."""

from __future__ import annotations

import json

import pytest
import torch

from statewise.errors import DivergedError
from statewise.jobs import pretrain as module
from statewise.jobs.pretrain import Recipe, pretrain
from statewise.random_model import Shape

SHAPE = Shape(
    vocabulary=320,
    context_tokens=320,
    width=16,
    layers=1,
    heads=2,
    key_value_heads=1,
    head_width=8,
    feed_forward=16,
)
RECIPE = Recipe(shape=SHAPE, documents_per_step=2, steps=4, warmup_steps=0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A tokenizer of few documents, and no evaluation."""
    monkeypatch.setattr(module, "TOKENIZER_DOCUMENTS", 300)
    monkeypatch.setattr(module, "dev_figures", lambda *_: {})


def killed_at(step, seen):
    def watch(row, _steps):
        seen.append(row.step)
        if row.step == step:
            raise KeyboardInterrupt

    return watch


def test_rows_lost_behind_a_checkpoint_take_pretraining_back(tmp_path):
    seen, work = [], tmp_path / ".base.work"
    for lose in (False, False, True):
        rows = work / "metrics.jsonl"
        if lose:
            rows.write_text("".join(rows.read_text().splitlines(keepends=True)[1:]))
        with pytest.raises(KeyboardInterrupt):
            pretrain(RECIPE, tmp_path / "base", checkpoint_every_steps=1, watch=killed_at(3, seen))
    assert seen == [1, 2, 3, 3, 1, 2, 3]
    state = json.loads((work / "checkpoint" / "state.json").read_text())
    assert state == {"step": 2, "rows": {"metrics.jsonl": 2}}


def test_pretraining_that_ends_in_no_policy_writes_none(tmp_path, monkeypatch):
    real = module.train

    def train(arm, student, *args, **kwargs):
        for row in real(arm, student, *args, **kwargs):
            if row.step == arm.steps:
                with torch.no_grad():
                    student.module.model.norm.weight.fill_(torch.nan)
            yield row

    monkeypatch.setattr(module, "train", train)
    with pytest.raises(DivergedError, match=r"model\.norm\.weight holds numbers .* smaller"):
        pretrain(RECIPE, tmp_path / "base", watch=lambda *_: None)
    assert not (tmp_path / "base").exists()
