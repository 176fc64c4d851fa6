"""Texts as the checks compare them: normalised, as sets of words, as shingles; and which language they are in."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache

SHOWN = 5  # row numbers and examples named in an evidence
_MOST_CANDIDATES = 40  # texts that share a rare shingle and are compared with one another

# Words of two letters and more that are frequent in one of these languages and rare in the others.
_FREQUENT = {
    "pt": "não você uma com para por que mais como meu minha seu sua isso está são foi ele ela também muito quando mas "
    "do da dos das no na em um eu é os as ao à já nem pra até só",
    "en": "the and you is are of to in that it for with my your not this was have but they what i'm don't it's be on "
    "at from would there when who how does do did can could will about tell please",
    "es": "el los las una con para por que más como mi su eso está son fue él ella también muy cuando pero del y en "
    "usted yo hay nada ya sí lo le soy",
    "fr": "le les une des est dans pour pas que qui avec mais vous nous je sur sont être c'est aussi très du au et mon "
    "ma il elle",
    "de": "der die das und ist nicht ein eine ich du sie wir mit für auf von zu auch aber wie wenn den dem im es",
    "it": "il gli una per non che con sono della di è ma come anche più io mi questo questa quando nel lo sei",
}
_STOP = {language: frozenset(listed.split()) for language, listed in _FREQUENT.items()}
LANGUAGES = {
    "pt": "Portuguese",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "de": "German",
    "it": "Italian",
}
_ALL_STOP = frozenset().union(*_STOP.values())
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\"[^\"\n]{1,200}\"|“[^”\n]{1,200}”|https?://\S+", re.DOTALL)


@lru_cache(maxsize=20_000)
def plain(text: str) -> str:
    """Lower case, without accents, punctuation and double spaces; other scripts stay as they are."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(character for character in parts if not unicodedata.combining(character))
    return " ".join(re.findall(r"\w+", bare))


def words(text: str) -> frozenset[str]:
    """The words of a list written as a text."""
    return frozenset(text.split())


def telling(text: str) -> frozenset[str]:
    """The words of a text that carry its meaning."""
    every = plain(text).split()
    return frozenset(word for word in every if word not in _PLAIN_STOP) or frozenset(every)


_PLAIN_STOP = frozenset(plain(word) for word in _ALL_STOP)


def small(word: str) -> bool:
    """Whether a (plain) word carries no meaning of its own."""
    return word in _PLAIN_STOP


def without_code(text: str) -> str:
    """A text without its code, quotations and addresses: what its author says in their own words."""
    return _CODE.sub(" ", text)


def leaning(text: str) -> set[str]:
    """The languages that a text, however short, may be in: those of which it holds the most words."""
    spoken = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", without_code(text).casefold().replace("’", "'"))
    hits = {name: sum(word in frequent for word in spoken) for name, frequent in _STOP.items()}
    most = max(hits.values())
    return {name for name, count in hits.items() if count == most} if most else set()


def language(text: str) -> str:
    """The language of a text, "" where that is not clear; quotations and code do not count."""
    spoken = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", without_code(text).casefold().replace("’", "'"))
    if len(spoken) < 6:
        return ""
    hits = {name: sum(word in frequent for word in spoken) for name, frequent in _STOP.items()}
    first, second = sorted(hits, key=lambda name: -hits[name])[:2]
    clear = hits[first] >= 3 and hits[first] >= 1.8 * hits[second] and hits[first] >= 0.15 * len(spoken)
    return first if clear else ""


def shingles(spoken: Sequence[str], size: int = 3) -> frozenset[tuple[str, ...]]:
    """All runs of `size` words; of a shorter text, the text."""
    return frozenset(tuple(spoken[i : i + size]) for i in range(max(1, len(spoken) - size + 1)))


def alike(one: frozenset[object], other: frozenset[object]) -> float:
    """Jaccard similarity, 0 to 1."""
    return len(one & other) / len(one | other) if one or other else 0.0


def near_pairs(texts: Sequence[str], least: float) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of texts whose shingles are at least `least` alike.

    Only texts that share one of their rarest shingles are compared, and never more than _MOST_CANDIDATES that share
    the same one, so that a thousand rows take a fraction of a second.
    """
    sets = [shingles(text.split()) for text in texts]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, each in enumerate(sets):
        for shingle in each:
            holders[shingle].append(i)
    seen: set[tuple[int, int]] = set()
    for j, each in enumerate(sets):
        # Two sets that are `least` alike share some of any (1 - least) share of their members, so of the rarest.
        rare = sorted(each, key=lambda shingle: len(holders[shingle]))[: int((1 - least) * len(each)) + 1]
        for shingle in rare:
            for i in holders[shingle][:_MOST_CANDIDATES]:
                if i < j and (i, j) not in seen:
                    seen.add((i, j))
                    if alike(sets[i], each) >= least:
                        yield i, j


def excerpt(text: str, length: int = 80) -> str:
    """One short line of a text."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def numbers(rows: Sequence[int]) -> str:
    """ "rows 3, 7 and 2 more", "row 3"."""
    shown = ", ".join(map(str, rows[:SHOWN]))
    more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return f"row{'s' if len(rows) != 1 else ''} {shown}{more}"


_ONE = {"have": "has", "are": "is", "carry": "carries", "teach": "teaches"}


def several(count: int, noun: str, verb: str = "", *, of: int = 0) -> str:
    """ "1 row", "1,200 rows"; with a verb "1 row holds", "3 rows of 60 hold"."""
    one = count == 1
    parts = [f"{count:,} {noun}{'' if one else 's'}", f"of {of:,}" if of else ""]
    parts.append(_ONE.get(verb, f"{verb}s") if one and verb else verb)
    return " ".join(filter(None, parts))
