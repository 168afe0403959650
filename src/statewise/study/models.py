"""Which files stand behind the policies that a study names."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from statewise.arms import Arm, references
from statewise.errors import ModelError, RunError
from statewise.policy import LIVE, Policy, PolicyRef
from statewise.store import MARKER as MARKER
from statewise.store import artefacts, is_there, read_json
from statewise.study.model_card import public_name
from statewise.study.spec import BASE, Study
from statewise.trajectory_store import same_fingerprint

WORLD_BASE = "world"
SMALL_BYTES = 1 << 26
BASE_SEED = 0
"""The base does not train, so it has one folder: this seed's."""


def world_base() -> str:
    """Directory of the embedded base."""
    return str(files("statewise.world") / "base")


def base_location(study: Study) -> str:
    """Directory or hub name of the study's base."""
    return world_base() if study.base == WORLD_BASE else study.base


def _folder(location: str) -> Path:
    """The place as a path; for a hub name one where nothing lies."""
    return Path(location).expanduser()


def is_small(study: Study) -> bool:
    """True where the base has so few weights that one core a model is faster than all cores for one."""
    weights = list(_folder(base_location(study)).glob("*.safetensors"))
    return best_device() == "cpu" and 0 < sum(file.stat().st_size for file in weights) < SMALL_BYTES


def best_device() -> str:
    """The accelerator if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def marker(location: str) -> dict[str, Any]:
    """What statewise wrote beside the weights; empty for models that it did not write."""
    path = _folder(location) / MARKER
    return read_json(path, artefacts.MARKER) if is_there(path) else {}


def teacher_names(arm: Arm | None) -> tuple[str, ...]:
    """Names of the policies that teach an arm; the student itself and its averages are none of them.

    None, for what does not train (`Study.trained_as`), has no teachers.
    """
    if arm is None:
        return ()
    return tuple(dict.fromkeys(ref.name for ref in references(arm.streams) if ref.name != LIVE))


def external_refs(study: Study, arm: Arm) -> list[PolicyRef]:
    """Policies that an arm names from outside the study: directories, hub names."""
    names = {BASE, LIVE, *(other.name for other in study.arms)}
    return list(dict.fromkeys(ref for ref in references(arm) if ref.name not in names))


def root_of(study: Study, name: str) -> str:
    """The model that the weights of an arm or null come from, through the arms that it starts from."""
    while name in study.names:
        name = study.start(name).name
    return name


# Pickles are not read; they stay in the list because fingerprints of runs before hold them.
FINGERPRINTED = ("*.safetensors", "*.bin", "config.json", "adapter_config.json", "tokenizer.json")
STOPPING = ("generation_config.json", "tokenizer_config.json")
"""Files that say where a model stops; a fingerprint of runs before does not cover them."""


def fingerprint(location: str) -> str:
    """What tells one model from another: a digest of its files, or the name on the hub.

    `sha256:WEIGHTS+STOPS`: the second part covers the files that say where a model stops. Compare two by
    `same_fingerprint`.
    """
    folder = _folder(location)
    found = sorted({path for pattern in FINGERPRINTED for path in folder.glob(pattern)})
    if not found:
        return location
    stops = [folder / name for name in STOPPING if (folder / name).is_file()]
    return f"sha256:{_digest(found)}+{_digest(stops)}"


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()


def outside_models(study: Study) -> dict[str, str]:
    """Places of the base and of every model from outside that an arm names, by a name without a path.

    Two places of one name get a digest of their place behind it.
    """
    refs = dict.fromkeys(ref.name for arm in study.arms for ref in external_refs(study, arm))
    names = {location: public_name(location) for location in refs}
    often = Counter([BASE, *names.values()])
    keys = {
        location: name if often[name] == 1 else f"{name}-{_short(location)}"
        for location, name in names.items()
    }
    return {BASE: base_location(study)} | {keys[location]: location for location in refs}


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def fingerprints(study: Study) -> dict[str, str]:
    """Fingerprint of each of `outside_models`, by its name."""
    return {name: fingerprint(place) for name, place in outside_models(study).items()}


def exchanged(study: Study, begun: Mapping[str, str], mine: Mapping[str, str]) -> dict[str, str]:
    """Places, by name, of the models that are others than a run was begun with.

    `begun` are the run's fingerprints, `mine` are today's (`fingerprints`). A model that the run did not know
    is none of them. Runs of before call a model by its place.
    """
    places = outside_models(study)
    return {
        name: places[name]
        for name, print_ in mine.items()
        if not same_fingerprint(begun.get(name, begun.get(places[name], print_)), print_)
    }


def refuse_foreign(directory: Path, key: str) -> None:
    """Refuse to write a model over anything but one of its own kind, whose marker holds `key`."""
    if directory.exists() and not directory.is_dir():
        raise RunError(f"{directory} is a file; give a directory")
    if directory.is_dir() and any(directory.iterdir()) and key not in marker(str(directory)):
        raise RunError(
            f"{directory} is not empty and was not written by this command (no {key!r} in its {MARKER}); "
            "give a new directory"
        )


def check_ends(first: Policy, second: Policy) -> None:
    """Refuse two policies with nothing between them: other weights, or other tokens, than each other.

    Adapters do not count: an interpolation merges them. Raises ModelError.
    """
    check_same_encoding(first, second)
    shapes = [{n: p.shape for n, p in end.module.named_parameters()} for end in (first, second)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            "nothing lies between two policies with other weights than each other (layers, widths or "
            "vocabulary differ); interpolate between an arm and what it started from"
        )


def check_same_encoding(student: Policy, teacher: Policy, *, own_prompts: bool = False) -> None:
    """Refuse a teacher that reads other tokens. Equal width proves nothing; equal encodings do.

    Encodings include what stands before every text (a bos token): the teacher reads the student's rows, which
    begin as the student's do. With `own_prompts` it reads a context of its own, which may begin otherwise.
    Heads of different width over one tokenizer (padding of the vocabulary) are refused too. Raises ModelError.
    """
    mine, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    text = "Question: 12 + 30 = 42?\nAnswer: it's 42, naturally."
    if mine != theirs or student.to_ids(text).tolist() != teacher.to_ids(text).tolist():
        odd = sorted(set(mine.items()) ^ set(theirs.items()))[:3]
        raise ModelError(
            f"{teacher.name} encodes text differently from the student (for example {odd}); "
            "a teacher must share the student's tokenizer"
        )
    begun = student.prefix_ids.tolist(), teacher.prefix_ids.tolist()
    if begun[0] != begun[1] and not own_prompts:
        mine, theirs = (
            " ".join(map(str, policy.tokenizer.convert_ids_to_tokens(ids))) or "no token"
            for policy, ids in zip((student, teacher), begun, strict=True)
        )
        raise ModelError(
            f"{teacher.name} begins every text with {theirs} (ids {begun[1]}), the student with {mine} (ids "
            f"{begun[0]}): it would read rows as it never does; copy the student's tokenizer files into a copy of "
            "the teacher's folder, or the teacher's into one of the student's"
        )
    widths = student.head_weight()[0].shape[0], teacher.head_weight()[0].shape[0]
    if widths[0] != widths[1]:
        raise ModelError(
            f"{teacher.name} scores {widths[1]:,} tokens and the student {widths[0]:,}: their heads are "
            "padded differently; resize the teacher's embeddings to the student's width"
        )
