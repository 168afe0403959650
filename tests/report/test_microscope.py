"""The microscope's data: packed without loss that matters, closed to what it holds, and never too large."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from statewise.report.figures import catalogue
from statewise.report.item_scores import LEVELS
from statewise.report.page.digits import DIGITS
from statewise.report.page.html import LARGEST_BYTES, page
from statewise.report.page.microscope import POLICIES, PROMPTS, SCALES, document, embed, script_json


def embedded(html: str, name: str) -> Any:
    (text,) = re.findall(
        rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL
    )
    return json.loads(text)


def unpacked(text: str, width: int) -> list[int]:
    found = []
    for at in range(0, len(text), width):
        value = 0
        for digit in text[at : at + width]:
            value = 64 * value + DIGITS.index(digit)
        found.append(value)
    return found


def test_what_is_packed_comes_out_again(whole: Any) -> None:
    packed = embedded(whole.html, "scope-data")
    words, width = packed["vocabulary"], packed["width"]
    for original in whole.material.microscopes:
        names = original["vocabulary"]
        for i, prompt in enumerate(original["prompts"]):
            rollouts = packed["prompts"][i]["arms"][original["arm"]]
            assert packed["prompts"][i]["text"] == prompt["text"]
            for rollout, other in zip(prompt["rollouts"], rollouts, strict=True):
                tokens = [words[n] for n in unpacked(other["tokens"], width)]
                assert tokens == [names[str(t)] for t in rollout["token_ids"]]
                for name, scale in SCALES.items():
                    check_column(rollout[name], other[name], scale)
                check_column(rollout["owner"], other["owner"], 1)
                for policy in POLICIES:
                    check_top(rollout["top"][policy], other["top"][policy], names, words, width)


def check_column(values: list[Any] | None, column: Any, scale: int) -> None:
    if values is None:
        assert column is None
        return
    found = column if isinstance(column, list) else [column] * len(values)
    assert [v / scale for v in found] == pytest.approx(values, abs=0.5 / scale)


def check_top(
    rows: list[list[float]] | None,
    text: str | None,
    names: dict[str, str],
    words: list[str],
    width: int,
) -> None:
    if rows is None:
        assert text is None
        return
    assert text is not None
    each = 5 * (width + 2)
    for t, row in enumerate(rows):
        part = text[t * each : (t + 1) * each]
        pairs = [part[k : k + width + 2] for k in range(0, each, width + 2)]
        assert [words[unpacked(p[:width], width)[0]] for p in pairs] == [
            names[str(i)] for i in row[::2]
        ]
        assert [unpacked(p[width:], 2)[0] for p in pairs] == [round(1000 * p) for p in row[1::2]]


def alone(vocabulary: dict[str, str], **changed: Any) -> dict[str, Any]:
    """The document of one arm with one rollout of one token."""
    rollout = {
        "kind": "own",
        "trained_on": True,
        "score": None,
        "stopped": True,
        "owners": ["student@1"],
        "token_ids": [3],
        "owner": [0],
        **dict.fromkeys(SCALES, None),
        "weight": [1.0],
        "top": {"base": [[3, 0.25]], "teacher": None, "student": [[3, 1.0]]},
    }
    prompt = {"id": "a", "text": "?", "reference": None, "rollouts": [rollout | changed]}
    about = {"arm": "x", "seed": 0, "teacher": None, "trains": True}
    return document([{**about, "vocabulary": vocabulary, "prompts": [prompt]}], 1)


def test_a_policy_with_fewer_than_five_tokens_leaves_gaps() -> None:
    found = alone({"3": "w"})
    assert found["vocabulary"] == ["w"]
    top = found["prompts"][0]["arms"]["x"][0]["top"]["base"]
    assert unpacked(top[:3], 1) == [0, 3, 58]  # 3 * 64 + 58 = 250
    assert unpacked(top[3:], 1) == [1, 0, 0] * 4


def test_two_tokens_of_one_text_stay_two() -> None:
    """A token that spells the bytes of another has its text."""
    top = {"base": [[4, 0.5, 5, 0.25]], "teacher": None, "student": None}
    found = alone({"4": "⟨F0⟩", "5": "⟨F0⟩"}, token_ids=[5], top=top)
    assert found["vocabulary"] == ["⟨F0⟩", "⟨F0⟩"]
    (rollout,) = found["prompts"][0]["arms"]["x"]
    assert unpacked(rollout["tokens"], 1) == [0]
    assert unpacked(rollout["top"]["base"], 1)[0::3][:2] == [1, 0]


def test_a_token_without_a_text_is_shown_by_its_id() -> None:
    assert alone({}, token_ids=[3])["vocabulary"] == ["⟨id 3⟩"]


def test_the_seed_shown_is_that_of_the_arms() -> None:
    """The base has seed 0, whichever seeds the study has."""
    empty = {"teacher": None, "vocabulary": {}, "prompts": []}
    base = {"arm": "base", "seed": 0, "trains": False, **empty}
    found = document([base, {"arm": "a", "seed": 5, "trains": True, **empty}], 1)
    assert found["seed"] == 5
    assert document([base], 1)["seed"] == 0


def test_nothing_in_the_data_ends_its_block() -> None:
    text = script_json({"a": '</script><!--<script>&amp;\u2028\u2029\x00"'})
    assert not re.search(r"[<>&\u2028\u2029\x00]", text)
    assert json.loads(text) == {"a": '</script><!--<script>&amp;\u2028\u2029\x00"'}


def test_blocks_of_the_page_hold_no_bracket(whole: Any) -> None:
    blocks = re.findall(
        r'<script type="application/json"[^>]*>(.*?)</script>', whole.html, re.DOTALL
    )
    assert len(blocks) == 3
    assert not any(re.search(r"[<>]", block) for block in blocks)


def test_prompts_give_way_from_the_end_where_the_page_would_grow_too_large(whole: Any) -> None:
    full = len(whole.html.encode())
    one = len(script_json(document(whole.material.microscopes, 1)))
    less = page(whole.material, whole.plates, largest_bytes=full - one // 2).html
    assert len(less.encode()) <= full - one // 2
    kept = embedded(less, "scope-data")["prompts"]
    assert [p["id"] for p in kept] == ["dev-000", "dev-001", "dev-002"]
    assert (
        "3 of the run&#39;s 4 prompts stand here" in less
        or "3 of the run's 4 prompts stand here" in less
    )
    assert "the others were left out to keep this page below 5 MB" in less
    none = page(whole.material, whole.plates, largest_bytes=full // 10).html
    assert 'id="scope-data"' not in none
    assert "larger than 5 MB" in none
    assert "stand here" not in whole.html


def test_a_search_for_room_finds_the_most_that_fits(whole: Any) -> None:
    sizes = [
        len(script_json(document(whole.material.microscopes, n)).encode()) for n in range(1, 5)
    ]
    for n, size in enumerate(sizes, start=1):
        found = embed(whole.material.microscopes, size)
        assert found is not None
        assert (found.prompts, found.available) == (n, 4)
        smaller = embed(whole.material.microscopes, size - 1)
        assert (smaller.prompts if smaller else 0) == n - 1


def test_the_pocket_study_fits_with_all_its_prompts(tmp_path: Path, whole_run: Any) -> None:
    """7 arms, 3 seeds, 1,000 and 2,000 items, 40 prompts: the size that the study ships with, and beyond."""
    _, material = whole_run(tmp_path / "pocket", items=1000, microscope=PROMPTS + 5)
    html = page(material, catalogue.plates(material)).html
    assert len(html.encode()) <= LARGEST_BYTES
    assert len(embedded(html, "scope-data")["prompts"]) == PROMPTS
    assert f"{PROMPTS} of the run" in html
    assert f"a page shows {PROMPTS} at most" in html
    assert "below 5 MB" not in html


def test_items_stand_in_the_page_with_the_score_that_they_had(whole: Any) -> None:
    tasks = embedded(whole.html, "duel-data")
    assert [t["task"] for t in tasks] == [t.name for t in whole.material.results.tasks]
    assert [t["decoding"] for t in tasks] == ["greedy", "choices", "choices"]
    for task in tasks:
        for arm in whole.material.results.arms:
            digits = task["by_arm"][arm.name]
            assert len(digits) == len(task["items"])
            mean = sum(DIGITS.index(d) for d in digits) / LEVELS / len(digits)
            score = arm.score(task["task"])
            assert score is not None
            assert mean == pytest.approx(score.quantity.estimate.value, abs=1e-9)
