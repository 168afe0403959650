"""What every test shares.

Annotations are enforced while tests run: `--jaxtyping-packages=statewise,beartype.beartype` in
pyproject.toml installs jaxtyping's import hook before pytest imports anything of ours. Here it
would come too late for the doctests of `pytest src/...`, which never loads this file.
"""

from __future__ import annotations

import os
from pathlib import Path

# Before torch or transformers is imported by anyone.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # as the command line does

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]

# The models of the tests are tiny: two threads that wait for each other are slower than one, and much
# slower beside anything else that runs.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: a fault shows within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real GSM8K, MMLU and TruthfulQA files; tests that need it skip without."""
    folder = Path(os.environ.get("STATEWISE_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(
            f"real benchmark files not found in {folder}: set STATEWISE_DATA to their folder"
        )
    return folder
