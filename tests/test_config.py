"""Study values <-> plain data <-> YAML, and every message of the way back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from statewise.config import differences, from_plain, override, to_plain
from statewise.errors import ConfigError, PairingError
from statewise.yaml12 import dump_yaml, load_yaml


@dataclass(frozen=True)
class Documents:
    kind: ClassVar[str] = "documents"
    path: Path
    length: int = 32


@dataclass(frozen=True)
class Rollout:
    kind: ClassVar[str] = "rollout"
    length: int = 64
    temperature: float = 1.0
    cut: tuple[float, float] = (0.2, 0.8)


@dataclass(frozen=True)
class Teacher:
    kind: ClassVar[str] = "teacher"
    arm: str
    direction: Literal["student||teacher", "teacher||student"] = "student||teacher"

    def __post_init__(self) -> None:
        if self.arm == "itself":
            raise PairingError("an arm cannot teach itself; name another arm")


Source = Documents | Rollout


@dataclass(frozen=True)
class Stream:
    source: Source
    supervision: Rollout | Teacher | None = None
    share: float = 1.0
    on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    name: str
    streams: tuple[Stream, ...]
    limit: int | Literal["none"] = "none"
    passes: int | tuple[int, ...] | None = None
    adapter: bool = False


@dataclass(frozen=True)
class Place:
    plain: ClassVar[str] = "scalar"
    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("a place needs a name")


class Loaded:
    plain: ClassVar[str] = "never"


@dataclass(frozen=True)
class Study:
    question: str
    arms: tuple[Arm, ...]
    margins: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


STUDY = Study(
    question="Does the source matter?\nAnd how much?\n",
    arms=(
        Arm("mild", (Stream(Documents(Path("data") / "a.jsonl")),), limit=8, passes=(1, 2)),
        Arm("stress", (Stream(Rollout(), Teacher("mild"), 0.5, ("student",)), Stream(Rollout(8)))),
    ),
    margins={"target": 0.02},
)

PLAIN = {
    "question": "Does the source matter?\nAnd how much?\n",
    "arms": [
        {
            "name": "mild",
            "streams": [
                {
                    "source": {"kind": "documents", "path": "data/a.jsonl", "length": 32},
                    "supervision": None,
                    "share": 1.0,
                    "on": [],
                }
            ],
            "limit": 8,
            "passes": [1, 2],
            "adapter": False,
        },
        {
            "name": "stress",
            "streams": [
                {
                    "source": {
                        "kind": "rollout",
                        "length": 64,
                        "temperature": 1.0,
                        "cut": [0.2, 0.8],
                    },
                    "supervision": {
                        "kind": "teacher",
                        "arm": "mild",
                        "direction": "student||teacher",
                    },
                    "share": 0.5,
                    "on": ["student"],
                },
                {
                    "source": {
                        "kind": "rollout",
                        "length": 8,
                        "temperature": 1.0,
                        "cut": [0.2, 0.8],
                    },
                    "supervision": None,
                    "share": 1.0,
                    "on": [],
                },
            ],
            "limit": "none",
            "passes": None,
            "adapter": False,
        },
    ],
    "margins": {"target": 0.02},
    "extra": {},
}


def message(call: Callable[[], Any], error: type[Exception] = ConfigError) -> str:
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def refused(annotation: Any, data: Any, path: str = "") -> str:
    return message(lambda: from_plain(annotation, data, path))


# There and back


def test_to_plain_keeps_defaults_and_puts_kind_first() -> None:
    plain = to_plain(STUDY)
    assert plain == PLAIN
    assert list(plain["arms"][0]["streams"][0]["source"]) == ["kind", "path", "length"]


def test_round_trip_through_plain_data_and_through_a_file(tmp_path: Path) -> None:
    assert from_plain(Study, PLAIN) == STUDY
    file = tmp_path / "study.yaml"
    file.write_text(dump_yaml(to_plain(STUDY)))
    assert load_yaml(file) == PLAIN
    assert from_plain(Study, load_yaml(file)) == STUDY


def test_a_value_without_plain_form_is_our_fault_not_the_users() -> None:
    assert message(lambda: to_plain({"a": {1}}), TypeError) == "a set has no plain form: {1}"
    with pytest.raises(TypeError, match="cannot be annotated"):
        from_plain(complex, 1)
    with pytest.raises(TypeError, match="one distinct `kind` per dataclass"):
        from_plain(Rollout | Stream, {"kind": "rollout"})


@pytest.mark.parametrize(
    ("annotation", "data", "expected"),
    [
        (float, 3, 3.0),
        (float, "5e-4", 5e-4),
        (float, "-.5", -0.5),
        (float | None, "1e3", 1000.0),
        (int | float, 3, 3),
        (float | int, 3, 3),
        (float | str, "5e-4", "5e-4"),
        (bool, False, False),
        (None, None, None),
        (Path | None, "a/b", Path("a/b")),
        (Literal["token", 1], 1, 1),
        (tuple[int, ...], [], ()),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (Any, {"a": [1]}, {"a": [1]}),
        (Source, "rollout", Rollout()),
        (Source, {"kind": "rollout", "length": 2}, Rollout(2)),
        (Rollout, {}, Rollout()),
        (Rollout, "rollout", Rollout()),
        (Rollout, {"kind": "rollout"}, Rollout()),
        (str | Rollout, "rollout", "rollout"),
        (Rollout | None, None, None),
    ],
)
def test_accepted(annotation: Any, data: Any, expected: Any) -> None:
    value = from_plain(annotation, data)
    assert value == expected
    assert type(value) is type(expected)


def test_a_scalar_is_written_as_its_one_field() -> None:
    assert to_plain({"teacher": Place("mild")}) == {"teacher": "mild"}
    assert from_plain(Place | Loaded, "mild") == Place("mild")
    assert from_plain(Place | None, None) is None
    assert from_plain(Place | Rollout, {"kind": "rollout"}) == Rollout()
    assert refused(Place | Loaded, 3, "arms.a.teacher") == (
        "arms.a.teacher: expected str, found 3 (int)"
    )
    assert refused(Place | Loaded, {"name": "mild"}, "p") == "p: expected str, found a mapping"
    assert refused(Place, "", "p") == "p: a place needs a name"


# Refusals: each names the path, the fault and the fix


@pytest.mark.parametrize(
    ("annotation", "data", "expected"),
    [
        (int, 2.0, "p: expected int, found 2.0 (float)"),
        (int, True, "p: expected int, found true (bool)"),
        (int, "3", "p: expected int, found '3' (str)"),
        (float, True, "p: expected float, found true (bool)"),
        (float, "5e-4x", "p: expected float, found '5e-4x' (str)"),
        (float, "nan", "p: expected float, found 'nan' (str)"),
        (str, 7, "p: expected str, found 7 (int)"),
        (str, None, "p: expected str, found null"),
        (bool, "yes", "p: expected bool, found 'yes' (str)"),
        (bool, 1, "p: expected bool, found 1 (int)"),
        (int | None, "x" * 99, f"p: expected int or null, found '{'x' * 56}... (str)"),
        (Literal["a", "b"], "c", "p: expected one of 'a', 'b', found 'c' (str)"),
        (Literal[1], True, "p: expected 1, found true (bool)"),
        (tuple[int, ...], 3, "p: expected a list of int, found 3 (int)"),
        (tuple[int, ...], "12", "p: expected a list of int, found '12' (str)"),
        (tuple[int, ...], [1, None], "p[1]: expected int, found null"),
        (tuple[int, int], [1], "p: expected 2 items, found 1"),
        (int | tuple[int, ...], ["a"], "p[0]: expected int, found 'a' (str)"),
        (dict[str, int], [], "p: expected a mapping of names to int, found a list"),
        (dict[str, int], {1: 1}, "p: expected names as keys, found 1 (int); quote it"),
        (dict[str, int], {"a": "b"}, "p.a: expected int, found 'b' (str)"),
        (Stream, 3, "p: expected a mapping (Stream), found 3 (int)"),
        (Stream | None, "a", "p: expected a mapping (Stream) or null, found 'a' (str)"),
        (Source | None, 3, "p: expected kind 'documents' or kind 'rollout' or null, found 3 (int)"),
    ],
)
def test_wrong_type(annotation: Any, data: Any, expected: str) -> None:
    assert refused(annotation, data, "p") == expected


def test_the_top_level_has_a_name_too() -> None:
    assert refused(int, "a") == "top level: expected int, found 'a' (str)"


def broken(assignment: str) -> str:
    return refused(Study, override(PLAIN, assignment))


def test_unknown_key_names_the_full_path_and_the_nearest_key() -> None:
    assert broken("arms.stress.streams.0.source.lenght=8") == (
        "arms.stress.streams[0].source.lenght: unknown key; "
        "did you mean 'length'? Known: cut, kind, length, temperature"
    )
    assert broken("armz=1") == (
        "armz: unknown key; did you mean 'arms'? Known: arms, extra, margins, question"
    )
    assert refused(Stream, {True: 1, "source": "rollout"}) == (
        "True: unknown key; known: on, share, source, supervision"
    )


def test_unknown_kind() -> None:
    assert broken("arms.stress.streams.0.source.kind=rolout") == (
        "arms.stress.streams[0].source.kind: unknown kind 'rolout'; "
        "did you mean 'rollout'? Known: documents, rollout"
    )
    assert broken("arms.stress.streams.0.source=rolout") == (
        "arms.stress.streams[0].source: unknown kind 'rolout'; "
        "did you mean 'rollout'? Known: documents, rollout"
    )
    assert refused(Source, {"kind": ["a"]}) == (
        "kind: expected the name of a kind, found a list; known: documents, rollout"
    )
    assert refused(Rollout, {"kind": "documents"}, "p") == (
        "p.kind: unknown kind 'documents'; known: rollout"
    )


def test_missing_keys() -> None:
    assert broken("arms.mild={name: mild}") == "arms.mild.streams: required key is missing"
    assert broken("arms.mild={streams: []}") == "arms[0].name: required key is missing"
    assert broken("arms.mild.streams.0.source={length: 3}") == (
        "arms.mild.streams[0].source.kind: required key is missing; known kinds: documents, rollout"
    )
    assert broken("arms.mild.streams.0.source=documents") == (
        "arms.mild.streams[0].source: kind 'documents' needs path; "
        "write {kind: documents, path: ...}"
    )


def test_every_missing_and_every_unknown_key_of_an_object_is_told_at_once() -> None:
    """By hand: the object's path once, misspellings with their word, what is missing without one."""
    assert broken("arms.stress={name: stress, lenght: 1, zzz: 2, pases: 3}") == (
        "arms.stress: unknown keys lenght, zzz, pases (did you mean 'passes'?); "
        "required key is missing: streams; known: adapter, limit, name, passes, streams"
    )
    assert refused(Arm, {}, "p") == "p: required keys are missing: name, streams"
    assert refused(Arm, {"nmae": "a", "streams": []}, "p") == (  # one fault, told once
        "p.nmae: unknown key; did you mean 'name'? Known: adapter, limit, name, passes, streams"
    )
    assert refused(Arm, {"nmae": "a"}) == (
        "top level: unknown key nmae (did you mean 'name'?); required key is missing: streams; "
        "known: adapter, limit, name, passes, streams"
    )
    assert refused(Teacher, {"armz": "a", "way": 1}, "p") == (
        "p: unknown keys armz (did you mean 'arm'?), way; known: arm, direction, kind"
    )


