"""Loading, saving, snapshots, adapters and precision."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from enumerable import (
    EOS,
    ONE,
    A,
    B,
    gradient,
    ids,
    prompt,
    rollout,
    row,
    tiny,
    tokenizer,
)
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM

from statewise.arms import Stream, Term
from statewise.data import Prompts
from statewise.errors import ModelError
from statewise.objectives import CrossEntropy, KLStudentTeacher
from statewise.policy import Lora, Policy
from statewise.sources import Dataset
from statewise.supervision import OwnActions, TeacherDistribution
from statewise.trajectory import Segment

LORA = Lora(rank=2, alpha=4.0)
TOKENS = torch.tensor([[A, B, ONE, A]])
LENGTHS = torch.tensor([4])


def logits(policy: Policy) -> torch.Tensor:
    with policy.frozen():
        return policy.head(policy.hidden(TOKENS, LENGTHS)[0])


def plain(seed: int = 0, **options) -> Policy:
    return tiny(seed, dtype=torch.float32, **options)


def gold_rows():
    return [
        row(prompt(A), Segment("dataset", ids(B, ONE, EOS))),
        row(prompt(B), Segment("dataset", ids(EOS))),
    ]


def sft_stream(term: Term | None = None) -> Stream:
    return Stream(Prompts([prompt(A)]), Dataset(), (term or Term(OwnActions(), CrossEntropy()),), 1)


def one_update(policy: Policy) -> None:
    _, found = gradient(policy, rollout(sft_stream(), gold_rows()))
    with torch.no_grad():
        for name, p in policy.trainable_parameters():
            p.sub_(0.5 * found[name])


# ---- loading ------------------------------------------------------------------------------------


def test_a_saved_policy_comes_back_with_the_same_logits_and_tokens(tmp_path):
    policy = plain()
    policy.save(tmp_path)
    again = Policy.load(tmp_path, name="teacher:again")
    torch.testing.assert_close(logits(again), logits(policy), rtol=0, atol=0)
    assert again.stop_token_ids == {EOS}
    assert again.to_ids("ab#### 1").tolist() == [A, B, ONE]
    assert not again.module.training
    assert (again.owner, again.precision) == ("teacher:again@0", "fp32")
    assert {f.suffix for f in tmp_path.iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_a_frozen_load_has_nothing_that_trains(tmp_path):
    plain().save(tmp_path)
    assert Policy.load(tmp_path, name="x").trainable_parameters()
    assert Policy.load(tmp_path, name="x", trainable=False).trainable_parameters() == []


@pytest.mark.parametrize("where", ["missing", "empty"])
def test_a_directory_without_a_model_is_named(tmp_path, where):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=rf"no model at .*{where}.*config\.json"):
        Policy.load(tmp_path / where, name="x")


def test_a_name_that_is_neither_a_folder_nor_on_the_hub_is_one_clear_line():
    with pytest.raises(
        ModelError, match="cannot load a model from no-one/no-such-model"
    ) as refusal:
        Policy.load("no-one/no-such-model", name="x")
    assert "\n" not in str(refusal.value)


def test_a_tokenizer_without_eos_is_refused_even_where_the_generation_config_has_a_stop():
    module = plain().module
    assert module.generation_config.eos_token_id == EOS
    with pytest.raises(ModelError, match="the tokenizer of 'mute' has no eos token"):
        Policy(module, tokenizer(eos=None), name="mute")


def test_a_tokenizer_without_eos_is_refused_when_loaded(tmp_path):
    plain().save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no eos token"):
        Policy.load(tmp_path, name="mute")


# ---- what it computes ---------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_hidden_and_head_are_the_two_halves_of_the_models_own_forward(architecture):
    policy = tiny(architecture=architecture)
    whole = policy.module(input_ids=TOKENS).logits[0]
    torch.testing.assert_close(logits(policy), whole.detach(), rtol=0, atol=1e-13)
    weight, bias = policy.head_weight()
    assert bias is None
    hidden = policy.hidden(TOKENS, LENGTHS)[0]
    torch.testing.assert_close(hidden @ weight.T, whole, rtol=0, atol=1e-13)


def test_other_architectures_fit_without_a_change():
    config = LlamaConfig(
        vocab_size=4,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=None,
        eos_token_id=EOS,
    )
    policy = Policy(LlamaForCausalLM(config).eval(), tokenizer(), name="llama")
    whole = policy.module(input_ids=TOKENS).logits[0].detach()
    torch.testing.assert_close(logits(policy), whole)
    assert policy.context_tokens == 16


def test_text_leaves_the_stop_token_out_and_adds_no_special_tokens():
    policy = plain()
    assert policy.to_text([A, ONE, B, EOS]) == "a#### 1b"
    assert policy.to_ids("a#### 1b").tolist() == [A, ONE, B]
    assert policy.to_ids("").tolist() == []
    assert policy.to_text(np.empty(0, np.int32)) == ""


def test_a_text_begins_with_the_tokenizers_bos_once_and_never_with_its_eos():
    both = tokenizer()
    both.backend_tokenizer.post_processor = TemplateProcessing(
        single="b $A <eos>", special_tokens=[("b", B), ("<eos>", EOS)]
    )
    assert both.encode("a") == [B, A, EOS]
    policy = plain(tokenizer=both)
    assert policy.prefix_ids.tolist() == [B]
    assert policy.to_ids("a").tolist() == [A]


def test_a_snapshot_is_frozen_and_does_not_follow():
    policy = plain()
    copy = policy.snapshot("reference")
    before = logits(copy)
    one_update(policy)
    assert torch.equal(logits(copy), before)
    assert not torch.equal(logits(policy), before)
    assert copy.trainable_parameters() == []
    assert copy.owner == "reference@0"


# ---- adapters -----------------------------------------------------------------------------------


def test_a_fresh_adapter_changes_nothing_and_alone_may_train():
    base = plain()
    before = logits(base)
    policy = plain().with_adapter(LORA, seed=0)
    torch.testing.assert_close(logits(policy), before, rtol=0, atol=0)
    names = [name for name, _ in policy.trainable_parameters()]
    assert names
    assert all("lora_" in name for name in names)
    assert not any("lm_head" in name for name in names)


def test_training_an_adapter_moves_it_and_leaves_the_base_weights_alone():
    policy = plain().with_adapter(LORA, seed=0)
    before = {n: p.clone() for n, p in policy.module.named_parameters()}
    start = logits(policy)
    for _ in range(3):
        one_update(policy)
    moved = {n for n, p in policy.module.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all("lora_" in n for n in moved)
    assert not torch.equal(logits(policy), start)


def test_the_gradient_of_an_adapter_is_that_of_the_wrapped_model():
    policy = plain().with_adapter(LORA, seed=0)
    for _ in range(2):
        one_update(policy)
    _, found = gradient(policy, rollout(sft_stream(), gold_rows()))
    labels = torch.tensor([B, ONE, EOS])
    steps = policy.module(input_ids=torch.tensor([[A, B, ONE, EOS]])).logits[0, :3]
    last = policy.module(input_ids=torch.tensor([[B, EOS]])).logits[0, :1]
    every = torch.cat([steps, last]).log_softmax(-1)
    loss = -every[range(4), [*labels.tolist(), EOS]].mean()
    exact = torch.autograd.grad(loss, [p for _, p in policy.trainable_parameters()])
    for (name, _), g in zip(policy.trainable_parameters(), exact, strict=True):
        torch.testing.assert_close(found[name], g, rtol=1e-4, atol=1e-6)


def test_an_adapter_is_drawn_from_its_seed_and_draws_nothing_else():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = dict(plain().with_adapter(LORA, seed=1).trainable_parameters())
    assert torch.equal(torch.rand(1), expected), "the global generator moved"
    same = dict(plain().with_adapter(LORA, seed=1).trainable_parameters())
    other = dict(plain().with_adapter(LORA, seed=2).trainable_parameters())
    assert all(torch.equal(first[n], same[n]) for n in first)
    assert any(not torch.equal(first[n], other[n]) for n in first)


def test_a_saved_adapter_comes_back_with_the_same_logits_and_may_train_on(tmp_path):
    """The vocabulary is wider than the tokenizer, as in real checkpoints: it must keep its width."""
    plain(vocabulary=6).save(tmp_path / "base")
    policy = Policy.load(tmp_path / "base", name="student").with_adapter(LORA, seed=0)
    for _ in range(3):
        one_update(policy)
    policy.save(tmp_path / "adapter")
    files = {f.name for f in (tmp_path / "adapter").iterdir()}
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files
    again = Policy.load(tmp_path / "adapter", name="student")
    assert logits(again).shape == (4, 6)
    torch.testing.assert_close(logits(again), logits(policy), rtol=0, atol=0)
    names = [n for n, _ in policy.trainable_parameters()]
    assert [n for n, _ in again.trainable_parameters()] == names
    assert Policy.load(tmp_path / "adapter", name="t", trainable=False).trainable_parameters() == []


def test_a_policy_with_an_adapter_samples_through_it():
    policy = plain().with_adapter(LORA, seed=0)
    with torch.no_grad():
        for name, p in policy.trainable_parameters():
            if "lora_B" in name:
                p.normal_(generator=torch.Generator().manual_seed(0))
    from statewise.trajectory import Sampling

    (made,) = policy.complete([ids(A, B)], sampling=Sampling(), max_new_tokens=6, seeds=[0])
    tokens = torch.tensor([[A, B, *made.token_ids.tolist()]])
    exact = policy.module(input_ids=tokens).logits[0, 1:-1].log_softmax(-1)
    expected = exact[range(len(made.token_ids)), made.token_ids.tolist()].detach()
    np.testing.assert_allclose(made.logprobs, expected, rtol=0, atol=1e-5)


# ---- precision ----------------------------------------------------------------------------------


def test_bf16_stays_near_fp32_and_keeps_fp32_weights_and_logits():
    full = plain()
    half = Policy(full.module, full.tokenizer, name="student", precision="bf16")
    assert logits(half).dtype == torch.float32
    torch.testing.assert_close(logits(half), logits(full), rtol=0, atol=0.1)
    assert not torch.equal(logits(half), logits(full)), "autocast did nothing"
    loss, exact = gradient(full, rollout(sft_stream(), gold_rows()))
    near, found = gradient(half, rollout(sft_stream(), gold_rows()))
    assert near == pytest.approx(loss, abs=0.05)
    for name, g in exact.items():
        assert found[name].dtype == torch.float32
        cosine = torch.nn.functional.cosine_similarity(found[name].flatten(), g.flatten(), dim=0)
        assert cosine > 0.97, name


def test_bf16_reads_a_teacher_too():
    student, teacher = plain(0), plain(1)
    half = Policy(student.module, student.tokenizer, name="student", precision="bf16")
    told = Policy(teacher.module, teacher.tokenizer, name="teacher:half", precision="bf16")

    def loss(s: Policy, t: Policy) -> float:
        term = Term(TeacherDistribution(t), KLStudentTeacher())
        return gradient(s, rollout(sft_stream(term), gold_rows()))[0]

    assert loss(half, told) == pytest.approx(loss(student, teacher), rel=0.1)
