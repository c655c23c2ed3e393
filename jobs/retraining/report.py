"""The report of a round: the comparison, the curves, and the rows that the two versions answer differently."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jobs.report import picture
from jobs.report.picture import BEFORE, TONIGHT, Picture
from jobs.retraining.mislabelled import Mislabelled
from jobs.retraining.outcome import Outcome

# Characters of a text.
SHOWN = 120
MOST_ROWS = 20


def headline(outcome: Outcome) -> str:
    """The decision in one sentence."""
    accepted = outcome.decision == "promoted" and not outcome.approved
    decision = "accepted by the gate, not promoted yet" if accepted else outcome.decision
    return f"**{outcome.version}: {decision}**, {outcome.reason}"


def table(outcome: Outcome) -> list[dict[str, str]]:
    """Champion against challenger, over all rows and by slice."""
    rows = [
        {
            "rows": "all",
            "number": f"{outcome.rows_holdout:,}",
            "champion": _number(outcome.champion_value),
            "challenger": _number(outcome.value),
            "harm": "",
        }
    ]
    for name, values in outcome.slices.items():
        rows.append(
            {
                "rows": name,
                "number": f"{values.get('rows', 0):,.0f}",
                "champion": _number(values.get(f"champion_{outcome.metric}")),
                "challenger": _number(values.get(outcome.metric)),
                "harm": str(values.get("harm", "")),
            }
        )
    return rows


def markdown(outcome: Outcome, rows_in: str | None = None) -> str:
    """The report without any text of the holdout.

    Args:
        outcome: the round.
        rows_in: where the rows are that the two versions answer differently; None if there are none.
    """
    lines = [headline(outcome), "", *numbers(outcome)]
    if rows_in is not None and outcome.changes.get("changed"):
        lines += ["", f"Rows that the two answer differently: `{rows_in}`"]
    if (png := picture.sheet(curves(outcome.curves))) is not None:
        lines += ["", f"![the training by step](data:image/png;base64,{base64.b64encode(png).decode()})"]
    return "\n".join(lines)


def numbers(outcome: Outcome) -> list[str]:
    """Lines of Markdown: what was measured, and how many rows of each label changed."""
    champion = "" if outcome.champion_value is None else f" (champion {_number(outcome.champion_value)})"
    lines = [
        f"- champion before: {outcome.champion_before or 'none'}",
        f"- {outcome.metric} on {outcome.rows_holdout:,} holdout rows: {_number(outcome.value)}{champion}",
        f"- training rows: {outcome.rows_train:,}; {outcome.leaked:,} more were left out because the holdout has them",
    ]
    if outcome.champion_before is not None:
        interval = "no evidence yet"
        if outcome.gain is not None:
            interval = f"{outcome.gain:+.4f}, between {outcome.gain_low:+.4f} and {outcome.gain_high:+.4f}"
        lines.append(f"- gain: {interval}; evidence: {outcome.evidence}")
    if outcome.mislabelled:
        lines.append(
            f"- probably mislabelled: {outcome.mislabelled:,} of the training rows whose labels were not learnt; "
            f"the registry lists them in `{mislabelled_rows(outcome.version)}`"
        )
    lines += [f"- {note}" for note in outcome.notes]
    if outcome.labels_needed:
        lines.append(f"- labels that would settle it: about {outcome.labels_needed:,}")
    if changed := outcome.changes.get("changed"):
        lines.append(f"- answered differently: {changed:,} of {outcome.changes['rows']:,} rows")
        lines += ["", "| champion | challenger | rows |", "|---|---|---|"]
        lines += [
            f"| {_cell(flip['before'])} | {_cell(flip['after'])} | {flip['rows']:,} |"
            for flip in outcome.changes["flips"][:20]
        ]
    return lines


def examples(outcome: Outcome) -> str:
    """The rows that the two versions answer differently, as Markdown; they contain texts of the holdout."""
    found: Sequence[Mapping[str, Any]] = outcome.changes.get("examples", ())
    lines = [f"# {outcome.version} beside {outcome.champion_before}", "", "| champion | challenger | truth | text |"]
    lines.append("|---|---|---|---|")
    lines += [
        f"| {_cell(e['before'])} | {_cell(e['after'])} | {_cell(e['truth'])} | {_cell(e['text'])} |" for e in found
    ]
    return "\n".join([*lines, ""])


def mislabelled(version: str, found: Mislabelled) -> str:
    """The training rows that are probably mislabelled, as Markdown, for a person who corrects labels."""
    lines = [
        f"# Training rows of {version} that are probably mislabelled",
        "",
        f"The model did not learn the labels of {found.examined:,} of the training rows. {found.found:,} of them are "
        f"improbable, by confident learning (Northcutt et al. 2021); the {len(found.rows)} least probable are:",
        "",
        "| given | expected | probability of the given | text |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {_cell(row.given)} | {_cell(row.expected)} | {math.exp(-row.loss):.3f} | {_cell(row.text)} |"
        for row in found.rows
    ]
    return "\n".join([*lines, ""])


def mislabelled_rows(version: str | None) -> str:
    """Name of the registry's file with the training rows that are probably mislabelled."""
    return f"reports/{version}-mislabelled.md"


def differing(outcome: Outcome) -> list[dict[str, str]]:
    """Rows that the two versions answer differently, at most `MOST_ROWS`, with the beginning of their texts."""
    found: Sequence[Mapping[str, Any]] = outcome.changes.get("examples", ())
    return [
        {
            "champion": _cut(each["before"]),
            "challenger": _cut(each["after"]),
            "truth": _cut(each["truth"]),
            "text": _cut(each["text"]),
        }
        for each in found[:MOST_ROWS]
    ]


def curves(points: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Loss on the training rows and on the validation rows by step; of a policy its reward and its divergence."""
    found = []
    for stage in dict.fromkeys(point.get("stage") for point in points):
        own = [point for point in points if point.get("stage") == stage]
        for title, keys in DRAWN.items():
            lines = {key: _line(own, key) for key in keys}
            if any(map(len, lines.values())):
                found.append(Picture(f"{stage}: {title}" if stage else title, _drawer(lines)))
    return found


# Title of a picture -> what it draws: the key of a point, its name and its colour.
DRAWN: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "loss": {"loss": ("training", TONIGHT), "eval_loss": ("validation", BEFORE)},
    "reward": {"reward": ("reward of the answers", TONIGHT)},
    "divergence from its start": {"kl": ("nats per token", TONIGHT)},
}
NAMED = {key: named for keys in DRAWN.values() for key, named in keys.items()}


def _line(points: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return np.array([(point["step"], point[key]) for point in points if point.get(key) is not None], float)


def _drawer(lines: Mapping[str, np.ndarray]) -> Callable[[Axes], None]:
    def draw(axis: Axes) -> None:
        for key, line in lines.items():
            if len(line):
                label, colour = NAMED[key]
                axis.plot(line[:, 0], line[:, 1], color=colour, label=label, marker="." if len(line) < 20 else None)
        axis.set_xlabel("step")
        axis.legend()

    return draw


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _cell(value: object) -> str:
    return _cut(value).replace("|", "\\|")


def _cut(value: object) -> str:
    text = " ".join(str("" if value is None else value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
