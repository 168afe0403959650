"""The door for reading a run folder: plain data of the shape that was asked for, or one line.

A run folder may have been cut by a full disk, edited by hand or sent by a stranger. So every reader
names the shape that it needs, sizes are bounded, and whatever is wrong is a RunError with the file,
the place in it, and what heals it: deleting the file, and running the study again.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from statewise.errors import RunError, StatewiseError
from statewise.files import MOST_DEPTH, parse_json, read_text, shown
from statewise.store import layout
from statewise.store.writing import write_text

if TYPE_CHECKING:
    import pyarrow as pa

MOST_TABLE_BYTES = 1 << 33
"""The most memory that a Parquet file may take: a small one can say that it holds a line 10^12 times."""
ROWS_A_TIME = 4096

NUMBER: Final = (int, float)
"""A finite number."""
MAYBE: Final = (int, float, None)
"""A finite number, or none."""
Shape = Any
"""What a value must look like: a type, None, a tuple of shapes (any of them), `[shape]` for a list,
`{"key": shape, "key?": shape, str: shape}` for a mapping (needed, may be left out, every other key), or a
frozenset of the values that are known. `object` is anything."""


def remedy(path: Path) -> str:
    """What heals a damaged file of a run: of a model's directory, the whole directory is made again."""
    whole = next((p for p in path.parents if p.name in ("policy", "checkpoint")), path)
    if any(layout.seed_of(folder) is not None for folder in (whole.parent, whole.parent.parent)):
        again = "run the study again, which makes it anew"
    else:
        again = "run the command that made it again"
    return f"delete {shown(whole)} and {again}"


def damaged(path: Path, what: str) -> RunError:
    """The error for a file of a run that is not as it was written."""
    return RunError(f"{shown(path)} is damaged ({what}); {remedy(path)}")


def is_there(path: Path) -> bool:
    """True where something stands in that place, whatever it is; a link that leads nowhere counts. Raises RunError."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise damaged(path, error.strerror or "it cannot be looked at") from error
    return True


def must_be_file(path: Path) -> None:
    """Refuse what is no regular file: a folder, or a pipe that would be read for ever. Raises RunError."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise damaged(path, error.strerror or "it cannot be read") from error
    if not stat.S_ISREG(mode):
        raise damaged(path, "it is a folder" if stat.S_ISDIR(mode) else "it is no file")


# ---- shapes ---------------------------------------------------------------------------------


def misfit(value: Any, shape: Shape, at: str = "") -> str | None:
    """What is wrong with plain data, and where in it; None where it has the shape.

    >>> misfit({"step": 3, "loss": None}, {"step": int, str: MAYBE})
    >>> misfit({"rows": [{"step": "3"}]}, {"rows": [{"step": int}]})
    'rows[0].step is text, not a whole number'
    >>> misfit({}, {"step": int}), misfit(True, NUMBER), misfit(float("inf"), MAYBE)
    ("no 'step'", 'it is true or false, not a number', 'it is infinite or not a number')
    """
    place = at or "it"
    if shape is object:
        return None
    if isinstance(shape, tuple):
        if any(misfit(value, one, at) is None for one in shape):
            return None
        if float in shape and isinstance(value, float):
            return f"{place} is infinite or not a number"
        return f"{place} is {_named(value)}, not {_wanted(shape)}"
    if isinstance(shape, frozenset):
        known = isinstance(value, str) and value in shape
        return None if known else f"{place} is none of {', '.join(sorted(shape))}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place} is {_named(value)}, not a list"
        found = (misfit(one, shape[0], f"{at}[{i}]") for i, one in enumerate(value))
        return next((what for what in found if what), None)
    if isinstance(shape, Mapping):
        return _misfit_of_mapping(value, shape, at)
    fits = value is None if shape is None else type(value) is shape
    if fits and not (shape is float and not math.isfinite(value)):
        return None
    return f"{place} is {_named(value)}, not {_wanted((shape,))}"


def _misfit_of_mapping(value: Any, shape: Mapping[Any, Shape], at: str) -> str | None:
    if not isinstance(value, dict):
        return f"{at or 'it'} is {_named(value)}, not a mapping"
    every = shape.get(str)
    for key, wanted in shape.items():
        name = key.removesuffix("?") if isinstance(key, str) else None
        if name is None:
            continue
        if name in value:
            what = misfit(value[name], wanted, f"{at}.{name}" if at else name)
            if what:
                return what
        elif not key.endswith("?"):
            return f"no {name!r}" + (f" in {at}" if at else "")
    if every is not None:
        quick = every if isinstance(every, tuple) else ()
        for key, one in value.items():
            # Thousands of rows of numbers: most are looked at here, and no further.
            if type(one) in quick and (type(one) is not float or math.isfinite(one)):
                continue
            if key not in shape and f"{key}?" not in shape:
                what = misfit(one, every, f"{at}.{key}" if at else key)
                if what:
                    return what
    return None


_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
    type(None): "null",
}