def test_every_problem_of_a_file_is_reported_at_once_with_its_path() -> None:
    data = override(PLAIN, "arms.mild.limit=half")
    data = override(data, "arms.mild.streams.0.share=yes")
    data = override(data, "arms.stress.streams.0.source.kind=rolout")
    data = override(data, "arms.stress.streams.0.supervision.arm=itself")
    data = override(data, "margins.target=1e400x")
    assert refused(Study, data) == (
        "5 problems: (1) arms.mild.streams[0].share: expected float, found 'yes' (str); "
        "(2) arms.mild.limit: expected int or 'none', found 'half' (str); "
        "(3) arms.stress.streams[0].source.kind: unknown kind 'rolout'; "
        "did you mean 'rollout'? Known: documents, rollout; "
        "(4) arms.stress.streams[0].supervision: an arm cannot teach itself; name another arm; "
        "(5) margins.target: expected float, found '1e400x' (str)"
    )


def test_of_very_many_problems_the_first_are_listed() -> None:
    line = refused(tuple[int, ...], ["a"] * 23, "p")
    assert line.startswith("23 problems: (1) p[0]: expected int, found 'a' (str); (2) p[1]: ")
    assert line.endswith("(20) p[19]: expected int, found 'a' (str); and 3 more")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"share": [0]}, "share: expected float, found a list"),
        ({"passes": [1, "a"]}, "passes[1]: expected int, found 'a' (str)"),
        ({"passes": "a"}, "passes: expected int or a list of int or null, found 'a' (str)"),
        ({"limit": "one"}, "limit: expected int or 'none', found 'one' (str)"),
        ({"source": {"length": 1, "kind": "rollout", "cut": []}}, "cut: expected 2 items, found 0"),
    ],
)
def test_inside_a_union_the_member_that_the_data_resembles_is_judged(data: Any, says: str) -> None:
    """By hand: of the members that pydantic tried, the one whose shape fits, or the union as a whole."""
    if "passes" in data or "limit" in data:
        plain: Any = {"name": "a", "streams": []} | data
        assert refused(Arm, plain) == says
    else:
        assert refused(Stream, {"source": "rollout"} | data).endswith(says)


