"""One token as a reader sees it: its text, or its bytes where it holds only a part of a character.

A byte-level vocabulary may spread a character (an emoji, a letter of many scripts) over several tokens. None
of them has a text of its own, and a decoder writes U+FFFD for every one of them: tokens that differ look the
same. Their bytes are spelled instead, as `⟨F0 9F⟩`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from statewise.policy.encoding import anchor, decoded

LOST = "\ufffd"
"""What a decoder writes for bytes that are no text."""
FALLBACK = re.compile("<0x([0-9A-Fa-f]{2})>")
"""A byte as vocabularies of SentencePiece's kind write it."""
SURROGATES = re.compile("[\udc80-\udcff]+")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of one token, its leading space included; bytes that are no text are spelled.

    `part` holds the token's bytes where some of them are only a part of a character, else None.
    """

    text: str
    part: bytes | None = None


def piece(tokenizer: PreTrainedTokenizerBase, token_id: int) -> Piece:
    """Text of one token, and its bytes where it holds parts of characters.

    Decoded behind another token, because some tokenizers drop a leading space at the start of a text.
    A token whose decoder hides its bytes, and that no known alphabet explains, has its name in the vocabulary.
    """
    found = anchor(tokenizer)
    text = decoded(tokenizer, [token_id], special=True)
    if found is not None:
        first, before = found
        both = decoded(tokenizer, [first, token_id], special=True)
        if both.startswith(before):
            text = both[len(before) :]
    if text and LOST not in text:
        return Piece(text)
    name = tokenizer.convert_ids_to_tokens(token_id)
    raw = token_bytes(name)
    # Held against the decoder: a name may look like bytes by chance.
    if raw is None or raw.decode(errors="replace") != text:
        return Piece(text or _named(name))
    shown = spelled(raw)
    return Piece(shown, None if shown == text else raw)


def token_bytes(name: object) -> bytes | None:
    r"""The bytes that a name in the vocabulary stands for; None where it is in neither alphabet.

    GPT-2's alphabet gives every byte a letter; SentencePiece writes a byte as `<0xF0>`.

    >>> token_bytes("Ġa"), token_bytes("ðŁ"), token_bytes("<0xF0>"), token_bytes("▁a")
    (b' a', b'\xf0\x9f', b'\xf0', None)
    """
    if isinstance(name, bytes):
        return name
    if not isinstance(name, str):
        return None
    if match := FALLBACK.fullmatch(name):
        return bytes.fromhex(match[1])
    values = [ALPHABET.get(letter) for letter in name]
    return None if None in values else bytes(value for value in values if value is not None)


def spelled(raw: bytes) -> str:
    r"""Bytes as text; those that are none in angle brackets.

    >>> spelled(b"a\xf0\x9f"), spelled(b"\x98\x80."), spelled("é".encode())
    ('a⟨F0 9F⟩', '⟨98 80⟩.', 'é')
    """

    def in_brackets(match: re.Match[str]) -> str:
        return f"⟨{match[0].encode(errors='surrogateescape').hex(' ').upper()}⟩"

    return SURROGATES.sub(in_brackets, raw.decode(errors="surrogateescape"))


def _named(name: object) -> str:
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)


def _alphabet() -> dict[str, int]:
    """Letter to byte: printable bytes of Latin-1 stand for themselves, the others from U+0100 on."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in own]
    return {chr(b): b for b in own} | {chr(0x100 + i): b for i, b in enumerate(others)}


ALPHABET = _alphabet()
