"""The files of a model, read before transformers sees them: one line for whatever is wrong with one.

Nothing here runs what a model brings along. Weights are read from safetensors alone: the other formats
are Python pickles, which run what they hold.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from statewise.errors import ModelError
from statewise.files import parse_json, read_text, shown
from statewise.lazy import torch

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
ATTENTION = (None, "sdpa", "eager")
LARGEST = 2**31 - 1
"""The largest whole number that a config may hold: nothing in a model is counted further."""
FLOATS = ("F64", "F32", "F16", "BF16")
Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and type of each tensor of the weights."""

_AGAIN = "fetch the model again"
_LOOPS = re.compile(r"(?:^|\.)(?:n|num)_\w*(?:layer|block|expert)s?\b|layers$|depth$|experts$")
"""Keys that say how often something is built, not how wide a tensor is."""
_ROTATION = {"rope_parameters", "rope_scaling"}
_POSITIVE = {
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "low_freq_factor",
    "high_freq_factor",
    "short_factor",
    "long_factor",
}
FEW = 1000
"""So often anything may be built."""


# ---- JSON -----------------------------------------------------------------------------------


def read_object(path: Path, remedy: str = _AGAIN) -> dict[str, Any]:
    """The JSON object in a file, read strictly. Raises ModelError, naming the file, where there is none."""
    return _object(
        parse_json(_text(path, remedy), shown(path), error=ModelError, remedy=remedy), path, remedy
    )


def read_words(path: Path) -> dict[str, Any]:
    """The JSON object in a tokenizer's file: transformers writes 10^30 there for "no limit"."""
    remedy = "copy the tokenizer's files again from where the model was published"
    try:
        value = json.loads(_text(path, remedy))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); {remedy}") from error
    return _object(value, path, remedy)


def _text(path: Path, remedy: str) -> str:
    return read_text(path, "file of a model", error=ModelError, hint=remedy, remedy=remedy)


