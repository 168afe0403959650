"""lm-evaluation-harness task files of the embedded world; give this folder to a `TaskManager(include_path=...)`.

>>> from statewise.world.tasks import TASKS_FOLDER
>>> (TASKS_FOLDER / "pocket_gsm.yaml").is_file()
True
"""

from pathlib import Path

TASKS_FOLDER = Path(__file__).parent
"""Where the task files lie: `pocket_gsm`, `pocket_mmlu`, `pocket_truthfulqa_mc1`, `..._mc2`, each also as `..._dev`."""
