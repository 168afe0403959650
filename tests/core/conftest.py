"""Puts this folder on the path, so that tests can import the enumerable world beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

# Matrices of 16 columns: a second thread only adds waiting, above all on a busy machine.
torch.set_num_threads(1)
