"""Frozen dataclasses as schemas of pydantic: what a study file may hold, declared by the fields alone.

    field: PromptCount                    an integer from 1 to 65,536
    source: Dataset | Learner | ...       a union that is told apart by `kind`
    teacher: PolicyRef                    `plain = "scalar"`: written as its one field

pydantic_core checks types (strictly), ranges, unknown and missing keys and the kinds of a union, and reports every
problem at once. Each schema carries a `Note` in its metadata: what `problems.py` needs to say it in words.

A class keeps `kind` as a class variable, so that it is no argument of its constructor. That is why the schemas are
built here from the fields, and not by pydantic's own reading of a dataclass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic_core import PydanticCustomError, SchemaValidator, core_schema
from pydantic_core.core_schema import CoreSchema

from statewise.errors import StatewiseError
from statewise.limits import ANY_INTEGER, Within

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
"""Text that stands for a float: YAML 1.1, and JSON with care for digits, write `"5e-4"`."""
NOTE = "statewise"
"""The key of a schema's metadata that holds its `Note`."""


@dataclass(frozen=True)
class Note:
    """What a schema is, in the words of a message."""

    expected: str
    within: Within | None = None
    cls: Any = None
    """The dataclass that an object becomes."""
    kinds: tuple[str, ...] = ()
    """The kinds of which an object has one."""


