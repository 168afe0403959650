"""The model card of a trained policy: `README.md` beside its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def public_name(location: str) -> str:
    """What a model is called where others read it: a hub's name, or the last part of a path of this machine.

    >>> public_name("someone/a-model"), public_name("/home/me/models/mine"), public_name("models/mine/")
    ('someone/a-model', 'mine', 'models/mine')
    """
    path = Path(location).expanduser()
    if path.is_absolute() or path.is_dir():
        return "world" if path.resolve().is_relative_to(PACKAGE / "world") else path.resolve().name
    return str(path)


def model_card(facts: Mapping[str, object], location: str, *, adapter: bool = False) -> str:
    """Markdown for the Hugging Face hub.

    `facts` are those of `statewise.json`: study, arm, seed, steps, teachers, prompts. `location` is the base's;
    no path of this machine is written.
    """
    base = public_name(location)
    teachers, prompts = facts["teachers"], facts["prompts"]
    assert isinstance(teachers, Sequence)
    assert isinstance(prompts, Sequence)
    rows = {
        "study": facts["study"],
        "arm": facts["arm"],
        "seed": facts["seed"],
        "steps": facts["steps"],
        "teachers": ", ".join(map(str, teachers)) or "none",
        "base": base,
        "prompts": ", ".join(f"{count:,}" for count in prompts),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""---
library_name: {"peft" if adapter else "transformers"}
base_model: {base}
---
# {facts["arm"]} of the study {facts["study"]}

Trained by statewise. The resolved study, the environment and the scores are in the run folder above.

| | |
|---|---|
{table}

**License.** These weights derive from the base, and from the teachers and data named in the study: the
terms of those hold for them too. statewise adds none of its own.
"""
