"""The one door for models: what is damaged, foreign or brings code is refused in one line, by name.

Each case changes one file of a tiny model that loads, the way a fault does.
"""

from __future__ import annotations

import builtins
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from enumerable import EOS, A, B, tiny, tokenizer
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertLMHeadModel

from statewise.errors import ModelError, NotFiniteError
from statewise.policy import Lora, Policy, adapters, loading
from statewise.policy.adapters import KINDS
from statewise.trajectory import Sampling

Edit = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A model that loads; its head is a tensor of its own."""
    folder = tmp_path_factory.mktemp("sound")
    tiny(dtype=torch.float32, tied=False).save(folder)
    return folder


@pytest.fixture
def model(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "model"))


def load(folder: Path | str) -> Policy:
    return Policy.load(folder, name="x", trainable=False)


def refusal(folder: Path | str) -> str:
    """The line that a model is refused with."""
    with pytest.raises(ModelError) as refused:
        load(folder)
    text = str(refused.value)
    assert "\n" not in text
    assert len(text) < 900
    return text


def set_key(file: str, key: str, value: Any) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return edit


def set_weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, {"format": "pt"})

    return edit


def write(file: str, text: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / file).write_text(text)

    return edit


def drop(*files: str) -> Edit:
    def edit(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return edit


def with_one(change: Callable[[torch.Tensor], torch.Tensor], name: str) -> Edit:
    return set_weights(lambda weights: weights | {name: change(weights[name].clone())})


NORM = "model.layers.1.input_layernorm.weight"

# ---- weights ------------------------------------------------------------------------------------

WEIGHTS = {
    "one tensor is missing": (
        set_weights(lambda w: {n: t for n, t in w.items() if n != NORM}),
        f"lack {NORM}, and Qwen3ForCausalLM",
    ),
    "a head that is not tied is missing": (
        set_weights(lambda w: {n: t for n, t in w.items() if n != "lm_head.weight"}),
        "lack lm_head.weight",
    ),
    "half the layers are missing": (
        set_weights(lambda w: {n: t for n, t in w.items() if "layers.1." not in n}),
        "lack model.layers.1.",
    ),
    "all are renamed": (
        set_weights(lambda w: {f"net.{n}": t for n, t in w.items()}),
        "lack ",
    ),
    "the config has fewer layers": (
        lambda f: [
            set_key("config.json", "num_hidden_layers", 1)(f),
            set_key("config.json", "layer_types", ["full_attention"])(f),
        ],
        "hold model.layers.1.",
    ),
    "one tensor is of nobody": (
        set_weights(lambda w: w | {"model.extra": torch.ones(1)}),
        "hold model.extra",
    ),
    "the config is of another width": (
        set_key("config.json", "intermediate_size", 12),
        "has shape 16 x 24, and Qwen3ForCausalLM of its config.json needs 16 x 12",
    ),
    "a weight is nan": (
        with_one(lambda t: t.fill_(torch.nan), NORM),
        f"{NORM} holds numbers that are not finite",
    ),
    "a weight is infinite": (
        with_one(lambda t: t.index_fill_(0, torch.tensor([3]), torch.inf), NORM),
        f"{NORM} holds numbers that are not finite",
    ),
    "the file is cut short": (
        lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:-100]
        ),
        "model.safetensors is no whole safetensors file",
    ),
    "the file is empty": (write("model.safetensors", ""), "no whole safetensors file"),
    "there is none": (drop("model.safetensors"), "no weights in"),
    "they are quantised": (
        set_weights(lambda w: w | {NORM: torch.ones(16, dtype=torch.int8)}),
        f"{NORM} is stored as I8: the weights are quantised",
    ),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit_the_model_are_refused_by_name(model, case):
    edit, said = WEIGHTS[case]
    edit(model)
    assert said in refusal(model)


def test_a_tokenizer_that_draws_is_refused(model):
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    drawing = BPE({"a": A, "b": B, "ab": 2, "<eos>": EOS}, [("a", "b")], dropout=0.5)
    Tokenizer(drawing).save(str(model / "tokenizer.json"))
    assert "tokenizer.json: model.dropout is 0.5" in refusal(model)


def test_a_tied_head_need_not_be_in_the_file(tmp_path):
    policy = tiny(dtype=torch.float32, tied=True)
    policy.save(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert load(tmp_path).head_weight()[0].tolist() == policy.head_weight()[0].tolist()


def test_a_head_without_the_prefix_of_its_trunk_is_found(model):
    """As it was saved from the trunk alone: the names begin one level further down."""
    set_weights(lambda w: {n.removeprefix("model."): t for n, t in w.items()})(model)
    whole = load_file(model / "model.safetensors")
    assert "layers.1.input_layernorm.weight" in whole
    read = dict(load(model).module.named_parameters())
    assert torch.equal(read[NORM], whole["layers.1.input_layernorm.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32_with_the_same_numbers(model, dtype):
    set_weights(lambda w: {n: t.to(dtype) for n, t in w.items()})(model)
    stored = load_file(model / "model.safetensors")
    read = dict(load(model).module.named_parameters())
    assert read[NORM].dtype == torch.float32
    assert all(torch.equal(read[n], t.float()) for n, t in stored.items())


def split(folder: Path, places: dict[str, str] | None = None) -> None:
    """The weights in two files with an index, as large models have them."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {}
    for number in (0, 1):
        part = {n: t for i, (n, t) in enumerate(weights.items()) if i % 2 == number}
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save_file(part, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    index |= places or {}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )


