"""The model card of a trained policy: `README.md` beside its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def model_card(facts: Mapping[str, object], base: str) -> str:
    """Markdown for the Hugging Face hub.

    `facts` are those of `statewise.json`: study, arm, seed, steps, teachers, prompts.
    """
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
library_name: transformers
---
# {facts["arm"]} of the study {facts["study"]}

Trained by statewise. The resolved study, the environment and the scores are in the run folder above.

| | |
|---|---|
{table}

**License.** These weights derive from the base, and from the teachers and data named in the study: the
terms of those hold for them too. statewise adds none of its own.
"""
