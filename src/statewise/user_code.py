"""A user's own Python in a study file: `kind: python`, on every axis.

    supervision: {kind: python, function: my_lab/signals.py:make, arguments: {k: 3}, gives: advantages}

`function` names a function in a file (`path/to/file.py:name`) or in an importable module
(`package.module:name`). A file that names code is data until somebody trusts it: reading it runs
nothing, `seal` refuses it without trust, and with trust it writes down the hash of the source, so
that a stored study says which code made its figures and refuses another.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from statewise.errors import ConfigError, StatewiseError

KIND = "python"


def name_of(value: Any) -> str:
    """What a user calls one of the kinds: its `kind`, and of `kind: python` the function.

    >>> from statewise.rewards import ExactAnswer, PythonReward
    >>> name_of(ExactAnswer()), name_of(PythonReward("mine.py:pay"))
    ('exact_answer', 'mine.py:pay')
    """
    return value.function if value.kind == KIND else value.kind


def seal(plain: Any, *, trust: bool, path: str = "") -> Any:
    """Plain data with the source hash of every function that it names.

    Raises ConfigError, with the path: where code is named and `trust` is False (nothing is imported
    then), where a function is missing, and where its source is not the one that was stored.

    >>> seal({"reward": {"kind": "python", "function": "math:floor"}}, trust=False)
    Traceback (most recent call last):
    statewise.errors.ConfigError: reward: names code to run, math:floor; read it, then say \
--trust-code to run it
    """
    if isinstance(plain, list):
        return [seal(item, trust=trust, path=f"{path}[{i}]") for i, item in enumerate(plain)]
    if not isinstance(plain, Mapping):
        return plain
    found = {
        key: seal(value, trust=trust, path=f"{path}.{key}".lstrip("."))
        for key, value in plain.items()
    }
    function = found.get("function")
    if found.get("kind") == KIND and isinstance(function, str):
        if not trust:
            raise ConfigError(
                f"{path}: names code to run, {function}; read it, then say --trust-code to run it"
            )
        try:
            load(function, found.get("sha256"))
            found["sha256"] = source_hash(function)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    return found


_DISTRUSTED: set[str] = set()
"""Functions that a stranger's file named in this process and nobody trusted."""


def distrust(plain: Any) -> None:
    """From now on `load` refuses the functions that plain data names: those of a stranger's run folder.

    Whatever needs none of them works, so that somebody's run can be looked at without running its code.
    """
    if isinstance(plain, list):
        for item in plain:
            distrust(item)
    elif isinstance(plain, Mapping):
        for value in plain.values():
            distrust(value)
        if plain.get("kind") == KIND and isinstance(function := plain.get("function"), str):
            _DISTRUSTED.add(function)


def load(function: str, sha256: str | None = None) -> Callable[..., Any]:
    """Import the function. Raises ConfigError where it is not there or not what was stored.

    Calling it raises ConfigError for whatever goes wrong inside, as `faults_of` says.
    """
    name = _parts(function)[1]
    if function in _DISTRUSTED:
        raise ConfigError(
            f"{function} is code that the run folder names; read it, then say --trust-code to run it"
        )
    if sha256 is not None and source_hash(function) != sha256:
        raise ConfigError(
            f"the source of {function} is not the one that was stored (its sha256 was {sha256[:12]}...); "
            "restore it, or remove `sha256` and start another run"
        )
    with faults_of(function):
        found = getattr(_module(function), name, None)
    if not callable(found):
        raise ConfigError(f"{function}: no function {name!r} in it")

    @wraps(found)
    def called(*args: Any, **kwargs: Any) -> Any:
        with faults_of(function):
            return found(*args, **kwargs)

    return called


