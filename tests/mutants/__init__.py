"""Planted bugs: one of every kind that users of public trainers have met, and the tests that kill each.

`make mutants` plants them one at a time in a copy of the sources and runs the tests that are named.
`tests/test_mutants.py` sees to it that every one can still be planted.
"""
