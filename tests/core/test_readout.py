"""What a model does behind its head is done by us too, everywhere, or the model is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from enumerable import EOS, A, B, ids, prompt, rollout, row, tiny, tokenizer
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    FalconH1Config,
    FalconH1ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)

from statewise.arms import Stream, Term
from statewise.data import Prompts
from statewise.errors import ConfigError, ModelError
from statewise.gradient import accumulate_gradient, student_logprobs
from statewise.logits import LogitsTransform
from statewise.objectives import CrossEntropy, KLStudentTeacher
from statewise.policy import Lora, Policy
from statewise.sources import Dataset
from statewise.supervision import OwnActions, TeacherDistribution
from statewise.trajectory import Sampling, Segment, gather_states

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    # peft warns of what is then tried: adapters on heads and embeddings.
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
]

TOKENS, LENGTHS = torch.tensor([[A, B, B, A]]), torch.tensor([4])
SHAPE = {
    "vocab_size": 4,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": None,
}
MAMBA = {
    "mamba_d_ssm": 16,
    "mamba_n_heads": 2,
    "mamba_d_head": 8,
    "mamba_d_state": 4,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 4,
}
BEHIND = {
    "divided (Granite)": (
        lambda: GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=8.0)),
        LogitsTransform(1 / 8),
    ),
    "multiplied (Cohere)": (
        lambda: CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.0625)),
        LogitsTransform(0.0625),
    ),
    "multiplied (Falcon-H1)": (
        lambda: FalconH1ForCausalLM(FalconH1Config(**SHAPE, **MAMBA, lm_head_multiplier=0.0195)),
        LogitsTransform(0.0195),
    ),
    "capped (Gemma 2)": (
        lambda: Gemma2ForCausalLM(
            Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.75, query_pre_attn_scalar=8)
        ),
        LogitsTransform(cap=0.75),
    ),
    "capped (RecurrentGemma)": (
        lambda: RecurrentGemmaForCausalLM(
            RecurrentGemmaConfig(
                **(SHAPE | {"num_hidden_layers": 3}),
                lru_width=16,
                attention_window_size=16,
                logits_soft_cap=0.5,
                head_dim=8,
            )
        ),
        LogitsTransform(cap=0.5),
    ),
}


def behind(case: str, name: str = "student") -> Policy:
    torch.manual_seed(0)
    return Policy(BEHIND[case][0]().eval(), tokenizer(), name=name)


@pytest.mark.parametrize("case", BEHIND)
def test_a_scale_or_cap_behind_the_head_is_read_off_the_model(case):
    assert behind(case).logits == BEHIND[case][1]


@pytest.mark.parametrize("case", BEHIND)
def test_every_way_to_the_logits_is_the_models_own(case):
    policy = behind(case)
    with policy.frozen():
        own = policy.module(input_ids=TOKENS).logits[0]
        hidden = policy.hidden(TOKENS, LENGTHS)[0]
        plain = torch.nn.functional.linear(hidden, policy.head_weight()[0])
        assert (own - plain).abs().max() > 0.01, "the case shows nothing"
        for read in (policy.head(hidden), policy.training_head()(hidden), policy.logits(plain)):
            torch.testing.assert_close(read, own, rtol=1e-5, atol=1e-6)
        for role in (policy.view("v"), policy.snapshot("s"), policy.twin()):
            torch.testing.assert_close(role.head(hidden), own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", BEHIND)
def test_rollouts_teachers_and_log_probs_are_of_the_models_own_distribution(case):
    policy = behind(case)
    exact = policy.module(input_ids=TOKENS).logits[0].detach().log_softmax(-1)
    rows = [row(prompt(A), Segment("dataset", ids(B, B, A)))]
    by_hand = [float(exact[i, a]) for i, a in enumerate((B, B, A))]
    found = student_logprobs(policy, rows, tokens_per_microbatch=64)[0][1:]
    np.testing.assert_allclose(found, by_hand, atol=1e-5)

    states = gather_states(rows)
    taught = TeacherDistribution(policy)
    told = taught.signal(states, taught.label(rows))
    torch.testing.assert_close(told.logprobs(), exact[:3], rtol=0, atol=1e-5)
    temperature = torch.full((3,), 0.5)
    colder = policy.module(input_ids=TOKENS).logits[0, :3].detach().div(0.5).log_softmax(-1)
    of_actions = told.of_actions(states.action_ids, temperature).tolist()
    np.testing.assert_allclose(
        of_actions, [float(colder[i, a]) for i, a in enumerate((B, B, A))], atol=1e-5
    )

    (made,) = policy.complete([ids(A, B)], sampling=Sampling(), max_new_tokens=4, seeds=[3])
    whole = torch.tensor([[A, B, *made.token_ids.tolist()]])
    lines = policy.module(input_ids=whole).logits[0].detach().log_softmax(-1)
    expected = [float(lines[i + 1, a]) for i, a in enumerate(made.token_ids.tolist())]
    np.testing.assert_allclose(made.logprobs, expected, atol=1e-5)


@pytest.mark.parametrize("case", ["divided (Granite)", "capped (Gemma 2)"])
@pytest.mark.parametrize("objective", [CrossEntropy(), KLStudentTeacher()])
def test_the_gradient_is_that_of_the_models_own_logits(case, objective):
    policy = behind(case)
    teacher = tiny(5, dtype=torch.float32, name="teacher:t")
    supervision = (
        OwnActions() if isinstance(objective, CrossEntropy) else TeacherDistribution(teacher)
    )
    stream = Stream(Prompts([prompt(A)]), Dataset(), (Term(supervision, objective),), 1)
    rows = [row(prompt(A), Segment("dataset", ids(B, B, EOS)))]
    accumulate_gradient(policy, [rollout(stream, rows)], tokens_per_microbatch=64)
    found = {n: p.grad.clone() for n, p in policy.trainable_parameters() if p.grad is not None}
    policy.module.zero_grad()
    whole = torch.tensor([[A, B, B, EOS]])
    own = policy.module(input_ids=whole).logits[0, :3].log_softmax(-1)
    if isinstance(objective, CrossEntropy):
        loss = -own[range(3), [B, B, EOS]].mean()
    else:
        other = teacher.module(input_ids=whole).logits[0, :3].detach().log_softmax(-1)
        loss = (own.exp() * (own - other)).sum(-1).mean()
    loss.backward()
    for name, p in policy.trainable_parameters():
        if p.grad is not None:
            torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-6)


def test_a_key_that_the_architecture_does_not_read_changes_nothing():
    module = tiny(dtype=torch.float32).module
    module.config.final_logit_softcapping = 0.5
    module.config.logits_scaling = 8.0
    assert not Policy(module, tokenizer(), name="x").logits.changes


@pytest.mark.parametrize("kind", ["shifted", "of its own scale", "a cap that is tiny against 1000"])
def test_what_is_neither_a_scale_nor_a_cap_of_the_config_is_refused_by_architecture(kind):
    change = {
        "shifted": lambda x: x + torch.tensor([0.0, 0.0, 0.1, 0.0]),
        "of its own scale": lambda x: 1.01 * x,
        "a cap that is tiny against 1000": lambda x: 5000 * torch.tanh(x / 5000),
    }[kind]

    class OddForCausalLM(LlamaForCausalLM):
        def forward(self, input_ids, use_cache=False):
            return SimpleNamespace(logits=change(super().forward(input_ids).logits))

    with pytest.raises(ModelError, match="OddForCausalLM computes its logits in a way"):
        Policy(OddForCausalLM(LlamaConfig(**SHAPE)), tokenizer(), name="odd")


@pytest.mark.parametrize("case", BEHIND)
def test_it_is_the_same_model_when_it_is_saved_and_loaded(case, tmp_path):
    policy = behind(case)
    policy.save(tmp_path)
    again = Policy.load(tmp_path, name="again", trainable=False)
    assert again.logits == BEHIND[case][1]
    assert again.tokens_read == 0


# ---- adapters on the head -----------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("targets", [("lm_head",), ("embed_tokens",), ("q_proj", "lm_head")])
def test_an_adapter_on_head_or_embeddings_is_refused_when_it_is_made(tied, targets):
    policy = tiny(dtype=torch.float32, tied=tied)
    with pytest.raises(
        ConfigError, match=r"target_modules: '(lm_head|embed_tokens)' is the head or the embeddings"
    ):
        policy.with_adapter(Lora(rank=2, target_modules=targets), seed=0)
    assert not hasattr(policy.module, "peft_config")


@pytest.mark.parametrize("target", ["q_prj", "input_layernorm", "zzz"])
def test_an_adapter_on_what_is_no_linear_layer_is_refused(target):
    with pytest.raises(
        ConfigError, match=f"target_modules: Qwen3ForCausalLM has no linear layer '{target}'"
    ):
        tiny(dtype=torch.float32).with_adapter(Lora(rank=2, target_modules=(target,)), seed=0)


@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_of_others_on_the_head_is_refused_when_it_is_loaded(tied, tmp_path):
    from peft import LoraConfig, get_peft_model

    tiny(dtype=torch.float32, tied=tied).save(tmp_path / "base")
    base = Policy.load(tmp_path / "base", name="x").module
    adapted = get_peft_model(
        base, LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM")
    )
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match="the adapter stands on the head"):
        Policy.load(tmp_path / "adapter", name="x")


OUTSIDE = {
    "a head of its own": {"modules_to_save": ["lm_head"]},
    "dora": {"use_dora": True},
    "bias": {"bias": "all"},
    "some tokens": {"trainable_token_indices": [1, 2]},
    "rank-stabilised": {"use_rslora": True},
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("case", OUTSIDE)
def test_adapters_of_others_are_read_as_peft_reads_them_or_refused(tied, case, tmp_path):
    from peft import LoraConfig, get_peft_model

    tiny(dtype=torch.float32, tied=tied).save(tmp_path / "base")
    base = Policy.load(tmp_path / "base", name="x").module
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **OUTSIDE[case])
    adapted = get_peft_model(base, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if p.requires_grad and "magnitude" not in name:
                p.add_(torch.randn_like(p) * 0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    policy = Policy.load(tmp_path / "adapter", name="x", trainable=False)
    with policy.frozen():
        own = adapted.eval()(TOKENS).logits[0]
        hidden = policy.hidden(TOKENS, LENGTHS)[0]
        torch.testing.assert_close(policy.head(hidden), own, rtol=0, atol=1e-6)
        torch.testing.assert_close(hidden @ policy.head_weight()[0].T, own, rtol=0, atol=1e-6)


def test_merging_that_makes_another_model_is_refused(tmp_path):
    """Tied weights: what is added to the embeddings would be added to the head as well."""
    from peft import LoraConfig, get_peft_model

    tiny(dtype=torch.float32, tied=True).save(tmp_path / "base")
    base = Policy.load(tmp_path / "base", name="x")
    config = LoraConfig(r=2, target_modules=["embed_tokens"], task_type="CAUSAL_LM")
    adapted = get_peft_model(base.module, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_" in name:
                p.normal_(0, 0.5)
    policy = Policy(adapted, base.tokenizer, name="wide")
    with pytest.raises(ModelError, match="the adapter of 'wide' cannot be merged"):
        policy.merged()


# ---- names that others read ---------------------------------------------------------------------


def test_a_saved_adapter_names_no_path_of_this_machine_and_still_finds_its_base(tmp_path):
    import json

    from statewise.policy.adapters import name_portably

    tiny(dtype=torch.float32).save(tmp_path / "models" / "mine")
    run = tmp_path / "runs" / "r"
    base = Policy.load(tmp_path / "models" / "mine", name="x")
    base.with_adapter(Lora(rank=2), seed=0).save(run / "a" / "policy")
    assert name_portably(run / "a" / "policy", run) == "mine"
    config = json.loads((run / "a" / "policy" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "mine"
    again = Policy.load(run / "a" / "policy", name="x")

    # Trained on and saved elsewhere it names its base anew, and one inside the run as seen from itself.
    again.save(run / "b" / "policy")
    assert name_portably(run / "b" / "policy", run) == "mine"
    again.merged().save(run / "c" / "policy")
    inner = Policy.load(run / "c" / "policy", name="x").with_adapter(Lora(rank=2), seed=0)
    inner.save(run / "d" / "policy")
    assert name_portably(run / "d" / "policy", run) == "../../c/policy"
    Policy.load(run / "d" / "policy", name="x")
    files = [f for f in run.rglob("*.json") if f.name != ".places.json"]
    assert files
    assert not [f for f in files if str(tmp_path) in f.read_text()]


# ---- real models --------------------------------------------------------------------------------


def real_models() -> list[str]:
    import os
    from pathlib import Path

    folder = Path(os.environ.get("STATEWISE_MODELS", "/nowhere"))
    return sorted(str(p) for p in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.slow
def test_real_models_load_and_are_read_as_they_read_themselves():
    if not real_models():
        pytest.skip("STATEWISE_MODELS names no folder of models")
    for place in real_models():
        policy = Policy.load(place, name="real", trainable=False)
        token_ids = torch.as_tensor(policy.to_ids("Tom has 3 apples."))[None].long()
        lengths = torch.tensor([token_ids.shape[1]])
        with policy.frozen():
            own = policy.module(input_ids=token_ids, use_cache=False).logits[0]
            read = policy.head(policy.hidden(token_ids, lengths)[0])
        torch.testing.assert_close(read, own, rtol=1e-5, atol=1e-4)
