"""The report of a run as one self-contained HTML file, in light or dark mode, for a wide screen or a phone.

It shows rows of the lake, so it is written into the sink or where a person asks for it, and never sent to Prefect.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from jobs.estimate import outcome
from jobs.report import accuracy, drift, page, parts, picture
from jobs.report.findings import OTHER
from jobs.report.history import FOLDER, Kept
from jobs.report.shown import count
from jobs.store.names import REJECTED, STAGED_REJECTED

if TYPE_CHECKING:
    from jobs.review.accuracy import NightAccuracy

# Number of label columns in a table of partitions.
COLUMNS = 6


@dataclass(frozen=True)
class Link:
    """A file or folder named on the page.

    Attributes:
        what: its contents.
        text: the address to show.
        href: the address relative to the page; None if a browser cannot open it.
    """

    what: str
    text: str
    href: str | None


def web(kept: Kept, before: Sequence[Kept], folder: Path | None = None, measured: Sequence[NightAccuracy] = ()) -> str:
    """The report as one HTML file.

    Args:
        kept: the run.
        before: the runs that it is compared with, oldest first.
        folder: where the file will be, so that its links start from there; None for the sink's folder of reports.
        measured: the nights whose accuracy is known from labels, oldest first.
    """
    numbers, found = kept.numbers, kept.findings
    nights = [night.findings for night in before]
    environment = Environment(
        loader=PackageLoader("jobs.report", "."), autoescape=select_autoescape(), undefined=StrictUndefined
    )
    environment.filters["svg"] = lambda each: Markup(picture.svg(each))
    environment.filters["count"] = count
    return environment.get_template("page.html").render(
        title=numbers["name"],
        run_id=kept.run_id,
        status=numbers.get("status", "finished"),
        message=numbers.get("message"),
        finished=page.finished(numbers),
        headline=page.headline(kept),
        summary=page.summary(kept)[1:],
        sections=[
            ("Speed", "", picture.throughput(kept.timeline)),
            (parts.TITLE, parts.NOTE, parts.pictures(kept.parts)),
            ("What was found", page.compared(len(nights)), picture.labels(found, nights)),
            ("Texts", "", picture.lengths(found, nights)),
        ],
        partitions={name: _partition_table(counts) for name, counts in found.partitions.items() if counts},
        examples=found.examples,
        least_certain={name: rows for name, rows in found.least_certain.items() if rows and _varies(name, kept)},
        failures=found.failures,
        rejected=numbers["rows_rejected"],
        accuracy=accuracy,
        measured=accuracy.rows(measured, numbers.get("timezone", "UTC")),
        accuracy_pictures=accuracy.pictures(measured),
        estimate=outcome,
        estimated=outcome.rows(numbers.get("estimate")),
        estimate_note=outcome.note(numbers.get("estimate")),
        audit_head=page.AUDIT,
        audited=page.audited(numbers),
        audit_note=page.audit_note(numbers),
        drifts=drift.compare(found, nights),
        drift_note=page.drift_note(len(nights)),
        links=_links(kept, folder),
    )


def _varies(name: str, kept: Kept) -> bool:
    """Whether a score says how certain a label is; not if all rows have the same label (a regression)."""
    return len(kept.findings.labels.get(name, {})) != 1


def _partition_table(counts: dict[str, dict[str, int]]) -> tuple[list[str], list[tuple[str, int, list[float]]]]:
    """Head and rows (folder, labels in it, share of each label), the most common labels first."""
    total: Counter[str] = Counter()
    for labels in counts.values():
        total.update(labels)
    head = [label for label, _ in total.most_common() if label != OTHER][:COLUMNS]
    rows = []
    for folder, labels in counts.items():
        rows.append((folder, sum(labels.values()), [labels.get(label, 0) / sum(labels.values()) for label in head]))
    return head, rows


def _links(kept: Kept, folder: Path | None) -> list[Link]:
    """The files and folders of a run, as addresses relative to the page."""
    output = str(kept.numbers["output"])
    places = [("enriched rows", "")]
    if kept.numbers["rows_rejected"]:
        places.append(("rejected rows with their reasons", REJECTED if kept.finished else STAGED_REJECTED))
    places.append(("this report as JSON", f"{FOLDER}/{kept.run_id}.json"))
    if "://" in output and folder is not None:
        web_address = output.startswith(("http://", "https://"))
        root: str | None = output if web_address else None
    elif folder is None:
        root = "/".join(".." for _ in FOLDER.split("/"))
    else:
        root = os.path.relpath(os.path.abspath(os.path.expanduser(output)), folder.absolute())
    return [_link(what, output, name, root) for what, name in places]


def _link(what: str, output: str, name: str, root: str | None) -> Link:
    text = "/".join(part for part in (output.rstrip("/"), name) if part)
    if root is None:
        return Link(what, text, None)
    href = "/".join(part for part in (root.rstrip("/"), name) if part)
    return Link(what, text, href if "://" in href else quote(href))
