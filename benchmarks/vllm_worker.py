"""vLLM as a process that answers one line of JSON with one line of JSON.

It runs in the virtual environment that `make bench-vllm` makes, which has vLLM and not statewise, so this
file imports neither statewise nor its neighbours. The first line of its input holds the arguments of
`vllm.LLM`; each later line is a batch of prompts.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    # The replies keep the real standard output to themselves; vLLM writes its log where errors go.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    settings = json.loads(sys.stdin.readline())
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]
    from vllm.version import __version__  # pyright: ignore[reportMissingImports]

    engine = LLM(**settings)

    def reply(value: dict) -> None:
        print(json.dumps(value), file=replies, flush=True)

    reply({"ready": __version__})
    for line in sys.stdin:
        work = json.loads(line)
        sampling = SamplingParams(
            n=work["samples_per_prompt"],
            temperature=1.0,
            top_p=1.0,
            top_k=-1,
            max_tokens=work["max_new_tokens"],
            ignore_eos=False,
            logprobs=0,  # the sampled token's own
            seed=None,
            detokenize=False,
        )
        engine.reset_prefix_cache()  # what an earlier round read must not be remembered
        prompts = [{"prompt_token_ids": ids} for ids in work["prompts"]]
        began = time.perf_counter()
        outputs = engine.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - began
        completions = [len(one.token_ids) for output in outputs for one in output.outputs]
        stopped = [one.finish_reason == "stop" for output in outputs for one in output.outputs]
        first = outputs[0].outputs[0]
        reply(
            {
                "seconds": seconds,
                "completions": completions,
                "stopped": sum(stopped) / len(stopped),
                "first": list(first.token_ids),
                "has_logprobs": first.logprobs is not None
                and len(first.logprobs) == len(first.token_ids),
            }
        )


if __name__ == "__main__":
    main()
