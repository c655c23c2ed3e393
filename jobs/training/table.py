"""The table of what can be trained, as Markdown: `python -m jobs.training.table` prints jobs/training/README.md."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.training import support

OPENING = """\
# What can be trained

Written by `python -m jobs.training.table` from [support.py](support.py), which also decides when a training file is
read; a test compares the two. A row is an objective, the task that its versions serve, and the architecture of the base
(encoder: BERT, RoBERTa, DistilBERT; encoder-decoder: T5, BART, Marian; causal: GPT-2, Llama, Qwen). A number is a
sentence below the table: why not, and what instead.
"""


def markdown() -> str:
    """The whole page."""
    sentences: list[str] = []
    lines = [OPENING, f"| objective | task | architecture | {' | '.join(support.METHODS)} |"]
    lines.append(f"|---|---|---|{'---|' * len(support.METHODS)}")
    for objective, task, architecture in rows():
        cells = [_cell(support.refusal(m, objective, task, architecture), sentences) for m in support.METHODS]
        lines.append(f"| {objective} | {task} | {architecture} | {' | '.join(cells)} |")
    if sentences:
        lines += ["", *(f"{number}. {sentence}." for number, sentence in enumerate(sentences, 1))]
    lines += ["", "Every other combination of an objective and a task is refused:", ""]
    for objective, tasks in support.TASKS.items():
        if other := [task for task in support.OF_TASK if task not in tasks]:
            why = support.refusal("lora", objective, other[0])
            lines.append(f"- {objective} for {', '.join(other)}, for example: {why}.")
    return "\n".join([*lines, ""])


def rows() -> Iterator[tuple[str, str, str]]:
    """Objective, task and architecture of each row: those that at least one method can train."""
    for objective, tasks in support.TASKS.items():
        for task in tasks:
            for architecture in support.ARCHITECTURES:
                if any(support.refusal(method, objective, task, architecture) is None for method in support.METHODS):
                    yield objective, task, architecture


def _cell(why: str | None, sentences: list[str]) -> str:
    if why is None:
        return "yes"
    if why not in sentences:
        sentences.append(why)
    return str(sentences.index(why) + 1)


if __name__ == "__main__":
    print(markdown(), end="")
