"""Stored state samples: trajectories with the provenance of every token, as Parquet.

One row a trajectory. Lists have one entry a token, prompt tokens first. Columns:
    sample              string          name of the sample (`base`, `learner`)
    prompt_id           string
    group_id            string
    prompt_tokens       int32           how many of the tokens are the prompt's
    token_ids           list<int32>     prompt and completion
    weights             list<float>     supervision weight of the state before each token
    owner_codes         list<int16>     index into `owners`, for each token
    owners              list<string>
    origins             list<string>    who wrote the completion before each token: the origin of its state
    depths              list<int32>     tokens of the completion before each token; negative in the prompt
    behaviour_logprobs  list<float>     nats under the sampling transform, nan = unknown
    temperature, top_p, top_k           the sampling transform; null where nothing was sampled
    stopped             bool            ended by its own stop token
    prompt, completion, reference       string

`origins` and `depths` follow from the rest; they are written for readers in other languages. What is
known of a whole sample (the policy that drew it, where its prompts come from) is JSON under the key
`statewise` of the file's metadata. Any Parquet reader opens the file; by token, in pandas:

    lists = ["token_ids", "origins", "depths", "behaviour_logprobs"]
    tokens = pandas.read_parquet(path).explode(lists)
    tokens[tokens.depths >= 0].groupby("sample").behaviour_logprobs.mean()
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from statewise.errors import RunError, nearest
from statewise.store import damaged, is_there, misfit, read_table, whole_file
from statewise.trajectory import Prompt, Sampling, Trajectory, origins

SCHEMA = pa.schema(
    [
        ("sample", pa.string()),
        ("prompt_id", pa.string()),
        ("group_id", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("weights", pa.list_(pa.float32())),
        ("owner_codes", pa.list_(pa.int16())),
        ("owners", pa.list_(pa.string())),
        ("origins", pa.list_(pa.string())),
        ("depths", pa.list_(pa.int32())),
        ("behaviour_logprobs", pa.list_(pa.float32())),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("top_k", pa.int32()),
        ("stopped", pa.bool_()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("reference", pa.string()),
    ]
)


METADATA = b"statewise"
"""Key of the file's metadata that holds what is known of each sample, as JSON."""


@dataclass(frozen=True, slots=True)
class About:
    """What is known of one sample as a whole.

    `policy` names who drew it and `fingerprint` tells its weights from others'; both are None where
    nobody did (gold completions). `prompts` says whose prompts they are.
    """

    policy: str | None = None
    location: str | None = None
    fingerprint: str | None = None
    prompts: str | None = None
    seed: int | None = None
    max_new_tokens: int | None = None


def same_fingerprint(one: str | None, other: str | None) -> bool:
    """True where two fingerprints may be one model's: those of runs before lack the part on where it stops.

    >>> same_fingerprint("sha256:ab", "sha256:ab+cd"), same_fingerprint("sha256:ab+ef", "sha256:ab+cd")
    (True, False)
    """
    if one is None or other is None:
        return one is other
    first, second = one.split("+"), other.split("+")
    parted = one.startswith("sha256:") and other.startswith("sha256:")
    return one == other or (parted and first[0] == second[0] and 1 in (len(first), len(second)))


ABOUT = {
    **dict.fromkeys(("policy?", "location?", "fingerprint?", "prompts?"), (str, None)),
    **dict.fromkeys(("seed?", "max_new_tokens?"), (int, None)),
}
"""What `About` is as plain data."""


def write_states(
    path: Path,
    samples: Mapping[str, Sequence[Trajectory]],
    about: Mapping[str, About] | None = None,
) -> None:
    """Write named samples of trajectories, whole or not at all."""
    rows = [
        {
            "sample": name,
            "prompt_id": t.prompt.id,
            "group_id": t.group_id,
            "prompt_tokens": t.prompt_tokens,
            "token_ids": t.token_ids,
            "weights": t.weights,
            "owner_codes": t.owner_codes,
            "owners": list(t.owners),
            "origins": origins(t),
            "depths": np.arange(len(t), dtype=np.int32) - t.prompt_tokens,
            "behaviour_logprobs": t.behaviour_logprobs,
            "temperature": t.sampling.temperature if t.sampling else None,
            "top_p": t.sampling.top_p if t.sampling else None,
            "top_k": t.sampling.top_k if t.sampling else None,
            "stopped": t.stopped,
            "prompt": t.prompt.text,
            "completion": t.completion,
            "reference": t.prompt.reference,
        }
        for name, trajectories in samples.items()
        for t in trajectories
    ]
    known = {name: asdict(value) for name, value in (about or {}).items()}
    schema = SCHEMA.with_metadata({METADATA: json.dumps(known).encode()}) if known else SCHEMA
    with whole_file(path) as beside:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), beside, compression="zstd")


