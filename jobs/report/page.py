"""The report of a run as a page to look at: Markdown for the Prefect UI, or one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt

from jobs.plan import Plan
from jobs.plan.text import lines
from jobs.report import drift, picture
from jobs.report.history import FOLDER, Kept

STYLE = """
body { font: 15px/1.55 system-ui, sans-serif; color: #1e293b; background: #f1f5f9; margin: 0; }
main { max-width: 62rem; margin: 2rem auto; padding: 1.5rem 2.5rem; background: white; border-radius: 10px;
       box-shadow: 0 1px 4px #0002; }
h1 { margin-bottom: .2rem; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #e2e8f0; padding-bottom: .3rem; }
img { max-width: 100%; } table { border-collapse: collapse; } td, th { padding: .3rem 1.2rem .3rem 0;
      border-bottom: 1px solid #e2e8f0; text-align: left; vertical-align: top; }
code { background: #f1f5f9; padding: .1rem .3rem; border-radius: 4px; font-size: 90%; overflow-wrap: anywhere; }
blockquote { margin: 1rem 0; padding: .6rem 1rem; border-left: 4px solid #dc2626; background: #fef2f2; }
blockquote p { margin: 0; }
"""


def summary(kept: Kept) -> list[tuple[str, str]]:
    """What and how much: counts, speed, padding, rejects by reason, models at their commits."""
    numbers = kept.numbers
    seconds, tokens, padded = numbers["seconds"], numbers["tokens"], numbers["padded_tokens"]
    skipped = numbers["shards_skipped"]
    rows = [
        ("rows in", f"{numbers['rows_in']:,}"),
        ("rows out", f"{numbers['rows_out']:,}"),
        ("rows rejected", f"{numbers['rows_rejected']:,}"),
        *((f"rejected by {reason}", f"{count:,}") for reason, count in kept.findings.rejects.items()),
        ("shards", f"{numbers['shards'] - skipped:,} enriched, {skipped:,} done before"),
        ("tokens a second", f"{tokens / seconds if seconds else 0:,.0f}"),
        ("padded share", f"{1 - tokens / padded if padded else 0:.1%}"),
        ("seconds", f"{seconds:,.1f}"),
    ]
    for task in numbers["tasks"]:
        pins = [f"{pin['name']} at {pin['commit'][:12]}" for pin in (task["model"], task["adapter"]) if pin]
        spec = task["spec"]
        numbers_of = task["dtype"]
        if task.get("agreement") is not None:
            numbers_of += f", which agrees with float32 on {task['agreement']:.2%} of a sample"
        rows.append((f"{spec['task']} into {spec['into']}", " + ".join([*pins, numbers_of])))
    return [*rows, ("run", kept.run_id), ("finished", numbers.get("finished", "")), ("output", numbers["output"])]


def markdown(kept: Kept, before: Sequence[Kept]) -> str:
    """The report, pictures embedded.

    Args:
        kept: the run.
        before: the runs that it is compared with, oldest first.
    """
    numbers = kept.numbers
    nights = [night.findings for night in before]
    drifts = drift.compare(kept.findings, nights)
    skipped = numbers["shards_skipped"]
    parts = [
        f"# {numbers['name']}",
        f"{numbers['rows_out']:,} rows enriched, {numbers['rows_rejected']:,} rejected, in {numbers['seconds']:,.1f} s"
        + (f"; {skipped:,} of {numbers['shards']:,} shards were done before." if skipped else "."),
        *(f"> **{item.what} moved**: {item.largest} (PSI {item.psi:.2f})" for item in drifts if item.moved),
    ]
    if not kept.findings.rows:
        parts.append("Nothing was new, so there is nothing to draw.")
    parts += _pictured("Speed", picture.throughput(kept.timeline), "tokens a second and rows done, over time")
    compared = f"This run against the last {len(nights)} that had rows." if nights else "Nothing to compare with yet."
    parts += _pictured("What was found", picture.labels(kept.findings, nights), "share of each label, scores", compared)
    parts += _pictured("Texts", picture.lengths(kept.findings, nights), "text lengths, rejected rows")
    if drifts:
        parts += ["## Drift", _drift_note(len(nights)), _drift_table(drifts)]
    parts += ["## Summary", _table([("", ""), *((what, _code(what, value)) for what, value in summary(kept))])]
    parts += ["## Where it is", *_places(numbers)]
    return "\n\n".join(parts) + "\n"


def plan_page(plan: Plan) -> str:
    """What a dry run would do."""
    return f"# {plan.spec.name}: plan\n\n{_table([('', ''), *lines(plan)])}\n"


def web(kept: Kept, before: Sequence[Kept]) -> str:
    """The same report as one HTML file."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table")
    # Pictures are data URIs, which the renderer refuses unless told that they are ours; to replace this method is its
    # documented way.
    body.validateLink = lambda url: url.startswith(("data:image/png;base64,", "file:", "http:", "https:"))  # type: ignore[method-assign]
    title = html.escape(f"{kept.numbers['name']} {kept.run_id}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><main>\n{body.render(markdown(kept, before))}</main></body></html>\n"
    )


def _pictured(title: str, png: bytes | None, alternative: str, text: str = "") -> list[str]:
    if png is None:
        return []
    image = f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"
    return [f"## {title}", *([text] if text else []), image]


def _drift_note(nights: int) -> str:
    return (
        f"Population stability index against the last {nights} runs with rows, added up. More than {drift.MOVED:g} "
        f"counts as moved; with few rows the threshold is higher, since chance alone moves them."
    )


def _drift_table(drifts: Sequence[drift.Drift]) -> str:
    head = [("distribution", "PSI", "threshold", "verdict", "largest change")]
    rows = [
        (item.what, f"{item.psi:.3f}", f"{item.threshold:.2f}", "**moved**" if item.moved else "steady", item.largest)
        for item in drifts
    ]
    return _table([*head, *rows])


def _places(numbers: Mapping[str, Any]) -> list[str]:
    output, run_id = numbers["output"], numbers["run_id"]
    lines = [f"- enriched rows: {_link(output)}"]
    if numbers["rows_rejected"]:
        lines.append(f"- rejected rows with their reasons: {_link(f'{output}/_rejected')}")
    lines.append(f"- this report as JSON: {_link(f'{output}/{FOLDER}/{run_id}.json')}")
    return ["\n".join(lines)]


def _link(path: str) -> str:
    """A link where a browser can follow it: a local path, once absolute, or a web address; else the address itself."""
    if path.startswith(("http://", "https://")):
        return f"[{path}](<{path}>)"
    return f"`{path}`" if "://" in path else f"[`{path}`](<file://{os.path.abspath(os.path.expanduser(path))}>)"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows)
    return "\n".join([f"| {head} |", "|" + "---|" * len(rows[0]), *(f"| {row} |" for row in body)])


def _code(what: str, value: str) -> str:
    return f"`{value}`" if what in ("output", "run") else value
