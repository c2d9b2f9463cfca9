"""The element in which a picture stands: its data as JSON, and a table for where no script runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape


def frame(name: str, data: Mapping[str, object], table: str) -> str:
    """The element of a picture as HTML; the script draws in its place, without it the table stays.

    Args:
        name: of the script, such as "words".
        data: what it draws, as values that JSON knows.
        table: HTML that stands there without the script.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    text = text.replace("<", r"\u003c")  # nothing in it can end the element
    inlined = f'<script type="application/json">{text}</script>'
    told = "<p>With JavaScript, this is a picture that you act on.</p>"
    return f'<div class="acting" data-picture="{escape(name)}">{inlined}{told}{table}</div>'


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as HTML, the first cell of each row its heading."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
