"""On which line each key of a TOML text stands, which no TOML parser of the standard library tells."""

from __future__ import annotations

import bisect
import re
import sys
from typing import Union

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KeyPath = tuple[Union[str, int], ...]  # names of tables and keys, positions in arrays

_TOKEN = re.compile(
    r'''
      """(?:\\.|[^\\])*?"""(?:"{0,2})  |  \'\'\'.*?\'\'\'(?:'{0,2})  # may end in up to two quotes more
    | "(?:\\.|[^"\\])*"  |  '[^']*'
    | (?P<skip>\#[^\n]*)
    | [\[\]{}=,.\n]
    | [^\s\[\]{}=,.\#"']+
    ''',
    re.VERBOSE | re.DOTALL,
)
_END = ("", 0)


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of every key, table and array element of `text`, which must be valid TOML."""
    return _Scanner(text).document()


class _Scanner:
    """Walks over the tokens once; what they mean is the real parser's business."""

    def __init__(self, text: str) -> None:
        newlines = [place for place, character in enumerate(text) if character == "\n"]
        self.tokens = [
            (found[0], bisect.bisect_left(newlines, found.start()) + 1)
            for found in _TOKEN.finditer(text)
            if not found["skip"]
        ]
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.last_element: dict[KeyPath, int] = {}  # of arrays of tables: [[name]]

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def next(self) -> tuple[str, int]:
        token = self.tokens[self.at] if self.at < len(self.tokens) else _END
        self.at += 1
        return token

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while token := self.peek():
            if token == "\n":
                self.next()
            elif token == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.lines

    def header(self) -> KeyPath:
        line = self.next()[1]
        is_element = self.peek() == "["
        if is_element:
            self.next()
        names = self.key()
        path: KeyPath = ()
        for place, name in enumerate(names, start=1):
            path += (name,)
            self.lines.setdefault(path, line)
            if is_element and place == len(names):
                self.last_element[path] = self.last_element.get(path, -1) + 1
            if path in self.last_element:
                path += (self.last_element[path],)
        self.lines[path] = line
        self.skip_until("\n", "")
        return path

    def key(self) -> list[str]:
        names = [_plain(self.next()[0])]
        while self.peek() == ".":
            self.next()
            names.append(_plain(self.next()[0]))
        return names

    def pair(self, path: KeyPath) -> None:
        line = self.tokens[self.at][1]
        for name in self.key():
            path += (name,)
            self.lines.setdefault(path, line)
        self.next()  # the equals sign
        self.value(path)

    def value(self, path: KeyPath) -> None:
        if self.peek() == "[":
            self.array(path)
        elif self.peek() == "{":
            self.inline_table(path)
        else:
            self.skip_until("\n", ",", "]", "}", "")

    def array(self, path: KeyPath) -> None:
        self.next()
        place = 0
        while token := self.peek():
            if token not in ("]", ",", "\n"):
                element = (*path, place)
                self.lines[element] = self.tokens[self.at][1]
                self.value(element)
                place += 1
            elif self.next()[0] == "]":
                return

    def inline_table(self, path: KeyPath) -> None:
        self.next()
        while token := self.peek():
            if token not in ("}", ",", "\n"):
                self.pair(path)
            elif self.next()[0] == "}":
                return

    def skip_until(self, *ends: str) -> None:
        while self.peek() not in ends:
            self.next()


def _plain(name: str) -> str:
    """The name that a bare or quoted key stands for."""
    return str(tomllib.loads(f"name = {name}")["name"]) if name[:1] in ('"', "'") else name
