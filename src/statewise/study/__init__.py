"""Controlled studies: from a file to trained arms, item-level results and verdicts.

spec       the study as a value, and what it refuses
preflight  what can be known before the first step
folder     whose a run folder is, and what it was begun with
executor   jobs in the order of their needs, side by side, resumable
jobs       train one arm, measure one arm
controls   equal budgets and nulls as values; matching and nulls act on them, matched reports them
planning   what claims could see before a run; costs: what a study takes;
           likeness: where a run that a plan learns from is another
search     hyperparameters, before the study and on other seeds
claims, explaining, verdicts, rows, results, table    what came out
pretrain   the embedded base
"""
