"""Controlled studies: from a file to trained arms, item-level results and verdicts.

spec       the study as a value, and what it refuses
executor   jobs in the order of their needs, side by side, resumable
jobs       train one arm, measure one arm
search     hyperparameters, before the study and on other seeds
claims, verdicts, results, table      what came out
pretrain   the embedded base
"""
