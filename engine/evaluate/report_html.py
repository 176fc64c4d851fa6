"""A report as one HTML file: no script, nothing loaded from anywhere, light or dark as the reader's system is. Pure."""

from __future__ import annotations

from html import escape

from engine.contract.safe import safe

from .report_blocks import Block, Bullets, Code, Paragraph, Plot, Report, Section, Table, Verbatim
from .report_markdown import INVITATION

# Base is muted and the adapter bright, as in the app. The policy forbids whatever an escape might have missed.
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ground: #fbfaf7; --ink: #24292f; --muted: #626b75; --rule: #c9c4b8;
  --accent: #8a2fb8; --panel: #f2f0ea; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ground: #0f1419; --ink: #d8dee4; --muted: #8b98a5; --rule: #33404c;
  --accent: #e0a3ff; --panel: #161c23; }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  background: var(--ground); color: var(--ink); }}
h1, h2 {{ line-height: 1.2; }} h2 {{ margin-top: 2.5rem; border-bottom: 1px solid var(--rule); }}
.verdict {{ font-size: 1.25rem; font-weight: 600; border-left: 4px solid var(--accent); padding-left: 1rem; }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; }}
th, td {{ text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--rule);
  overflow-wrap: anywhere; min-width: 2.5rem; }}
.right {{ text-align: right; font-variant-numeric: tabular-nums; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; background: var(--panel); padding: .6rem .8rem;
  border-left: 3px solid var(--rule); }}
pre.adapter, pre.checkpoint {{ border-left-color: var(--accent); }} pre.base {{ color: var(--muted); }}
figure {{ margin: 1rem 0; }} figcaption {{ color: var(--muted); }} svg {{ max-width: 100%; height: auto; }}
svg text {{ fill: var(--ink); font: 12px system-ui, sans-serif; }} svg .dim {{ fill: var(--muted); }}
svg .rule {{ stroke: var(--rule); }} svg .line {{ stroke: var(--muted); fill: none; }}
svg .curve {{ stroke: var(--accent); fill: none; stroke-width: 1.5; }}
svg .a {{ fill: var(--ground); stroke: var(--muted); stroke-width: 2; }} svg .b {{ fill: var(--accent); }}
svg .span {{ stroke: var(--accent); stroke-width: 2; }}
</style>
</head>
<body>
"""


def page(report: Report, notes: str) -> str:
    """The whole file; `notes` are shown as plain text."""
    parts = [_HEAD.format(title=_text(report.title)), f"<h1>{_text(report.title)}</h1>"]
    parts.append(f'<p class="verdict">{_text(report.verdict)}</p>')
    for section in report.sections:
        parts += _section(section)
    if notes.strip() not in ("", INVITATION):
        parts += ["<h2>Notes</h2>", f"<pre>{_verbatim(notes)}</pre>"]
    return "\n".join([*parts, "</body>", "</html>", ""])


def _section(section: Section) -> list[str]:
    return [f"<h2>{_text(section.title)}</h2>", *(_block(each) for each in section.blocks)]


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        text = _text(block.text)
        return f"<p><strong>{text}</strong></p>" if block.strong else f"<p>{text}</p>"
    if isinstance(block, Bullets):
        return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in block.items)}</ul>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Plot):
        return f"<figure>{block.svg}<figcaption>{_text(block.caption)}</figcaption></figure>"
    if isinstance(block, Code):
        return f"<pre>{_verbatim(chr(10).join(block.lines))}</pre>"
    if isinstance(block, Verbatim):
        return f'<pre class="{escape(block.voice)}">{_verbatim(block.text)}</pre>'
    return ""


def _table(table: Table) -> str:
    def row(cells: list[str], tag: str) -> str:
        marked = [' class="right"' if place in table.right else "" for place in range(len(cells))]
        return "".join(f"<{tag}{mark}>{_text(cell)}</{tag}>" for mark, cell in zip(marked, cells, strict=True))

    body = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.rows)
    return f'<div class="wide"><table>\n<tr>{row(table.head, "th")}</tr>\n{body}\n</table></div>'


def _text(text: str) -> str:
    return escape(safe(" ".join(text.split()), keep_newlines=False))


def _verbatim(text: str) -> str:
    return escape(safe(text))
