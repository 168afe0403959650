"""torch and what is built on it, imported at first use.

Reading and checking a study needs the classes of its kinds and no tensor. Their modules take torch from here,
so that a study file is refused, or printed, without the seconds that importing torch takes:

    from statewise.lazy import nn, torch

Write `torch.Tensor` in annotations: `from torch import Tensor` would import torch at once. What needs torch
to be defined (a subclass, a decorator, a default) stands in a module that is itself imported late, by `lazy`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

__all__ = ["distributed", "lazy", "nn", "no_grad", "torch"]

P = ParamSpec("P")
T = TypeVar("T")


class _Late(ModuleType):
    """Stands for the module of its name, which is imported when an attribute is first asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


def lazy(name: str) -> ModuleType:
    """A stand-in for the module of that name, which is imported at the first use of an attribute.

    Give type checkers the true import beside it:

        if TYPE_CHECKING:
            import transformers
        else:
            transformers = lazy("transformers")

    >>> lazy("math").floor(2.5)
    2
    """
    return _Late(name)


if TYPE_CHECKING:
    import torch
    from torch import distributed, nn
else:
    torch, distributed, nn = lazy("torch"), lazy("torch.distributed"), lazy("torch.nn")


def no_grad(function: Callable[P, T]) -> Callable[P, T]:
    """The function without gradients: the decorator `torch.no_grad()`, which needs torch only at the call.

    >>> double = no_grad(lambda x: 2 * x)
    >>> double(torch.ones(1, requires_grad=True)).requires_grad
    False
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with torch.no_grad():
            return function(*args, **kwargs)

    return wrapped
