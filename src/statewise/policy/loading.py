"""The one door for models: every config, tokenizer, module and adapter comes in here.

    load("models/mine", trainable=True) -> Loaded(module, tokenizer, folder)

A model is a folder of data. Its own Python code is never run and nobody is asked for leave; weights are
safetensors; what transformers would fill up at random, leave out or guess is refused by name. Whatever a
library raises on the way becomes one line that names the file.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statewise.errors import ModelError, StatewiseError
from statewise.lazy import lazy, nn, torch
from statewise.policy import adapters
from statewise.policy.checkpoint import (
    Shapes,
    read_config,
    read_object,
    read_shapes,
    read_words,
    refuse_code,
    refuse_loops,
    weight_files,
)

if TYPE_CHECKING:
    import transformers
else:
    transformers = lazy("transformers")

MODEL_FILES = ("config.json", adapters.CONFIG)
"""A directory that holds one of them is a model's."""
DOWNLOADED = ("*.json", "*.jinja", "*.model", "*.txt", "model*.safetensors", adapters.WEIGHTS)
"""What is fetched of a model on the hub: data, and nothing in folders."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
MOST_BUFFER_ELEMENTS = 1 << 31
FEW_ELEMENTS = 1 << 20
_SMALLER = "free some memory, or take a smaller model"
_NO_MEMORY = ("out of memory", "not enough memory", "allocate memory")


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model in memory, float32, in evaluation mode."""

    module: nn.Module
    tokenizer: transformers.PreTrainedTokenizerBase
    width: int
    """Tokens that it can read and say."""
    folder: Path
    """Where its files lie: of a hub's model in the cache, of an adapter its own and not its base's."""


def load(location: str | Path, *, trainable: bool) -> Loaded:
    """The model in a directory or on the hub: a whole one, or an adapter on the base that it names.

    `trainable` False freezes every weight; True frees those of a full model, or those of the adapter
    alone. Raises ModelError, in one line, where anything is not as it should be.
    """
    folder = find(location)
    if (folder / adapters.CONFIG).is_file():
        named = adapters.base_of(folder)
        base = find(named, needed_by=folder / adapters.CONFIG)
        if (base / adapters.CONFIG).is_file():
            raise ModelError(
                f"{folder / adapters.CONFIG}: the base {base} is an adapter itself; merge that one first"
            )
        whole = _load_module(base, named)
        with _one_line(folder / adapters.CONFIG, "fetch the adapter again, or name its own base"):
            module = adapters.put_on(whole, folder, named, trainable=trainable)
        _refuse_odd_numbers(module, folder)
        words = folder if any((folder / name).is_file() for name in TOKENIZER_FILES) else base
    else:
        module, words = _load_module(folder, str(location)), folder
    tokenizer = load_tokenizer(words)
    width = _width_for(module, tokenizer, words)
    if not trainable:
        module.requires_grad_(requires_grad=False)
    return Loaded(module.eval(), tokenizer, width, folder)


def find(location: str | Path, needed_by: Path | None = None) -> Path:
    """The folder of a model: itself, or that of the hub's cache on this machine."""
    path = Path(location).expanduser()
    end = f" (named by {needed_by}: base_model_name_or_path)" if needed_by else ""
    if "\0" in str(location):
        raise ModelError(f"no model at {str(location)!r}{end}: a name holds no NUL")
    try:
        there = path.exists()
    except OSError as error:
        raise ModelError(f"no model at {location}{end}: {error.strerror}") from error
    if there and not path.is_dir():
        raise ModelError(f"no model at {path}{end}: it is a file; name the folder it is in")
    if there or path.is_absolute() or str(location).startswith((".", "~")):
        if not there:
            raise ModelError(
                f"no model at {path}{end}: there is no such folder; name one with config.json in it"
            )
        if not any((path / name).is_file() for name in MODEL_FILES):
            raise ModelError(f"no model at {path}{end}: expected {' or '.join(MODEL_FILES)} in it")
        return path
    return _fetch(str(location), end)


