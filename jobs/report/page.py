"""The text of a report: the table of numbers, and the Markdown page for the Prefect UI.

The Markdown holds numbers, labels and folder names, and no texts of the lake: Prefect stores it in its database. The
HTML page (`jobs.report.web`) has the texts; it is written to the sink.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobs.audit.record import Audit
from jobs.estimate import outcome
from jobs.parts.timeline import Numbers
from jobs.plan import Plan
from jobs.plan.text import lines
from jobs.report import FINISHED, HELD, STOPPED, accuracy, drift, picture
from jobs.report import first as of_first
from jobs.report import parts as of_parts
from jobs.report import truncated as of_truncated
from jobs.report.findings import Findings
from jobs.report.history import FOLDER, Kept
from jobs.report.shown import adapters, clock, count, duration, nothing_new, size, were
from jobs.store.names import REJECTED, STAGED_REJECTED

if TYPE_CHECKING:
    from jobs.review.accuracy import NightAccuracy


# Head of the table of an audit.
AUDIT = ("limit", "found", "value", "verdict")


def headline(kept: Kept) -> str:
    """The run in a sentence, such as `12,000 rows enriched, 3 rejected, in 4 min 10 s`."""
    numbers = kept.numbers
    if not numbers["rows_in"]:
        return nothing_new(shards_done(numbers), numbers["shards"], numbers.get("rows_removed", 0))
    text = f"{count(numbers['rows_out'], 'row')} enriched, {numbers['rows_rejected']:,} rejected, "
    text += f"in {duration(numbers['seconds'])}"
    if attempts := _more_attempts(numbers):
        text += f" and {attempts}"
    before = numbers["shards"] - shards_done(numbers)
    return text + (f"; {before:,} of {were(numbers['shards'], 'shard')} done before." if before > 0 else ".")


def summary(kept: Kept) -> list[tuple[str, str]]:
    """(name, value) of every number: counts, speed, padding, rejects by reason, each task with its model."""
    numbers = kept.numbers
    seconds, tokens, padded = numbers["seconds"], numbers["tokens"], numbers["padded_tokens"]
    done = shards_done(numbers)
    rows = [
        ("status", str(numbers.get("status", "finished"))),
        ("rows in", f"{numbers['rows_in']:,}"),
        ("rows out", f"{numbers['rows_out']:,}"),
        ("rows rejected", f"{numbers['rows_rejected']:,}"),
        *((f"rejected by {reason}", f"{number:,}") for reason, number in kept.findings.rejects.items()),
        ("rows reused", f"{numbers.get('rows_reused', 0):,}"),
        ("rows removed", f"{numbers.get('rows_removed', 0):,}"),
        ("rows of deleted source files kept", f"{numbers.get('rows_vanished', 0):,}"),
        ("shards", f"{done:,} enriched, {max(0, numbers['shards'] - done):,} done before"),
    ]
    if tokens and seconds:
        rows.append(("tokens/s", f"{tokens / seconds:,.0f}"))
    if padded:
        rows.append(("computation spent on padding", f"{1 - tokens / padded:.1%}"))
    rows.append(("time", duration(seconds)))
    if numbers.get("split"):
        rows.append(("this machine", numbers["split"]))
    if numbers.get("batches"):
        rows.append(("batches", numbers["batches"]))
    if numbers.get("hub_requests"):
        rows.append(("Hub", f"{count(numbers['hub_requests'], 'request')}, {size(numbers['hub_bytes'])} received"))
    if any((numbers.get("store_requests") or {}).values()):
        rows.append(("object store", _stored(numbers["store_requests"])))
    if numbers.get("parts"):
        divided = Numbers(**numbers["parts"])
        rows += [("parts", of_parts.sentence(divided)), ("shards by worker", of_parts.shares(divided))]
    if attempts := _more_attempts(numbers):
        rows.append(("attempts", attempts))
    rows += [task_line(task) for task in numbers["tasks"]]
    by_into = {task["spec"]["into"]: task for task in numbers["tasks"]}
    # Reports of earlier versions do not have these keys.
    cut = of_truncated.sentences([task["spec"] for task in numbers["tasks"]], numbers.get("truncated", {}))
    rows += [(f"cut for {into}", sentence) for into, sentence in cut]
    rows += [(f"first for {into}", of_first.done(by_into[into], it)) for into, it in numbers.get("first", {}).items()]
    rows += [("run", kept.run_id), ("finished", finished(numbers)), ("output", numbers["output"])]
    return [*rows, *_published(numbers)]


def _stored(counts: Mapping[str, int]) -> str:
    """Requests to object stores by kind: they are billed by it."""
    kinds = {"lists": "listing", "heads": "HEAD", "gets": "GET", "puts": "PUT", "deletes": "DELETE"}
    told = ", ".join(count(counts[name], noun) for name, noun in kinds.items() if counts.get(name))
    return f"{told}; {size(counts.get('received', 0))} read, {size(counts.get('sent', 0))} written"


def shards_done(numbers: Mapping[str, Any]) -> int:
    """Shards that the night enriched; a report of version 0.1.0 has only the number of skipped shards."""
    return int(numbers.get("shards_done", numbers["shards"] - numbers["shards_skipped"]))


def finished(numbers: Mapping[str, Any]) -> str:
    """When the run ended, in the job's time zone."""
    if not (time := numbers.get("finished")):
        return ""
    return clock(datetime.fromisoformat(time), numbers.get("timezone", "UTC"))