def _named(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def _wanted(shapes: tuple[Shape, ...]) -> str:
    names = [
        _NAMES[type(None)] if s is None else _NAMES.get(s, "a mapping")
        for s in shapes
        if not (s is int and float in shapes)
    ]
    return " or ".join(dict.fromkeys(names))


# ---- JSON -----------------------------------------------------------------------------------


def read_json(path: Path, shape: Shape = object) -> Any:
    """Read a JSON file of the shape that is asked for. Raises RunError naming a missing or damaged one."""
    must_be_file(path)
    text = read_text(path, "file", error=RunError, remedy=remedy(path))
    value = parse_json(text, shown(path), error=RunError, remedy=remedy(path))
    what = misfit(value, shape)
    if what:
        raise damaged(path, what)
    return value


def read_rows(path: Path, shape: Shape = dict) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; none where there is no file. A torn last line is not a row.

    Raises RunError naming a damaged line.
    """
    rows = []
    for number, line in enumerate(_lines(path), start=1):
        row, what = _row(line, shape)
        if what:
            raise RunError(f"{shown(path)}, line {number} is damaged ({what}); {remedy(path)}")
        rows.append(row)
    return rows


def read_seconds(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of seconds; what is damaged in it is left out, for no figure but a time rests on it."""
    try:
        lines = _lines(path)
    except StatewiseError:
        return []
    found = (_row(line, {"seconds": NUMBER}) for line in lines)
    return [row for row, what in found if what is None]


def cut_rows(path: Path, last_step: int) -> int:
    """Keep the rows up to `last_step`, and those of no step; returns how many. What came later is computed again.

    A file of seconds keeps what can be read of it. Raises RunError naming a damaged line of another.
    """
    if not is_there(path):
        return 0
    timed = path.name.endswith(layout.TIMING)
    rows = read_seconds(path) if timed else read_rows(path, {"step": (int, None)})
    step = [row.get("step") for row in rows]
    kept = [
        row
        for row, at in zip(rows, step, strict=True)
        if at is None or (type(at) is int and at <= last_step)
    ]
    write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
    return len(kept)


def _lines(path: Path) -> list[str]:
    if not is_there(path):
        return []
    must_be_file(path)
    return read_text(path, "file", error=RunError, remedy=remedy(path)).split("\n")[:-1]


def _row(line: str, shape: Shape) -> tuple[Any, str | None]:
    """A line as plain data, and what is wrong with it. Quick: a file has thousands, and all were written by us."""
    if line.count("[") + line.count("{") > MOST_DEPTH:
        return None, "it is nested too deep"
    try:
        row = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # also an integer of a million digits
        return None, str(error) or "no JSON"
    return row, misfit(row, shape)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")


# ---- Parquet --------------------------------------------------------------------------------


def read_table(path: Path, schema: pa.Schema, *, what: str = "") -> pa.Table:
    """The columns of `schema` of a Parquet file, in its types. Other columns are left out.

    Types may be wider or narrower, of one kind; a column that is not nullable holds no null. `what` says
    what the file should be. Raises RunError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    must_be_file(path)
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow
            lacking = [name for name in schema.names if found.get_field_index(name) < 0]
            if lacking:
                raise damaged(path, f"no column {', '.join(lacking)}")
            for field in schema:
                if not _holds(found.field(field.name).type, field):
                    raise damaged(
                        path,
                        f"column {field.name} holds {found.field(field.name).type}, not {field.type}",
                    )
            batches, size = [], 0
            for batch in file.iter_batches(ROWS_A_TIME, columns=schema.names):
                batches.append(batch.select(schema.names))
                size += batch.nbytes
                if size > MOST_TABLE_BYTES:
                    raise damaged(path, f"it unpacks to more than {MOST_TABLE_BYTES >> 30} GiB")
            fields = pa.schema([found.field(name) for name in schema.names])
            read = pa.Table.from_batches(batches, fields)
        table = read.cast(pa.schema([field.with_nullable(True) for field in schema]))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        told = " ".join(str(error).split())[:200]
        raise damaged(path, f"it holds no {what}: {told}" if what else told) from error
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise damaged(path, f"column {field.name} has a gap")
    return table


def _holds(found: pa.DataType, field: pa.Field) -> bool:
    """True where a column can be read as the field: of one kind, whole numbers for numbers, or all null."""
    from pyarrow import types

    if types.is_null(found):
        return field.nullable
    kinds = _kind(found), _kind(field.type)
    return kinds[0] == kinds[1] or kinds == ("whole number", "number")


def _kind(kind: pa.DataType) -> str:
    """What a column holds, whatever its width: whole numbers, numbers, text, truth values, a list of these."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        return f"list of {_kind(kind.value_type)}"
    for name, test in (
        ("whole number", types.is_integer),
        ("number", types.is_floating),
        ("text", types.is_string),
        ("text", types.is_large_string),
        ("truth value", types.is_boolean),
    ):
        if test(kind):
            return name
    return str(kind)
