"""The scale that features are divided by before distances are taken."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def column_scale(features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """The standard deviation of each column, with n in its denominator; 1 where a column is constant.

    A constant column is found by its values and not by its deviation, which is rounded: six times 0.1
    deviate by 1.4e-17, and divided by that the column would be all that distances see.

    >>> column_scale(np.array([[0.1, 0.0], [0.1, 2.0], [0.1, 4.0]]) * 1.0).round(3).tolist()
    [1.0, 1.633]
    """
    moves = features.min(0) < features.max(0)
    return np.where(moves, features.std(0), 1.0)
