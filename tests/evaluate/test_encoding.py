"""One encoding: the ids that training, rollouts, probes and evaluation read are the same."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance

from statewise.data import JsonLines, WorldDocuments, WorldProblems, load
from statewise.evaluate import Task
from statewise.evaluate.harness import PolicyLM
from statewise.evaluate.scoring import score
from statewise.policy import Policy
from statewise.policy.encoding import completion_text, encode, prefix_ids
from statewise.probing import sample_file as samples
from statewise.sources import Dataset, PrefixReset
from statewise.study.models import world_base
from statewise.supervision import Context
from statewise.templates import Template
from statewise.trajectory import Prompt
from statewise.world import World
from tests.evaluate.kinds_of_tokenizer import BOS, EOS, KINDS, made, tiny_llama

QUESTION = "Question: 3+4?\nAnswer:"
ROWS = [
    (QUESTION, " 3+4=7\n#### 7"),
    (QUESTION, "\n#### 7"),
    (QUESTION, "7"),
    ("Answer: ", "3"),
    ("Answer:  ", " 3"),
    ("12", "30"),
    ("Ans", "wer it"),
    ("Question: 1", "2"),
    ("a", "\n\nb"),
    ("", "Answer: 42"),
]


def tokens(tokenizer: Any, ids: Any) -> list[str]:
    return tokenizer.convert_ids_to_tokens([int(i) for i in ids])


def request(kind: Any, *arguments: Any) -> Instance:
    return Instance(kind, doc={}, arguments=arguments, idx=0, metadata=("made", 0, 1))


# ---- the prefix -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        ("byte level", []),
        ("byte level with bos", [BOS]),
        ("bos is eos", [EOS]),
        ("appends eos", [BOS]),
        ("appends eos only", []),
        ("metaspace", [BOS]),
        ("legacy", [BOS]),
    ],
)
def test_the_prefix_is_what_the_post_processor_puts_in_front_and_nothing_that_it_appends(
    kind: str, prefix: list[str]
) -> None:
    tokenizer = made(kind)
    assert tokens(tokenizer, prefix_ids(tokenizer)) == prefix
    assert tokens(tokenizer, encode(tokenizer, QUESTION)[0])[: len(prefix) + 1] != [
        *prefix,
        *prefix,
    ]
    assert tokens(tokenizer, encode(tokenizer, QUESTION)[0])[-1] != EOS


@pytest.mark.parametrize("kind", ["byte level with bos", "bos is eos", "metaspace", "legacy"])
def test_a_bos_token_that_a_template_writes_is_not_doubled(kind: str) -> None:
    tokenizer = made(kind)
    (bos,) = prefix_ids(tokenizer)
    text = str(tokenizer.decode([bos])) + QUESTION
    found = encode(tokenizer, text, " 7")[0].tolist()
    assert found.count(bos) == 1
    assert PolicyLM(tiny_llama(tokenizer)).tok_encode(text) == found


# ---- completions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("prompt", "completion"), ROWS)
def test_ids_spell_prompt_and_completion_and_a_reward_reads_the_completion_as_it_was_written(
    kind: str, prompt: str, completion: str
) -> None:
    tokenizer = made(kind)
    head, tail = encode(tokenizer, prompt, completion)
    assert head.tolist() == encode(tokenizer, prompt)[0].tolist()
    whole = tokenizer.decode([*head, *tail], skip_special_tokens=True)
    # A mark of a new text is dropped by some decoders only where a word follows it.
    assert whole.removeprefix(" ") == (prompt + completion).removeprefix(" ")
    written = completion_text(tokenizer, tail)
    assert written == completion or (prompt == "" and written == f" {completion}")


def test_a_completion_has_no_mark_of_a_new_text() -> None:
    """Llama-2's tokenizer encodes `7` alone as `▁7`, and ` 3` alone as `▁ ▁3`."""
    for kind in ("metaspace", "legacy"):
        tokenizer = made(kind)
        assert tokens(tokenizer, encode(tokenizer, QUESTION, "7")[1]) == ["7"]
        assert "".join(tokens(tokenizer, encode(tokenizer, QUESTION, " 3+4=7")[1])) == "▁3+4=7"
        assert "".join(tokens(tokenizer, encode(tokenizer, QUESTION, "\n#### 7")[1])) == "\n####▁7"


def test_a_token_that_would_span_the_border_leaves_the_prompts_own_ids_alone() -> None:
    tokenizer = made("byte level")
    assert tokens(tokenizer, encode(tokenizer, "Answer")[0]) == ["Answer"]
    head, tail = encode(tokenizer, "Ans", "wer")
    assert tokens(tokenizer, head) == ["An", "s"]
    assert tokens(tokenizer, tail) == ["w", "er"]
    head, tail = encode(tokenizer, "Answer: ", "3")
    assert tokens(tokenizer, [*head, *tail]) == ["Answer", ":", "Ġ", "3"]


