"""The one door for files that users give: text and JSON, or one line that says what is wrong.

    read_text(path, "study file") -> the whole text        read_lines(path, "data file") -> (number, line)
    parse_json(text, where) -> plain data, strictly

What opens is a regular file; what comes out is UTF-8 text without a byte-order mark, of which any
program can write every character again. Whatever stands in the way is raised as one line with the
place and a remedy, in the class of error that the caller names.

JSON is read by its standard. Python's own reader takes the last of two equal keys, NaN, integers of
a million digits and halves of characters, which fail hours later, or never.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from statewise.errors import DataError, StatewiseError, one_line

MOST_BYTES = 1 << 30
"""The largest file that is read whole, as it stands on disk."""
MOST_LINE_BYTES = 1 << 24
"""The longest line of a file that is read by lines: 16 MiB are a row of 4 million tokens."""
MOST_DEPTH = 64
"""The deepest nesting of lists and mappings. Nobody writes more by hand, and every reader recurses."""
SMALLEST, LARGEST = -(2**63), 2**64 - 1
"""The integers that fit a machine word, signed or unsigned."""

Refusal = type[StatewiseError]

_FORMATS = (
    ("text in UTF-32", (b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "save it as UTF-8"),
    ("text in UTF-16", (b"\xff\xfe", b"\xfe\xff"), "save it as UTF-8"),
    ("compressed with gzip", (b"\x1f\x8b",), "unpack it first (gunzip)"),
    ("compressed with bzip2", (b"BZh",), "unpack it first (bunzip2)"),
    ("compressed with xz", (b"\xfd7zXZ",), "unpack it first (unxz)"),
    ("compressed with zstd", (b"(\xb5/\xfd",), "unpack it first (unzstd)"),
    ("a zip archive", (b"PK\x03\x04",), "unpack it first"),
    ("a Parquet file", (b"PAR1",), "write it as text in UTF-8"),
    ("a PDF file", (b"%PDF",), "write it as text in UTF-8"),
)
"""What a file that is no text may be, by how it begins: its name and what helps."""
_PACKED = tuple(start for _, starts, _ in _FORMATS for start in starts)
_HALF = re.compile("[\ud800-\udfff]")
_HALF_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


# Files


def read_text(
    path: Path | str,
    what: str = "file",
    *,
    error: Refusal = DataError,
    hint: str = "",
    remedy: str = "",
    most_bytes: int = MOST_BYTES,
) -> str:
    """The text of a file in UTF-8, without its byte-order mark.

    `what` is what the user calls it; `hint` ends the message where there is no such file; `remedy`
    takes the place of our own advice where the caller knows better. Raises `error`, in one line.

    >>> read_text("/nowhere/study.yaml", "study file", hint="shipped studies: pocket")
    Traceback (most recent call last):
    statewise.errors.DataError: no study file at /nowhere/study.yaml; shipped studies: pocket
    """
    with _opened(path, what, error, hint, remedy, most_bytes) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        _too_large(path, what, most_bytes, error, remedy)
    return text_of(data, shown(path), error=error, remedy=remedy)


def read_lines(
    path: Path | str,
    what: str = "file",
    *,
    error: Refusal = DataError,
    hint: str = "",
    unit: str = "line",
    most_bytes: int = MOST_LINE_BYTES,
) -> Iterator[tuple[int, str]]:
    """The lines of a file in UTF-8 with their ends, numbered from 1; of `.gz` as they were packed.

    A line is read when it is asked for, so the file may be larger than memory. It ends at a line
    feed alone: a JSON text may hold every other line separator. `unit` is what a
    message calls it. Raises `error`, in one line.
    """
    with _opened(path, what, error, hint, "", None) as raw:
        file = gzip.GzipFile(fileobj=raw) if Path(path).suffix == ".gz" else raw
        start = raw.peek(16) if file is raw else b""
        number = 0
        while True:
            where = f"{shown(path)}, {unit} {number + 1}"
            try:
                line = file.readline(most_bytes + 1)
            except (EOFError, zlib.error, gzip.BadGzipFile) as cause:
                raise error(
                    f"{where}: not a whole gzip file ({cause}); fetch or pack it again"
                ) from cause
            if not line:
                return
            number += 1
            if len(line) > most_bytes:
                raise error(
                    f"{where}: longer than {most_bytes >> 20} MiB; a file of rows has one row a line"
                )
            at = shown(path) if number == 1 or start.startswith(_PACKED) else where
            yield number, text_of(line, at, error=error, start=start)


@contextmanager
def _opened(
    path: Path | str, what: str, error: Refusal, hint: str, remedy: str, most_bytes: int | None
) -> Iterator[BufferedReader]:
    """A regular file, open for reading; nothing that the operating system says comes out raw."""
    try:
        # Without NONBLOCK the opening of a pipe that nobody writes to waits for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as cause:
        raise error(_unopened(path, what, cause, hint, remedy)) from cause
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a device or a pipe"
            advice = remedy or "give the path of a file"
            raise error(f"{shown(path)} is {kind}, not a {what}; {advice}")
        if most_bytes is not None and about.st_size > most_bytes:
            _too_large(path, what, most_bytes, error, remedy)
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file
    except OSError as cause:
        raise error(
            f"{shown(path)}: cannot be read ({cause.strerror or cause}); "
            f"{remedy or 'check the disk, or copy the file anew'}"
        ) from cause
    finally:
        os.close(handle)


def _unopened(
    path: Path | str, what: str, cause: OSError | ValueError, hint: str, remedy: str
) -> str:
    """Why a file did not open, and what helps."""
    place = shown(path)
    code = cause.errno if isinstance(cause, OSError) else None
    if not os.fspath(path) or not isinstance(cause, OSError):  # ValueError: a NUL, a half character
        return f"{place} is no path of a {what}; {remedy or 'give the path of a file'}"
    if code in (errno.ENOENT, errno.ENOTDIR):
        if Path(path).is_symlink():
            target = shown(Path(path).readlink())
            return (
                f"{place} is a link to {target}, which is not there; "
                f"{remedy or 'restore it, or give the path of a file'}"
            )
        ending = remedy or hint
        return f"no {what} at {place}" + (f"; {ending}" if ending else "; give the path of a file")
    if code == errno.EACCES:
        return f"{place}: no permission to read this {what}; {remedy or 'allow it (chmod u+r)'}"
    if code == errno.ENAMETOOLONG:
        return (
            f"no {what} at {place}: the name is too long; {remedy or hint or 'give a shorter path'}"
        )
    if code == errno.ELOOP:
        return f"{place} is a link that leads back to itself; {remedy or 'give the path of a file'}"
    return f"{place}: cannot be read ({cause.strerror}); {remedy or 'give the path of a file'}"


def _too_large(
    path: Path | str, what: str, most_bytes: int, error: Refusal, remedy: str
) -> NoReturn:
    size = f"{most_bytes >> 20} MiB" if most_bytes >> 20 else f"{most_bytes} bytes"
    raise error(f"{shown(path)}: larger than {size}; {remedy or f'is this the right {what}?'}")


def at_home(path: Path | str) -> Path:
    """The path with `~` for a home; where there is no such user it stays as it is, and no file is there.

    >>> at_home("~nobody-of-that-name/d.jsonl")
    PosixPath('~nobody-of-that-name/d.jsonl')
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111  Path.expanduser raises RuntimeError