def sample_names(path: Path) -> list[str]:
    """Names of the samples of a file, in the order they were written.

    Raises RunError where there is no file, or another one.
    """
    column = _table(path, ["sample"]).column("sample")
    return list(dict.fromkeys(str(name) for name in column.to_pylist()))


def read_about(path: Path) -> dict[str, About]:
    """What a file says of its samples; a sample that it says nothing of has an empty `About`."""
    names = sample_names(path)
    stored = (pq.read_schema(path).metadata or {}).get(METADATA, b"{}")
    try:
        known = json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise damaged(path, "what it says of its samples is no JSON") from error
    what = misfit(known, {str: ABOUT})
    if what:
        raise damaged(path, f"what it says of its samples: {what}")
    fields = About.__dataclass_fields__
    return {
        name: About(**{key: value for key, value in known.get(name, {}).items() if key in fields})
        for name in names
    }


def read_states(path: Path, sample: str) -> list[Trajectory]:
    """The trajectories of one named sample, in the order they were written.

    Raises RunError where the file or the sample is missing.
    """
    table = _table(path, _NEEDED)
    rows = [row for row in table.to_pylist() if row["sample"] == sample]
    if not rows:
        raise RunError(f"{path} holds no sample {sample!r}; {nearest(sample, sample_names(path))}")
    for place, row in enumerate(rows):
        fault = _fault(row)
        if fault:
            raise damaged(path, f"row {place + 1} of sample {sample!r}: {fault}")
    return [_trajectory(row) for row in rows]


# Files of earlier versions have neither of the two that follow from the rest.
_NEEDED = [name for name in SCHEMA.names if name not in ("origins", "depths")]


def _table(path: Path, columns: list[str]) -> pa.Table:
    if not is_there(path):
        raise RunError(f"no state sample at {path}; `statewise states` draws and stores one")
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    return read_table(path, schema, what="state samples")


LISTS = ("token_ids", "weights", "owner_codes", "behaviour_logprobs")
"""Columns with an entry a token."""
GIVEN = ("prompt_id", "group_id", "prompt", "completion", "owners", "stopped", *LISTS)
"""Columns without which a row is no trajectory."""


def _fault(row: Mapping[str, Any]) -> str | None:
    """Why a row is no trajectory; None for one that is."""
    missing = [name for name in GIVEN if row[name] is None]
    if missing:
        return f"no {missing[0]}"
    length, prompt = len(row["token_ids"]), row["prompt_tokens"]
    for name in LISTS:
        if len(row[name]) != length:
            return f"{len(row[name])} {name} for {length} tokens"
        if any(value is None for value in row[name]):
            return f"a gap in {name}"
    if prompt is None or not 0 <= prompt <= length:
        return f"{prompt} tokens of {length} are the prompt's"
    if any(not 0 <= code < len(row["owners"]) for code in row["owner_codes"]):
        return "a token of nobody"
    if any(token < 0 for token in row["token_ids"]):
        return "a negative token id"
    if not all(isfinite(weight) for weight in row["weights"]):
        return "a weight that is infinite or not a number"
    drawn = row["temperature"]
    if drawn is not None and not (isfinite(drawn) and row["top_p"] is not None):
        return "no sampling transform"
    return None


def _trajectory(row: Mapping[str, Any]) -> Trajectory:
    token_ids = np.array(row["token_ids"], np.int32)
    prompt = Prompt(
        id=str(row["prompt_id"]),
        text=str(row["prompt"]),
        token_ids=token_ids[: row["prompt_tokens"]],
        reference=row["reference"],
    )
    sampling = None
    if row["temperature"] is not None:
        sampling = Sampling(row["temperature"], row["top_p"], row["top_k"])
    return Trajectory(
        prompt=prompt,
        group_id=str(row["group_id"]),
        token_ids=token_ids,
        weights=np.array(row["weights"], np.float32),
        owner_codes=np.array(row["owner_codes"], np.int16),
        owners=tuple(row["owners"]),
        behaviour_logprobs=np.array(row["behaviour_logprobs"], np.float32),
        sampling=sampling,
        completion=str(row["completion"]),
        stopped=bool(row["stopped"]),
    )
