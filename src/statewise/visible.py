"""What a model wrote, so that a reader sees all of it: marks that show nothing get a name.

Terminals and the page both show it so: an escape sequence would drive the one, a mark that turns the writing
round would mislead in the other. `report/assets/text.js` does the same in the page, and
`tests/report/test_browser.py` compares the two.
"""

from __future__ import annotations

import re

NAMED = {
    0x0000: "NUL",
    0x000D: "CR",
    0x001B: "ESC",
    0x007F: "DEL",
    0x00AD: "SHY",
    0x061C: "ALM",
    0x180E: "MVS",
    0x200B: "ZWSP",
    0x200C: "ZWNJ",
    0x200D: "ZWJ",
    0x200E: "LRM",
    0x200F: "RLM",
    0x2028: "LS",
    0x2029: "PS",
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2060: "WJ",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
    0xFEFF: "BOM",
}
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f" + "".join(map(chr, NAMED)) + "]")


def visible(text: str) -> str:
    r"""The text with control characters and marks without a shape by name or number.

    >>> visible("a\x00b\u202ec\nd\x07")
    'a⟨NUL⟩b⟨RLO⟩c\nd⟨U+0007⟩'
    """

    def shown(match: re.Match[str]) -> str:
        code = ord(match[0])
        return f"⟨{NAMED.get(code, f'U+{code:04X}')}⟩"

    return _HIDDEN.sub(shown, text)