class RefusedError(ValueError):
    """An error of ours on its way through pydantic, which lets no other class pass."""

    def __init__(self, error: StatewiseError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Schemas:
    """The schema of an annotation and of every dataclass below it, by reference."""

    top: CoreSchema
    classes: Mapping[str, CoreSchema]

    def core(self) -> CoreSchema:
        """Both as one schema of pydantic."""
        return core_schema.definitions_schema(self.top, list(self.classes.values()))


@cache
def schemas(annotation: Any) -> Schemas:
    """The schemas of an annotation. Raises TypeError for a type that no study file can hold."""
    classes: dict[str, Any] = {}
    top = _schema(annotation, classes)
    return Schemas(top, classes)


@cache
def validator(annotation: Any) -> SchemaValidator:
    """What checks plain data against an annotation and builds its value."""
    return SchemaValidator(schemas(annotation).core())


# The schema of an annotation


def _schema(annotation: Any, classes: dict[str, Any]) -> CoreSchema:
    members = _members(annotation)
    if len(members) == 1 and not _is_class(members[0]):
        return _single(members[0], classes)
    kinds = [member for member in members if _is_class(member)]
    if len(members) == len(kinds):
        return _object(kinds, classes)
    # pydantic takes the first member that fits as it is, and a float fits whatever it can be made of.
    singles = sorted((m for m in members if m not in kinds), key=_takes_text_as_number)
    choices = [_single(member, classes) for member in singles]
    choices += [_object(kinds, classes)] if kinds else []
    expected = " or ".join(dict.fromkeys(words_of(annotation)))
    return core_schema.union_schema(
        [(choice, str(index)) for index, choice in enumerate(choices)],
        metadata={NOTE: Note(expected)},
    )


def _takes_text_as_number(annotation: Any) -> bool:
    return float in (annotation, *get_args(annotation)[:1])


def _single(annotation: Any, classes: dict[str, Any]) -> CoreSchema:
    """The schema of what is no union and no object."""
    ranges = [a for a in getattr(annotation, "__metadata__", ()) if isinstance(a, Within)]
    annotation = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    note = Note(" or ".join(words_of(annotation)), within=ranges[0] if ranges else None)
    meta: dict[str, Any] = {NOTE: note}
    if annotation is str:
        return core_schema.str_schema(strict=True, metadata=meta)
    if annotation is bool:
        return core_schema.bool_schema(strict=True, metadata=meta)
    if annotation is NoneType:
        return core_schema.none_schema(metadata=meta)
    if annotation is int:
        bounds: Any = (note.within or ANY_INTEGER).bounds
        return core_schema.int_schema(strict=True, metadata=meta, **bounds)
    if annotation is float:
        bounds = note.within.bounds if note.within else {}
        number = core_schema.float_schema(strict=True, allow_inf_nan=False, metadata=meta, **bounds)
        return core_schema.no_info_before_validator_function(_as_float, number, metadata=meta)
    if annotation is Path:
        return core_schema.no_info_after_validator_function(
            Path, core_schema.str_schema(strict=True, metadata=meta), metadata=meta
        )
    if annotation is Any or annotation is object:
        return _anything(classes, meta)
    if origin is Literal:
        words = core_schema.literal_schema(list(arguments), metadata=meta)
        if all(isinstance(word, str) for word in arguments):
            return words
        return core_schema.no_info_before_validator_function(_no_bool, words, metadata=meta)
    if origin is tuple:
        many = len(arguments) == 2 and arguments[1] is Ellipsis
        items = [_schema(item, classes) for item in arguments if item is not Ellipsis]
        return core_schema.tuple_schema(
            items, variadic_item_index=0 if many else None, metadata=meta
        )
    if origin in (dict, Mapping):
        return core_schema.dict_schema(
            core_schema.str_schema(strict=True), _schema(arguments[1], classes), metadata=meta
        )
    if is_scalar(annotation):
        only = inputs(annotation)[0].name
        return core_schema.no_info_after_validator_function(
            _maker(annotation, lambda value: {only: value}),
            _schema(hints(annotation)[only], classes),
            metadata=meta,
        )
    raise TypeError(f"a study value cannot be annotated {annotation!r}")


def _object(members: Sequence[Any], classes: dict[str, Any]) -> CoreSchema:
    """The schema of a dataclass, or of several that are told apart by `kind`."""
    kinds = {kind: member for member in members if (kind := kind_of(member)) is not None}
    if len(kinds) < len(members) and len(members) > 1:
        raise TypeError(f"a union needs one distinct `kind` per dataclass: {list(members)!r}")
    expected = " or ".join(dict.fromkeys(word for member in members for word in words_of(member)))
    note = Note(expected, kinds=tuple(kinds))
    parts = [_class(member, classes) for member in members]
    if len(members) > 1:
        choices = dict(zip(kinds, parts, strict=True))
        found: CoreSchema = core_schema.tagged_union_schema(
            choices, "kind", from_attributes=False, metadata={NOTE: note}
        )
    else:
        found = parts[0]
    if not kinds:
        return found
    return core_schema.no_info_before_validator_function(_named_kind, found, metadata={NOTE: note})


def _class(cls: Any, classes: dict[str, Any]) -> CoreSchema:
    """A reference to the schema of one dataclass; it may hold itself, as a source of sources does."""
    ref = f"{cls.__module__}.{cls.__qualname__}:{id(cls)}"
    if ref not in classes:
        classes[ref] = {}  # stands here while the fields are read
        kind = kind_of(cls)
        note = Note(words_of(cls)[0], cls=cls, kinds=() if kind is None else (kind,))
        keys = (
            {} if kind is None else {"kind": _key(core_schema.literal_schema([kind]), needed=False)}
        )
        keys |= {
            field.name: _key(_schema(hints(cls)[field.name], classes), needed=is_required(field))
            for field in inputs(cls)
        }
        classes[ref] = core_schema.no_info_after_validator_function(
            _maker(cls, lambda values: {k: v for k, v in values.items() if k != "kind"})
            if kind
            else _maker(cls, dict),
            core_schema.typed_dict_schema(keys, extra_behavior="forbid", metadata={NOTE: note}),
            ref=ref,
            metadata={NOTE: note},
        )
    return core_schema.definition_reference_schema(ref)


def _key(schema: CoreSchema, *, needed: bool) -> core_schema.TypedDictField:
    return core_schema.typed_dict_field(schema, required=needed)


def _anything(classes: dict[str, Any], meta: dict[str, Any]) -> CoreSchema:
    """Whatever plain data can be, with no number beyond 64 bits: what is passed on as it is."""
    ref = "statewise.Anything"
    if ref not in classes:
        itself = core_schema.definition_reference_schema(ref)
        bounds: Any = ANY_INTEGER.bounds
        numbers = Note("anything", ANY_INTEGER)
        choices = (
            core_schema.none_schema(),
            core_schema.bool_schema(strict=True),
            core_schema.int_schema(strict=True, metadata={NOTE: numbers}, **bounds),
            core_schema.float_schema(strict=True, allow_inf_nan=False, metadata=meta),
            core_schema.str_schema(strict=True),
            core_schema.list_schema(itself),
            core_schema.dict_schema(core_schema.str_schema(strict=True), itself),
        )
        classes[ref] = core_schema.union_schema(
            [(choice, str(index)) for index, choice in enumerate(choices)], ref=ref, metadata=meta
        )
    return core_schema.definition_reference_schema(ref)


def _as_float(data: Any) -> Any:
    """A float of an int, and of text that is a number; what is neither is left to be refused."""
    if isinstance(data, str) and _NUMBER.fullmatch(data):
        return float(data)
    if type(data) is int:
        try:
            return float(data)
        except OverflowError:
            return math.inf if data > 0 else -math.inf
    return data


def _no_bool(data: Any) -> Any:
    """Pydantic takes `true` for the literal 1, which equals it in Python."""
    if isinstance(data, bool):
        raise PydanticCustomError("literal_error", "a bool is no number")
    return data


def _named_kind(data: Any) -> Any:
    """A bare string stands for the kind of that name, all of whose fields have defaults."""
    if isinstance(data, Mapping) and not isinstance(data.get("kind", ""), str | None):
        # pydantic writes the kind into its own message, and Python writes no integer of 4300 digits.
        raise PydanticCustomError("union_tag_invalid", "the kind is no text")
    return {"kind": data} if isinstance(data, str) else data


def _maker(cls: Any, arguments: Callable[[Any], dict[str, Any]]) -> Callable[[Any], Any]:
    def make(values: Any) -> Any:
        try:
            return cls(**arguments(values))
        except StatewiseError as error:
            raise RefusedError(error) from error

    return make


# What a class and an annotation are


@cache
def hints(cls: Any) -> dict[str, Any]:
    """The annotations of a class's fields, with their ranges."""
    return get_type_hints(cls, include_extras=True)


def inputs(cls: Any) -> list[Field[Any]]:
    """The fields that a study file may give."""
    return [field for field in fields(cls) if field.init]


def is_required(field: Field[Any]) -> bool:
    """True for a field without a default."""
    return field.default is MISSING and field.default_factory is MISSING


def kind_of(cls: Any) -> str | None:
    """The `kind` of a class; None if it has none or `kind` is an ordinary field."""
    kind = getattr(cls, "kind", None)
    return kind if isinstance(kind, str) and all(f.name != "kind" for f in fields(cls)) else None


def is_scalar(cls: Any) -> bool:
    """True for a dataclass that is written as its one field."""
    return getattr(cls, "plain", "") == "scalar"


def _is_class(annotation: Any) -> bool:
    return is_dataclass(annotation) and not is_scalar(annotation)


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union that a file can hold."""
    if get_origin(annotation) in (Union, UnionType):
        every = get_args(annotation)
        return tuple(member for member in every if getattr(member, "plain", "") != "never")
    return (NoneType if annotation is None else annotation,)


def words_of(annotation: Any) -> list[str]:
    """What an annotation expects, a phrase for each of its members."""
    return [_describe(member) for member in _members(annotation)]


def _joined(annotations: Iterable[Any]) -> str:
    return " and ".join(dict.fromkeys(" or ".join(words_of(a)) for a in annotations))


def _describe(annotation: Any) -> str:
    annotation = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return "null"
    if annotation is Path:
        return "a path"
    if origin is Literal:
        words = ", ".join(map(repr, arguments))
        return f"one of {words}" if len(arguments) > 1 else words
    if origin is tuple:
        return f"a list of {_joined(a for a in arguments if a is not Ellipsis)}"
    if origin in (dict, Mapping):
        return f"a mapping of names to {_joined(arguments[1:])}"
    if is_scalar(annotation):
        return " or ".join(words_of(hints(annotation)[inputs(annotation)[0].name]))
    if is_dataclass(annotation):
        kind = kind_of(annotation)
        return f"kind {kind!r}" if kind else f"a mapping ({getattr(annotation, '__name__', '')})"
    return getattr(annotation, "__name__", str(annotation))
