"""From files to prompts: what is refused, counted and dealt out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from statewise.data import Gsm8k, JsonLines, Prompts, WorldDocuments, load
from statewise.errors import ConfigError, DataError
from statewise.templates import Template
from statewise.trajectory import Prompt

PLAIN = Template(prompt="{q}", completion="{a}")


def chars(text: str) -> np.ndarray:
    """One token a character."""
    return np.array([ord(c) for c in text], np.int32)


def encode(prompt: str, completion: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    return chars(prompt), chars(completion or "")


def with_bos(prompt: str, completion: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    return np.append(1, chars(prompt)).astype(np.int32), chars(completion or "")


def write(path: Path, *rows: object) -> str:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return str(path)


def read(data, *, context: int = 100, new: int | None = None) -> Prompts:
    return load(data, encode, context_tokens=context, max_new_tokens=new)


def items(*names: str) -> list[Prompt]:
    return [Prompt(n, n, np.zeros(1, np.int32)) for n in names]


# ---- dealing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 12])
def test_every_epoch_is_a_permutation(count):
    five = Prompts(items(*"abcde"))
    dealt = [p.id for step in range(35) for p in five.batch(step, count, seed=3)]
    epochs = [dealt[i : i + 5] for i in range(0, len(dealt) - len(dealt) % 5, 5)]
    assert all(sorted(e) == list("abcde") for e in epochs)
    assert len({tuple(e) for e in epochs}) > 1, "every epoch has the same order"


def test_a_batch_is_a_function_of_the_step_alone():
    five = Prompts(items(*"abcde"))
    forward = [[p.id for p in five.batch(step, 3, seed=0)] for step in range(9)]
    backward = [[p.id for p in five.batch(step, 3, seed=0)] for step in reversed(range(9))]
    assert forward == backward[::-1]
    assert forward != [[p.id for p in five.batch(step, 3, seed=1)] for step in range(9)]


def test_documents_come_in_their_own_order_and_are_made_when_asked_for():
    documents = read(WorldDocuments(limit=1000), context=16)
    assert len(documents) == 1000
    first = documents.batch(0, 3, seed=0)
    assert [p.id for p in first] == ["document/0", "document/1", "document/2"]
    assert all(len(p.token_ids) == 0 and p.reference for p in first)
    assert [p.reference for p in documents.batch(0, 3, seed=9)] == [p.reference for p in first]


# ---- reading ------------------------------------------------------------------------------------


def test_rows_become_prompts_with_ids_tokens_and_references(tmp_path):
    path = write(tmp_path / "d.jsonl", {"q": "ab", "a": "c"}, {"q": "d", "a": "ef", "more": 1})
    first, second = read(JsonLines(path, template=PLAIN)).items
    assert (first.id, first.text, first.reference) == ("jsonl/1", "ab", "c")
    assert first.token_ids.tolist() == [97, 98]
    assert first.token_ids.dtype == np.int32
    assert (second.id, second.reference) == ("jsonl/2", "ef")


def test_limit_reads_so_many_rows_and_no_bad_row_behind_them(tmp_path):
    path = write(tmp_path / "d.jsonl", {"q": "a", "a": "b"}, {"q": "c", "a": "d"}, "{broken")
    assert len(read(JsonLines(path, limit=2, template=PLAIN))) == 2
    with pytest.raises(DataError, match=r"d\.jsonl, row 3: not JSON"):
        read(JsonLines(path, template=PLAIN))


@pytest.mark.parametrize("bad", ["{broken", "[1, 2]", '"text"', "3"])
def test_a_malformed_row_is_named_by_file_and_number(tmp_path, bad):
    path = write(tmp_path / "d.jsonl", {"q": "a", "a": "b"}, bad)
    with pytest.raises(DataError, match=r"d\.jsonl, row 2: "):
        read(JsonLines(path, template=PLAIN))


def test_bytes_that_are_no_text_are_a_bad_file_too(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"q": "\xff\xfe", "a": "b"}\n')
    with pytest.raises(DataError, match=r"d\.jsonl.*UTF-8"):
        read(JsonLines(str(path), template=PLAIN))


def test_a_missing_key_is_named_with_the_row_and_the_keys_there_are(tmp_path):
    path = write(tmp_path / "d.jsonl", {"q": "a", "a": "b"}, {"q": "a", "answer": "b"})
    with pytest.raises(DataError, match=r"row 2: .*no key 'a'.*q, answer"):
        read(JsonLines(path, template=PLAIN))


@pytest.mark.parametrize("value", [None, True, ["x"], {"x": 1}])
def test_a_value_that_is_no_text_is_refused_with_file_and_row(tmp_path, value):
    path = write(tmp_path / "d.jsonl", {"q": "a", "a": "b"}, {"q": "a", "a": value})
    with pytest.raises(DataError, match=r"d\.jsonl, row 2: 'a' must be text or a number, found"):
        read(JsonLines(path, template=PLAIN))


def test_blank_lines_numbers_a_mark_and_windows_line_ends_are_fine(tmp_path):
    """By hand: the numbers of rows are those of their lines, and 42 is the text 42."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf\r\n{"q": "a", "a": 42}\r\n\r\n  \r\n{"q": -1.5, "a": "b"}\r\n\r\n'
    )
    found = read(JsonLines(str(path), template=PLAIN)).items
    assert [(p.id, p.text, p.reference) for p in found] == [
        ("jsonl/2", "a", "42"),
        ("jsonl/5", "-1.5", "b"),
    ]
    (second,) = read(JsonLines(str(path), skip=1, limit=1, template=PLAIN)).items
    assert second.id == "jsonl/5", "skip counts rows, not lines"


