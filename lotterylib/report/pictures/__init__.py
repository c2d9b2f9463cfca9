"""Pictures that readers act on: `film`, `hunt`, `words` and `comparison`.

Each is one function from results to HTML, in the module of its name; the script of its name in
`book/_static` draws it. Scores, intervals and maps are computed here; a browser only counts, ranks
and divides them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape


def frame(
    name: str,
    data: Mapping[str, object],
    caption: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> str:
    """The element of a picture as HTML: what its script draws, as JSON, and a table for where no
    script runs, the first cell of each row its heading.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    text = text.replace("<", r"\u003c")  # nothing in it can end the element
    inlined = f'<script type="application/json">{text}</script>'
    told = "<p>With JavaScript, this is a picture that you act on.</p>"
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="acting" data-picture="{escape(name)}">{inlined}{told}'
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
