"""The world's tokenizer: byte-level BPE with single digits, saved as a Hugging Face directory.

Single digits, because arithmetic on multi-digit tokens has to be learned pair by pair. Byte-
level, because the tokenizer must encode any text that a user gives it. Pad and eos are two
tokens: where they are one, masking the padding also masks the stop, and the model never learns to
end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

PAD, EOS = "<|pad|>", "<|eos|>"


def train_tokenizer(
    documents: Iterable[str], folder: Path, vocabulary: int = 1024, context_tokens: int = 320
) -> None:
    """Train on documents and write `tokenizer.json` and `tokenizer_config.json` into `folder`.

    The files load with `transformers.AutoTokenizer.from_pretrained(folder)`. Ids: pad 0, eos 1,
    then bytes and merges. No token is added to a text on encoding. The same documents give the
    same file.

    Args:
        documents: training text; some ten thousand documents of the world are plenty.
        folder: created when missing.
        vocabulary: number of tokens, the 256 bytes and the 2 special tokens included.
        context_tokens: written as the tokenizer's `model_max_length`.
    """
    # Imported here: the world is text, and only whoever trains a tokenizer pays for the library.
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Words take their leading space, so " ####" is one token; digits, newlines and other
            # marks stand alone, so that no merge joins "=<<" to what follows, and " 4" is a space
            # and a digit rather than a second set of digits.
            pre_tokenizers.Split(
                Regex(r" ?[A-Za-z]+| ?#+|[0-9]|\n|<<|>>| |[^A-Za-z0-9#\s]"), behavior="isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": EOS,
        "model_max_length": context_tokens,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
