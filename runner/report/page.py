"""Our own Markdown as one printable HTML page: what `markdown.py` and the documents write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

STYLE = """
body{font:14px/1.5 sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #ccc}
pre{background:#f6f6f6;border:1px solid #ddd;padding:.6em;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:12px}table{border-collapse:collapse;width:100%}
th,td{border:1px solid #ddd;padding:3px 7px;text-align:left;overflow-wrap:anywhere}
li.box{list-style:"\\2610  "}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr,li{break-inside:avoid}}
"""

_ESCAPED = re.compile(r"\\([\\`*_{}\[\]<>|#])")
_CODE = re.compile(r"(?<!\\)`([^`]*)`")
_CELLS = re.compile(r"(?<!\\)\|")
_BOX = "- [ ] "


def page(document: str) -> str:
    """The page of a document. Text between backquotes is code; nothing in it becomes markup."""
    lines = document.splitlines()
    title = next((line[2:] for line in lines if line.startswith("# ")), "Runbook")
    body = "\n".join(_blocks(lines))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_plain(title)}'
        f"</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _blocks(lines: list[str]) -> Iterator[str]:
    place = 0
    while place < len(lines):
        line = lines[place]
        if ticks := re.match(r"`{3,}", line):
            end = lines.index(ticks[0], place + 1)
            yield f"<pre>{escape(chr(10).join(lines[place + 1 : end]))}</pre>"
            place = end + 1
            continue
        end = place + 1
        kind = _kind(line)
        while kind in ("list", "table") and end < len(lines) and _kind(lines[end]) == kind:
            end += 1
        if kind:
            yield _KINDS[kind](lines[place:end])
        place = end


def _kind(line: str) -> str:
    if not line.strip():
        return ""
    if line.startswith("|"):
        return "table"
    if line.lstrip().startswith("- "):
        return "list"
    return "heading" if re.match(r"#{1,3} ", line) else "words"


def _heading(lines: list[str]) -> str:
    marks, _, words = lines[0].partition(" ")
    return f"<h{len(marks)}>{_inline(words)}</h{len(marks)}>"


def _words(lines: list[str]) -> str:
    return f"<p>{_inline(lines[0])}</p>"


def _list(lines: list[str]) -> str:
    return f"<ul>{''.join(map(_item, lines))}</ul>"


def _item(line: str) -> str:
    words = line.lstrip()
    if words.startswith(_BOX):
        return f'<li class="box">{_inline(words[len(_BOX) :])}</li>'
    return f"<li>{_inline(words[2:])}</li>"


def _table(lines: list[str]) -> str:
    rows = [[cell.strip() for cell in _CELLS.split(line)[1:-1]] for line in lines]
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in rows[2:]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _inline(words: str) -> str:
    pieces = _CODE.split(words)
    return "".join(
        f"<code>{escape(piece)}</code>" if place % 2 else _plain(piece)
        for place, piece in enumerate(pieces)
    )


def _plain(words: str) -> str:
    return escape(_ESCAPED.sub(r"\1", words))


_KINDS = {"heading": _heading, "words": _words, "list": _list, "table": _table}