GOOD = b'{"q": "a", "a": "b"}\n'


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no prompts are left"),
        (b"\n\r\n  \n", "no prompts are left"),
        (b'[\n{"q": "a", "a": "b"}\n]\n', "row 1: .*write one object a line, without brackets"),
        (b'[{"q": "a", "a": "b"}]\n', "row 1: .*write one object a line, without brackets"),
        (b'{\n"q": "a"\n}\n', "row 1: an object over several lines"),
        (GOOD + b"null\n", "row 2: expected a JSON object, found null"),
        (GOOD + b"\n[1]\n", "row 3: expected a JSON object, found a list"),
        (GOOD + b'{"q": "a", "q": "c", "a": "b"}\n', "row 2: the key 'q' appears twice"),
        (GOOD + b'{"q": "a", "a": NaN}\n', "row 2: NaN is no JSON"),
        (GOOD + b'{"q": "a", "a": 1e999}\n', "row 2: .*too large for a float"),
        (GOOD + b'{"q": "a", "a": ' + b"9" * 5000 + b"}\n", "row 2: .*does not fit 64 bits"),
        (GOOD + b'{"q": "\\ud83d", "a": "b"}\n', "row 2: half of a character"),
        (GOOD + b'{"q": "a\\u0000", "a": "b"}\n', "row 2: 'q' holds a NUL character"),
        (GOOD + b'{"q": "a\0", "a": "b"}\n', r"row 2 is no text in UTF-8 \(byte 0x00\)"),
        (GOOD + b'{"q": ' + b"[" * 100_000 + b"\n", "row 2: nested more than 64 levels"),
        (('{"q": "a", "a": "b"}\n').encode("utf-16"), "is text in UTF-16"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "is compressed with gzip"),
        (GOOD + b'{"q": "caf\xe9", "a": "b"}\n', r"row 2 is no text in UTF-8 \(byte 0xe9\)"),
        (GOOD + b'{"q": "a", "a": "b"} x\n', "row 2: not JSON .*Extra data"),
        (GOOD + b"{'q': 'a', 'a': 'b'}\n", "row 2: not JSON"),
        (GOOD + b"{}\n", "row 2: the record has no key 'q', .*its keys: none"),
    ],
)
def test_a_bad_file_of_rows_is_one_line_with_file_and_row(tmp_path, data, says):
    path = tmp_path / "d.jsonl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"d\.jsonl.*{says}") as refused:
        read(JsonLines(str(path), template=PLAIN))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("path", ["", "a\0b", "~nobody-of-that-name/d.jsonl", "n" * 300, "/", "."])
def test_a_path_that_is_no_file_is_one_line(path):
    with pytest.raises(DataError, match="data file"):
        read(JsonLines(path, template=PLAIN))


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_completion_is_no_row_to_learn_from(tmp_path, value):
    path = write(tmp_path / "d.jsonl", {"q": "a", "a": "b"}, {"q": "a", "a": value})
    with pytest.raises(DataError, match=r"d\.jsonl, row 2: the completion is empty"):
        read(JsonLines(path, template=PLAIN))


