"""The code of a task of the harness runs here: it loads no other code, and what it raises is one line.

Task files name Python functions of the harness (`!function utils.pass_at_k`). Some ask the package `evaluate`
for a metric, which is a Python file: that of the working directory, if one has the name, else one of the hub.
Data sets are looked for in the working directory first as well, and a pickled file in such a folder runs code.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from statewise.errors import ConfigError, StatewiseError


@contextlib.contextmanager
def guarded(task: str) -> Iterator[None]:
    """Run code of the task, building it included. No metric is loaded; no data set is the working directory's.

    Raises ConfigError, naming the task, where it asks for one, even if its code goes on without; and for
    whatever else its code raises.
    """
    import datasets.load
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as FORMATS  # pyright: ignore[reportPrivateUsage]

    refused: list[str] = []

    def refuse(why: str) -> NoReturn:
        refused.append(f"task {task!r} {why}")
        raise ConfigError(refused[-1])

    def load_metric(path: object = "", *_: object, **__: object) -> NoReturn:
        refuse(
            f"needs the metric {path!r} of the package evaluate, which is Python code of the working directory "
            "or of the hub, and statewise runs none; choose a task whose metrics are the harness's own"
        )

    find = datasets.load.dataset_module_factory

    def find_data(path: str, *rest: Any, **more: Any) -> Any:
        if path not in FORMATS and not os.path.isabs(path) and os.path.lexists(path):  # noqa: PTH117
            refuse(
                f"wants the data set {path!r} of the hub, and the working directory holds a file or folder of "
                "that name; run from another folder, or give `data: FOLDER` to read local files"
            )
        return find(path, *rest, **more)

    # A module in its place, since importing the real one takes seconds and few tasks ask for it.
    stand_in: Any = ModuleType("evaluate")
    stand_in.__spec__ = ModuleSpec("evaluate", None)
    stand_in.load = load_metric
    before = sys.modules.get("evaluate")
    real: Any = sys.modules.get("evaluate.loading")
    load = real and real.evaluation_module_factory
    sys.modules["evaluate"] = stand_in
    datasets.load.dataset_module_factory = find_data
    if real:  # task code that was imported earlier may hold its functions
        real.evaluation_module_factory = load_metric
    try:
        yield
    except (Exception, SystemExit) as error:
        if refused:
            raise ConfigError(refused[0]) from error
        if isinstance(error, StatewiseError):
            raise
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise ConfigError(
            f"task {task!r}: the harness's code for it ends with {type(error).__name__}"
            f"{f' ({reason[:300]})' if reason else ''}; install what it names, or choose another task"
        ) from error
    finally:
        datasets.load.dataset_module_factory = find
        if real:
            real.evaluation_module_factory = load
        if before is None:
            del sys.modules["evaluate"]
        else:
            sys.modules["evaluate"] = before
    if refused:
        raise ConfigError(refused[0])