def test_rules_that_pydantic_alone_does_not_carry() -> None:
    """Each is refused or taken by `from_plain`; plain pydantic says otherwise, so the rule stays ours."""
    wrong = {"kind": "documents", "arm": "mild"}  # `kind` is a class variable: pydantic ignores it
    assert TypeAdapter(Rollout | Teacher).validate_python(wrong) == Teacher("mild")
    assert "unknown kind 'documents'" in refused(Rollout | Teacher, wrong)
    assert TypeAdapter(Literal[1]).validate_python(True, strict=True) == 1
    assert refused(Literal[1], True, "p") == "p: expected 1, found true (bool)"
    for annotation, data, value in ((float, "5e-4", 5e-4), (tuple[int, ...], [1], (1,))):
        with pytest.raises(ValidationError):
            TypeAdapter(annotation).validate_python(data, strict=True)
        assert from_plain(annotation, data) == value
    with pytest.raises(PairingError, match=r"^an arm"):  # a TypeError passes through without a path
        TypeAdapter(Teacher).validate_python({"arm": "itself"})


def test_an_error_of_post_init_keeps_its_class_and_gets_the_path() -> None:
    data = override(PLAIN, "arms.stress.streams.0.supervision.arm=itself")
    assert message(lambda: from_plain(Study, data), PairingError) == (
        "arms.stress.streams[0].supervision: an arm cannot teach itself; name another arm"
    )
    bare = message(lambda: from_plain(Teacher, {"arm": "itself"}), PairingError)
    assert bare == "an arm cannot teach itself; name another arm"