def test_skipped_rows_are_left_out_and_the_others_keep_their_numbers(tmp_path):
    path = write(tmp_path / "d.jsonl", *({"q": str(i), "a": "b"} for i in range(5)))
    found = read(JsonLines(path, skip=2, limit=2, template=PLAIN))
    assert [(p.id, p.text) for p in found.items] == [("jsonl/3", "2"), ("jsonl/4", "3")]
    for bad in ({"skip": -1}, {"limit": 0}, {"limit": -1}):
        with pytest.raises(DataError, match="skip must be 0 or more and limit 1 or more"):
            read(JsonLines(path, template=PLAIN, **bad))


def test_prompts_begin_with_the_tokenizers_prefix_and_keep_it_when_cut(tmp_path):
    data = JsonLines(
        write(tmp_path / "d.jsonl", {"q": "abcd", "a": "x"}), too_long="truncate", template=PLAIN
    )
    whole = load(data, with_bos, context_tokens=100, max_new_tokens=3, prefix_ids=[1])
    assert whole.items[0].token_ids.tolist() == [1, *map(ord, "abcd")]
    cut = load(data, with_bos, context_tokens=6, max_new_tokens=3, prefix_ids=[1])
    assert cut.items[0].token_ids.tolist() == [1, *map(ord, "cd")]


def test_a_prompt_keeps_the_white_space_that_it_ends_with(tmp_path):
    path = write(tmp_path / "d.jsonl", {"q": "ab: \n", "a": "c"})
    (item,) = read(JsonLines(path, template=PLAIN)).items
    assert item.token_ids.tolist() == chars("ab: \n").tolist()


def test_a_missing_file_is_named():
    with pytest.raises(DataError, match=r"no data file at nowhere\.jsonl"):
        read(JsonLines("nowhere.jsonl", template=PLAIN))


def test_an_empty_set_is_refused_and_says_what_was_lost(tmp_path):
    with pytest.raises(DataError, match="no prompts are left"):
        read(JsonLines(write(tmp_path / "d.jsonl"), template=PLAIN))
    path = write(tmp_path / "e.jsonl", {"q": "abcdef", "a": "b"})
    with pytest.raises(DataError, match=r"1 rows were too long"):
        read(JsonLines(path, too_long="drop", template=PLAIN), context=4)


def test_gsm8k_reads_the_train_split_of_a_local_folder(tmp_path):
    (tmp_path / "gsm8k").mkdir()
    write(tmp_path / "gsm8k" / "train.jsonl", {"question": "1+1?", "answer": "#### 2"})
    (made,) = read(Gsm8k(folder=str(tmp_path))).items
    assert (made.id, made.text, made.reference) == ("gsm8k/1", "Question: 1+1?\nAnswer:", " #### 2")


# ---- too long -----------------------------------------------------------------------------------

# Prompts of 3, 6 and 9 tokens, completions of 2 and so 3 with the stop token; the context holds 8.
ROWS = [{"q": "x" * n, "a": "yz"} for n in (3, 6, 9)]


@pytest.fixture
def rows(tmp_path):
    return write(tmp_path / "d.jsonl", *ROWS)


def test_too_long_is_refused_with_the_row_and_the_sum(rows):
    with pytest.raises(DataError, match=r"row 2: 6 prompt tokens [+] 3 new tokens exceed .* of 8"):
        read(JsonLines(rows, template=PLAIN), context=8)
    with pytest.raises(DataError, match=r"row 2: 6 prompt tokens [+] 4 new tokens"):
        read(JsonLines(rows, template=PLAIN), context=8, new=4)


def test_too_long_may_be_dropped_and_is_counted(rows):
    kept = read(JsonLines(rows, too_long="drop", template=PLAIN), context=8)
    assert ([p.id for p in kept.items], kept.dropped, kept.truncated) == (["jsonl/1"], 2, 0)


def test_exactly_the_context_is_not_too_long(rows):
    assert len(read(JsonLines(rows, template=PLAIN), context=12)) == 3
    assert len(read(JsonLines(rows, template=PLAIN), context=13, new=4)) == 3


