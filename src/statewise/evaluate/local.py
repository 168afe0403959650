"""Benchmark files of a local folder, as the rows that the hub would give.

Layout of the folder (published files, byte for byte, but for MMLU's joined subjects):

    gsm8k/{train,test}.jsonl        question, answer
    truthfulqa/v1/mc_task.json      question, mc1_targets, mc2_targets    the 817-question version
    mmlu/{dev,val,test}.csv[.gz]    subject, question, A, B, C, D, answer

A row that cannot be used is refused with its file and number, never skipped: a benchmark with a
row missing is another benchmark. Files may begin with a byte-order mark.
"""

from __future__ import annotations

import csv
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from statewise.errors import DataError
from statewise.files import (
    found_word,
    parse_json,
    read_json_lines,
    read_lines,
    read_text,
    short,
    shown,
)

Row = dict[str, object]
Splits = dict[str, list[Row]]
"""Rows by split, under the split names of the hub's data set."""

LETTERS = "ABCD"
MMLU_COLUMNS = ("subject", "question", *LETTERS, "answer")
FETCH = "restore it from the published file"
LAYOUT = "the folder needs gsm8k/, truthfulqa/v1/ or mmlu/ with the published files"
MMLU_SPLITS = {"dev": "dev", "validation": "val", "test": "test"}


@functools.cache
def read_gsm8k(folder: Path) -> Splits:
    """GSM8K (Cobbe et al., 2021, arXiv 2110.14168): worked solutions that end in `#### answer`.

    Raises DataError for a line that is not JSON, lacks a key, or whose answer has no `####`.
    """
    return {
        split: list(_gsm8k_rows(folder / "gsm8k" / f"{split}.jsonl")) for split in ("train", "test")
    }


@functools.cache
def read_truthfulqa(folder: Path) -> Splits:
    """TruthfulQA multiple choice (Lin et al., 2022, arXiv 2109.07958), the 817-question version.

    Targets become `{"choices": [...], "labels": [...]}`. The harness takes choice 0 of MC1 for the
    true one, so a row whose only true MC1 choice is not its first is refused.
    """
    path = folder / "truthfulqa" / "v1" / "mc_task.json"
    rows = parse_json(read_text(path, "benchmark file", hint=LAYOUT), shown(path))
    if not isinstance(rows, list):
        raise DataError(
            f"{shown(path)}: expected a list of questions, found {found_word(rows)}; {FETCH}"
        )
    if not rows:
        raise DataError(f"{shown(path)}: holds no question; {FETCH}")
    return {"validation": [_truthfulqa_row(row, path, n) for n, row in enumerate(rows, 1)]}


@functools.cache
def read_mmlu(folder: Path) -> dict[str, Splits]:
    """MMLU (Hendrycks et al., 2021, arXiv 2009.03300): splits by subject, answers as 0-3.

    Cells hold line breaks and the word None; both stay as they are.
    """
    subjects: dict[str, Splits] = {}
    for split, stem in MMLU_SPLITS.items():
        for subject, row in _mmlu_rows(_plain_or_gzip(folder / "mmlu" / f"{stem}.csv")):
            subjects.setdefault(subject, {name: [] for name in MMLU_SPLITS})[split].append(row)
    return subjects


def _gsm8k(folder: Path, name: str | None) -> Splits | None:
    return read_gsm8k(folder) if name in (None, "main") else None


def _truthfulqa(folder: Path, name: str | None) -> Splits | None:
    return read_truthfulqa(folder) if name == "multiple_choice" else None


def _mmlu(folder: Path, name: str | None) -> Splits | None:
    return read_mmlu(folder).get(name or "")


READERS: dict[str, Callable[[Path, str | None], Splits | None]] = {
    "gsm8k": _gsm8k,
    "openai/gsm8k": _gsm8k,
    "truthful_qa": _truthfulqa,
    "truthfulqa/truthful_qa": _truthfulqa,
    "cais/mmlu": _mmlu,
    "hails/mmlu_no_train": _mmlu,
}
"""Readers by the hub name that a task file gives; None = this subset is not in the folder."""