def task_line(task: Mapping[str, Any]) -> tuple[str, str]:
    """A task and its model: `classify into mood`, `model org/x, version 9a91c0ffee12, precision bfloat16`."""
    spec = task["spec"]
    words = []
    for what in ("model", "adapter"):
        if pin := task[what]:
            words.append(f"{what} {pin['name']}, version {pin['commit'][:12]}")
    # Reports of earlier versions do not have the key.
    if by_row := task.get("adapters"):
        words.append(adapters(spec["adapter_column"], by_row))
    if task["model"]:
        words.append(f"precision {task['dtype']}")
    if task.get("agreement") is not None:
        words.append(f"the same as float32 for {task['agreement']:.2%} of a sample")
    if task.get("first"):
        words.append(of_first.planned(task))
    if task.get("fixed_ranges"):
        words.append("activations in fixed ranges")
    return f"{spec['task']} into {spec['into']}", ", ".join(words) or "no model"


def markdown(kept: Kept, before: Sequence[Kept], measured: Sequence[NightAccuracy] = ()) -> str:
    """The report for the Prefect UI, pictures embedded, without any text of the lake.

    Args:
        kept: the run.
        before: the runs that it is compared with, oldest first.
        measured: the nights whose accuracy is known from labels, oldest first.
    """
    numbers = kept.numbers
    found = public(kept.findings, numbers["tasks"])
    nights = [public(night.findings, numbers["tasks"]) for night in before]
    drifts = drift.compare(found, nights)
    parts = [f"# {numbers['name']}", headline(kept)]
    if (status := numbers.get("status", "finished")) != "finished":
        parts.append(f"> **{_ended(str(status))}")
    parts += [f"> **{item.what} moved**: {item.largest} (PSI {item.psi:.2f})" for item in drifts if item.moved]
    parts += _pictured("Speed", picture.throughput(kept.timeline), "tokens/s and finished rows, over time")
    parts += _pictured(of_parts.TITLE, of_parts.pictures(kept.parts), "who did what when", of_parts.NOTE)
    if labels := picture.labels(found, nights):
        parts += _pictured("What was found", labels, "share of each label, scores", compared(len(nights)))
    parts += _pictured("Texts", picture.lengths(found, nights), "text lengths, rejected rows")
    if measured:
        parts += _pictured(accuracy.TITLE, accuracy.pictures(measured), "accuracy of each night") or [
            f"## {accuracy.TITLE}"
        ]
        table = [accuracy.HEAD, *accuracy.rows(measured, numbers.get("timezone", "UTC"))]
        parts += [accuracy.NOTE, _table(table)]
    if estimated := outcome.rows(numbers.get("estimate")):
        told = outcome.note(numbers.get("estimate"))
        parts += [f"## {outcome.TITLE}", told, _table([outcome.HEAD, *estimated])]
    if found_audit := audited(numbers):
        parts += ["## Audit", audit_note(numbers), _table([AUDIT, *found_audit])]
    if drifts:
        parts += ["## Drift", drift_note(len(nights)), _drift_table(drifts)]
    parts += ["## Summary", _table([("", ""), *((what, _code(what, value)) for what, value in summary(kept))])]
    return "\n\n".join([*parts, "## Where it is", _places(numbers)]) + "\n"


