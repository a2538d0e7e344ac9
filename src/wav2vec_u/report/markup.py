"""HTML and SVG that is escaped by construction.

`element` escapes every plain string it is given; only what `element` (or `Markup`) has made is
taken over as it is. File names with quotes or tags in them can therefore do no harm.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

_VOID = frozenset({"meta", "br"})
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


Content = str | int | float | None | Iterable["Content"]


def escape(text: str) -> Markup:
    """Escape text for element content and attribute values.

    Control characters and lone surrogates (from file names that are no UTF-8), which HTML does not
    allow, become the replacement character.
    """
    return Markup(html.escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text), quote=True))


def element(name: str, /, *content: Content, **attributes: str | int | float | None) -> Markup:
    """Make an element; plain strings inside it are escaped.

    Parameters
    ----------
    name : str
        Tag.
    *content
        Strings, numbers, `Markup`, or iterables of these; None is left out.
    **attributes
        A trailing underscore is dropped (``class_``), other underscores become hyphens; None is
        left out.

    >>> element("p", "a < b", element("b", 3), class_="x")
    '<p class="x">a &lt; b<b>3</b></p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(content: Content) -> Markup:
    """Put content together, escaped where it is not markup yet."""
    if content is None:
        return Markup("")
    if isinstance(content, Markup):
        return content
    if isinstance(content, (str, int, float)):
        return escape(str(content))
    return Markup("".join(join(part) for part in content))


def table(header: Iterable[Content], rows: Iterable[Iterable[Content]]) -> Markup:
    """Make a table that scrolls sideways on narrow screens."""
    head = element("tr", [element("th", cell) for cell in header])
    body = [element("tr", [element("td", cell) for cell in row]) for row in rows]
    return element(
        "div", element("table", element("thead", head), element("tbody", body)), class_="wide"
    )
