"""Benchmark files of a local folder, as the rows that the hub would give.

Layout of the folder (published files, byte for byte, but for MMLU's joined subjects):

    gsm8k/{train,test}.jsonl        question, answer
    truthfulqa/v1/mc_task.json      question, mc1_targets, mc2_targets    the 817-question version
    mmlu/{dev,val,test}.csv[.gz]    subject, question, A, B, C, D, answer

A row that cannot be used is refused with its file and number, never skipped: a benchmark with a
row missing is another benchmark. Files may begin with a byte-order mark.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from statewise.errors import DataError

Row = dict[str, object]
Splits = dict[str, list[Row]]
"""Rows by split, under the split names of the hub's data set."""

LETTERS = "ABCD"
MMLU_COLUMNS = ("subject", "question", *LETTERS, "answer")
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
    with _open(path) as file:
        try:
            rows = json.load(file)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of questions, found {type(rows).__name__}")
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
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}: row {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{where}: not JSON: {error.msg}") from error
            _require_keys(row, ("question", "answer"), where)
            if "####" not in row["answer"]:
                raise DataError(f"{where}: the answer has no '#### ' before its final number")
            yield {"question": row["question"], "answer": row["answer"]}


def _truthfulqa_row(row: object, path: Path, number: int) -> Row:
    where = f"{path}: row {number}"
    question = _require_keys(row, ("question",), where)["question"]
    targets = {key: _targets(row, key, where) for key in ("mc1_targets", "mc2_targets")}
    true = targets["mc1_targets"]["labels"]
    if true[0] != 1 or sum(true) != 1:
        raise DataError(f"{where}: mc1_targets must have one true choice, and have it first")
    return {"question": question, **targets}


def _targets(row: object, key: str, where: str) -> dict[str, list]:
    found = row.get(key) if isinstance(row, dict) else None
    if not isinstance(found, dict) or not found:
        raise DataError(f"{where}: missing key {key!r} (choices with labels 0 and 1)")
    labels = list(found.values())
    if not set(labels) <= {0, 1} or 1 not in labels:
        raise DataError(f"{where}: {key} must hold labels 0 and 1, and at least one 1")
    return {"choices": list(found), "labels": labels}


def _mmlu_rows(path: Path) -> Iterator[tuple[str, Row]]:
    with _open(path) as file:
        reader = csv.DictReader(file, strict=True)
        if missing := set(MMLU_COLUMNS) - set(reader.fieldnames or ()):
            raise DataError(f"{path}: the header has no column {', '.join(sorted(missing))}")
        number = 0
        try:
            for number, row in enumerate(reader, 1):
                where = f"{path}: row {number} (line {reader.line_num})"
                if None in row or None in row.values():
                    raise DataError(
                        f"{where}: expected {len(MMLU_COLUMNS)} cells; quoting is wrong"
                    )
                if row["answer"] not in tuple(LETTERS):
                    raise DataError(f"{where}: answer {row['answer']!r} is not one of A, B, C, D")
                yield (
                    row["subject"],
                    {
                        "question": row["question"],
                        "subject": row["subject"],
                        "choices": [row[letter] for letter in LETTERS],
                        "answer": LETTERS.index(row["answer"]),
                    },
                )
        except csv.Error as error:
            raise DataError(
                f"{path}: row {number + 1} (line {reader.line_num}): {error}"
            ) from error


def _require_keys(row: object, keys: tuple[str, ...], where: str) -> Row:
    """The row, if it has `keys` and they are texts."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, found {type(row).__name__}")
    for key in keys:
        if not isinstance(row.get(key), str):
            raise DataError(f"{where}: missing key {key!r} (a text)")
    return row


def _plain_or_gzip(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if packed.exists() and not path.exists() else path


@contextlib.contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    """A text file, plain or gzip; what goes wrong while it is read becomes a DataError.

    `newline=""`, because a cell may hold line breaks of its own; a mark at the start is dropped.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
