"""A study file as plain data, with the command line's changes.

A file that is not there, is no YAML, holds itself or a billion values, an override that reaches nothing,
and code that nobody trusts are refused here. What the data mean is for `from_plain` and the classes of a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from statewise.config import override
from statewise.errors import ConfigError
from statewise.limits import MOST_SEEDS, Within, check_range
from statewise.user_code import seal
from statewise.yaml12 import load_yaml


def plain_study(
    location: str,
    assignments: Sequence[str] = (),
    *,
    seeds: int | None = None,
    data: str | None = None,
    trust_code: bool = False,
) -> dict[str, Any]:
    """The plain data of a study file, or of one that ships with the package, changed as asked.

    `assignments` are those of `--set`; `seeds` N means seeds 0 to N-1; `data` is a folder with local
    files for every benchmark that the study names. Raises ConfigError with place and path.
    """
    plain = read_plain_study(location)
    for assignment in assignments:
        plain = override(plain, assignment)
    if seeds is not None:
        check_range(seeds, Within(1, MOST_SEEDS), "--seeds")
        plain["seeds"] = list(range(seeds))
    if data is not None:
        if not Path(data).is_dir():
            raise ConfigError(f"--data: no folder at {data}")
        plain = with_local_data(plain, data)
    return seal(plain, trust=trust_code)


def with_local_data(plain: Any, folder: str) -> Any:
    """The same plain study, its benchmarks read from a local folder.

    >>> with_local_data({"tasks": [{"name": "mmlu"}, {"name": "pocket_gsm"}],
    ...                  "prompts": {"kind": "gsm8k"}}, "d")
    {'tasks': [{'name': 'mmlu', 'data': 'd'}, {'name': 'pocket_gsm'}], 'prompts': {'kind': 'gsm8k', 'folder': 'd'}}
    """
    if isinstance(plain, list):
        return [with_local_data(item, folder) for item in plain]
    if not isinstance(plain, dict):
        return plain
    found = {key: with_local_data(value, folder) for key, value in plain.items()}
    if found.get("prompts") == "gsm8k":  # the bare name of the kind
        found["prompts"] = {"kind": "gsm8k", "folder": folder}
    if found.get("kind") == "gsm8k":
        found["folder"] = folder
    for key in ("tasks", "task"):
        tasks = found.get(key)
        # What is no task is left for `from_plain` to refuse.
        for task in tasks if isinstance(tasks, list) else [tasks]:
            if isinstance(task, dict) and not str(task.get("name", "")).startswith("pocket_"):
                task["data"] = folder
    return found


def read_plain_study(location: str) -> dict[str, Any]:
    """A study file as plain data, checked for syntax only."""
    shipped = {
        Path(entry.name).stem: entry
        for entry in files("statewise.studies").iterdir()
        if entry.name.endswith(".yaml")
    }
    path = shipped.get(location, location)
    return load_yaml(Path(str(path)), hint=f"shipped studies: {', '.join(sorted(shipped))}")