# --set


@pytest.mark.parametrize(
    ("assignment", "path", "expected"),
    [
        ("question=Why?", ["question"], "Why?"),
        ("question=a=b", ["question"], "a=b"),
        ("question=", ["question"], None),
        ("arms.mild.limit=16", ["arms", 0, "limit"], 16),
        ("arms.0.limit=16", ["arms", 0, "limit"], 16),
        ("arms[0].limit=16", ["arms", 0, "limit"], 16),
        ("arms.stress.streams.1.source.length=8", ["arms", 1, "streams", 1, "source", "length"], 8),
        ("arms.mild.passes.1=3", ["arms", 0, "passes"], [1, 3]),
        ("arms.mild.streams.0.share=5e-4", ["arms", 0, "streams", 0, "share"], 5e-4),
        ("arms.mild.adapter=on", ["arms", 0, "adapter"], "on"),
        ("arms.mild.adapter=true", ["arms", 0, "adapter"], True),
        ("margins={a: [1, null]}", ["margins"], {"a": [1, None]}),
        ("margins.new=0.1", ["margins"], {"target": 0.02, "new": 0.1}),
        (" margins.target =1", ["margins", "target"], 1),
    ],
)
def test_override(assignment: str, path: list[Any], expected: Any) -> None:
    before = dump_yaml(PLAIN)
    value: Any = override(PLAIN, assignment)
    for key in path:
        value = value[key]
    assert value == expected
    assert dump_yaml(PLAIN) == before


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("margins", "--set margins: expected path=value, such as arms.mild.share=0.5"),
        ("=3", "--set =3: expected path=value, such as arms.mild.share=0.5"),
        ("a..b=3", "--set a..b=3: expected path=value, such as arms.mild.share=0.5"),
        (
            "margin.target=3",
            "--set margin.target: the study has no key 'margin'; "
            "did you mean 'margins'? Known: arms, extra, margins, question",
        ),
        (
            "arms.milt.limit=3",
            "--set arms.milt.limit: arms has no item 'milt'; "
            "did you mean 'mild'? Known: 0, 1, mild, stress",
        ),
        (
            "arms.mild.passes.2=3",
            "--set arms.mild.passes.2: arms.mild.passes has no item '2'; known: 0, 1",
        ),
        (
            "arms.mild.limit.x=3",
            "--set arms.mild.limit.x: arms.mild.limit is 8 (int) and has no key 'x'; "
            "set arms.mild.limit as a whole: --set 'arms.mild.limit={x: ...}'",
        ),
        (
            "arms.stress.passes.x.y=3",
            "--set arms.stress.passes.x.y: arms.stress.passes is null and has no key 'x'; "
            "set arms.stress.passes as a whole: --set 'arms.stress.passes={x: ...}'",
        ),
        (
            "margins={a",
            "--set margins: line 1, column 3: while parsing a flow mapping, "
            "expected ',' or '}', but got '<stream end>'",
        ),
    ],
)
def test_override_refuses(assignment: str, expected: str) -> None:
    assert message(lambda: override(PLAIN, assignment)) == expected


