"""The state microscope's data: every arm's `microscope.json` as one small JSON document.

Packed so that 40 prompts of seven arms fit a page: one vocabulary for all, by token id (arms of a study share
their base's tokenizer; two ids may have one text), numbers as whole
thousandths (`SCALES`), a column whose numbers are all the same as that one number, and the top
tokens as fixed-width digits (`digits.py`): per state `TOP` times an index into the vocabulary and a
probability in thousandths. `assets/microscope-data.js` reads it back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from statewise.report.page.digits import packed, width_of

TOP = 5
PROMPTS = 40
"""At most so many prompts are embedded, of one seed."""
PROBABILITY_WIDTH = 2
SCALES = {
    "weight": 1000,
    "logprob": 1000,
    "kl_to_base": 10000,
    "gap": 1000,
    "entropy": 1000,
    "advantage": 1000,
}
"""Per-token columns, and the whole number that 1 becomes."""
POLICIES = ("base", "teacher", "student")


@dataclass(frozen=True, slots=True)
class Embedded:
    """The document as JSON text for a script block, the prompts in it, and those that the arms have."""

    text: str
    prompts: int
    available: int

    @property
    def left_out(self) -> str:
        """Which limit left prompts out."""
        if self.prompts == PROMPTS:
            return f"a page shows {PROMPTS} at most"
        return "the others were left out to keep this page below 5 MB"


def embed(microscopes: Sequence[Mapping[str, Any]], room_bytes: int) -> Embedded | None:
    """The longest run of first prompts that fits `room_bytes`; None without data or room for one."""
    if not microscopes or not any(m["prompts"] for m in microscopes):
        return None
    available = max(len(m["prompts"]) for m in microscopes)
    low, high = 0, min(PROMPTS, available)
    whole = script_json(document(microscopes, high))
    if len(whole.encode()) <= room_bytes:
        return Embedded(whole, high, available)
    best: str | None = None
    while low < high:  # the size grows with the prompts, so halving finds the most that fits
        middle = (low + high + 1) // 2
        text = script_json(document(microscopes, middle))
        if len(text.encode()) <= room_bytes:
            low, best = middle, text
        else:
            high = middle - 1
    return Embedded(best, low, available) if best is not None else None


def script_json(value: Any) -> str:
    r"""JSON for a `<script type="application/json">`: nothing in it ends the block or a line of script.

    >>> script_json({"a": "</script><!--&\u2028"})
    '{"a":"\\u003c/script\\u003e\\u003c!--\\u0026\\u2028"}'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def document(microscopes: Sequence[Mapping[str, Any]], prompts: int) -> dict[str, Any]:
    """The first `prompts` prompts of all arms as plain data."""
    places: dict[int, int] = {}
    texts: list[str] = []
    # A first pass, because the width of an index depends on how many words there are.
    for microscope in microscopes:
        names = microscope["vocabulary"]
        for rollout in _rollouts(microscope, prompts):
            for token in _tokens(rollout):
                if token not in places:
                    places[token] = len(texts)
                    texts.append(names.get(str(token), f"⟨id {token}⟩"))
    width = width_of(len(texts))  # one more than the last index: no token
    shown: dict[str, dict[str, Any]] = {}
    for microscope in microscopes:
        for prompt in microscope["prompts"][:prompts]:
            entry = shown.setdefault(
                str(prompt["id"]),
                {
                    "id": prompt["id"],
                    "text": prompt["text"],
                    "reference": prompt["reference"],
                    "arms": {},
                },
            )
            entry["arms"][microscope["arm"]] = [
                _packed_rollout(rollout, places, width) for rollout in prompt["rollouts"]
            ]
    return {
        # The base has a seed of its own, 0, whichever seeds the arms have.
        "seed": next((m["seed"] for m in microscopes if m["trains"]), microscopes[0]["seed"]),
        "trains": {m["arm"]: m["trains"] for m in microscopes},
        "teachers": {m["arm"]: m["teacher"] for m in microscopes},
        "vocabulary": texts,
        "width": width,
        "scales": SCALES,
        "top": TOP,
        "prompts": list(shown.values()),
    }


def _rollouts(microscope: Mapping[str, Any], prompts: int) -> Iterator[Mapping[str, Any]]:
    for prompt in microscope["prompts"][:prompts]:
        yield from prompt["rollouts"]


def _tokens(rollout: Mapping[str, Any]) -> Iterator[int]:
    yield from rollout["token_ids"]
    for rows in rollout["top"].values():
        for row in rows or ():
            yield from (int(token) for token in row[::2])


def _packed_rollout(
    rollout: Mapping[str, Any], places: Mapping[int, int], width: int
) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: rollout[key] for key in ("kind", "trained_on", "score", "stopped", "owners")
    }
    found["tokens"] = packed([places[t] for t in rollout["token_ids"]], width)
    found["owner"] = _same_or_all(rollout["owner"])
    for key, scale in SCALES.items():
        values = rollout.get(key)
        found[key] = (
            None
            if values is None
            else _same_or_all([None if v is None else round(v * scale) for v in values])
        )
    found["top"] = {
        policy: None if rows is None else "".join(_packed_top(row, places, width) for row in rows)
        for policy in POLICIES
        for rows in (rollout["top"].get(policy),)
    }
    return found


def _same_or_all(values: Sequence[Any]) -> Any:
    """A column of one number as that number.

    >>> _same_or_all([1, 1, 1]), _same_or_all([1, 2]), _same_or_all([])
    (1, [1, 2], [])
    """
    return values[0] if values and all(v == values[0] for v in values) else list(values)


def _packed_top(row: Sequence[int | float], places: Mapping[int, int], width: int) -> str:
    pairs, nothing = list(zip(row[::2], row[1::2], strict=True))[:TOP], len(places)
    return "".join(
        packed([places[int(token)]], width)
        + packed([min(1000, max(0, round(1000 * p)))], PROBABILITY_WIDTH)
        for token, p in pairs
    ) + (packed([nothing], width) + packed([0], PROBABILITY_WIDTH)) * (TOP - len(pairs))
