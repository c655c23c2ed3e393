"""The model card of a registry on the Hub: the README.md of its repository, about the champion.

The metadata at its beginning is what the Hub searches and shows: https://huggingface.co/docs/hub/model-cards. Below it
is one section between two marks; everything outside of them is a person's and stays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from jobs.registry.card import cell, name, origin, tables
from jobs.registry.loading import base_on_hub, in_a_job, in_python
from jobs.registry.move import Move
from jobs.registry.version import Version
from transforms.errors import UnreadableRegistry

BEGIN = "<!-- nightscribe: begin. This section is written again at each move of the champion. -->"
END = "<!-- nightscribe: end -->"
_SECTION = re.compile(r"<!-- nightscribe: begin.*?-->.*?<!-- nightscribe: end -->", re.DOTALL)
_MARK = re.compile(r"<!-- nightscribe: (begin|end).*?-->")

# Task -> what the Hub calls it: https://huggingface.co/tasks.
PIPELINES: Mapping[str, str] = {
    "answer": "question-answering",
    "classify": "text-classification",
    "embed": "feature-extraction",
    "fill_mask": "fill-mask",
    "generate": "text-generation",
    "ner": "token-classification",
    "summarize": "summarization",
    "translate": "translation",
    "zero_shot": "zero-shot-classification",
}
# Moves that are shown; the folder `history` has all.
MOVES = 20


def model_card(repository: str, version: Version, moves: Sequence[Move], present: str | None = None) -> str:
    """The README.md of a repository that is a registry.

    Args:
        repository: its name on the Hub, org/name.
        version: the champion.
        moves: every move of the champion, oldest first.
        present: the README.md that is there; None if there is none.

    Raises:
        UnreadableRegistry: the metadata of the README.md that is there are damaged, or one of the two marks is gone.
    """
    place = f"hf://{repository}/README.md"
    theirs, body = _parts(present or "", place)
    section = "\n".join([BEGIN, *_section(repository, version, moves), END])
    if _SECTION.search(body):
        # A function, because the text may have backslashes.
        body = _SECTION.sub(lambda _: section, body, count=1)
    elif body.strip():
        body = f"{body.rstrip()}\n\n{section}\n"
    else:
        body = f"\n# {name(version)}\n\n{section}\n"
    model = repository.rpartition("/")[2]
    metadata = _merged(theirs, _metadata(version, model), model)
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n{body}"


def _section(repository: str, version: Version, moves: Sequence[Move]) -> list[str]:
    folder = f"versions/{version.version}"
    python = in_python(repository, version)
    shown = [
        f"| {move.at} | {move.action} | {move.before or ''} | {move.version} | {cell(move.by)} | {cell(move.reason)} |"
        for move in reversed(moves[-MOVES:])
    ]
    return [
        f"## The champion, {version.version}",
        "",
        *origin(version),
        f"- [its card]({folder}/README.md), with its training file",
        "",
        f"### On {version.rows_holdout:,} holdout rows",
        "",
        *tables(version),
        "",
        "### Use",
        "",
        "In a task of a job file of Nightscribe. `@champion` is resolved at the beginning of each run; "
        f"`@{version.version}` is this version for good.",
        "",
        "```yaml",
        in_a_job(repository, version),
        "```",
        "",
        *(["In Python:", "", "```python", python, "```", ""] if python else []),
        "### Moves of the champion",
        "",
        "| at | action | from | to | by | reason |",
        "|---|---|---|---|---|---|",
        *shown,
    ]


def _metadata(version: Version, model: str) -> dict[str, Any]:
    """The metadata of the champion; `model` is the name of its results."""
    base, results = base_on_hub(version), [*_results(version)]
    is_adapter = version.kind == "adapter"
    found = ModelCardData(
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag=PIPELINES.get(version.task),
        base_model=None if base is None else base.repository,
        base_model_relation=None if base is None else "adapter" if is_adapter else "finetune",
        tags=["nightscribe", version.method],
        model_name=model if results else None,
        eval_results=results or None,
    )
    return found.to_dict()


def _results(version: Version) -> Iterator[EvalResult]:
    """The metrics on the holdout, and on each slice of it; a number that JSON does not have is left out."""
    whole: Mapping[str, Mapping[str, float]] = {"": version.metrics}
    for slice_, values in {**whole, **version.slices}.items():
        for metric, value in values.items():
            if math.isfinite(value):
                yield EvalResult(
                    task_type=PIPELINES.get(version.task, version.task),
                    dataset_type=name(version),
                    dataset_name=f"holdout of {name(version)}",
                    dataset_config=slice_ or None,
                    dataset_split="holdout",
                    dataset_revision=version.holdout_hash,
                    metric_type=metric,
                    metric_value=round(value, 6),
                )


def _merged(theirs: Mapping[str, Any], ours: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The metadata of a person, and ours.

    What follows from the champion replaces what is there: its base if that is on the Hub, its library and its results.
    Tags are added; results of another name stay, and so do a pipeline tag and all else that a person has written.
    """
    merged = {**theirs, **ours}
    merged["pipeline_tag"] = theirs.get("pipeline_tag") or ours.get("pipeline_tag")
    tags = theirs.get("tags") or []
    merged["tags"] = [*dict.fromkeys([*(tags if isinstance(tags, list) else [tags]), *ours["tags"]])]
    others = [each for each in theirs.get("model-index") or [] if each.get("name") != model]
    merged["model-index"] = [*ours.get("model-index", []), *others]
    return {key: value for key, value in merged.items() if value not in (None, [])}


def _parts(present: str, place: str) -> tuple[dict[str, Any], str]:
    """Metadata and body of a README.md."""
    found = REGEX_YAML_BLOCK.match(present)
    try:
        metadata = (yaml.safe_load(found[2]) or {}) if found else {}
    except yaml.YAMLError as error:
        raise _damaged(place, f"its metadata are no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(metadata, dict):
        raise _damaged(place, f"its metadata are {metadata!r}, and should be keys with values")
    index = metadata.get("model-index") or []
    if not isinstance(index, list) or not all(isinstance(each, dict) for each in index):
        raise _damaged(place, "model-index in its metadata should be a list of models with results")
    body = present[found.end() :] if found else present
    marks = _MARK.findall(body)
    if marks not in ([], ["begin", "end"]):
        raise _damaged(place, f"of the two marks `{BEGIN}` and `{END}` it has {', '.join(marks)}")
    return metadata, body


def _damaged(place: str, what: str) -> UnreadableRegistry:
    return UnreadableRegistry(f"{place} is damaged ({what}); correct it, or delete the file, and it is written again")
