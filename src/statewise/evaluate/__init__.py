"""Evaluation by lm-evaluation-harness: any of its tasks, on any policy, item by item.

    Task          one task of a study: name, metric, filter, few-shot count, limit, its data
    evaluate      policies and tasks in, one `ItemResult` per item, task and decoding out
    write_items, read_items    the same rows as Parquet
    PolicyLM      a `Policy` as a model of lm-evaluation-harness (`statewise.evaluate.harness`)

Prompts, few-shot examples, filters and metrics are the harness's own (Gao et al., *A framework for
few-shot language model evaluation*, zenodo 10256836); this package adds batching, local data,
item-level rows and the guarantee that evaluating never changes training. `lm_eval` is imported
inside functions: a study file can name tasks without the second and a half that its import takes.
"""

from statewise.evaluate.items import ItemResult, evaluate, read_items, write_items
from statewise.evaluate.tasks import Task

__all__ = ["ItemResult", "Task", "evaluate", "read_items", "write_items"]