def _fetch(name: str, end: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(name, allow_patterns=list(DOWNLOADED), ignore_patterns=["*/*"])
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"cannot load a model from {name}{end}: the hub cannot be reached, and its cache on this machine "
            "does not hold the model; go online, or name a directory"
        ) from error
    except HFValidationError as error:
        raise ModelError(
            f"cannot load a model from {name}{end}: there is no such folder, and it is no name on the hub "
            "(owner/model)"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load a model from {name}{end}: {_first_line(error)}") from error
    return Path(found)


# ---- tokenizers -----------------------------------------------------------------------------


def load_tokenizer(folder: Path) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer in a folder. Raises ModelError where its files are missing, damaged or bring code."""
    config = folder / "tokenizer_config.json"
    if not any(
        (folder / name).exists() for name in (*TOKENIZER_FILES, "tokenizer.model", "vocab.json")
    ):
        raise ModelError(
            f"there is no tokenizer in {folder} (expected {' and '.join(TOKENIZER_FILES)}); copy the files from "
            "where the model was published"
        )
    for name in ("special_tokens_map.json", "added_tokens.json"):
        if (folder / name).exists():
            read_words(folder / name)
    if config.exists():
        refuse_code(read_words(config), config)
    named = config if config.exists() else folder / "tokenizer.json"
    with _one_line(named, "copy the tokenizer's files again from where the model was published"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
        tokenizer.encode("a b")
    _refuse_chance(tokenizer, folder)
    return tokenizer


def _refuse_chance(tokenizer: Any, folder: Path) -> None:
    """Refuse a tokenizer that draws how it cuts a text: equal texts would have other ids each time."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    drawn = {"dropout": getattr(model, "dropout", None), "alpha": getattr(model, "alpha", None)}
    pieces: Any = getattr(tokenizer, "sp_model_kwargs", None) or {}
    places = {f"tokenizer.json: model.{key}": value for key, value in drawn.items()}
    places["tokenizer_config.json: sp_model_kwargs.enable_sampling"] = pieces.get("enable_sampling")
    for place, value in places.items():
        if value:
            raise ModelError(
                f"{folder}/{place} is {value!r}: the tokenizer would cut a text otherwise each time; delete the key"
            )


# ---- modules --------------------------------------------------------------------------------


def _load_module(folder: Path, name: str) -> nn.Module:
    """The causal language model in a folder, in float32, every weight of it from its files.

    `name` is what an adapter on it will call it: of a hub's model not the cache's folder.
    """
    place = folder / "config.json"
    plain = read_config(place)
    files = weight_files(folder)
    shapes = read_shapes(files)
    refuse_loops(plain, place, shapes)
    if (folder / "custom_generate").exists():
        raise ModelError(
            f"{folder / 'custom_generate'} is Python code that comes with the model, and statewise runs none; "
            "delete it to decode as statewise does, or choose another model"
        )
    if (folder / "generation_config.json").exists():
        generation = folder / "generation_config.json"
        read_object(generation)
        with _one_line(generation, "delete the file, or fetch it again"):
            transformers.GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    with _one_line(place, "fetch the model again"):
        config = transformers.AutoConfig.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            f"{place}: {plain['model_type']!r} is no causal language model that transformers knows; name a decoder"
        )
    with _one_line(place, "fetch the model again"):
        _refuse_absurd(config, shapes, place)
    with _one_line(folder, "fetch the model again"):
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder),
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    module, told = loaded
    _refuse_gaps(told, module, folder)
    _refuse_untied(module, folder)
    _refuse_odd_numbers(module, folder)
    module.name_or_path = name
    return module


def _refuse_absurd(config: transformers.PreTrainedConfig, shapes: Shapes, place: Path) -> None:
    """Refuse sizes that the files do not hold, before anything of that size is allocated."""
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    wanted = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    held = sum(_count(shape) for shape, _ in shapes.values())
    if wanted > 2 * held + FEW_ELEMENTS:
        raise ModelError(
            f"{place} asks for {wanted:,} weights, and the files beside it hold {held:,}: they belong to "
            "different models; fetch the model again"
        )
    buffers = sum(b.numel() for b in model.buffers())
    if buffers > MOST_BUFFER_ELEMENTS + held:
        raise ModelError(
            f"{place} asks for tables of {buffers:,} numbers beside its weights; fetch the model again"
        )
    _context(config, place)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _context(config: transformers.PreTrainedConfig, place: Path) -> None:
    most: Any = getattr(config.get_text_config(), "max_position_embeddings", 1)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ModelError(
            f"{place}: max_position_embeddings must be a whole number from 1, found {most!r}; fetch the "
            "model again"
        )


def _refuse_gaps(told: dict[str, Any], module: nn.Module, folder: Path) -> None:
    """Refuse weights that do not fill the module, tensor by tensor; what is tied is filled once."""
    kind, where = type(module).__name__, f"the weights in {folder}"
    if wrong := sorted(told["mismatched_keys"]):
        name, found, wanted = wrong[0]
        raise ModelError(
            f"{where}: {name} has shape {_sizes(found)}, and {kind} of its config.json needs {_sizes(wanted)}"
            f"{_more(wrong)}; config and weights belong to different models: fetch the model again"
        )
    if lost := sorted(told["missing_keys"]):
        raise ModelError(
            f"{where} lack {lost[0]}{_more(lost)}, and {kind} has nothing to put there; fetch the model again, "
            "or name the architecture that the weights were saved from in config.json"
        )
    if extra := sorted(told["unexpected_keys"]):
        raise ModelError(
            f"{where} hold {extra[0]}{_more(extra)}, which {kind} does not have: config.json describes another "
            "or a smaller model; fetch the model again"
        )
    if told["error_msgs"]:
        raise ModelError(f"{where} cannot be loaded: {_first_line(told['error_msgs'][0])}")


