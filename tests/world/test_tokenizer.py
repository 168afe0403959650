"""The tokenizer: exact round trip, single digits, sane marks, pad apart from eos, loadable."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from statewise.world import World, train_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(World().documents(0, 5000), folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    "text",
    [
        "Tom has 12 eggs.\n#### 12",
        "",
        " ",
        "a\t b  \n\n c",
        "naïve — 東京 🙂",
        "x²³\r\n",
        "1/2, $7.50",
    ],
)
def test_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_round_trip_of_the_corpus(tokenizer: Tokenizer) -> None:
    for text in World(seed=1).documents(0, 500):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_digits_and_marks_stand_alone(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(" 12+7=<<12+7=19>>19\n#### 19").tokens
    space, newline = "Ġ", "Ċ"
    assert tokens == [
        *(space, "1", "2", "+", "7", "=", "<<", "1", "2", "+", "7", "=", "1", "9", ">>", "1", "9"),
        *(newline, "####", space, "1", "9"),
    ]
    assert tokenizer.encode(" #### 42").tokens[0] == "Ġ####"
    for token in tokenizer.get_vocab():
        assert sum(character.isdigit() and character.isascii() for character in token) <= 1


def test_prompt_and_completion_tokenise_apart_as_together(tokenizer: Tokenizer) -> None:
    # Evaluation encodes prompt and completion apart, training encodes whole documents: the tokens
    # must agree.
    for text in World().documents(0, 300):
        if "\nAnswer: " in text:
            prompt, completion = text.rsplit("\nAnswer:", 1)
            apart = tokenizer.encode(prompt + "\nAnswer:").ids + tokenizer.encode(completion).ids
            assert apart == tokenizer.encode(text).ids


def test_pad_is_not_eos(folder: Path, tokenizer: Tokenizer) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer.token_to_id(config["pad_token"]) == 0
    assert tokenizer.token_to_id(config["eos_token"]) == 1
    assert tokenizer.get_vocab_size() == 1024


def test_training_is_deterministic(folder: Path, tmp_path: Path) -> None:
    train_tokenizer(World().documents(0, 5000), tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_transformers_loads_the_folder(folder: Path, tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    assert (loaded.pad_token_id, loaded.eos_token_id) == (0, 1)
    text = "Question: Tom has 12 eggs.\nAnswer:"
    assert loaded(text)["input_ids"] == tokenizer.encode(text).ids
    assert loaded.decode(loaded(text)["input_ids"]) == text
