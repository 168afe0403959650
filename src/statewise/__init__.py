"""statewise: post-training as shaping the distribution of states a policy is trained on."""

__version__ = "0.1.0"