def _refuse_untied(module: Any, folder: Path) -> None:
    """Refuse a head of its own under a config that ties it: transformers would leave the two apart."""
    head, inner = module.get_output_embeddings(), module.get_input_embeddings()
    tied = module.config.get_text_config().tie_word_embeddings and module.config.tie_word_embeddings
    if not tied or not getattr(module, "_tied_weights_keys", None) or head is None:
        return
    if head.weight is not inner.weight and not torch.equal(head.weight, inner.weight):
        raise ModelError(
            f"{folder / 'config.json'}: tie_word_embeddings is true, and the weights hold a head that is not the "
            "embeddings: config and weights belong to different models; set the key to false where the head was "
            "trained, or fetch the model again"
        )


def _sizes(shape: Any) -> str:
    return " x ".join(map(str, shape))


def _more(names: list[Any]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _refuse_odd_numbers(module: nn.Module, folder: Path) -> None:
    """Refuse weights that hold nan or infinity, by name."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and tensor.numel():
            low, high = tensor.detach().aminmax()
            if not (low.isfinite() and high.isfinite()):
                raise ModelError(
                    f"the weights in {folder}: {name} holds numbers that are not finite; fetch the model "
                    "again, or train it again with a smaller learning rate"
                )


def _width_for(module: nn.Module, tokenizer: Any, folder: Path) -> int:
    """Tokens of a model; refuses a tokenizer with words that it has no row for, and stops that it cannot say.

    Tokens that were added and that no text contains by itself (an image's place) may lie beyond.
    """
    inner: Any = module.get_base_model() if hasattr(module, "get_base_model") else module  # pyright: ignore[reportCallIssue]
    rows = inner.get_input_embeddings().weight.shape[0]
    width = min(rows, inner.get_output_embeddings().weight.shape[0])
    added = set(tokenizer.get_added_vocab().values())
    beyond = {i: t for t, i in tokenizer.get_vocab().items() if i >= width}
    if words := sorted(beyond.keys() - added):
        raise ModelError(
            f"the tokenizer in {folder} has {len(tokenizer):,} tokens (the last is {beyond[words[-1]]!r}, id "
            f"{words[-1]}), and the model has rows for {width:,}: they belong to different models; copy the "
            "tokenizer's files from where the model was published"
        )
    generation = getattr(inner, "generation_config", None)
    named = getattr(generation, "eos_token_id", None)
    stops = {
        f"{folder / 'generation_config.json'}: eos_token_id": named,
        f"{folder / 'tokenizer_config.json'}: eos_token": tokenizer.eos_token_id,
    }
    for place, ids in stops.items():
        for stop in ids if isinstance(ids, list) else [ids]:
            whole = isinstance(stop, int) and not isinstance(stop, bool)
            if stop is not None and not (whole and 0 <= stop < width):
                raise ModelError(
                    f"{place} is {stop!r}, no id below the model's {width:,}: the model could never stop there; "
                    "give the id of a token that the model can say"
                )
    return width


@contextlib.contextmanager
def _one_line(place: Path, remedy: str) -> Iterator[None]:
    """What a library raises over bad files, as one line that names them; its own warnings are not ours.

    The exceptions of three libraries over arbitrary files have no common class, and tokenizers raises
    bare Exception; none is lost, each becomes a ModelError with the first as its cause.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    except StatewiseError:
        raise
    except Exception as error:
        if is_memory(error):
            raise ModelError(f"{place}: not enough memory to load the model; {_SMALLER}") from error
        raise ModelError(f"cannot load a model: {place}: {_first_line(error)}; {remedy}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what Rust code raises where it breaks down
            raise
        raise ModelError(f"cannot load a model: {place}: {_first_line(error)}; {remedy}") from error


@contextlib.contextmanager
def placed(location: str | Path) -> Iterator[None]:
    """Put the model's place in front of what is raised over it, and turn what its modules raise into a line."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"cannot use the model in {location}: {error}") from error
    except Exception as error:
        if is_memory(error):
            raise ModelError(
                f"cannot use the model in {location}: not enough memory for its weights and a pass over a few "
                f"tokens; {_SMALLER}"
            ) from error
        raise ModelError(
            f"cannot use the model in {location}: a pass over a few tokens ends with {type(error).__name__} "
            f"({_first_line(error)}); its config.json asks for what its code cannot do: fetch the model again"
        ) from error


def is_memory(error: BaseException) -> bool:
    """True where memory ran out, of the machine or of an accelerator.

    torch raises RuntimeError for both; that of the machine has no class of its own.

    >>> is_memory(MemoryError()), is_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."))
    (True, True)
    >>> is_memory(RuntimeError("shapes cannot be multiplied"))
    False
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(text in said for text in _NO_MEMORY)


def _first_line(error: object) -> str:
    """What was said, in one line of sensible length; the class where nothing was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    if isinstance(error, KeyError | IndexError | AttributeError | TypeError | AssertionError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 300 else text[:297] + "..."
