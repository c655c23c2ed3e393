"""The content of a YAML file of settings, with `key=value` overrides applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from jobs.secrets import has_token
from transforms.errors import SpecError

# Keys that only this kind of file has and needs, and the command that takes such a file.
KINDS = {
    "job file": ({"source", "tasks", "sink"}, "run"),
    "training file": ({"base", "data", "registry"}, "train"),
}


class _Loader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice; the library takes the last one without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    said = f"the key {key.value!r} is given twice; remove one of the two"
                    raise yaml.MarkedYAMLError(None, None, said, key.start_mark)
                seen.add(key.value)
        return node


def load(path: str | Path, overrides: Sequence[str], kind: str, keys: Sequence[str], example: str) -> dict[str, Any]:
    """Read a YAML mapping and apply overrides.

    Args:
        path: YAML file.
        overrides: `dotted.key=value`, values are YAML.
        kind: what the file is called in messages, such as `job file`.
        keys: its top-level keys, for messages.
        example: an override of such a file, for messages.

    Raises:
        SpecError: the file cannot be read or is not a mapping, or an override does not fit it.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise SpecError(f"{kind} {str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 text (byte {error.start}); a {kind} is YAML in UTF-8") from error
    except yaml.YAMLError as error:
        where = f" in line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        raise SpecError(f"{path} is not YAML{where}: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(content, dict):
        found = "is empty" if content is None else f"contains {'a list' if isinstance(content, list) else 'one value'}"
        raise SpecError(f"{path} {found}; a {kind} is a mapping with the keys {', '.join(keys)}")
    _refuse_other_kind(path, content, kind)
    for override in overrides:
        refuse_tokens(override, "override", override.partition("=")[0])
        override_key(content, override, kind, example)
    return content


def _refuse_other_kind(path: str | Path, content: dict[Any, Any], kind: str) -> None:
    """Refuse a training file where a job file is needed, and the other way round, rather than name each wrong key.

    Raises:
        SpecError: the file has keys of the other kind only.
    """
    for other, (keys, command) in KINDS.items():
        if kind in KINDS and other != kind and content.keys() & keys and not content.keys() & KINDS[kind][0]:
            raise SpecError(f"{path} is a {other}, and a {kind} is needed; `nightscribe {command}` takes it")


def override_key(
    content: dict[str, Any], override: str, kind: str = "job file", example: str = "source.limit=1000"
) -> None:
    """Set one `dotted.key=value` in the content of a file.

    Args:
        content: the file as it was read; changed in place.
        override: the key and its value, which is YAML.
        kind: what the file is called in messages.
        example: an override of such a file, for the message.

    Raises:
        SpecError: there is no `=`, or a part of the key before the last has no keys.
    """
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise SpecError(f"override {override!r} is not key=value; write for example {example}")
    at: Any = content
    *parents, last = key.split(".")
    for name in parents:
        at = _step(at, name, key, {})
        if at is None:
            raise SpecError(f"override {override!r}: the {kind} has no {name!r} in which {last!r} could be set")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SpecError(f"override {override!r}: {value!r} is not a YAML value") from error
    if isinstance(at, list):
        _step(at, last, key, None)
        at[int(last)] = parsed
    elif isinstance(at, dict):
        at[last] = parsed
    else:
        raise SpecError(f"override {override!r}: {last!r} cannot be set in {at!r}, which is not a mapping")


def refuse_tokens(content: Any, origin: str, key: str = "") -> None:
    """Refuse a token in a file of settings, which plans, reports and logs would repeat.

    Args:
        content: the file, or a value in it.
        origin: the file, for the message.
        key: dotted key of the value.

    Raises:
        SpecError: with the key, without the token.
    """
    if isinstance(content, dict):
        for name, value in content.items():
            refuse_tokens(value, origin, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list):
        for i, value in enumerate(content):
            refuse_tokens(value, origin, f"{key}.{i}".lstrip("."))
    elif isinstance(content, str) and has_token(content):
        raise SpecError(
            f"{origin}: {key} holds a token of the Hub, which plans and reports would repeat; remove it, revoke it, "
            "and set HF_TOKEN to a new one"
        )


def _step(at: Any, name: str, key: str, default: Any) -> Any:
    if isinstance(at, list):
        if not name.isdigit() or int(name) >= len(at):
            entry = f", such as {key.replace(name, f'0.{name}', 1)}" if at and not name.isdigit() else ""
            raise SpecError(f"override {key!r}: {name!r} is not an index of a list of {len(at)}; the first is 0{entry}")
        return at[int(name)]
    return at.setdefault(name, default) if isinstance(at, dict) else None
