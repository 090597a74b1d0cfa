"""Texts for messages: one line, and a known name in the place of a misspelt one."""

import difflib
import reprlib
from collections.abc import Iterable

SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 60


def one_line(text) -> str:
    """Line breaks and other control characters as escapes: no file can forge a second line."""
    escaped = lambda c: c if c.isprintable() else c.encode("unicode_escape").decode()
    return "".join(map(escaped, str(text)))


def shown(value) -> str:
    """A value for a message, cut to a few words."""
    try:
        return one_line(SHORT.repr(value))
    except ValueError:  # more digits than Python writes
        return "a very large number"


def nearest(name, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known one that was probably meant, or ""."""
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
