"""What the report says of stop tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statewise.store import MARKER, artefacts, read_json


def stop_notes(study: Mapping[str, Any], folders: Mapping[str, Mapping[int, Path]]) -> list[str]:
    """Where students and teachers stop, for the report of a study that had to choose.

    `folders` are those of the arms by seed.
    """
    choice = study.get("stop_tokens")
    if not choice:
        return []
    arms: dict[str, list[str]] = {}
    for name, seeds in folders.items():
        places = [folder / "policy" / MARKER for folder in seeds.values()]
        for place in (place for place in places if place.is_file()):
            known = read_json(place, artefacts.MARKER).get("stop_tokens") or {}
            said = "; ".join(f"{policy} at {tokens}" for policy, tokens in known.items())
            if len(known) > 1 and name not in arms.setdefault(said, []):
                arms[said].append(name)
    return [
        f"Stop tokens ({choice}) of {', '.join(names)}: {said}." for said, names in arms.items()
    ]
