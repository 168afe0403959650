"""Stop tokens: those of a model and its tokenizer, and those that are kept beside an adapter.

An adapter's folder names its base, whose `generation_config.json` says where the base stops. Where an
adapter was trained to stop at more tokens (`stop_tokens: merge`), its own folder holds such a file too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from statewise.errors import ModelError

FILE = "generation_config.json"


def stop_token_ids(causal_lm: nn.Module, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The stop tokens of the generation config and the tokenizer's eos.

    Raises ModelError for an id that the model cannot write: it would never stop there.
    """
    config: Any = causal_lm.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    rows = getattr(text, "vocab_size", None) or len(tokenizer)
    ids: Any = getattr(getattr(causal_lm, "generation_config", None), "eos_token_id", None)
    found: set[int] = set()
    for place, listed in (
        (f"eos_token_id in {FILE}", ids if isinstance(ids, list | tuple) else [ids]),
        ("the tokenizer's eos_token", [tokenizer.eos_token_id]),
    ):
        for i in listed:
            if i is None:
                continue
            if type(i) is not int or not 0 <= i < rows:
                raise ModelError(
                    f"{place} is {i!r}, which is no id below the model's {rows:,} tokens, so nothing could stop "
                    "there; give the id of a token that the model has"
                )
            found.add(i)
    return frozenset(found)


def write_stops(directory: Path, ids: list[int]) -> None:
    """Keep the stop tokens beside an adapter; the first is its eos token."""
    (directory / FILE).write_text(json.dumps({"eos_token_id": ids}, indent=2) + "\n", "utf-8")


def read_stops(directory: Path) -> frozenset[int]:
    """The stop tokens that an adapter's folder keeps; none for a whole model, which is read elsewhere.

    Raises ModelError for a file that holds no list of ids.
    """
    path = directory / FILE
    if not (directory / "adapter_config.json").is_file() or not path.is_file():
        return frozenset()
    try:
        listed = json.loads(path.read_text("utf-8"))["eos_token_id"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: expected an object with eos_token_id ({type(error).__name__}); delete it to stop where the "
            "adapter's base stops"
        ) from error
    ids = listed if isinstance(listed, list) else [listed]
    if odd := [i for i in ids if type(i) is not int]:
        raise ModelError(f"{path}: eos_token_id holds {odd[0]!r}; give ids of tokens")
    return frozenset(ids)
