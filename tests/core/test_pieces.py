"""One token as a reader sees it, under tokenizers that spread a character over several tokens."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from statewise.policy.pieces import LOST, Piece, piece
from tests.evaluate.kinds_of_tokenizer import EOS, KINDS, finished, made


def with_byte_fallback():
    """Gemma's and Llama-2's kind: a character outside the vocabulary becomes its bytes."""
    entries = ["<unk>", EOS, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "\u0301"]
    raw = Tokenizer(
        models.BPE(
            vocab={entry: i for i, entry in enumerate(entries)},
            merges=[],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return finished(raw, [EOS], None, None, EOS)


def read(tokenizer, text):
    return [piece(tokenizer, i) for i in tokenizer.encode(text, add_special_tokens=False)]


@pytest.mark.parametrize("tokenizer", [made("byte level"), with_byte_fallback()])
def test_a_token_that_holds_a_part_of_a_character_is_shown_by_its_bytes(tokenizer):
    assert read(tokenizer, "a 😀b") == [
        Piece("a"),
        Piece(" "),
        Piece("⟨F0⟩", b"\xf0"),
        Piece("⟨9F⟩", b"\x9f"),
        Piece("⟨98⟩", b"\x98"),
        Piece("⟨80⟩", b"\x80"),
        Piece("b"),
    ]


def test_text_beside_the_part_of_a_character_stays_text():
    """SmolLM2 has an emoji behind a space as two tokens: the space with three bytes, and the fourth."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "ð"), ("Ġð", "Ł"), ("ĠðŁ", "ĺ")]
    entries = [EOS, *letters, *("".join(pair) for pair in merges), "Ģ."]
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = finished(raw, [EOS], None, None, EOS)
    assert read(tokenizer, "a 😀b") == [
        Piece("a"),
        Piece(" ⟨F0 9F 98⟩", b" \xf0\x9f\x98"),
        Piece("⟨80⟩", b"\x80"),
        Piece("b"),
    ]
    assert piece(tokenizer, vocabulary["Ģ."]) == Piece("⟨80⟩.", b"\x80.")


def test_a_combining_character_of_its_own_token_is_its_text():
    assert read(with_byte_fallback(), "a\u0301") == [Piece("a"), Piece("\u0301")]
    assert read(made("byte level"), "a\u0301") == [
        Piece("a"),
        Piece("⟨CC⟩", b"\xcc"),
        Piece("⟨81⟩", b"\x81"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_of_any_vocabulary_is_a_replacement_character_or_nothing(kind):
    tokenizer = made(kind)
    for i in range(len(tokenizer)):
        text = piece(tokenizer, i).text
        assert text
        assert LOST not in text


def test_a_character_that_is_the_replacement_character_is_not_lost():
    """Its three bytes are whole text, in one token or in three."""
    found = read(made("byte level"), LOST)
    assert b"".join(p.part or b"" for p in found).decode() == LOST
    assert all(LOST not in p.text for p in found)


@pytest.mark.parametrize("kind", ["metaspace", "legacy"])
def test_a_leading_space_is_kept(kind):
    assert "".join(p.text for p in read(made(kind), "plus 3 is")).strip() == "plus 3 is"
