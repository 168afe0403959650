"""Adapters: which layers one may stand on, and one that was saved, put back on its base."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from statewise.errors import ConfigError, ModelError, nearest
from statewise.lazy import nn, torch
from statewise.policy.checkpoint import (
    read_adapter_config,
    read_object,
    read_tensors,
    refuse_pickles,
)
from statewise.policy.refs import Lora
from statewise.store import write_json

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PACKAGE = Path(__file__).resolve().parents[1]
PACKAGED = "statewise:"
PLACES = ".places.json"
"""In a run folder: where the bases are that its adapters name."""
LEVELS = 6
"""How far above an adapter its run folder may be."""
KINDS = ("ADALORA", "HRA", "IA3", "LN_TUNING", "LOHA", "LOKR", "LORA", "OFT", "VERA")
"""Adapters that act on every token alike: each has a test that its logits are peft's own."""
CHANGES = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
"""Keys of LORA by which it acts on some tokens only, or as no plain pair of matrices."""
LINEAR = ("Linear", "Conv1D")
"""Modules that a low-rank adapter stands on: torch's, and that of GPT-2."""


def check_targets(causal_lm: nn.Module, lora: Lora) -> None:
    """Refuse an adapter on layers that are not there, that are no matrix, or that are head or embeddings.

    A teacher, an anchor and the probes read the head as a plain matrix, and merging into weights that head and
    embeddings share would change both. Raises ConfigError, naming `target_modules`.
    """
    modules = dict(causal_lm.named_modules())
    ends = {name.rsplit(".", 1)[-1] for name, m in modules.items() if type(m).__name__ in LINEAR}
    outer = (causal_lm.get_output_embeddings(), causal_lm.get_input_embeddings())  # pyright: ignore[reportCallIssue]
    for target in lora.target_modules or ():
        matched = [m for name, m in modules.items() if f".{name}".endswith(f".{target}")]
        if any(module is end for module in matched for end in outer):
            raise ConfigError(
                f"target_modules: {target!r} is the head or the embeddings of {type(causal_lm).__name__}; name "
                f"layers between them: {', '.join(sorted(ends - _names(modules, outer)))}"
            )
        if not any(type(module).__name__ in LINEAR for module in matched):
            raise ConfigError(
                f"target_modules: {type(causal_lm).__name__} has no linear layer {target!r}; "
                f"{nearest(target, ends - _names(modules, outer))}"
            )


def _names(modules: dict[str, nn.Module], those: tuple[nn.Module, ...]) -> set[str]:
    return {name.rsplit(".", 1)[-1] for name, m in modules.items() if any(m is x for x in those)}


def add_adapter(causal_lm: nn.Module, lora: Lora, *, seed: int) -> nn.Module:
    """The model with a fresh low-rank adapter, drawn from `seed`. Raises ConfigError; see `check_targets`."""
    from peft import LoraConfig, get_peft_model  # an optional weight on start-up

    check_targets(causal_lm, lora)
    targets = "all-linear" if lora.target_modules is None else list(lora.target_modules)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers for a property under its old name; nobody else can change that.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        torch.manual_seed(seed)
        return get_peft_model(causal_lm, config)


def base_of(folder: Path) -> str:
    """The base model that an adapter names: a directory beside it, one of this machine, or a hub name.

    A path is read from the adapter's own folder; see `name_portably` for the rest.
    """
    name = str(read_adapter_config(folder / CONFIG)["base_model_name_or_path"])
    if name.startswith(PACKAGED):
        return str(PACKAGE / name.removeprefix(PACKAGED))
    if (folder / name).is_dir():
        return str((folder / name).resolve())
    for above in folder.resolve().parents[:LEVELS]:
        if (above / PLACES).is_file():
            return str(read_object(above / PLACES).get(name, name))
    return name


