"""What pydantic refuses, in one message: every problem with its full path and the nearest known word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import ValidationError

from statewise.config.schema import NOTE, Note, RefusedError, Schemas, inputs, is_required, kind_of
from statewise.errors import ConfigError, StatewiseError, close_to, nearest, one_line
from statewise.files import short
from statewise.limits import shown_number

MOST_PROBLEMS = 20
"""Problems that a message lists; of more it gives the number."""
_WRONG_TYPE = frozenset(
    (
        *("int_type", "float_type", "string_type", "bool_type", "none_required", "literal_error"),
        *("tuple_type", "list_type", "dict_type"),
    )
)
_OUT_OF_RANGE = frozenset(
    ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")
)
_KEYS = frozenset(("missing", "extra_forbidden", "invalid_key"))

Location = tuple[int | str, ...]


@dataclass(frozen=True)
class Place:
    """Where an error of pydantic lies: in the file, and in the schema."""

    path: str
    data: Any
    note: Note
    length: int
    """Items of a list of fixed length."""
    unions: Mapping[Location, Note]
    """The unions on the way, by the location at which a member was chosen."""


def refusal(error: ValidationError, schemas: Schemas, data: Any, path: str) -> StatewiseError:
    """One error that reports all that pydantic refused.

    It has the class that all problems share (that of what a `__post_init__` raised), else it is a ConfigError.
    """
    problems = list(_problems(error, schemas, data, path))
    if len(problems) == 1:
        return problems[0]
    shown = [f"({number}) {text}" for number, text in enumerate(problems[:MOST_PROBLEMS], 1)]
    more = len(problems) - len(shown)
    shown += [f"and {more} more"] if more else []
    kinds = {type(problem) for problem in problems}
    cls = kinds.pop() if len(kinds) == 1 else ConfigError
    return cls(f"{len(problems)} problems: {'; '.join(shown)}")


def _problems(
    error: ValidationError, schemas: Schemas, data: Any, path: str
) -> Iterator[StatewiseError]:
    errors = error.errors(include_url=False)
    places = [locate(found["loc"], schemas, data, path) for found in errors]
    mismatched = _settle_unions(errors, places)
    objects: set[Location] = set()
    for number, (found, place) in enumerate(zip(errors, places, strict=True)):
        if number not in mismatched:
            continue
        if (union := mismatched[number]) is not None:
            place = locate(union, schemas, data, path)  # noqa: PLW2901
            yield _wrong_type(place)
            continue
        loc, kind = found["loc"], found["type"]
        above = locate(loc[:-1], schemas, data, path)
        if kind in _KEYS:
            if loc[:-1] not in objects:
                objects.add(loc[:-1])
                yield _wrong_keys(above) if above.note.cls else _wrong_length(above)
        elif kind in ("union_tag_not_found", "union_tag_invalid"):
            yield _wrong_kind(place)
        elif kind == "literal_error" and loc[-1:] == ("kind",) and above.note.kinds:
            yield _wrong_kind(above)
        elif loc[-1:] == ("[key]",):
            at = locate(loc[:-2], schemas, data, path).path or "top level"
            names = f"expected names as keys, found {shown_data(found['input'])}; quote it"
            yield ConfigError(f"{at}: {names}")
        else:
            yield _problem(found, place)


def _settle_unions(errors: Sequence[Any], places: Sequence[Place]) -> dict[int, Location | None]:
    """The errors that count; with the union that fits as a whole none of whose members came near.

    pydantic reports what each member of a union refuses. If the data has the shape of a member, what is wrong
    inside it is what matters; if it has the shape of none, the union is wrong as a whole.
    """
    counts: dict[int, Location | None] = dict.fromkeys(range(len(errors)))
    unions = sorted({at for place in places for at in place.unions}, key=len)
    for at in unions:
        members = [
            number for number in counts if at in places[number].unions and counts[number] is None
        ]
        near = [
            number
            for number in members
            if not (
                len(errors[number]["loc"]) == len(at) + 1 and errors[number]["type"] in _WRONG_TYPE
            )
        ]
        member = errors[near[0]]["loc"][len(at)] if near else None
        for number in members:
            if near and errors[number]["loc"][len(at)] != member:
                del counts[number]
            elif not near and number == members[0]:
                counts[number] = at
            elif not near:
                del counts[number]
    return counts


def locate(loc: Location, schemas: Schemas, data: Any, path: str) -> Place:
    """Follow a location of pydantic through the schema and through the data at once."""
    schema: Any = schemas.top
    unions: dict[Location, Note] = {}
    for depth, step in enumerate(loc):
        schema = _open(schema, schemas)
        kind = schema.get("type")
        if kind == "union":
            unions[loc[:depth]] = schema["metadata"][NOTE]
            schema = schema["choices"][int(step)][0]
        elif kind == "tagged-union":
            schema = schema["choices"][step]
        elif kind in ("tuple", "list"):
            items = schema["items_schema"]
            index = int(step)
            schema = items if kind == "list" else items[min(index, len(items) - 1)]
            item = data[index] if isinstance(data, Sequence) and index < len(data) else None
            path, data = item_path(path, index, item), item
        elif step != "[key]":
            values = schema.get("values_schema", {})
            schema = schema.get("fields", {}).get(step, {}).get("schema", values)
            path = join(path, str(step))
            data = data.get(step) if isinstance(data, Mapping) else None
    schema = _open(schema, schemas)
    note = (schema.get("metadata") or {}).get(NOTE, Note(""))
    return Place(path, data, note, len(schema.get("items_schema", ())), unions)


def _open(schema: Any, schemas: Schemas) -> Any:
    """The schema below references and functions."""
    while schema.get("type") in ("definition-ref", "function-after", "function-before"):
        schema = (
            schemas.classes[schema["schema_ref"]] if "schema_ref" in schema else schema["schema"]
        )
    return schema


def _problem(found: Any, place: Place) -> StatewiseError:
    """One error of pydantic, in our words."""
    at, kind = place.path or "top level", found["type"]
    if kind == "value_error":
        refused = found["ctx"]["error"]
        if not isinstance(refused, RefusedError):
            raise refused
        message = str(refused.error)
        return type(refused.error)(f"{place.path}: {message}" if place.path else message)
    if kind in _OUT_OF_RANGE:
        return ConfigError(f"{at}: {_out_of_range(place)}")
    if kind == "too_long":
        return _wrong_length(place)
    if kind in _WRONG_TYPE:
        return _wrong_type(place)
    return ConfigError(f"{at}: {found['msg'][:1].lower()}{found['msg'][1:]}")


def _wrong_type(place: Place) -> StatewiseError:
    at = place.path or "top level"
    return ConfigError(f"{at}: expected {place.note.expected}, found {shown_data(place.data)}")


def _wrong_length(place: Place) -> StatewiseError:
    at = place.path or "top level"
    return ConfigError(f"{at}: expected {place.length} items, found {len(place.data)}")


def _out_of_range(place: Place) -> str:
    number = float(place.data) if isinstance(place.data, str) else place.data
    if place.note.within is not None:
        return f"must be {place.note.within}, found {shown_number(number)}"
    if isinstance(number, float):
        return f"must be a finite number, found {number}"
    return f"must fit 64 bits, found {shown_number(number)}"


def _wrong_kind(place: Place) -> StatewiseError:
    """The kind of an object is missing, is not text, or names no class of the union."""
    bare = isinstance(place.data, str)
    kinds = place.note.kinds
    kind = place.data if bare else place.data.get("kind")
    at = (place.path if bare else join(place.path, "kind")) or "top level"
    if kind is None:
        return ConfigError(
            f"{at}: required key is missing; known kinds: {', '.join(sorted(kinds))}"
        )
    if not isinstance(kind, str):
        return ConfigError(
            f"{at}: expected the name of a kind, found {shown_data(kind)}; {nearest('', kinds)}"
        )
    return ConfigError(f"{at}: unknown kind {short(kind)}; {nearest(kind, kinds)}")


def _wrong_keys(place: Place) -> StatewiseError:
    """Unknown and missing keys, all of an object at once.

    A missing key whose misspelling is there is reported once, as the misspelling.
    """
    cls, data, path = place.note.cls, place.data, place.path
    required = [field.name for field in inputs(cls) if is_required(field)]
    if isinstance(data, str):
        return ConfigError(
            f"{path or 'top level'}: kind {data!r} needs {', '.join(required)}; "
            f"write {{kind: {data}, {required[0]}: ...}}"
        )
    known = [*(field.name for field in inputs(cls)), *(["kind"] if kind_of(cls) else [])]
    unknown = [one_line(str(key), 80) or "''" for key in data if key not in known]
    near = {key: close_to(key, [name for name in known if name not in data]) for key in unknown}
    missing = [name for name in required if name not in data and name not in near.values()]
    if len(unknown) == 1 and not missing:
        at = join(path, unknown[0])
        return ConfigError(f"{at}: unknown key; {nearest(unknown[0], known)}")
    if not unknown and len(missing) == 1:
        return ConfigError(f"{join(path, missing[0])}: required key is missing")
    parts = []
    if unknown:
        names = [
            f"{key} (did you mean {word!r}?)" if (word := near[key]) else key for key in unknown
        ]
        parts.append(f"unknown {'keys' if len(unknown) > 1 else 'key'} {', '.join(names)}")
    if missing:
        parts.append(
            f"required {'keys are' if len(missing) > 1 else 'key is'} missing: {', '.join(missing)}"
        )
    every = f"; known: {', '.join(sorted(known))}" if unknown else ""
    return ConfigError(f"{path or 'top level'}: {'; '.join(parts)}{every}")


# Words


def join(path: str, key: str) -> str:
    """The path of a key inside an object."""
    key = one_line(key, 80) or "''"
    return f"{path}.{key}" if path else key


def item_path(path: str, index: int, item: Any) -> str:
    """The path of an item: by its name if it has one, as in `override`."""
    name = item.get("name") if isinstance(item, Mapping) else None
    return join(path, name) if isinstance(name, str) and name else f"{path}[{index}]"


def shown_data(data: Any) -> str:
    """Plain data in a message: its kind, and what it is if that is short."""
    if data is None:
        return "null"
    if isinstance(data, Mapping):
        return "a mapping"
    if isinstance(data, list | tuple):
        return "a list"
    if isinstance(data, int | float) and not isinstance(data, bool):
        return f"{shown_number(data)} ({type(data).__name__})"
    text = str(data).lower() if isinstance(data, bool) else repr(data)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(data).__name__})"
