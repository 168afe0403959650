"""What may not change the gradient passes on a model that is well, and planted faults fail."""

from __future__ import annotations

import pytest
import torch
from one_arm import (
    by_name,
    objective,
    opened,
    rewarded,
    scored,
    supervised,
    taught,
    with_objective,
)

from statewise.check import gradients
from statewise.check.equal import equal_teacher
from statewise.check.gradients import few_rows, gradient, invariances
from statewise.check.models import in_float64, moved, padded


def found_with(study, plant):
    """The lines of the gradient's checks with a hook on the student's trunk."""
    subject, _, rollouts = opened(study)
    handle = subject.student.as_reader().trunk.register_forward_hook(plant)
    try:
        return by_name(invariances(subject, few_rows(rollouts, 4)))
    finally:
        handle.remove()


def bent(output, by):
    output.last_hidden_state = output.last_hidden_state + by
    return output


def from_the_end(_, __, output):
    """What position bugs of padding do: a token's place depends on where the row ends."""
    length = output.last_hidden_state.shape[1]
    return bent(
        output,
        torch.arange(length, 0, -1.0, dtype=output.last_hidden_state.dtype)[None, :, None] / 50,
    )


def sees_its_batch(_, __, output):
    return bent(output, output.last_hidden_state[:, 4:12].mean((0, 1)))


def remembering():
    calls = []

    def hook(_, __, output):
        calls.append(1)
        return bent(output, len(calls) * 0.05)

    return hook


def harmless(_, __, output):
    return output


def test_what_changes_with_padding_with_the_batch_or_with_time_fails(one):
    study = one(supervised())
    found = found_with(study, harmless)
    assert [found[n].status for n in ("gradient", *gradients.INVARIANCES)] == ["pass"] * 5
    assert found_with(study, from_the_end)["padding"].status == "fail"
    by_batch = found_with(study, sees_its_batch)
    assert (by_batch["padding"].status, by_batch["micro-batch"].status) == ("pass", "fail")
    over_time = found_with(study, remembering())
    assert over_time["accumulation"].status == "fail"
    assert "keep no state" in over_time["accumulation"].fix


def test_an_objective_of_the_users_own_that_divides_inside_fails(one, report, line, tmp_path):
    own = "return -logp.gather(-1, states.action_ids[:, None])[:, 0]"
    well = report(one(with_objective(supervised(), objective(tmp_path, own, "actions"))))
    assert line(well, "micro-batch").status == "pass"
    ill = report(
        one(with_objective(supervised(), objective(tmp_path, f"{own} / len(states)", "actions")))
    )
    assert line(ill, "micro-batch").status == "fail"
    assert "one value a state, of that state alone" in line(ill, "micro-batch").fix


@pytest.mark.parametrize(("arm", "status"), [(supervised, "warn"), (rewarded, "fail")])
def test_a_model_with_dropout_warns_and_fails_where_there_are_ratios(
    one, copy_of, tmp_path, arm, status
):
    base = copy_of("wet", "config.json", lambda c: c | {"attention_dropout": 0.5})
    made = arm() if arm is supervised else arm(reward=scored(tmp_path, "float(len(completion))"))
    subject, _, rollouts = opened(one(made, base=base))
    found = by_name(invariances(subject, few_rows(rollouts, 4)))
    assert found["dropout"].status == status
    assert "attention_dropout" in found["dropout"].fix
    assert found["padding"].status == found["accumulation"].status == "pass"
    subject, _, rollouts = opened(one(made))
    assert by_name(invariances(subject, few_rows(rollouts, 4)))["dropout"].status == "pass"


def test_rounding_is_told_from_a_fault_in_float64(one, monkeypatch):
    monkeypatch.setattr(gradients, "TOLERANCE", 0.0)
    found = found_with(one(supervised()), harmless)
    assert found["micro-batch"].status == "pass"
    assert "in float64: rounding" in found["micro-batch"].figure
    assert found["micro-batch"].values["relative_difference"] > 1e-9
    assert found["micro-batch"].values["relative_difference_float64"] < 1e-12
    assert found_with(one(supervised()), sees_its_batch)["micro-batch"].status == "fail"


def test_a_gradient_of_0_warns_and_one_that_is_not_finite_fails(one, report, line, tmp_path):
    said = line(report(one(rewarded())), "gradient")  # every reward of a random model is 0
    assert (said.status, said.values["norm"]) == ("warn", 0.0)
    assert "equal rewards" in said.fix
    ill = report(
        one(
            with_objective(
                supervised(), objective(tmp_path, "return logp[:, 0] * torch.nan", "actions")
            )
        )
    )
    assert line(ill, "gradient").status == "fail"
    assert {"padding", "dropout"} <= {skip.name for skip in ill.skipped}


def test_nothing_is_left_behind(one):
    subject, _, rollouts = opened(one(taught()))
    policies = (subject.student, *subject.teachers)
    before = [p.detach().clone() for policy in policies for p in policy.module.parameters()]
    rows = few_rows(rollouts, 4)
    invariances(subject, rows)
    equal_teacher(subject, rows)
    with moved(subject.student, subject.teachers), in_float64(policies), padded(policies, 3):
        assert next(subject.student.module.parameters()).dtype == torch.float64
        assert any(
            not torch.equal(a.double(), b)
            for a, b in zip(
                before, [p for q in policies for p in q.module.parameters()], strict=True
            )
        )
    after = [p for policy in policies for p in policy.module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)
    assert not subject.student.module.training
    trunk = subject.student.as_reader().trunk
    assert not [*trunk._forward_pre_hooks, *trunk._forward_hooks]


def test_padding_is_what_the_model_reads_and_changes_no_real_row(one):
    subject, _, rollouts = opened(one(supervised()))
    widths = []
    handle = subject.student.as_reader().trunk.register_forward_hook(
        lambda _, __, output: widths.append(output.last_hidden_state.shape[1])
    )
    rows = few_rows(rollouts, 2)
    gradient(subject.student, rows, tokens=1)
    with padded([subject.student], 16):
        gradient(subject.student, rows, tokens=1)
    handle.remove()
    lengths = sorted((len(t) for t in rows[0].trajectories), reverse=True)
    assert widths == [*lengths, *(n + 16 for n in lengths)]


def test_no_check_reads_more_than_two_of_the_longest_rows_at_once(one):
    subject, _, rollouts = opened(one(taught()))
    rows, read = few_rows(rollouts, 4), []
    handle = subject.student.as_reader().trunk.register_forward_hook(
        lambda _, __, output: read.append(output.last_hidden_state.shape[:2].numel())
    )
    invariances(subject, rows)
    equal_teacher(subject, rows)
    handle.remove()
    longest = max(len(t) for t in rows[0].trajectories)
    # One row and its padding, or two rows.
    assert max(read) <= max(2 * longest, longest + gradients.PADDING_TOKENS)
