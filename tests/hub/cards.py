"""README.md: its metadata, and the checks of it that the Hub makes before a commit.

https://github.com/huggingface/hub-docs/blob/main/datasetcard.md and modelcard.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from tests.hub.repositories import Commit
from tests.hub.wire import Refused, Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub

_LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0
cc-by-sa-4.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m ecl-2.0 epl-2.0 eupl-1.1 eupl-1.2 gemma gfdl
gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 mit mpl-2.0 ms-pl
ncsa odbl ofl-1.1 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
_SIZES = "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T"
LICENSES, SIZES = frozenset(_LICENSES.split()), frozenset(_SIZES.split())
RELATIONS = ("adapter", "finetune", "merge", "quantized")
# A model or data set of the Hub; those without an owner are old.
_ID = re.compile(r"([\w.-]+/)?[\w.-]{1,96}")


def metadata(commit: Commit) -> Any:
    """What the README.md of a commit states; nothing if it has none or it cannot be read."""
    if "README.md" not in commit.files:
        return {}
    try:
        return _parsed(commit.files["README.md"].content.decode(errors="replace")) or {}
    except yaml.YAMLError:
        return {}


def validate(hub: Hub, request: Request) -> Response:
    sent = request.json()
    errors = list(complaints(str(sent.get("content")), sent.get("repoType", "model")))
    warnings = [] if "---" in str(sent.get("content")) else ["empty or missing yaml metadata in repo card"]
    found = {"errors": [{"message": each} for each in errors], "warnings": [{"message": each} for each in warnings]}
    return Response.json(found, 400 if errors else 200)


def require_valid(content: bytes, kind: str) -> None:
    """Refuse a README.md whose metadata is wrong.

    Raises:
        Refused: with the first complaint.
    """
    for complaint in complaints(content.decode(errors="replace"), kind):
        raise Refused(Response.error(400, f"Invalid metadata in README.md: {complaint}"))


def complaints(text: str, kind: str) -> Iterator[str]:
    """What is wrong with the metadata of a README.md."""
    try:
        found = _parsed(text)
    except yaml.YAMLError as error:
        yield f"YAML: {error}"
        return
    if found is None:
        return
    if not isinstance(found, dict):
        yield "the metadata must be a mapping"
        return
    for each in _listed(found, "license"):
        if each not in LICENSES:
            yield f'"license" must be one of [{", ".join(sorted(LICENSES))}]'
    for index, each in enumerate(_listed(found, "language")):
        # YAML reads the code of Norwegian as a truth value.
        if not isinstance(each, str) or not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9-]+)?|code|multilingual", each):
            yield f'"language[{index}]" must be an ISO 639 code in lower case, not {each!r}'
    for key in ("tags", "task_categories", "task_ids", "metrics"):
        for index, each in enumerate(_listed(found, key)):
            if not isinstance(each, str):
                yield f'"{key}[{index}]" must be a string'
    for key in ("pretty_name", "library_name", "pipeline_tag", "license_name"):
        if key in found and not isinstance(found[key], str):
            yield f'"{key}" must be a string'
    for key in ("base_model", "datasets"):
        for each in _listed(found, key):
            if not isinstance(each, str) or not _ID.fullmatch(each):
                yield f'"{key}" with value {each!r} is not valid. Use an id from https://hf.co.'
    if found.get("base_model_relation", "adapter") not in RELATIONS:
        yield f'"base_model_relation" must be one of {list(RELATIONS)}'
    for each in _listed(found, "size_categories"):
        if each not in SIZES:
            yield f'"size_categories" must be one of {sorted(SIZES)}, not {each!r}'
    yield from (_configs(found) if kind == "dataset" else _index(found))


def _configs(found: dict[str, Any]) -> Iterator[str]:
    names = set()
    for index, each in enumerate(_listed(found, "configs")):
        if not isinstance(each, dict) or not isinstance(each.get("config_name"), str):
            yield f'"configs[{index}].config_name" is required'
            continue
        if each["config_name"] in names:
            yield f'"configs[{index}].config_name" is there twice: {each["config_name"]}'
        names.add(each["config_name"])
        files = each.get("data_files", each.get("data_dir", ""))
        for split in files if isinstance(files, list) else []:
            if isinstance(split, dict) and not {"split", "path"} <= set(split):
                yield f'"configs[{index}].data_files" must state a split and a path'


def _index(found: dict[str, Any]) -> Iterator[str]:
    for number, model in enumerate(_listed(found, "model-index")):
        place = f'"model-index[{number}]'
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            yield f'{place}.name" is required'
            continue
        if not isinstance(model.get("results"), list):
            yield f'{place}.results" must be an array'
            continue
        for position, result in enumerate(model["results"]):
            here = f"{place}.results[{position}]"
            for part, keys in (("task", ["type"]), ("dataset", ["name", "type"])):
                for key in keys:
                    if not isinstance((result.get(part) or {}).get(key), str):
                        yield f'{here}.{part}.{key}" is required'
            if not result.get("metrics"):
                yield f'{here}.metrics" is required'
            for metric in result.get("metrics") or []:
                if not isinstance(metric.get("type"), str) or metric.get("value") is None:
                    yield f'{here}.metrics" must state a type and a value'


def _listed(found: dict[str, Any], key: str) -> list[Any]:
    value = found.get(key)
    return [] if value is None else value if isinstance(value, list) else [value]


def _parsed(text: str) -> Any:
    found = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, re.DOTALL)
    return yaml.safe_load(found.group(1)) if found else None
