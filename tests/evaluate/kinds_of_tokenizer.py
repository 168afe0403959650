"""Small tokenizers of every kind that pretrained models come with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from statewise.policy import Policy

CORPUS = [
    "Question: Ann has 3 apples and buys 4. How many has she?\nAnswer: 3+4=7\n#### 7",
    "Answer: Answer: answer the question 12 + 30 = 42. naturally, it's 42",
    *(f"{i} plus {j} is {i + j}. #### {i + j}" for i in range(20) for j in range(20)),
]
BOS, EOS = "<s>", "</s>"


def finished(
    raw: Tokenizer, specials: Sequence[str], template: str | None, bos: str | None, eos: str
) -> PreTrainedTokenizerFast:
    if template:
        pairs = [(s, raw.token_to_id(s)) for s in specials]
        raw.post_processor = processors.TemplateProcessing(single=template, special_tokens=pairs)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=bos, eos_token=eos, pad_token=eos, unk_token=None
    )


def byte_level(
    template: str | None = None, *, bos: str | None = BOS, eos: str = EOS, extra: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """GPT-2's kind."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = list(dict.fromkeys([*([bos] if bos else []), eos, *extra]))
    raw.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=specials,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return finished(raw, specials, template, bos, eos)


def metaspace() -> PreTrainedTokenizerFast:
    """Mistral's kind: every text begins with the mark of a new word."""
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    raw.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    specials = ["<unk>", BOS, EOS]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    raw.train_from_iterator(CORPUS, trainer)
    return finished(raw, specials, f"{BOS} $A", BOS, EOS)


def legacy() -> PreTrainedTokenizerFast:
    """Llama-2's kind: a normalizer writes the mark, and nothing splits a text into words."""
    raw = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", BOS, EOS]
    raw.train_from_iterator(
        CORPUS[:60],
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=specials, max_token_length=6, show_progress=False
        ),
    )
    return finished(raw, specials, f"{BOS} $A", BOS, EOS)


KINDS = {
    "byte level": lambda: byte_level(bos=None),
    "byte level with bos": lambda: byte_level(f"{BOS} $A"),
    "bos is eos": lambda: byte_level(f"{EOS} $A", bos=EOS),
    "appends eos": lambda: byte_level(f"{BOS} $A {EOS}"),
    "appends eos only": lambda: byte_level(f"$A {EOS}", bos=None),
    "metaspace": metaspace,
    "legacy": legacy,
}


@cache
def made(kind: str) -> PreTrainedTokenizerFast:
    return KINDS[kind]()


def tiny_llama(tokenizer: PreTrainedTokenizerFast, name: str = "student") -> Policy:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = LlamaForCausalLM(config)
    return Policy(module.eval(), tokenizer, name=name)