def public(findings: Findings, tasks: Sequence[Mapping[str, Any]]) -> Findings:
    """The findings without rows, and without labels that are texts of the lake.

    Labels of a task are those of its model or of the job file, unless they come from a column or a custom task.
    """
    closed = {
        task["spec"]["into"]
        for task in tasks
        if task["spec"]["task"] in ("classify", "ner") or (task["spec"]["task"] == "zero_shot" and _listed(task))
    }
    return Findings(
        rows=findings.rows,
        parts=findings.parts,
        labels={name: counts for name, counts in findings.labels.items() if name in closed},
        scores=findings.scores,
        lengths=findings.lengths,
        rejects=findings.rejects,
    )


def plan_page(plan: Plan) -> str:
    """The plan of a dry run as Markdown."""
    return f"# {plan.spec.name}: plan\n\n{_table([('', ''), *lines(plan)])}\n"


def compared(nights: int) -> str:
    """The sentence that names the earlier runs in the pictures."""
    if not nights:
        return "There is no earlier run to compare with."
    return f"Compared with the previous {'run' if nights == 1 else f'{nights} runs'}."


def drift_note(nights: int) -> str:
    """The explanation of the drift table."""
    runs = "the previous run" if nights == 1 else f"the previous {nights} runs, added up"
    return (
        f"Population stability index (PSI) compared with {runs}. Above {drift.MOVED:g} counts as moved; with few rows "
        f"the threshold is higher, because chance alone moves them."
    )


def audited(numbers: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The measures of the audit as a table with the head AUDIT; empty if the run was not audited."""
    if (content := numbers.get("audit")) is None:
        return []
    return [
        (
            each.key,
            each.text,
            f"{each.limit:g}" if each.value is None else f"{each.value:g} of {each.limit:g}",
            each.verdict,
        )
        for each in Audit.from_json(content).measures
    ]


def audit_note(numbers: Mapping[str, Any]) -> str:
    """Who has published the night in spite of its audit, or what became of it; empty if the run was not audited."""
    if (content := numbers.get("audit")) is None:
        return ""
    audit = Audit.from_json(content)
    if (approval := audit.approval) is not None:
        time = clock(datetime.fromisoformat(approval.time), numbers.get("timezone", "UTC"))
        return f"Over a limit, and published by {approval.by} at {time}: {approval.reason}"
    return "Held back: nothing was published." if audit.held else "Within all limits."


def _ended(status: str) -> str:
    if status == HELD:
        return "The night is held back.** Nothing was published; a person can publish it with `nightscribe publish`."
    return f"The run {'was stopped' if status == STOPPED else status}.** Run it again to continue."


def _listed(task: Mapping[str, Any]) -> bool:
    return task["spec"].get("labels") is not None


def _published(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    if numbers.get("dataset") is None:
        return []
    commit = numbers.get("commit") or "nothing was published"
    return [("dataset", numbers["dataset"]), ("commit", commit), ("uploaded", size(numbers["uploaded_bytes"]))]


def _more_attempts(numbers: Mapping[str, Any]) -> str:
    attempts = numbers.get("attempts", 1)
    return count(attempts, "attempt") if attempts > 1 else ""


def _pictured(title: str, pictures: Sequence[picture.Picture], alternative: str, text: str = "") -> list[str]:
    if (png := picture.sheet(pictures)) is None:
        return []
    image = f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"
    return [f"## {title}", *([text] if text else []), image]


def _drift_table(drifts: Sequence[drift.Drift]) -> str:
    head = [("distribution", "PSI", "threshold", "verdict", "largest change")]
    rows = [
        (item.what, f"{item.psi:.3f}", f"{item.threshold:.2f}", "**moved**" if item.moved else "steady", item.largest)
        for item in drifts
    ]
    return _table([*head, *rows])


def _places(numbers: Mapping[str, Any]) -> str:
    # No links: a browser does not follow links from a page of the server to a local file.
    output, run_id = numbers["output"], numbers["run_id"]
    places = [f"- enriched rows: `{output}`"]
    if numbers["rows_rejected"]:
        # The rows of a run that did not finish are not published yet.
        folder = REJECTED if numbers.get("status", FINISHED) == FINISHED else STAGED_REJECTED
        places.append(f"- rejected rows with their reasons: `{output}/{folder}`")
    places.append(f"- example rows, the least certain rows and the rejected rows: `{output}/{FOLDER}/{run_id}.html`")
    places.append(f"- this report as JSON: `{output}/{FOLDER}/{run_id}.json`")
    return "\n".join(places)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows)
    return "\n".join([f"| {head} |", "|" + "---|" * len(rows[0]), *(f"| {row} |" for row in body)])


def _code(what: str, value: str) -> str:
    return f"`{value}`" if what in ("output", "run") else value
