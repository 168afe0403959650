"""The data that is dealt out, and the text that is made of it."""

from tests.mutants.mutant import Mutant

DATA = "core/test_data.py"

MUTANTS = (
    Mutant(
        "data stream",
        "every epoch has the same order",
        "data.py",
        'permutation(len(self.items), seed, "epoch", epoch)',
        'permutation(len(self.items), seed, "epoch")',
        ("core/test_data.py::test_every_epoch_is_a_permutation",),
    ),
    Mutant(
        "data stream",
        "rows that are skipped are read and the limit counts them",
        "data.py",
        "end = None if data.limit is None else data.skip + data.limit",
        "end = data.limit",
        (f"{DATA}::test_skipped_rows_are_left_out_and_the_others_keep_their_numbers",),
    ),
    Mutant(
        "data stream",
        "training reads the test split",
        "data.py",
        '"gsm8k" / "train.jsonl"',
        '"gsm8k" / "test.jsonl"',
        (f"{DATA}::test_gsm8k_reads_the_train_split_of_a_local_folder",),
    ),
    Mutant(
        "context",
        "a row that fits exactly is too long",
        "data.py",
        "if excess > 0:",
        "if excess >= 0:",
        (f"{DATA}::test_exactly_the_context_is_not_too_long",),
    ),
    Mutant(
        "context",
        "there is no room for the stop token",
        "data.py",
        "max(tail, len(gold) + 1)",
        "max(tail, len(gold))",
        ("core/test_data.py::test_too_long_is_refused_with_the_row_and_the_sum",),
    ),
    Mutant(
        "context",
        "a prompt is cut on the right, where its question ends",
        "data.py",
        "token_ids[len(prefix) + excess :]",
        "token_ids[len(prefix) : len(token_ids) - excess]",
        (f"{DATA}::test_a_prompt_that_is_generated_from_is_truncated_on_the_left",),
    ),
    Mutant(
        "tokenizer",
        "a prompt that is cut loses its bos token",
        "data.py",
        "[prefix, token_ids[len(prefix) + excess :]]",
        "[token_ids[len(prefix) + excess :]]",
        (f"{DATA}::test_prompts_begin_with_the_tokenizers_prefix_and_keep_it_when_cut",),
    ),
    Mutant(
        "template",
        "a space ends the prompt",
        "templates.py",
        'Question: {question}\\nAnswer:"\n    completion',
        'Question: {question}\\nAnswer: "\n    completion',
        (f"{DATA}::test_the_default_template_is_the_zero_shot_gsm8k_prompt",),
    ),
    Mutant(
        "template",
        "no space begins the completion",
        "templates.py",
        'completion: str = " {answer}"',
        'completion: str = "{answer}"',
        (f"{DATA}::test_the_default_template_is_the_zero_shot_gsm8k_prompt",),
    ),
    Mutant(
        "template",
        "true fills a template as a number",
        "templates.py",
        "if isinstance(value, int | float) and not isinstance(value, bool):",
        "if isinstance(value, int | float):",
        (f"{DATA}::test_a_value_that_is_no_text_is_refused_with_file_and_row",),
    ),
)