def test_a_prompt_that_is_generated_from_is_truncated_on_the_left(tmp_path):
    path = write(tmp_path / "d.jsonl", {"q": "abcdef", "a": "z"}, {"q": "abc", "a": "z"})
    kept = read(JsonLines(path, too_long="truncate", template=PLAIN), context=8, new=4)
    assert [p.token_ids.tolist() for p in kept.items] == [
        chars("cdef").tolist(),
        chars("abc").tolist(),
    ]
    assert (kept.dropped, kept.truncated) == (0, 1)


def test_a_prompt_with_no_room_left_is_dropped_rather_than_emptied(rows):
    with pytest.raises(DataError, match="3 rows were too long"):
        read(JsonLines(rows, too_long="truncate", template=PLAIN), context=8, new=8)


def test_a_completion_is_truncated_on_the_right_and_a_prompt_without_room_for_one_dropped(rows):
    """Six tokens leave room for two of three; nine exceed the context by themselves."""
    kept = read(JsonLines(rows, too_long="truncate", template=PLAIN), context=8)
    assert [len(p.token_ids) for p in kept.items] == [3, 6]
    assert (kept.dropped, kept.truncated) == (1, 1)
    kept = read(JsonLines(rows, too_long="truncate", template=PLAIN), context=6)
    assert ([len(p.token_ids) for p in kept.items], kept.dropped) == ([3], 2)


def test_where_both_are_read_a_row_needs_room_for_either(tmp_path):
    path = write(tmp_path / "d.jsonl", {"q": "abc", "a": "defgh"})
    data = JsonLines(path, template=PLAIN)
    options = {"context_tokens": 8, "max_new_tokens": 5}
    assert len(load(data, encode, **options)) == 1, (
        "a learner needs no room for the gold completion"
    )
    for options, needs in (({"max_new_tokens": 5}, 9), ({"max_new_tokens": 7}, 10)):
        given = options | {"with_completion": True}
        assert len(load(data, encode, context_tokens=needs, **given)) == 1
        with pytest.raises(DataError, match=f"exceed the context of {needs - 1}"):
            load(data, encode, context_tokens=needs - 1, **given)


def test_a_prompt_without_tokens_cannot_be_generated_from(tmp_path):
    path = write(tmp_path / "d.jsonl", {"q": "a", "a": "b"}, {"q": "", "a": "b"})
    with pytest.raises(DataError, match=r"row 2: .*no tokens"):
        read(JsonLines(path, template=PLAIN), new=4)
    assert len(read(JsonLines(path, template=PLAIN))) == 2, "a document has no prompt"


# ---- templates ----------------------------------------------------------------------------------


def test_the_default_template_is_the_zero_shot_gsm8k_prompt():
    record = {"question": "1+1?", "answer": "#### 2"}
    assert Template().prompt_text(record) == "Question: 1+1?\nAnswer:"
    assert Template().completion_text(record) == " #### 2"


def test_values_with_braces_are_text_and_doubled_braces_are_braces():
    template = Template(prompt="{{{q}}}", completion="{a}")
    assert template.prompt_text({"q": "{x}"}) == "{{x}}"


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("{q", "no format string"),
        ("{}", "keys of the"),
        ("{q.x}", "keys of the"),
        ("{q[0]}", "keys of the"),
        ("{q:10000000000}", "without ':' or '!'"),
        ("{q!r}", "without ':' or '!'"),
        ("{q:{a}}", "without ':' or '!'"),
    ],
)
def test_a_template_that_is_none_is_refused_when_it_is_made(prompt, says):
    with pytest.raises(ConfigError, match=says):
        Template(prompt=prompt)


@pytest.mark.parametrize(
    "field", ["{q:10000000000}", "{q:>5}", "{q!r}", "{q!s:{a}}", "{q.real}", "{q[0]}", "{0}", "{}"]
)
@pytest.mark.parametrize("part", ["prompt", "completion"])
def test_a_place_in_a_template_takes_a_keys_text_as_it_is_and_nothing_else(part, field):
    with pytest.raises(ConfigError, match=f"template '{part}'"):
        Template(**{part: f"Say {field}"})


def test_a_template_cannot_make_a_text_that_fills_the_memory():
    template = Template(prompt="{q}" * 100)
    assert len(template.prompt_text({"q": "x" * 40_000})) == 4_000_000
    with pytest.raises(DataError, match="more than 4,000,000 characters"):
        template.prompt_text({"q": "x" * 40_001})
