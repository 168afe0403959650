"""Bugs of text and token ids: prefix, border, stop tokens, and who uses which encoding."""

from tests.mutants.mutant import Mutant

TEST = "evaluate/test_encoding.py"
EVERY = f"{TEST}::test_data_gold_rows_teachers_and_evaluation_read_the_same_ids"
SPELL = f"{TEST}::test_ids_spell_prompt_and_completion_and_a_reward_reads_the_completion_as_it_was_written"
MARK = f"{TEST}::test_a_completion_has_no_mark_of_a_new_text"

MUTANTS = (
    Mutant(
        "tokenizer",
        "a bos token that is also the eos token is lost in training",
        "policy/encoding.py",
        "return whole[:start]",
        "return [i for i in whole[:start] if i != tokenizer.eos_token_id]",
        (
            f"{TEST}::test_the_prefix_is_what_the_post_processor_puts_in_front_and_nothing_that_it_appends",
        ),
    ),
    Mutant(
        "tokenizer",
        "a bos token of a template is doubled",
        "policy/encoding.py",
        "return [*prefix, *ids[size:]]",
        "return [*prefix, *ids]",
        (f"{TEST}::test_a_bos_token_that_a_template_writes_is_not_doubled",),
    ),
    Mutant(
        "tokenizer",
        "a completion is encoded as a text of its own",
        "policy/encoding.py",
        "return list(whole[len(head) :])",
        "return own_ids(tokenizer, completion)",
        (MARK,),
    ),
    Mutant(
        "tokenizer",
        "a completion behind a spanning token is what the joint encoding leaves",
        "policy/encoding.py",
        "return continued(tokenizer, completion)",
        "return list(whole[len(head) :])",
        (SPELL,),
    ),
    Mutant(
        "tokenizer",
        "text that goes on is encoded as a text of its own",
        "policy/encoding.py",
        "if before and not spans_border(before, both):",
        "if not before:",
        (MARK, SPELL),
    ),
    Mutant(
        "tokenizer",
        "a reward reads a completion as a text of its own",
        "policy/encoding.py",
        "return both[len(before) :] if both.startswith(before) else decoded(tokenizer, listed)",
        "return decoded(tokenizer, listed)",
        (SPELL,),
    ),
    Mutant(
        "tokenizer",
        "evaluation reads an eos token that the tokenizer appends",
        "policy/encoding.py",
        "tokenizer(list(texts), add_special_tokens=False)",
        "tokenizer(list(texts))",
        (EVERY,),
    ),
    Mutant(
        "tokenizer",
        "evaluation encodes a context by itself",
        "evaluate/harness.py",
        "return encoding.encode(self.policy.tokenizer, string)[0].tolist()",
        "return self.policy.tokenizer.encode(string)",
        (f"{TEST}::test_a_bos_token_that_a_template_writes_is_not_doubled",),
    ),
    Mutant(
        "tokenizer",
        "a continuation that shares a token with its context loses it",
        "evaluate/harness.py",
        "return head, encoding.behind(self.policy.tokenizer, head, whole, continuation)",
        "return head, whole[len(head) :]",
        (f"{TEST}::test_a_token_across_context_and_continuation_is_scored_and_counted",),
    ),
    Mutant(
        "tokenizer",
        "a whole text is scored behind two bos tokens",
        "evaluate/harness.py",
        "return ids[1:] if ids[:1] == [self.prefix_token_id] else ids",
        "return ids",
        (f"{TEST}::test_a_whole_text_is_scored_behind_one_bos_token_and_without_an_appended_eos",),
    ),
    Mutant(
        "tokenizer",
        "prompts for rollouts are not the policy's encoding",
        "data.py",
        "token_ids, gold = encode(text, completion if reads_gold else None)",
        "token_ids, gold = encode(text.strip(), completion if reads_gold else None)",
        ("core/test_data.py::test_a_prompt_keeps_the_white_space_that_it_ends_with",),
    ),
    Mutant(
        "tokenizer",
        "a retention prompt loses its last white space",
        "study/samples.py",
        "context = str(arguments[0])",
        "context = str(arguments[0]).rstrip()",
        ("evaluate/test_encoding.py::test_retention_prompts_begin_where_evaluation_begins",),
    ),
    Mutant(
        "eos",
        "a gold completion that brings its stop token gets a second one",
        "policy/weights.py",
        "if len(ids) and int(ids[-1]) in self.stop_token_ids:",
        "if not len(ids):",
        (f"{TEST}::test_a_completion_that_brings_its_stop_token_gets_no_second_one",),
    ),
)