# varies


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (PLAIN, PLAIN, []),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": 0}, {"a": None}, ["a"]),
        ({"a": math.nan}, {"a": math.nan}, []),
        ({"a": math.nan}, {"a": 1.0}, ["a"]),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, ["a", "b", "c"]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3, 4]}}, ["a.b[1]", "a.b[2]"]),
        ({"a": [1]}, {"a": {}}, ["a"]),
        ({"a": [{"name": "x", "n": 1}]}, {"a": [{"name": "x", "n": 2}]}, ["a.x.n"]),
        ({"a": [{"name": "x", "n": 1}]}, {"a": [{"name": "y", "n": 1}]}, ["a[0].name"]),
        (1, 2, ["top level"]),
    ],
)
def test_differences(a: Any, b: Any, expected: list[str]) -> None:
    assert differences(a, b) == expected
    assert sorted(differences(b, a)) == sorted(expected)


# YAML


def write(folder: Path, text: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_yaml_is_read_by_the_core_schema(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "on: [no, off, yes, true, False, null, ~]\n"
        "numbers: [5e-4, 1_000, -3, .5, 1., 1.5e3, .inf, 0]\n"
        "texts: [010, 1:30, 2024-01-01, 0x1f, 1.2.3, e5, 5e, '7']\n"
        "base: &base {a: 1, b: 2}\n"
        "merged: {<<: *base, b: 3}\n"
        "empty:\n",
    )
    assert load_yaml(file) == {
        "on": ["no", "off", "yes", True, False, None, None],
        "numbers": [5e-4, 1000, -3, 0.5, 1.0, 1500.0, math.inf, 0],
        "texts": ["010", "1:30", "2024-01-01", "0x1f", "1.2.3", "e5", "5e", "7"],
        "base": {"a": 1, "b": 2},
        "merged": {"a": 1, "b": 3},
        "empty": None,
    }


@pytest.mark.parametrize("read", [yaml.safe_load, None], ids=["yaml 1.1", "ours"])
def test_what_is_written_reads_the_same_everywhere(read: Any, tmp_path: Path) -> None:
    tricky = [
        "on",
        "no",
        "5e-4",
        "1e3",
        "010",
        "1:30",
        "2024-01-01",
        "~",
        "",
        "null",
        "<<",
        "=",
        "é",
    ]
    tricky += ["a: b", "# a", " a ", "two\nlines\n", "two\nlines", "x" * 300, "1_0", ".5", "'", "{"]
    tricky += [
        "a\u2028b\n - c",
        "\ta\nb",
        "  a\nb",
        "a \nb",
        "\n\n",
        "\x85",
        "it's # so",
        "a'\u2029",
    ]
    tricky += ["   > 'x' " + "\\" * 90 + '"', "don't " * 30 + ": x", "\\ \"' " * 40]
    numbers = [5e-4, 1e-05, 1e22, 0.1 + 0.2, -0.0, 3, math.inf, True, None]
    data = {"on": {"texts": tricky, "numbers": numbers, "none": [], "nothing": {}}}
    text = dump_yaml(data)
    assert (read(text) if read else load_yaml(write(tmp_path, text))) == data


def test_dump_is_block_style_in_the_order_given_and_without_aliases() -> None:
    shared = {"b": 1, "a": [1, 2]}
    assert dump_yaml({"z": [shared, shared], "text": "one\ntwo\n"}) == (
        "z:\n"
        "  - b: 1\n    a:\n      - 1\n      - 2\n"
        "  - b: 1\n    a:\n      - 1\n      - 2\n"
        "text: |\n  one\n  two\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: 1\nb: 2\na: 3\n",
            'line 3, column 1: found duplicate key "a" with value "3" (original value: "1")',
        ),
        (
            "x:\n  a: 1\n  a: 1\n",
            'line 3, column 3: found duplicate key "a" with value "1" (original value: "1")',
        ),
        (
            "a: {b: 1, b: 2}",
            'line 1, column 11: found duplicate key "b" with value "2" (original value: "1")',
        ),
        (
            "- a\n",
            "the top level must be a mapping, found a list; write keys, such as name: mine",
        ),
        ("", "empty; write a mapping of keys, such as name: mine"),
        ("# nothing\n", "empty; write a mapping of keys, such as name: mine"),
        ("a: b: c\n", "line 1, column 5: mapping values are not allowed here"),
        (
            "a: !!python/object:os.system x",
            "line 1, column 4: tags are not read (tag:yaml.org,2002:python/object:os.system); "
            "write the value without one",
        ),
    ],
)
def test_load_refuses(text: str, expected: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    assert message(lambda: load_yaml(file)) == f"{file}: {expected}"


def test_load_refuses_what_is_no_file(tmp_path: Path) -> None:
    absent = tmp_path / "none.yaml"
    assert message(lambda: load_yaml(absent, "shipped studies: paper, pocket")) == (
        f"no study file at {absent}; shipped studies: paper, pocket"
    )
    assert message(lambda: load_yaml(tmp_path)) == (
        f"{tmp_path} is a folder, not a study file; give the path of a file"
    )
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"a: \xff")
    assert message(lambda: load_yaml(file)).startswith(f"{file} is no text in UTF-8 (byte 0xff)")
    file.write_bytes(b"a: \x07")
    assert message(lambda: load_yaml(file)).startswith(f"{file}: unacceptable character #x0007")