@contextmanager
def faults_of(function: str, doing: str = "raised") -> Iterator[None]:
    """Say whose fault it is: what a user's code raises becomes a ConfigError with its file and line.

    That it ends the process (`sys.exit`) too; only Ctrl-C is the user's own and passes.

    >>> with faults_of("steps.py:pay"):    # doctest: +ELLIPSIS
    ...     int("two")
    Traceback (most recent call last):
    statewise.errors.ConfigError: steps.py:pay raised ValueError: invalid literal for int() ...
    """
    try:
        yield
    except (StatewiseError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # whatever it is, it is reported and chained, and never a score
        text = " ".join(str(error).split())[:300]
        said = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ConfigError(
            f"{function} {doing} {said} ({_place(function, error)}); fix it there"
        ) from error


def _place(function: str, error: BaseException) -> str:
    """File and line of what went wrong: of a syntax error its own, else the last line of the user's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno or 1}"
    frames = traceback.extract_tb(error.__traceback__)
    source = _source(function)
    # The last line of the user's own: below it may stand a library that was called wrongly.
    own = [f for f in frames if source and Path(f.filename).resolve() == source]
    frame = (own or frames)[-1]
    # Where nothing of it ran (a file that is no source), the file is all there is to name.
    if not own and source:
        return source.name
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def number_of(function: str, found: Any, where: str) -> float:
    """A finite number that a user's function gave, as Python, numpy or torch write it.

    Raises ConfigError for text, None, truth values, nan and infinity, with the line of the function.

    >>> number_of("math:floor", 3, "prompt 'p'")
    3.0
    >>> number_of("math:floor", "3", "prompt 'p'")
    Traceback (most recent call last):
    statewise.errors.ConfigError: math:floor gave '3' (str) for prompt 'p'; return a finite float there
    """
    item = getattr(found, "item", None)
    value: Any = item() if callable(item) and getattr(found, "ndim", 1) == 0 else found
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not -sys.float_info.max <= value <= sys.float_info.max:
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
        raise ConfigError(
            f"{function} gave {shown} ({type(value).__name__}) for {where}{defined(function)}; "
            "return a finite float there"
        )
    return float(value)


def defined(function: str) -> str:
    """Where a function begins, as the middle of a message; nothing where Python cannot say."""
    code = getattr(getattr(_module(function), _parts(function)[1], None), "__code__", None)
    return f" ({Path(code.co_filename).name}, line {code.co_firstlineno})" if code else ""


def source_hash(function: str) -> str:
    """SHA-256 of the file that a function lives in; of what that file imports nothing is said."""
    source = _source(function)
    if source is None:
        raise ConfigError(f"{function}: no source file at {_parts(function)[0]}")
    try:
        return hashlib.sha256(source.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{function}: {source} cannot be read ({error.strerror})") from error


def _source(function: str) -> Path | None:
    """The file that a function lives in; None where there is none."""
    where, _ = _parts(function)
    if _is_file(where):
        source = Path(where)
    else:
        try:
            spec = importlib.util.find_spec(where)
        except (ImportError, ValueError):  # a parent that is missing, or is no package
            spec = None
        source = Path(spec.origin) if spec and spec.origin else Path(where)
    return source.resolve() if source.is_file() else None


def _module(function: str) -> ModuleType:
    where, _ = _parts(function)
    if _is_file(where):
        if not Path(where).is_file():
            what = "a folder, no source file," if Path(where).is_dir() else "no source file"
            raise ConfigError(f"{function}: {what} at {where} (from {Path.cwd()})")
        with faults_of(function, "could not be imported:"):
            return _from_file(str(Path(where).resolve()), source_hash(function))
    try:
        with faults_of(function, "could not be imported:"):
            return importlib.import_module(where)
    except ConfigError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and f"{where}.".startswith(f"{missing.name}."):
            raise ConfigError(
                f"{function}: {missing}; write a file as path/to/file.py:name, or install the package"
            ) from error
        raise


@cache
def _from_file(path: str, sha256: str) -> ModuleType:
    """The module in a file, run once for each content that the file has had."""
    spec = importlib.util.spec_from_file_location(f"statewise_code_{sha256[:12]}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _parts(function: str) -> tuple[str, str]:
    where, colon, name = function.rpartition(":")
    parts = [where] if where.endswith(".py") else where.split(".")
    words = all(part.isidentifier() for part in parts) or _is_file(where)
    if not (colon and where and words and name.isidentifier()) or "\0" in where:
        raise ConfigError(
            f"function {function!r}: expected package.module:name or path/to/file.py:name"
        )
    return where, name


def _is_file(where: str) -> bool:
    return where.endswith(".py")
