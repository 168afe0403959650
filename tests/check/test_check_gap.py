"""The sampler against the trainer: planted gaps are told."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from one_arm import (
    by_name,
    opened,
    taught,
)

from statewise.check import gap
from statewise.check.finding import Line, Skip
from statewise.check.gap import sampler_gap
from statewise.sources import Learner


@pytest.mark.parametrize(
    ("planted", "status"), [(0.0, "pass"), (0.005, "warn"), (0.3, "fail"), (math.nan, "fail")]
)
def test_a_gap_between_sampler_and_trainer(one, monkeypatch, planted, status):
    subject, _, rollouts = opened(one(taught()))
    exact = gap.student_logprobs

    def off(*args, **options):
        return [values + np.float32(planted) for values in exact(*args, **options)]

    monkeypatch.setattr(gap, "student_logprobs", off)
    said = sampler_gap(subject, rollouts)
    assert isinstance(said, Line)
    assert said.status == status
    assert said.values["tokens"] == sum(len(t) - t.prompt_tokens for t in rollouts[0].trajectories)
    if not math.isnan(planted):
        assert said.values["mean_nats"] == pytest.approx(planted, abs=1e-5)


def test_a_sampler_at_another_temperature_than_it_writes_down_fails(one):
    """The fault itself, not a number that is put in its place."""
    arm = replace(
        taught(), streams=(replace(taught().streams[0], source=Learner(8, temperature=0.5)),)
    )
    subject, _, rollouts = opened(one(arm))
    assert by_name([sampler_gap(subject, rollouts)])[gap.NAME].status == "pass"
    rows = [
        replace(t, sampling=replace(t.sampling, temperature=1.0)) for t in rollouts[0].trajectories
    ]
    said = sampler_gap(subject, [replace(rollouts[0], trajectories=rows)])
    assert by_name([said])[gap.NAME].status == "fail"


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 5}])
def test_greedy_and_cut_samples_are_left_out(one, options):
    arm = taught()
    arm = replace(arm, streams=(replace(arm.streams[0], source=Learner(8, **options)),))
    subject, _, rollouts = opened(one(arm))
    assert isinstance(sampler_gap(subject, rollouts), Skip)