def test_a_mark_and_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: [x, y]\r\n")
    assert load_yaml(file) == {"a": 1, "b": ["x", "y"]}


LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LAUGHS, "more than 20000 values, counting what aliases repeat"),
        (MERGES, "more than 20000 values, counting what aliases repeat"),
        (f"a: &a {'x' * 10_000}\nb: [{'*a, ' * 1000}]\n", "more than 20000 values"),
        ("a: &a [*a]\n", "line 1, column 4: the value of the anchor 'a' holds itself"),
        ("a: &a {b: [*a]}\n", "the value of the anchor 'a' holds itself"),
        ("a: &a {<<: *a}\n", "the value of the anchor 'a' holds itself"),
        ("&a a: *b\n", "found undefined alias 'b'"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested more than 64 levels deep"),
        ("a: " + "{b: " * 3000, "nested more than 64 levels deep"),
        ("".join(" " * i + "a:\n" for i in range(1000)), "nested more than 64 levels deep"),
        ("a: " + "- " * 3000 + "b", "not allowed here"),
        (
            "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 99)),
            "nested more than 64 levels deep",
        ),
        ("x: " + "a" * (1 << 20), "larger than 1 MiB"),
        ("x: " + "a" * (1 << 23), "larger than 1 MiB"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("5: x\n", "the key '5' is no text; put it in quotes"),
        ("null: x\n", "the key 'null' is no text"),
        ("true: x\n", "the key 'true' is no text"),
        (".nan: x\n", "the key '.nan' is no text"),
        ("[a]: x\n", "a list as a key"),
        ("? {a: b}\n: x\n", "a mapping as a key"),
        ("a: !!timestamp x\n", "tags are not read"),
        ("a: !!int x\n", "tags are not read"),
        ("a: !!binary x\n", "tags are not read"),
        ("!!set {a, b}\n", "tags are not read"),
        ("a: !" + "x" * 10_000 + " y\n", "tags are not read"),
        ("a: *" + "x" * 10_000, "found undefined alias"),
        ('a: "\\ud83d"\n', "line 1, column 4: half of a character"),
        ('"\\ud83d": a\n', "line 1, column 1: half of a character"),
        ('a: "\\UFFFFFFFF"\n', "line 1, column 7: no such character"),
        ('a: "\\U00110000"\n', "no such character"),
        ("a: " + "9" * 5000, "does not fit 64 bits"),
        ("a: 1" + "_0" * 5000, "does not fit 64 bits"),
        ("a: 1e400\n", "line 1, column 4: the number '1e400' is too large for a float"),
        ("a: -1.5e999\n", "the number '-1.5e999' is too large for a float"),
        ("%YAML 99999999999999999999.1\n---\na: 1\n", "no such version of YAML"),
        ("a: <<\n", "tag:yaml.org,2002:merge"),
        ("<<: 5\n", "expected a mapping or list of mappings for merging"),
        ("a: @x\n", "cannot start any token"),
        ("a: 'x\n", "found unexpected end of stream"),
        ("just text\n", "the top level must be a mapping, found 'just text'"),
    ],
)
def test_a_file_that_no_one_means_is_one_line_at_once(text, expected, tmp_path):
    began = time.perf_counter()
    line = message(lambda: load_yaml(write(tmp_path, text)))
    assert time.perf_counter() - began < 2
    assert expected in line
    assert "\n" not in line
    assert len(line) < 500


def test_an_override_reaches_its_own_place_alone_where_an_anchor_is_shared(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("a: &shared {limit: 1}\nb: *shared\n")
    assert override(load_yaml(file), "b.limit=2") == {"a": {"limit": 1}, "b": {"limit": 2}}
