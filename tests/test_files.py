"""The door for users' files: what is text and JSON comes in, everything else is one line with a remedy."""

from __future__ import annotations

import bz2
import gzip
import os

import pytest

from statewise.errors import ConfigError, StatewiseError
from statewise.files import parse_json, read_lines, read_text, shown


def line_of(call, *arguments, **options) -> str:
    """The one line that a call is refused with."""
    with pytest.raises(StatewiseError) as refused:
        call(*arguments, **options)
    line = str(refused.value)
    assert "\n" not in line
    assert line.isprintable() or "\ud800" in line
    assert len(line) < 600
    assert ";" in line, "no remedy"
    return line


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"a\r\nb\n", b"\xef\xbb\xbfa\r\nb\n"])
def test_text_comes_without_its_mark_and_with_its_line_ends(tmp_path, data):
    path = tmp_path / "d.txt"
    path.write_bytes(data)
    assert read_text(path) == "a\r\nb\n"
    assert list(read_lines(path)) == [(1, "a\r\n"), (2, "b\n")]


def test_a_packed_file_of_lines_is_unpacked_and_a_torn_one_named(tmp_path):
    path, data = tmp_path / "d.csv.gz", gzip.compress(b"a\nb\n" * 1000)
    path.write_bytes(data)
    assert [line for _, line in read_lines(path)][:2] == ["a\n", "b\n"]
    for torn in (data[:20], data[:-4], b"no gzip", data[:15] + b"\0\0\0\0" + data[19:]):
        path.write_bytes(torn)
        assert "not a whole gzip file" in line_of(list, read_lines(path))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ('{"a": "é"}\n'.encode("utf-16"), "UTF-16"),
        ('{"a": "é"}\n'.encode("utf-16-le"), "UTF-16"),
        ('{"a": "é"}\n'.encode("utf-16-be"), "UTF-16"),
        ('{"a": "é"}\n'.encode("utf-32"), "UTF-32"),
        ("fine\ncafé\n".encode("latin-1"), "byte 0xe9 in line 2"),
        (b"fine\nnul \0 here\n", "byte 0x00 in line 2"),
        (gzip.compress(b"a" * 99, mtime=0), "gzip"),
        (bz2.compress(b"a" * 99), "bzip2"),
        (b"PK\x03\x04\x14\0\0\0", "zip"),
        (b"PAR1\x15\0\x15", "Parquet"),
        (b"\xed\xa0\x80", "byte 0xed"),
    ],
)
def test_what_is_no_text_in_utf8_is_named_for_what_it_is(tmp_path, data, says):
    path = tmp_path / "d.jsonl"
    path.write_bytes(data)
    assert says in line_of(read_text, path)
    by_lines = line_of(list, read_lines(path))
    byte, _, number = says.partition(" in ")
    assert byte in by_lines
    assert number in by_lines


def test_what_cannot_be_opened_says_why_and_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "gone").symlink_to(tmp_path / "target")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    for name, says in {
        "missing": "no study file at",
        "file/below": "no study file at",
        "gone": "is a link to",
        "loop": "leads back to itself",
        ".": "is a folder, not a study file",
        "pipe": "a device or a pipe",
        "n" * 300: "the name is too long",
        "a\0b": "is no path of a study file",
        "\ud83d": "is no path of a study file",
    }.items():
        assert says in line_of(read_text, tmp_path / name, "study file"), name
        assert says in line_of(list, read_lines(tmp_path / name, "study file")), name
    assert "is no path" in line_of(read_text, "", "study file")
    assert "a device" in line_of(read_text, "/dev/zero", "study file")


def test_permission_is_said(tmp_path, monkeypatch):
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert "no permission to read this data file; allow it" in line_of(
        read_text, tmp_path / "d", "data file"
    )


def test_a_file_or_a_line_beyond_its_bound_is_refused_unread(tmp_path):
    path = tmp_path / "d"
    path.write_bytes(b"a" * 100)
    assert read_text(path, most_bytes=100) == "a" * 100
    assert "larger than 99 bytes" in line_of(read_text, path, "data file", most_bytes=99)
    os.truncate(path, 10**12)  # a hole: nothing is on the disk, and nobody could read it
    assert "larger than 1024 MiB" in line_of(read_text, path)
    assert "line 1: longer than 16 MiB" in line_of(list, read_lines(path))


def test_the_caller_names_class_and_remedy(tmp_path):
    with pytest.raises(ConfigError, match=r"; run it again$"):
        read_text(tmp_path / "d", error=ConfigError, remedy="run it again")
    with pytest.raises(ConfigError, match=r"; run it again$"):
        parse_json("{", "d", error=ConfigError, remedy="run it again")


# ---- JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("{broken", "not JSON (column 2"),
        ("{'a': 1}", "not JSON (column 2"),
        ('{"a": 1,}', "not JSON"),
        ('{"a":\n 1', "line 2, column 3"),
        ('{"a": 1} x', "Extra data"),
        ('{"a": "\t"}', "control character"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' appears twice"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": -Infinity}', "-Infinity is no JSON"),
        ('{"a": 1e400}', "'1e400' is too large"),
        ('{"a": -1e400}', "'-1e400' is too large"),
        ('{"a": 18446744073709551616}', "does not fit 64 bits"),
        ('{"a": -9223372036854775809}', "does not fit 64 bits"),
        ("1" * 10**6, "does not fit 64 bits"),
        ('{"a": "\\ud83d"}', "half of a character"),
        ('{"\\ud83d": 1}', "half of a character"),
        ('["\\ude00\\ud83d"]', "half of a character"),
        ('{"a": "\ud83d"}', "half of a character"),
        ("[" * 100_000 + "]" * 100_000, "more than 64 levels"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "more than 64 levels"),
        ("[" * 100_000, "more than 64 levels"),
    ],
)
def test_json_that_any_reader_would_read_otherwise_is_refused(text, says):
    line = line_of(parse_json, text, "d.jsonl, row 7")
    assert line.startswith("d.jsonl, row 7: ")
    assert says in line


def test_json_by_the_standard_is_read():
    text = (
        '{"a": [1, -2.5e3, true, null], "é": "\\ud83d\\ude00 \\u0000", "n": 18446744073709551615}'
    )
    found = {"a": [1, -2500.0, True, None], "é": "\U0001f600 \0", "n": 2**64 - 1}
    assert parse_json(text, "d") == found
    assert parse_json("[" * 64 + "]" * 64, "d")
    assert parse_json('["' + "[" * 100 + '\\""]', "d") == ["[" * 100 + '"'], "brackets in a text"


def test_a_path_is_shown_on_one_line():
    assert shown("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert shown("café/日本") == "café/日本"
