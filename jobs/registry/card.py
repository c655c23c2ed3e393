"""The model card of a version, in Markdown."""

from __future__ import annotations

import yaml

from jobs.registry.version import Version


def card(version: Version) -> str:
    """The README.md of a version: what it is for, what it was trained on, how good it is."""
    what = "A PEFT adapter" if version.kind == "adapter" else "A whole model"
    lines = [
        f"# {version.training.get('name', version.task)} {version.version}",
        "",
        f"{what} for the task `{version.task}`, trained with `{version.method}` on {version.rows_train:,} rows.",
        "",
        f"- base: `{version.base.model}`, version `{version.base.commit[:12]}`",
        f"- created: {version.created}",
    ]
    if version.labels is not None:
        lines.append(f"- labels: {', '.join(version.labels)}")
    lines += [f"- {name}: {number}" for name, number in sorted(version.libraries.items())]
    use = "adapter" if version.kind == "adapter" else "model"
    beside = f", beside `model: {version.base.model}`" if version.kind == "adapter" else ""
    lines += [
        f"- hash of the training rows: `{version.train_hash}`, of the holdout rows: `{version.holdout_hash}`",
        "",
        f"In a job file: `{use}: REGISTRY@{version.version}`, or `REGISTRY@champion`{beside}.",
    ]
    lines += ["", f"## On {version.rows_holdout:,} holdout rows", "", "| metric | value |", "|---|---|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in version.metrics.items()]
    if version.slices:
        names = sorted({name for values in version.slices.values() for name in values})
        lines += ["", f"| slice | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for slice_, values in version.slices.items():
            cells = [f"{values[name]:.4f}" if name in values else "" for name in names]
            lines.append(f"| {slice_} | {' | '.join(cells)} |")
    training = yaml.safe_dump(dict(version.training), sort_keys=False, allow_unicode=True)
    return "\n".join([*lines, "", "## Training file", "", "```yaml", training.rstrip(), "```", ""])