def name_portably(folder: Path, run: Path) -> str:
    """Rewrite the base that a saved adapter names so that its config holds no path of this machine.

    A folder inside `run` is named as seen from the adapter, one of the package by `statewise:`, and any other
    by its last part, whose place is written down in `run/.places.json`: a file of this machine that
    nobody publishes. A hub name stays. Returns the name.
    """
    config = read_adapter_config(folder / CONFIG)
    base, inside = Path(str(config["base_model_name_or_path"])), run.resolve()
    if not base.is_dir():
        return str(base)
    place = base.resolve()
    if place.is_relative_to(inside):
        name = os.path.relpath(place, folder.resolve())
    elif place.is_relative_to(PACKAGE):
        name = f"{PACKAGED}{place.relative_to(PACKAGE).as_posix()}"
    else:
        with _one_at_a_time(run):
            known = read_object(run / PLACES) if (run / PLACES).is_file() else {}
            name = place.name
            if known.get(name, str(place)) != str(place):  # two bases of one name
                name = f"{place.parent.name}-{name}"
            if known.get(name, str(place)) != str(place):
                name = f"{name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
            write_json(run / PLACES, known | {name: str(place)})
    write_json(folder / CONFIG, config | {"base_model_name_or_path": name})
    return name


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a folder while a file in it is read and written again: jobs of several processes end together."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _refuse_unchecked(path: Path) -> None:
    """Refuse adapters that act otherwise than those that were compared with peft, by kind and by key."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType

    config = read_adapter_config(path)
    end = "merge it into its base with peft (merge_and_unload) where peft can, or take another adapter"
    if config["peft_type"] not in KINDS:
        raise ModelError(
            f"{path}: peft_type is {config['peft_type']!r}, and statewise reads {', '.join(KINDS)}; {end}"
        )
    known = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(config["peft_type"])].__dataclass_fields__
    for key, value in config.items():
        if value and key in CHANGES:
            raise ModelError(
                f"{path}: {key} makes the adapter act on some tokens only, or otherwise than as a sum of two "
                f"matrices, and statewise would score another model; {end}"
            )
        if value and key not in known:
            raise ModelError(
                f"{path}: {key} is no key of {config['peft_type']} that the installed peft knows, so what it asks "
                "for would be left out; install the peft that saved the adapter, or delete the key"
            )


def put_on(base: nn.Module, folder: Path, name: str, *, trainable: bool) -> nn.Module:
    """A saved adapter on its base, which is called `name` when it is saved again.

    Raises ModelError where a tensor is missing, foreign or of another shape.
    """
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from peft.tuners.tuners_utils import BaseTunerLayer

    _refuse_unchecked(folder / CONFIG)
    refuse_pickles(folder, WEIGHTS, "adapter_model")
    saved = read_tensors(folder / WEIGHTS)
    config: Any = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = not trainable
    config.base_model_name_or_path = name
    with warnings.catch_warnings():
        # It warns of what is missing; below that is an error.
        warnings.filterwarnings("ignore", message="Found missing adapter keys")
        module: Any = PeftModel.from_pretrained(
            base,
            str(folder),
            is_trainable=trainable,
            config=config,
            torch_device="cpu",
        )
    head = module.get_base_model().get_output_embeddings()
    if isinstance(head, BaseTunerLayer):
        raise ModelError(
            f"{folder}: the adapter stands on the head ({type(head).__name__}), which teachers, anchors and probes "
            "read as a plain matrix; merge it into the base with peft (merge_and_unload) and name the result"
        )
    own = get_peft_model_state_dict(module, save_embedding_layers=False)
    for kind, names in (("lacks", own.keys() - saved.keys()), ("holds", saved.keys() - own.keys())):
        if names:
            first, more = min(names), f" and {len(names) - 1} more" if len(names) > 1 else ""
            end = (
                "which its config asks for"
                if kind == "lacks"
                else "which no layer of the base takes"
            )
            raise ModelError(
                f"{folder / WEIGHTS} {kind} {first}{more}, {end}: config and weights belong to different "
                "adapters, or the base is another model; fetch the adapter again"
            )
    if odd := [
        name
        for name, tensor in saved.items()
        if not torch.equal(own[name].cpu().nan_to_num(), tensor.to(own[name].dtype).nan_to_num())
    ]:
        raise ModelError(f"{folder / WEIGHTS}: {odd[0]} is not in the model that was loaded")
    return module