def test_weights_in_several_files_load(sound, model):
    split(model)
    ids = torch.tensor([[A, B, A, B]])
    assert torch.equal(load(model).module(ids).logits, load(sound).module(ids).logits)


@pytest.mark.parametrize(
    "place",
    [
        "../elsewhere/model.safetensors",
        "/etc/model.safetensors",
        "part/model.safetensors",
        "a.bin",
        3,
    ],
)
def test_an_index_that_leaves_the_folder_is_refused(model, place):
    split(model, {NORM: place})
    assert f"weight_map puts {NORM} into {place!r}" in refusal(model)


def test_an_index_that_names_a_file_that_is_not_there_is_refused(model):
    split(model)
    (model / "model-00002-of-00002.safetensors").unlink()
    assert "names model-00002-of-00002.safetensors, and there is no such file" in refusal(model)


def test_sizes_that_the_weights_do_not_hold_are_refused_before_they_are_allocated(
    model, monkeypatch
):
    set_key("config.json", "vocab_size", 2_000_000_000)(model)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    assert "asks for 64,000,003,952 weights" in refusal(model)
    set_key("config.json", "num_hidden_layers", 2_000_000_000)(model)
    assert "num_hidden_layers is 2,000,000,000" in refusal(model)


def test_a_model_that_looks_ahead_is_refused(tmp_path):
    """BERT loads as a causal model and reads both ways where its config does not say `is_decoder`."""
    shape = {"vocab_size": 4, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    BertLMHeadModel(BertConfig(**shape, intermediate_size=8)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(str(tmp_path))
    assert "BertLMHeadModel is no causal language model" in refusal(tmp_path)


# ---- code ---------------------------------------------------------------------------------------


def plant(folder: Path, marker: Path) -> None:
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\n")


CODE = {
    "config": set_key(
        "config.json", "auto_map", {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}
    ),
    "module": set_key("config.json", "auto_map", {"AutoModelForCausalLM": "own.M"}),
    "an unknown model type": lambda f: [
        set_key("config.json", "model_type", "mine")(f),
        set_key("config.json", "auto_map", {"AutoConfig": "own.C"})(f),
    ],
    "tokenizer": set_key("tokenizer_config.json", "auto_map", {"AutoTokenizer": [None, "own.T"]}),
    "custom generation": lambda f: shutil.copytree(f, f / "custom_generate") and None,
}


@pytest.mark.parametrize("case", CODE)
def test_a_models_own_code_is_neither_run_nor_asked_for(model, tmp_path, case, monkeypatch):
    def asked(*_):
        raise AssertionError("somebody was asked for leave")

    marker = tmp_path / "ran"
    plant(model, marker)
    CODE[case](model)
    monkeypatch.setattr(builtins, "input", asked)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    assert "Python code that comes with the model" in refusal(model)
    assert not marker.exists()
    assert sys.stdin.read() == "y\n" * 20


def test_every_library_call_refuses_code_and_pickles():
    """Behind the reading of the files stands transformers' own switch, for each of its three doors."""
    from statewise.policy import loading

    text = Path(loading.__file__).read_text()
    assert text.count("AutoConfig.from_pretrained(") == 1
    assert text.count("AutoTokenizer.from_pretrained(") == 1
    assert text.count("trust_remote_code=False") == 4
    assert text.count("use_safetensors=True") == 1


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_refused(model, file):
    torch.save(load_file(model / "model.safetensors"), model / file)
    (model / "model.safetensors").unlink()
    assert f"are pickled ({file})" in refusal(model)


def test_an_index_of_pickled_weights_is_refused(model):
    (model / "model.safetensors").unlink()
    index = {"weight_map": {NORM: "pytorch_model-00001-of-00001.bin"}}
    (model / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (model / "pytorch_model-00001-of-00001.bin").write_bytes(b"")
    assert "are pickled (pytorch_model-00001-of-00001.bin)" in refusal(model)


@pytest.mark.slow
def test_the_command_that_converts_pickled_weights_does(model):
    file = "pytorch_model.bin"
    logits = load(model).module(torch.tensor([[A, B]])).logits
    torch.save(load_file(model / "model.safetensors"), model / file)
    (model / "model.safetensors").unlink()
    said = refusal(model)
    assert "are pickled" in said
    command = said[said.index("python -c") :].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert torch.equal(load(model).module(torch.tensor([[A, B]])).logits, logits)


def test_kernels_from_the_hub_are_refused(model):
    set_key("config.json", "attn_implementation", "someone/kernels")(model)
    assert "attn_implementation asks for kernels of its own" in refusal(model)


# ---- config, tokenizer, generation --------------------------------------------------------------

FILES = {
    "no config": (drop("config.json"), "no model at"),
    "config is a list": (write("config.json", "[]"), "config.json holds a list"),
    "config is cut short": (write("config.json", '{"model_type": '), "config.json: "),
    "no model type": (set_key("config.json", "model_type", None), "model_type must name"),
    "an unknown model type": (set_key("config.json", "model_type", "zzz"), "config.json: "),
    "no decoder": (set_key("config.json", "model_type", "t5"), "config.json: "),
    "width 0": (set_key("config.json", "hidden_size", 0), ""),
    "nan": (set_key("config.json", "rms_norm_eps", float("nan")), "config.json: NaN"),
    "beyond any machine": (set_key("config.json", "hidden_size", 10**30), "config.json: "),
    "beyond any model": (
        set_key("config.json", "hidden_size", 10**12),
        "hidden_size is 1e+12, more than 2,147,483,647",
    ),
    "a context of -1": (
        set_key("config.json", "max_position_embeddings", -1),
        "max_position_embeddings must be a whole number from 1, found -1",
    ),
    "a rotation that shrinks": (
        set_key(
            "config.json",
            "rope_parameters",
            {"rope_type": "yarn", "rope_theta": 10000.0, "factor": -4.0},
        ),
        "config.json: rope_parameters.factor must be a number from 1, found -4.0",
    ),
    "a rotation of base 0": (
        set_key("config.json", "rope_parameters", {"rope_type": "default", "rope_theta": 0.0}),
        "config.json: rope_parameters.rope_theta must be a number above 0, found 0.0",
    ),
    "a tied head that is another": (
        set_key("config.json", "tie_word_embeddings", True),
        "config.json: tie_word_embeddings is true",
    ),
    "quantised": (set_key("config.json", "quantization_config", {"bits": 4}), "quantised"),
    "no tokenizer": (
        drop("tokenizer.json", "tokenizer_config.json"),
        "there is no tokenizer in",
    ),
    "a broken tokenizer": (write("tokenizer.json", "{}"), "copy the tokenizer's files again"),
    "a tokenizer that is a list": (
        write("tokenizer.json", "[1]"),
        "copy the tokenizer's files again",
    ),
    "no eos": (set_key("tokenizer_config.json", "eos_token", None), "has no eos token"),
    "eos beyond the vocabulary": (
        set_key("tokenizer_config.json", "eos_token", "<other>"),
        "eos_token is 4, no id below the model's 4",
    ),
    "broken generation config": (write("generation_config.json", "{"), "generation_config.json"),
    "a stop beyond the vocabulary": (
        set_key("generation_config.json", "eos_token_id", [EOS, 4]),
        "generation_config.json: eos_token_id is 4",
    ),
    "a stop that is text": (
        set_key("generation_config.json", "eos_token_id", "three"),
        "generation_config.json",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_damaged_files_are_one_line_that_names_them(model, case):
    edit, said = FILES[case]
    edit(model)
    assert said in refusal(model)


def test_a_tokenizer_with_words_beyond_the_model_is_refused(model):
    path = model / "tokenizer.json"
    plain = json.loads(path.read_text())
    plain["model"]["vocab"]["c"] = 4
    path.write_text(json.dumps(plain))
    assert "the last is 'c', id 4" in refusal(model)


def test_a_token_beyond_the_model_is_an_error_where_a_text_holds_it(model):
    """Added for another kind of model, an image's place: no text of ours holds it by itself."""
    policy = load(model)
    policy.tokenizer.add_tokens(["<image>"])
    ids = np.array([A, 4], np.int32)
    with pytest.raises(ModelError, match=r"'<image>' \(id 4\)"):
        policy.complete([ids], sampling=Sampling(), max_new_tokens=1, seeds=[0])
    with pytest.raises(ModelError, match=r"'<image>' \(id 4\)"):
        policy.hidden(torch.tensor([[A, 4]]), torch.tensor([2]))


@pytest.mark.parametrize("kind", ["file", "missing", "empty"])
def test_a_place_without_a_model_is_one_line(tmp_path, kind):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert "no model at" in refusal(tmp_path / kind)


VALUES = (None, [], -1, 0, 2.5, "x" * 300, 10**30, True, {"a": 1})


@pytest.mark.slow
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_whatever_a_key_holds_a_model_works_or_is_refused_in_one_line(model, file):
    path = model / file
    whole = json.loads(path.read_text())
    worked, lines = 0, []
    for key in whole:
        for value in VALUES:
            path.write_text(json.dumps(whole | {key: value}))
            try:
                policy = load(model)
            except ModelError as error:
                lines.append(str(error))
                continue
            made = policy.complete(
                [np.array([A], np.int32)], sampling=Sampling(), max_new_tokens=2, seeds=[0]
            )
            assert np.isfinite(made[0].logprobs).all()
            worked += 1
    assert worked
    assert lines
    assert not [line for line in lines if "\n" in line]


# ---- adapters -----------------------------------------------------------------------------------


@pytest.fixture
def adapter(model, tmp_path) -> Path:
    policy = Policy.load(model, name="x").with_adapter(Lora(rank=2), seed=0)
    with torch.no_grad():
        for _, p in policy.trainable_parameters():
            p.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    policy.save(tmp_path / "adapter")
    return tmp_path / "adapter"


DOWN = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def set_lora(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file(change(load_file(path)), path, {"format": "pt"})

    return edit


ADAPTERS = {
    "a tensor is missing": (
        set_lora(lambda w: {n: t for n, t in w.items() if n != DOWN}),
        f"adapter_model.safetensors lacks {DOWN}",
    ),
    "a tensor is of nobody": (
        set_lora(lambda w: w | {DOWN.replace("layers.0", "layers.7"): w[DOWN].clone()}),
        "adapter_model.safetensors holds base_model.model.model.layers.7",
    ),
    "another rank": (set_key("adapter_config.json", "r", 3), "adapter_config.json"),
    "no rank": (set_key("adapter_config.json", "r", 0), "r must be a whole number from 1"),
    "no base": (
        set_key("adapter_config.json", "base_model_name_or_path", None),
        "base_model_name_or_path must be text",
    ),
    "the base is gone": (
        set_key("adapter_config.json", "base_model_name_or_path", "/nowhere/base"),
        "no model at /nowhere/base (named by ",
    ),
    "another kind": (set_key("adapter_config.json", "peft_type", "ZZZ"), "adapter_config.json"),
    "tokens of a prompt": (
        set_key("adapter_config.json", "peft_type", "PREFIX_TUNING"),
        "adapter_config.json: peft_type is 'PREFIX_TUNING'",
    ),
    "from some token on": (
        set_key("adapter_config.json", "alora_invocation_tokens", [1]),
        "adapter_config.json: alora_invocation_tokens makes",
    ),
    "a key of tomorrow": (
        set_key("adapter_config.json", "use_tomorrow", True),
        "adapter_config.json: use_tomorrow is no key of LORA",
    ),
    "nan": (
        set_lora(lambda w: w | {DOWN: w[DOWN] * torch.nan}),
        "holds numbers that are not finite",
    ),
    "cut short": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(
            (f / "adapter_model.safetensors").read_bytes()[:-10]
        ),
        "no whole safetensors file",
    ),
}


@pytest.mark.parametrize("case", ADAPTERS)
def test_adapters_that_do_not_fit_are_refused_by_name(adapter, case):
    load(adapter)
    edit, said = ADAPTERS[case]
    edit(adapter)
    assert said in refusal(adapter)


@pytest.mark.filterwarnings("ignore:Unsupported layer type")  # peft, of a norm
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_each_kind_gives_the_logits_of_peft(model, tmp_path, kind):
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, get_peft_model

    more = {"OFT": {"oft_block_size": 4}, "ADALORA": {"total_step": 9}}.get(kind, {})
    more |= {"IA3": {"feedforward_modules": []}}.get(kind, {})
    target = "input_layernorm" if kind == "LN_TUNING" else "q_proj"
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](
        target_modules=[target], task_type="CAUSAL_LM", **more
    )
    ids = torch.tensor([[A, B, A]])
    plain = load(model).module(ids).logits
    own = get_peft_model(Policy.load(model, name="x").module, config).eval()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for p in own.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=generator) * 0.3)
        wanted = own(ids).logits
    own.save_pretrained(tmp_path / "of peft")
    set_key("adapter_config.json", "base_model_name_or_path", str(model))(tmp_path / "of peft")
    policy = load(tmp_path / "of peft")
    logits = policy.head(policy.hidden(ids, torch.tensor([3]))[0])
    torch.testing.assert_close(logits, wanted[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits, plain[0], atol=1e-4)


@pytest.mark.slow
def test_a_pickled_adapter_is_refused_with_a_command_that_converts_it(adapter):
    ids = torch.tensor([[A, B]])
    logits = load(adapter).module(ids).logits
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    said = refusal(adapter)
    command = said[said.index("python -c") :].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert torch.equal(load(adapter).module(ids).logits, logits)


def test_an_adapter_without_a_tokenizer_takes_its_bases(adapter):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (adapter / name).unlink()
    assert load(adapter).to_ids("ab").tolist() == [A, B]


# ---- numbers that are none ----------------------------------------------------------------------


def test_log_probs_that_are_not_finite_are_no_sample():
    policy = tiny(dtype=torch.float32)
    with torch.no_grad():
        policy.head_weight()[0].fill_(torch.nan)
    with pytest.raises(NotFiniteError, match="student@0 gives log-probs that are not finite"):
        policy.complete([np.array([A], np.int32)], sampling=Sampling(), max_new_tokens=2, seeds=[0])


@pytest.mark.parametrize("guard", ["one line", "placed"])
@pytest.mark.parametrize("where", ["machine", "accelerator"])
def test_memory_that_ran_out_is_no_damaged_model(guard, where, tmp_path):
    around = (
        loading.placed(tmp_path)
        if guard == "placed"
        else loading._one_line(tmp_path, "fetch the model again")
    )

    def fill() -> None:
        if where == "machine":
            torch.empty(1 << 50)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB.")

    with pytest.raises(ModelError) as caught, around:
        fill()
    said = str(caught.value)
    assert str(tmp_path) in said
    assert "not enough memory" in said
    assert "free some memory, or take a smaller model" in said
    assert "fetch" not in said


def test_jobs_that_end_together_keep_the_places_of_all_their_bases(tmp_path, monkeypatch):
    run, names = tmp_path / "run", {}
    write = adapters.write_json

    def slowly(path, value):
        time.sleep(0.02)  # every other job has read the file by now, where nothing stops it
        write(path, value)

    monkeypatch.setattr(adapters, "write_json", slowly)

    def end(i: int) -> None:
        base, mine = tmp_path / f"{i % 2}" / f"models-{i % 3}" / "base", run / f"arm-{i}"
        for folder in (base, mine):
            folder.mkdir(parents=True)
        config = {"peft_type": "LORA", "base_model_name_or_path": str(base)}
        (mine / "adapter_config.json").write_text(json.dumps(config))
        names[i] = adapters.name_portably(mine, run)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(end, range(6)))
    assert len(set(names.values())) == 6
    for i in names:
        place = tmp_path / f"{i % 2}" / f"models-{i % 3}" / "base"
        assert adapters.base_of(run / f"arm-{i}") == str(place.resolve())
