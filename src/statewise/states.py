"""Stored state samples: trajectories with the provenance of every token, as Parquet.

One row a trajectory. Columns:
    sample              string          name of the sample (`base`, `learner`)
    prompt_id           string
    group_id            string
    prompt_tokens       int32           how many of the tokens are the prompt's
    token_ids           list<int32>     prompt and completion
    weights             list<float>     supervision weight of the state before each token
    owner_codes         list<int16>     index into `owners`, for each token
    owners              list<string>
    behaviour_logprobs  list<float>     nats under the sampling transform, nan = unknown
    temperature, top_p, top_k           the sampling transform; null where nothing was sampled
    stopped             bool            ended by its own stop token
    prompt, completion, reference       string
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from statewise.errors import RunError
from statewise.store import whole_file
from statewise.trajectory import Prompt, Sampling, Trajectory

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


def write_states(path: Path, samples: Mapping[str, Sequence[Trajectory]]) -> None:
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
    with whole_file(path) as beside:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), beside, compression="zstd")


def read_states(path: Path, sample: str) -> list[Trajectory]:
    """The trajectories of one named sample, in the order they were written.

    Raises RunError where the file or the sample is missing.
    """
    if not path.is_file():
        raise RunError(f"no state sample at {path}; run the study that stores it")
    rows = [
        row for row in pq.read_table(path, schema=SCHEMA).to_pylist() if row["sample"] == sample
    ]
    if not rows:
        raise RunError(f"{path} holds no sample {sample!r}")
    return [_trajectory(row) for row in rows]


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
