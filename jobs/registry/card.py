"""The card of a version, in Markdown."""

from __future__ import annotations

import yaml

from jobs.registry.version import Version


def card(version: Version) -> str:
    """The README.md of a version: what it is for, what it was trained on, how good it is."""
    use = "adapter" if version.kind == "adapter" else "model"
    beside = f", beside `model: {version.base.model}`" if version.kind == "adapter" else ""
    lines = [
        f"# {name(version)} {version.version}",
        "",
        *origin(version),
        *[f"- {library}: {number}" for library, number in sorted(version.libraries.items())],
        f"- hash of the training rows: `{version.train_hash}`, of the holdout rows: `{version.holdout_hash}`",
        "",
        f"In a job file: `{use}: REGISTRY@{version.version}`, or `REGISTRY@champion`{beside}.",
        "",
        f"## On {version.rows_holdout:,} holdout rows",
        "",
        *tables(version),
    ]
    training = yaml.safe_dump(dict(version.training), sort_keys=False, allow_unicode=True)
    return "\n".join([*lines, "", "## Training file", "", "```yaml", training.rstrip(), "```", ""])


def name(version: Version) -> str:
    """The name of the training file that made it."""
    return str(version.training.get("name", version.task))


def origin(version: Version) -> list[str]:
    """Lines on what it is, its base, when it was made, and its labels."""
    what = "A PEFT adapter" if version.kind == "adapter" else "A whole model"
    lines = [
        f"{what} for the task `{version.task}`, trained with `{version.method}` on {version.rows_train:,} rows.",
        "",
        f"- base: `{version.base.model}`, version `{version.base.commit[:12]}`",
        f"- created: {version.created}",
    ]
    if version.labels is not None:
        lines.append(f"- labels: {', '.join(map(cell, version.labels))}")
    return lines


def tables(version: Version) -> list[str]:
    """Lines of a table of the metrics, and of one with those of each slice."""
    lines = ["| metric | value |", "|---|---|"]
    lines += [f"| {metric} | {value:.4f} |" for metric, value in version.metrics.items()]
    if version.slices:
        metrics = sorted({metric for values in version.slices.values() for metric in values})
        lines += ["", f"| slice | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
        for slice_, values in version.slices.items():
            numbers = [f"{values[metric]:.4f}" if metric in values else "" for metric in metrics]
            lines.append(f"| {cell(slice_)} | {' | '.join(numbers)} |")
    return lines


def cell(text: str) -> str:
    """A text of the data or of a person as one cell of a table: no line breaks, no columns and no HTML of its own."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
