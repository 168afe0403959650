"""Stop tokens: those of a model and its tokenizer, and those that are kept beside an adapter.

An adapter's folder names its base, whose `generation_config.json` says where the base stops. Where an
adapter was trained to stop at more tokens (`stop_tokens: merge`), its own folder holds such a file too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statewise.errors import ModelError
from statewise.lazy import lazy, nn
from statewise.policy.checkpoint import read_object

if TYPE_CHECKING:
    import transformers
else:
    transformers = lazy("transformers")

FILE = "generation_config.json"
_REMEDY = "delete the file to stop where the adapter's base stops"


def stop_token_ids(
    causal_lm: nn.Module, tokenizer: transformers.PreTrainedTokenizerBase
) -> frozenset[int]:
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


def read_stops(folder: Path, width: int) -> frozenset[int]:
    """The stop tokens that an adapter's folder keeps; empty for a whole model, which is read elsewhere.

    `width` is how many tokens the model can write. A file without `eos_token_id` adds none. Raises ModelError
    for a file that is no strict JSON object, and for what is no id of a token.
    """
    path = folder / FILE
    if not (folder / "adapter_config.json").is_file() or not path.exists():
        return frozenset()
    listed = read_object(path, _REMEDY).get("eos_token_id")
    if listed is None:
        return frozenset()
    ids = listed if isinstance(listed, list) else [listed]
    for i in ids:
        if type(i) is not int or not 0 <= i < width:
            raise ModelError(
                f"{path}: eos_token_id holds {i!r}, no id below the model's {width:,}; give the ids of tokens that "
                f"the model has, or {_REMEDY}"
            )
    return frozenset(ids)