def _gsm8k_rows(path: Path) -> Iterator[Row]:
    number = 0
    for number, row in read_json_lines(path, "benchmark file", hint=LAYOUT):
        where = f"{shown(path)}, row {number}"
        texts = {key: _text_of(row, key, where) for key in ("question", "answer")}
        _, mark, answer = texts["answer"].rpartition("####")
        if not mark or not answer.strip():
            raise DataError(f"{where}: the answer has no '#### ' before its final number; {FETCH}")
        yield dict(texts)
    if not number:
        raise DataError(f"{shown(path)}: holds no row; {FETCH}")


def _truthfulqa_row(row: object, path: Path, number: int) -> Row:
    where = f"{shown(path)}, row {number}"
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, found {found_word(row)}; {FETCH}")
    question = _text_of(row, "question", where)
    targets = {key: _targets(row, key, where) for key in ("mc1_targets", "mc2_targets")}
    true = targets["mc1_targets"]["labels"]
    if true[0] != 1 or sum(true) != 1:
        raise DataError(
            f"{where}: mc1_targets must have one true choice, and have it first; {FETCH}"
        )
    return {"question": question, **targets}


def _targets(row: Mapping[str, object], key: str, where: str) -> dict[str, list]:
    found = row.get(key)
    if not isinstance(found, dict) or not found:
        raise DataError(f"{where}: missing key {key!r} (choices with labels 0 and 1); {FETCH}")
    if not all(choice.strip() for choice in found):
        raise DataError(f"{where}: {key} has a choice without text; {FETCH}")
    labels = list(found.values())
    if not all(type(label) is int and label in (0, 1) for label in labels) or 1 not in labels:
        raise DataError(f"{where}: {key} must hold labels 0 and 1, and at least one 1; {FETCH}")
    if len(labels) < 2:
        raise DataError(f"{where}: {key} has one choice, which nothing could miss; {FETCH}")
    return {"choices": list(found), "labels": labels}


def _mmlu_rows(path: Path) -> Iterator[tuple[str, Row]]:
    lines = (line for _, line in read_lines(path, "benchmark file", hint=LAYOUT))
    reader = csv.DictReader(lines, strict=True)
    number = 0
    try:
        header = list(reader.fieldnames or ())
        if missing := set(MMLU_COLUMNS) - set(header):
            names = ", ".join(sorted(missing))
            raise DataError(f"{shown(path)}: the header has no column {names}; {FETCH}")
        if doubled := [name for name in MMLU_COLUMNS if header.count(name) > 1]:
            raise DataError(f"{shown(path)}: the header has {doubled[0]} twice; {FETCH}")
        for number, row in enumerate(reader, 1):
            where = f"{shown(path)}, row {number} (line {reader.line_num})"
            if None in row or None in row.values():
                raise DataError(f"{where}: expected {len(header)} cells; quoting is wrong there")
            texts = {name: _text_of(row, name, where) for name in MMLU_COLUMNS}
            if texts["answer"] not in tuple(LETTERS):
                found = short(texts["answer"])
                raise DataError(f"{where}: answer {found} is not one of A, B, C, D; {FETCH}")
            yield (
                texts["subject"],
                {
                    "question": texts["question"],
                    "subject": texts["subject"],
                    "choices": [texts[letter] for letter in LETTERS],
                    "answer": LETTERS.index(texts["answer"]),
                },
            )
    except csv.Error as error:
        raise DataError(
            f"{shown(path)}, row {number + 1} (line {reader.line_num}): {error}; correct it there"
        ) from error
    if not number:
        raise DataError(f"{shown(path)}: holds no row; {FETCH}")


def _text_of(row: Mapping[str, object], key: str, where: str) -> str:
    """The text under a key of a row."""
    text = row.get(key)
    if not isinstance(text, str) or not text.strip():
        found = "no such key" if key not in row else "nothing" if text == "" else found_word(text)
        raise DataError(f"{where}: {key!r} must be a text, found {found}; {FETCH}")
    return text


def _plain_or_gzip(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if os.path.exists(packed) and not os.path.exists(path) else path  # noqa: PTH110
