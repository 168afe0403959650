"""lm-evaluation-harness task files of the world, for a `TaskManager(include_path=TASKS_FOLDER)`.

>>> from statewise.world.tasks import TASKS_FOLDER
>>> (TASKS_FOLDER / "pocket_gsm.yaml").is_file()
True
"""

from pathlib import Path

TASKS_FOLDER = Path(__file__).parent
"""Where `pocket_gsm`, `pocket_mmlu`, `pocket_truthfulqa_mc1` and `..._mc2` lie, each also as
`..._dev`."""
