"""A planted bug as a value, and planting it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class CannotPlantError(Exception):
    """The text that a mutant replaces is not there, or is there twice: fix the mutant."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: `old` becomes `new` in `file`, and one of `tests` must fail.

    `kind` is the fault that it stands for (see `table.PITFALLS`), `file` a path below
    `src/statewise`, `tests` are pytest node ids below `tests`. `old` stands exactly once in the
    file, so that a mutant cannot come to mean nothing when the code around it changes.
    """

    kind: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def path(self, root: Path) -> Path:
        """The file that it changes, in a checkout or a copy of one."""
        return root / "src" / "statewise" / self.file

    def planted(self, root: Path) -> str:
        """The text of the file with the bug in it.

        Raises CannotPlantError where `old` does not stand there exactly once, or what comes out is
        no Python.
        """
        where = f"mutant {self.name!r}: {self.file}"
        if not self.path(root).is_file():
            raise CannotPlantError(f"{where} is not there")
        text = self.path(root).read_text(encoding="utf-8")
        if (found := text.count(self.old)) != 1:
            raise CannotPlantError(f"{where} holds {self.old!r} {found} times and not once")
        if self.old == self.new:
            raise CannotPlantError(f"{where} stays as it is")
        bugged = text.replace(self.old, self.new)
        try:
            ast.parse(bugged)
        except SyntaxError as error:
            raise CannotPlantError(f"{where} is no Python any more: {error}") from error
        return bugged

    def missing_tests(self, root: Path) -> Iterator[str]:
        """Tests that it names and that are not there."""
        for test in self.tests:
            file, _, function = test.partition("::")
            path = root / "tests" / file
            if not path.is_file() or (function and function.split("[")[0] not in _functions(path)):
                yield test


@cache
def _functions(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