# ---- who uses it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", [QUESTION, f"{BOS}{QUESTION}", f"{EOS}{QUESTION}"])
def test_data_gold_rows_teachers_and_evaluation_read_the_same_ids(
    tmp_path: Any, kind: str, prompt: str
) -> None:
    policy = tiny_llama(made(kind))
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"q": QUESTION, "a": " 3+4=7"}) + "\n")
    template = Template(prompt=prompt.replace(QUESTION, "{q}"), completion="{a}")
    (item,) = load(
        JsonLines(str(path), template=template),
        policy.encode,
        context_tokens=256,
        max_new_tokens=8,
        prefix_ids=policy.prefix_ids,
        with_completion=True,
    ).items
    (row,) = Dataset()([item], student=policy, seed=0)
    lm = PolicyLM(policy)
    seen: list[Any] = []
    lm._loglikelihood_tokens = lambda requests, **_: seen.extend(requests) or [(0.0, True)]  # type: ignore[method-assign]
    lm.loglikelihood([request("loglikelihood", prompt, " 3+4=7")])
    ((_, context, continuation),) = seen
    assert item.token_ids.tolist() == context == lm.tok_encode(prompt)
    assert row.token_ids.tolist() == [*context, *continuation, policy.eos_token_id]
    assert Context("{question}").ids(item, policy).tolist() == context
    reset = PrefixReset(max_new_tokens=4, low=1.0, high=1.0)
    (again,) = reset([item], student=policy, seed=0)
    begun = [*context, *continuation]
    assert again.token_ids[: len(begun)].tolist() == begun


