"""What the files of a run folder must look like: the shapes that their readers ask for (store/reading.py)."""

from __future__ import annotations

from statewise.store import MAYBE, NUMBER

SPENT_KEYS = ("tokens_sampled", "tokens_trained", "teacher_tokens", "updates")
"""Figures of a step that a budget adds up."""

METRICS = {"step": int, str: MAYBE}
SPENT = {"step": int} | dict.fromkeys(SPENT_KEYS, NUMBER)
DEV = {"step": int, "task": str, "score": NUMBER, str: (str, *MAYBE)}
CANDIDATE = {"step": int, "value": NUMBER, "stderr": MAYBE}
DURING = {"step": int, "probe": str, "measure": str, str: (str, *MAYBE)}
"""A row of `metrics.jsonl` (as it is drawn, and as it is added up), `dev.jsonl`, `match.jsonl`, `probes.jsonl`."""

MATCH = {
    "quantity": frozenset(
        (
            "tokens_trained",
            "tokens_sampled",
            "updates",
            "kl_to_base",
            "update_norm",
            "target_gain",
        )
    ),
    "target_arm": (str, None),
    "target": NUMBER,
    "tolerance": NUMBER,
    "spent?": NUMBER,
    "stderr?": MAYBE,
    "step?": int,
    "share?": NUMBER,
}
MARKER = {"steps?": int, "steps_declared?": (int, None), "arm?": str, "stop_tokens?": (dict, None)}
BUDGET = {str: MAYBE}
DRIFT = {
    "features": {str: {"mmd2": NUMBER, "p_value": NUMBER, "mmd_biased?": MAYBE, "least_p?": MAYBE}}
}
SKIPPED = [{"probe": str, "kind": str, "reason": str}]
ANSWERS = {
    "rows": [
        {
            **dict.fromkeys(("probe", "policy", "reference", "sample", "measure", "at"), str),
            **dict.fromkeys(("value", "stderr", "low", "high"), MAYBE),
            "n": (int, None),
            "unit": str,
            "text": str,
        }
    ],
    "skipped": (None, {"kind": str, "reason": str}),
    "seconds": NUMBER,
}
ENVIRONMENT = {
    "base?": dict,
    "models?": {str: str},
    "world_version?": int,
    "environments?": [dict],
    "manifests?": int,
    "study?": str,
}
CHECKPOINT = {"step": int, "rows?": {str: int}}
COLUMNS = ("weight", "logprob", "kl_to_base", "gap", "entropy", "advantage")
"""Of the microscope: an entry a token."""
MICROSCOPE = {
    "arm": str,
    "teacher": (str, None),
    "vocabulary": {str: str},
    "prompts": [
        {
            "id": str,
            "text": str,
            "reference": (str, None),
            "rollouts": [
                {
                    "kind": str,
                    "score": MAYBE,
                    "stopped": bool,
                    "owners": [str],
                    "token_ids": [int],
                    "owner": [int],
                    "top": {str: ([[NUMBER]], None)},
                    **{f"{name}?": ([MAYBE], None) for name in COLUMNS},
                }
            ],
        }
    ],
}