def _object(value: Any, path: Path, remedy: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelError(
            f"{path} holds a {type(value).__name__} where a JSON object belongs; {remedy}"
        )
    return value


def _positive(config: Mapping[str, Any], path: Path, *keys: str) -> None:
    for key in keys:
        found = config.get(key, 1)
        if isinstance(found, bool) or not isinstance(found, int) or found < 1:
            raise ModelError(f"{path}: {key} must be a whole number from 1, found {found!r}")


def refuse_code(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a config that names code which comes with the model."""
    if "auto_map" in config:
        raise ModelError(
            f"{path}: auto_map names Python code that comes with the model, and statewise runs none; delete "
            "the key to load the model with transformers' own class of its model_type, or choose another model"
        )


def read_config(path: Path) -> dict[str, Any]:
    """`config.json`, with nothing in it that would run code, read other files or fill memory.

    Raises ModelError, naming file and key.
    """
    config = read_object(path)
    refuse_code(config, path)
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise ModelError(f"{path}: model_type must name an architecture, found {kind!r}; {_AGAIN}")
    if (
        config.get("quantization_config") is not None
        or config.get("compression_config") is not None
    ):
        raise ModelError(
            f"{path}: the weights are quantised, and training moves them by less than their grid; take the "
            "model that was quantised"
        )
    if config.get("transformers_weights") is not None:
        raise ModelError(
            f"{path}: transformers_weights names other weights; delete the key and call the file {WEIGHTS}"
        )
    for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        if config.get(key) not in ATTENTION and key in config:
            raise ModelError(
                f"{path}: {key} asks for kernels of its own ({config[key]!r}); delete the key"
            )
    for key in ("fusion_config", "kernel_config", "distributed_config"):
        if config.get(key) is not None:
            raise ModelError(f"{path}: {key} changes the modules of the model; delete the key")
    for key, value in _leaves(config):
        if isinstance(value, float) and not math.isfinite(value):
            raise ModelError(f"{path}: {key} is {value}, no finite number; {_AGAIN}")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ModelError(f"{path}: {key} is {value:.3g}, more than {LARGEST:,}; {_AGAIN}")
    _refuse_rotations(config, path)
    return config


def _refuse_rotations(config: Mapping[str, Any], path: Path) -> None:
    """Refuse numbers of a rotary embedding that mean nothing; transformers warns of some and goes on."""
    for key, value in _leaves(config):
        *above, name = key.split(".")
        if not (name == "rope_theta" or (_ROTATION & set(above) and name in _POSITIVE)):
            continue
        least = 1 if name in ("factor", "original_max_position_embeddings") else 0
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and (value >= least if least else value > 0)):
            asked = "a number from 1" if least else "a number above 0"
            raise ModelError(f"{path}: {key} must be {asked}, found {value!r}; {_AGAIN}")


def refuse_loops(config: Mapping[str, Any], path: Path, shapes: Shapes) -> None:
    """Refuse a config that asks for more layers or experts than the weights can hold."""
    most = max([FEW, len(shapes), *(n for shape, _ in shapes.values() for n in shape)])
    for key, value in _leaves(config):
        is_count = _LOOPS.search(key) and isinstance(value, int) and not isinstance(value, bool)
        if is_count and value > most:
            raise ModelError(
                f"{path}: {key} is {value:,}, and the weights beside it hold {len(shapes):,} tensors; {_AGAIN}"
            )


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def read_adapter_config(path: Path) -> dict[str, Any]:
    """`adapter_config.json`. Raises ModelError, naming file and key."""
    config = read_object(path, "fetch the adapter again")
    for key in ("peft_type", "base_model_name_or_path"):
        if not isinstance(config.get(key), str) or not config[key]:
            end = "the base model's folder or name" if key.startswith("base") else "such as LORA"
            raise ModelError(f"{path}: {key} must be text, {end}; found {config.get(key)!r}")
    if config["peft_type"] == "LORA":
        _positive(config, path, "r")
    return config


# ---- weights --------------------------------------------------------------------------------


def refuse_pickles(folder: Path, wanted: str, stem: str) -> None:
    """Refuse weights that are there as pickles alone, with the conversion to do."""
    if (folder / wanted).is_file() or (folder / f"{wanted}.index.json").is_file():
        return
    found = sorted(
        p.name for p in folder.iterdir() if p.suffix in PICKLES and "optimizer" not in p.name
    )
    if not found:
        raise ModelError(
            f"no weights in {folder}: expected {wanted}{'' if stem != 'model' else f' or {INDEX}'}; "
            "fetch them, or name another folder"
        )
    places = repr([str((folder / name).absolute()) for name in found])
    if len(found) > 3:  # a line that can be read
        pattern = str(folder.absolute() / f"*{Path(found[0]).suffix}")
        places = f"sorted(__import__('glob').glob({pattern!r}))"
    script = (
        "import torch; from safetensors.torch import save_file; w = {}; "
        f"[w.update(torch.load(f, map_location='cpu', weights_only=True)) for f in {places}]; "
        "save_file({k: v.clone().contiguous() for k, v in w.items()}, "
        f"{str((folder / wanted).absolute())!r}, {{'format': 'pt'}})"
    )
    raise ModelError(
        f"the weights in {folder} are pickled ({', '.join(found)}), which may run code; statewise reads "
        f"safetensors alone. Where you trust them, convert them once: python -c {shlex.quote(script)}"
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, in this folder and nowhere else. Raises ModelError."""
    refuse_pickles(folder, WEIGHTS, "model")
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index}: weight_map must say in which file each tensor is; {_AGAIN}")
    files = []
    for tensor, name in places.items():
        if not isinstance(name, str) or not _is_plain(name):
            raise ModelError(
                f"{index}: weight_map puts {tensor} into {name!r}, which is no safetensors file of this "
                f"folder; {_AGAIN}"
            )
        files.append(folder / name)
    files = sorted(set(files))
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(
            f"{index} names {missing[0]}, and there is no such file ({len(missing)} of {len(files)} are "
            f"missing); {_AGAIN}"
        )
    return files


def _is_plain(name: str) -> bool:
    return (
        name.endswith(".safetensors")
        and name == Path(name).name
        and not re.search(r"[\0\\]", name)
        and not name.startswith(".")
    )


def read_shapes(files: Sequence[Path]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor, from the headers alone. Raises ModelError for a damaged file."""
    from safetensors import SafetensorError, safe_open  # with torch, slow to import

    found = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - no mapping
                    part = file.get_slice(name)
                    found[name] = (tuple(part.get_shape()), str(part.get_dtype()))
        except (OSError, ValueError, SafetensorError) as error:
            raise _damaged(path, error) from error
    odd = [
        name for name, (_, kind) in found.items() if name.endswith("weight") and kind not in FLOATS
    ]
    if odd:
        raise ModelError(
            f"{files[0].parent}: {odd[0]} is stored as {found[odd[0]][1]}: the weights are quantised; take the "
            "model that was quantised"
        )
    return found


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a file. Raises ModelError for a damaged one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0]
    return ModelError(f"{path} is no whole safetensors file ({reason}); {_AGAIN}")
