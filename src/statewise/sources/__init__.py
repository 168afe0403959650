"""Axis 1. Which states are visited: prompts to trajectories, with the owner of every token."""

from statewise.sources.continuation import Continuation
from statewise.sources.dataset import Dataset
from statewise.sources.learner import Learner

Source = Dataset | Learner | Continuation

__all__ = ["Continuation", "Dataset", "Learner", "Source"]
