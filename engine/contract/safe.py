"""Text of strangers made harmless: nothing in it moves the cursor, hides, turns round or tells a secret."""

from __future__ import annotations

import re
import unicodedata

MAX_MARKS = 4  # combining marks on one character; real languages need no more
HIDDEN = "[hidden]"

# What a terminal obeys or does not show: controls, bidirectional overrides, zero width and filler characters,
# line separators, tags and variation selectors that smuggle text, private use, lone surrogates.
# U+FE0F stays: it only asks for the coloured form of an emoji.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)
_MAYBE_MARKS = re.compile(f"[^\x00-\u02ff]{{{MAX_MARKS + 1},}}")
_PICTURES = 0x2400  # U+241B is the picture of 0x1b, and so on


def safe(text: str, keep_newlines: bool = True) -> str:
    """`text` with every character visible that would act on a terminal or on a reader without being seen.

    ESC becomes "␛", a right-to-left override "\\u202e". Newlines and tabs stay unless `keep_newlines` is
    false. Of a long run of combining marks the first few are kept, and "…" stands for the rest.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = _UNSAFE.sub(lambda found: _shown(found[0], keep_newlines), text)
    return _MAYBE_MARKS.sub(_without_towers, shown)


def _shown(character: str, keep_newlines: bool) -> str:
    code = ord(character)
    if keep_newlines and character in "\n\t":
        return character
    if code < 0x20:
        return chr(_PICTURES + code)
    if code == 0x7F:
        return "␡"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _without_towers(found: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for character in found[0]:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks <= MAX_MARKS:
            kept.append(character)
        elif marks == MAX_MARKS + 1:
            kept.append("…")
    return "".join(kept)


# Lengths are bounded, so that no text, however made, takes more than linear time.
_SECRETS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)[\w+/=\s:,\\]{1,8000}", rf"\1{HIDDEN}"),
        (r"\b(?:hf|api_org)_[A-Za-z0-9]{8,}", HIDDEN),
        (r"\bsk-[A-Za-z0-9_-]{12,}", HIDDEN),
        (r"\b(?:[sr]k_(?:live|test)_|npm_|pypi-|dckr_pat_|shp[a-z]{2}_)[A-Za-z0-9_-]{16,}", HIDDEN),
        (r"\bSG\.[\w-]{16,80}\.[\w-]{16,80}|\b\d{8,10}:AA[\w-]{30,}", HIDDEN),
        (r"\b(?:gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{10,}", HIDDEN),
        (r"\bxox[a-z]-[A-Za-z0-9-]{8,}", HIDDEN),
        (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", HIDDEN),
        (r"\bAIza[0-9A-Za-z_-]{30,}", HIDDEN),
        (r"\beyJ[\w-]{10,200}\.[\w-]{10,4000}\.[\w-]{10,4000}", HIDDEN),
        (r"(?i)(\bbearer\s{1,8}|\bauthorization\W{1,8}basic\s{1,8})[A-Za-z0-9._~+/=-]{8,}", rf"\1{HIDDEN}"),
        (r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^\s/?#]{1,500}@", rf"\1{HIDDEN}@"),
        (r"(TOKEN=)[^\s\"']{4,}", rf"\1{HIDDEN}"),
        (
            r"(?i)((?:password|passwd|secret|api[_-]?key)[\"']?\s{0,4}[=:]\s{0,4}[\"']?)[^\s\"',;]{4,}",
            rf"\1{HIDDEN}",
        ),
    )
]


def redact(text: str) -> str:
    """`text` with "[hidden]" for what looks like a secret: tokens, keys, passwords, userinfo of URLs."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