@pytest.mark.parametrize("kind", ["byte level", "metaspace", "bos is eos"])
def test_generation_begins_at_the_ids_that_rollouts_begin_at(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    policy = tiny_llama(made(kind))
    begun: list[list[int]] = []
    complete = policy.complete

    def watched(prefixes: Any, **options: Any) -> Any:
        begun.extend(prefix.tolist() for prefix in prefixes)
        return complete(prefixes, **options)

    monkeypatch.setattr(policy, "complete", watched)
    few_shot = f"{QUESTION} 3+4=7\n\nQuestion: 1+1?\nAnswer: "
    arguments = (few_shot, {"until": ["\n\n"], "max_gen_toks": 2})
    PolicyLM(policy).generate_until([request("generate_until", *arguments)])
    assert begun == [policy.encode(few_shot)[0].tolist()]


def test_a_document_begins_with_the_tokenizers_prefix() -> None:
    policy = tiny_llama(made("byte level with bos"))
    documents = load(
        WorldDocuments(limit=2),
        policy.encode,
        context_tokens=64,
        max_new_tokens=None,
        prefix_ids=policy.prefix_ids,
    )
    (row,) = Dataset()([documents.items[0]], student=policy, seed=0)
    assert row.token_ids[:1].tolist() == policy.prefix_ids.tolist()
    assert row.prompt_tokens == 1


def test_a_completion_that_brings_its_stop_token_gets_no_second_one() -> None:
    policy = tiny_llama(made("byte level with bos"))
    prompt = Prompt("p", QUESTION, policy.encode(QUESTION)[0], f" 7{EOS}")
    (row,) = Dataset()([prompt], student=policy, seed=0)
    assert row.completion_ids.tolist().count(policy.eos_token_id) == 1
    assert row.stopped
    # What a learner goes on from never holds it.
    (reset,) = PrefixReset(max_new_tokens=2, low=1.0, high=1.0)([prompt], student=policy, seed=0)
    given = reset.completion_ids[reset.owner_codes[reset.prompt_tokens :] == 1]
    assert policy.eos_token_id not in given.tolist()


def test_the_embedded_worlds_ids_are_those_of_the_texts_alone() -> None:
    """The study of the world keeps its numbers: prompt and completion never share a token there."""
    policy = Policy.load(world_base(), name="base", trainable=False)
    assert policy.prefix_ids.tolist() == []
    template = Template()
    for record in list(World(0).gsm("demonstrations"))[:50]:
        prompt, completion = template.prompt_text(record), template.completion_text(record)
        head, tail = policy.encode(prompt, completion)
        assert head.tolist() == policy.to_ids(prompt).tolist()
        assert tail.tolist() == policy.to_ids(completion).tolist()
        assert policy.completion_text(tail) == completion


def test_retention_prompts_begin_where_evaluation_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is generated from is asked as it stands; of what is scored, white space moves over."""
    policy = tiny_llama(made("byte level with bos"))

    class Leaf:
        instances = (
            request("generate_until", "Answer: ", {"until": ["x"]}),
            request("loglikelihood", "Answer: ", "3"),
        )

        def build_all_requests(self, **_: object) -> None:
            for place, instance in enumerate(self.instances):
                instance.doc_id = place

    monkeypatch.setattr(samples, "load_task", lambda _: {"made": Leaf()})
    drawing = samples.Drawing(WorldProblems("dev"), retention_tokens=4)
    task = Task("made", "retention", metric="acc")
    written, scored = samples.task_prompts(task, policy, drawing)
    lm = PolicyLM(policy)
    assert written.token_ids.tolist() == lm.tok_encode("Answer: ")
    assert scored.token_ids.tolist() == lm._encode_pair("Answer: ", "3")[0]
    assert written.token_ids.tolist() != scored.token_ids.tolist()


# ---- evaluation -----------------------------------------------------------------------------------


def exact(policy: Policy, context: list[int], continuation: list[int]) -> float:
    """Sum of log-probs, one forward pass."""
    row = torch.tensor([[*context, *continuation]])
    with torch.no_grad():
        logprobs = policy.module(row).logits[0].log_softmax(-1)
    places = range(len(context) - 1, row.shape[1] - 1)
    return float(sum(logprobs[at, row[0, at + 1]] for at in places))


def test_a_token_across_context_and_continuation_is_scored_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = made("byte level")
    policy = tiny_llama(tokenizer)
    lm = PolicyLM(policy)
    pairs = [("Question: 1", "2"), ("Ans", "wer"), (QUESTION, " 7")]
    found = lm.loglikelihood([request("loglikelihood", *pair) for pair in pairs])
    assert lm.spanned == 2
    assert re.search("2 of 3 continuations would share a token", caplog.text)
    for (logprob, _), (context, text) in zip(found, pairs, strict=True):
        head, tail = encode(tokenizer, context, text)
        assert tokenizer.decode(tail) == text
        assert logprob == pytest.approx(exact(policy, head.tolist(), tail.tolist()), abs=1e-4)


def test_white_space_at_the_end_of_a_context_is_scored_as_the_harness_divides_it() -> None:
    tokenizer = made("byte level")
    policy = tiny_llama(tokenizer)
    requests = [request("loglikelihood", *pair) for pair in (("Answer: ", "3"), ("Answer:", " 3"))]
    (spaced, _), (plain, _) = PolicyLM(policy).loglikelihood(requests)
    assert (
        spaced
        == plain
        == pytest.approx(
            exact(policy, encode(tokenizer, "Answer:")[0].tolist(), tokenizer.encode(" 3")),
            abs=1e-4,
        )
    )


def test_a_continuation_without_tokens_is_certain_and_ends_nothing() -> None:
    policy = tiny_llama(made("byte level"))
    assert score(policy, [([5], [])], tokens_per_batch=10) == [(0.0, True)]
    nothing, something = score(policy, [([5], []), ([5], [6])], tokens_per_batch=10)
    assert nothing == (0.0, True)
    assert math.isclose(something[0], exact(policy, [5], [6]), abs_tol=1e-4)
    requests = [request("loglikelihood", "", ""), request("loglikelihood", "a", "")]
    assert PolicyLM(policy).loglikelihood(requests) == [(0.0, True)] * 2


@pytest.mark.parametrize("kind", ["byte level with bos", "bos is eos", "appends eos"])
def test_a_whole_text_is_scored_behind_one_bos_token_and_without_an_appended_eos(kind: str) -> None:
    tokenizer = made(kind)
    policy = tiny_llama(tokenizer)
    (found,) = PolicyLM(policy).loglikelihood_rolling([request("loglikelihood_rolling", QUESTION)])
    ids = encode(tokenizer, QUESTION)[0].tolist()
    assert found == pytest.approx(exact(policy, ids[:1], ids[1:]), abs=1e-4)


def test_ids_for_many_texts_in_one_call_are_those_of_each() -> None:
    for kind in KINDS:
        lm = PolicyLM(tiny_llama(made(kind)))
        texts = [QUESTION, f"{BOS}{QUESTION}", f"{EOS}a", "Answer: "]
        one_by_one = [lm.tok_encode(text) for text in texts]
        lm._encode_ahead(texts)
        assert [lm._encoded[text] for text in texts] == one_by_one
        assert np.all(
            [encode(made(kind), t)[0].tolist() == e for t, e in zip(texts, one_by_one, strict=True)]
        )
