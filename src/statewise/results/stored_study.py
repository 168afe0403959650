"""The study of a run folder as plain data, for readers that do not need it whole: reports, and the server.

A folder may come from a stranger, or be of before: what a report reads is checked, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from statewise.errors import ConfigError, RunError
from statewise.limits import MOST_SEEDS
from statewise.store import RunFolder, is_name, misfit
from statewise.yaml12 import load_yaml

SHAPE = {
    "name": str,
    "question?": (str, None),
    "notes?": (str, [str], None),
    "seeds?": (int, [int], None),
    "tasks": [{"name": str, "role": str, "metric?": (str, None), "label?": (str, None)}],
    "arms": [{"name": str, "budget?": (dict, None)}],
    "nulls?": ([{"kind": str, "name": str, "of?": str, "between?": [str]}], None),
    "claims?": ([dict], None),
    "match?": ({"target?": (str, int, float, None), "arms?": ([str], None)}, None),
    "drift?": (dict, None),
    "probes?": (dict, None),
}


def stored_study(run_dir: Path) -> dict[str, Any]:
    """Read `study.yaml`. Raises RunError where the folder is no run's, or the file is damaged."""
    path = RunFolder(run_dir).must_exist()
    again = f"restore it, or delete {path} and run the same study again"
    try:
        study = load_yaml(path)
    except ConfigError as error:
        raise RunError(f"{error}; {again}") from error
    lacking = [key for key in ("name", "tasks", "arms") if not study.get(key)]
    what = f"no {', '.join(lacking)}" if lacking else misfit(study, SHAPE)
    names = [*(study.get("arms") or ()), *(study.get("nulls") or ())] if what is None else []
    odd = next((one["name"] for one in names if not is_name(one["name"])), None)
    if odd is not None:
        what = f"{odd[:60]!r} is no name of an arm"
    elif isinstance(study.get("seeds"), int) and not 0 <= study["seeds"] <= MOST_SEEDS:
        what = f"{study['seeds']} seeds"
    if what:
        raise RunError(f"{path} is damaged ({what}); {again}")
    return study


POLICIES = ("start", "teacher", "reference")
"""Keys of an arm whose value may be the name of another arm."""


def needs(study: Mapping[str, Any]) -> dict[str, set[str]]:
    """For each arm and null of a stored study, the arms that have to be trained before it.

    >>> arms = [{"name": "t"}, {"name": "s", "streams": [{"source": {"teacher": "t"}}]}]
    >>> nulls = [{"name": "n", "kind": "early_stop", "of": "s", "matched_to": "u"}]
    >>> {name: sorted(found) for name, found in needs({"arms": arms, "nulls": nulls}).items()}
    {'t': [], 's': ['t'], 'n': ['t']}
    """
    arms = {str(arm["name"]): arm for arm in study.get("arms") or ()}
    nulls = {str(null["name"]): null for null in study.get("nulls") or ()}
    found = {name: set(_references(arm)) for name, arm in arms.items()}
    for name, null in nulls.items():
        own = {str(other) for other in (*(null.get("between") or ()), null.get("matched_to"))}
        found[name] = own | found.get(null.get("of"), set())
    match = study.get("match") or {}
    target = match.get("target")
    for name in match.get("arms") or arms:
        if isinstance(target, str) and name in found and name not in before(target, found):
            found[name].add(target)
    return {name: {o for o in others if o in found} - {name} for name, others in found.items()}


def before(name: str, direct: Mapping[str, set[str]]) -> set[str]:
    """An arm and all that it needs, however far behind it."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            waiting += direct.get(one, ())
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key in POLICIES and isinstance(part, str):
                yield part
            else:
                yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)