def read_json_lines(
    path: Path | str, what: str = "file", *, error: Refusal = DataError, hint: str = ""
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one JSON object a line, numbered as the lines are; blank lines are none.

    Raises `error`, in one line: what `read_lines` and `parse_json` refuse, and values that are no object.
    """
    first = True
    for number, line in read_lines(path, what, error=error, hint=hint, unit="row"):
        if not line.strip():
            continue
        where = f"{shown(path)}, row {number}"
        if first and line.lstrip().startswith("["):
            raise error(
                f"{where}: expected a JSON object, found the start of a list; write one object a line, "
                "without brackets around them"
            )
        if first and line.strip() == "{":
            raise error(f"{where}: an object over several lines; write one whole object a line")
        first = False
        row = parse_json(line, where, error=error)
        if not isinstance(row, dict):
            raise error(
                f"{where}: expected a JSON object, found {found_word(row)}; write one object a line"
            )
        yield number, row


def found_word(value: Any) -> str:
    """What a JSON value is, in JSON's words.

    >>> [found_word(value) for value in (None, True, 3, "a", [], {})]
    ['null', 'true', 'a number', 'a text', 'a list', 'an object']
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return "a number"
    return (
        "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"
    )


def shown(path: Path | str) -> str:
    r"""A path in a message: short enough for a line, and on one line.

    >>> shown("a\nb"), shown(""), len(shown("x" * 500))
    ('a\\nb', "''", 120)
    """
    return one_line(os.fspath(path), 120) or "''"


# Text


def text_of(
    data: bytes,
    where: str,
    *,
    error: Refusal = DataError,
    remedy: str = "",
    start: bytes = b"",
) -> str:
    """Bytes as text in UTF-8; a byte-order mark at the start is dropped.

    `start` is how the file begins that they are a part of. Raises `error`, naming the encoding or the
    format where it can be recognised.
    """
    try:
        text = data.decode("utf-8")
        bad = text.find("\0")
        place = len(text[:bad].encode()) if bad >= 0 else -1
    except UnicodeDecodeError as cause:
        text, place = "", cause.start
    if place < 0:
        return text.removeprefix("\ufeff")
    for what, starts, advice in _FORMATS:
        if (start or data).startswith(starts):
            raise error(f"{where} is {what}; {remedy or advice}")
    if _is_half_empty(data):
        raise error(f"{where} is text in UTF-16; {remedy or 'save it as UTF-8'}")
    number = data.count(b"\n", 0, place) + 1
    at = f"byte 0x{data[place]:02x}" + (f" in line {number}" if number > 1 else "")
    raise error(f"{where} is no text in UTF-8 ({at}); {remedy or 'save it as UTF-8'}")


def _is_half_empty(data: bytes) -> bool:
    """True for UTF-16 without a mark: of what is mostly ASCII every other byte is 0."""
    start = data[:64]
    return len(start) >= 4 and (set(start[::2]) == {0} or set(start[1::2]) == {0})


def check_text(value: Any, where: str, *, error: Refusal = DataError, remedy: str = "") -> None:
    r"""Refuse plain data with half a character in a key or a text: no file, page or tokenizer takes it.

    >>> check_text({"a": ["fine", "\ud83d"]}, "row 3")
    Traceback (most recent call last):
    statewise.errors.DataError: row 3: half of a character (\ud83d) in '\ud83d'; write the whole character
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, str) and (half := _HALF.search(one)):
            near = one[max(0, half.start() - 20) : half.end() + 20]
            raise error(
                f"{where}: half of a character ({ascii(half.group())[1:-1]}) in {near!r}; "
                f"{remedy or 'write the whole character'}"
            )


# JSON


class _RefusedError(ValueError):
    """What is wrong, and what helps; becomes the caller's error as soon as the place is known."""


def parse_json(text: str, where: str, *, error: Refusal = DataError, remedy: str = "") -> Any:
    """JSON text as plain data, by the standard alone. Raises `error`, in one line.

    Refused beside what is no JSON: a key given twice, NaN and infinities (also as `1e400`), integers
    that no machine word holds, half a character, and more than 64 levels of nesting.

    >>> parse_json('{"a": [1, 2.5, null]}', "rows.jsonl, row 1")
    {'a': [1, 2.5, None]}
    >>> parse_json('{"a": 1, "a": 2}', "rows.jsonl, row 1")
    Traceback (most recent call last):
    statewise.errors.DataError: rows.jsonl, row 1: the key 'a' appears twice; keep one of them
    """
    if not text.strip():
        raise error(f"{where}: empty; {remedy or 'write JSON there, or take it away'}")
    try:
        _check_depth(text)
        value = _DECODER.decode(text)
    except json.JSONDecodeError as cause:
        at = f"line {cause.lineno}, column" if "\n" in text.rstrip("\n") else "column"
        raise error(
            f"{where}: not JSON ({at} {cause.colno}: {cause.msg}); {remedy or 'correct it there'}"
        ) from None
    except _RefusedError as cause:
        what, advice = cause.args
        raise error(f"{where}: {what}; {remedy or advice}") from None
    if _HALF_ESCAPED.search(text) or not text.isascii():
        check_text(value, where, error=error, remedy=remedy)
    return value


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MOST_DEPTH:
        return
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        mark = found.group()
        depth += (mark in "[{") - (mark in "]}")
        if depth > MOST_DEPTH:
            raise _RefusedError(f"nested more than {MOST_DEPTH} levels deep", "make it flatter")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _RefusedError(f"the key {short(twice)} appears twice", "keep one of them")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is no JSON", "write a finite number or null")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _RefusedError(
            f"the number {short(digits)} is too large for a float", "write a smaller one"
        )
    return value


def _word(digits: str) -> int:
    # Counted first: Python refuses to convert more than 4300 digits, and takes long below.
    if len(digits) > 20 or not SMALLEST <= int(digits) <= LARGEST:
        raise _RefusedError(
            f"the integer {short(digits)} does not fit 64 bits", "write it as text, in quotes"
        )
    return int(digits)


def short(text: str) -> str:
    """A text in quotes, cut to what a line can show.

    >>> short("ab"), len(short("a" * 10**6))
    ("'ab'", 45)
    """
    return repr(text if len(text) <= 43 else text[:40] + "...")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_word
)
