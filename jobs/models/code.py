"""Code that a model repository brings along: run only if the job names the commit whose code it trusts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transforms.checkpoint import files
from transforms.errors import SpecError


def require(commit: str, trusted: str | None) -> bool:
    """Whether the job trusts the code of a model.

    Args:
        commit: commit of the model, or the hash of a local folder.
        trusted: value of `trust_remote_code` in the job file.

    Raises:
        SpecError: it trusts the code of another commit.
    """
    if trusted not in (None, commit):
        raise SpecError(
            f"trust_remote_code is {trusted!r}, and the model is at {commit}; read the code of that version, and "
            f"write trust_remote_code: {commit}, with the same commit as revision, so that no other code is ever run"
        )
    return trusted is not None


def check(folder: str, commit: str, trusted: bool) -> None:
    """Refuse a model that needs code which the job does not trust.

    Args:
        folder: the files of the model, at least those of its configuration.
        commit: its commit, or the hash of a local folder.
        trusted: whether the job trusts the code of this commit.

    Raises:
        SpecError: with the commit to name.
        ModelError: a file of the configuration is damaged.
    """
    if not (named := list(_named(folder))):
        return
    if trusted:
        if elsewhere := [name for name in named if "--" in name]:
            raise SpecError(
                f"the model takes code from another repository ({elsewhere[0].split('--')[0]}), which "
                f"trust_remote_code does not cover; copy that code into the model's folder, and give the folder"
            )
        return
    import transformers

    kind = _read(Path(folder) / "config.json").get("model_type")
    if kind in transformers.CONFIG_MAPPING:
        # transformers has the architecture itself, and uses its own.
        return
    raise SpecError(
        f"the model needs code of its own repository ({named[0]}), which is not run unless the job trusts it; read "
        f"the code, and write trust_remote_code: {commit} and revision: {commit} beside the model"
    )


def _named(folder: str) -> Iterator[str]:
    """The classes that the files of a folder name in `auto_map`."""
    for name in ("config.json", "tokenizer_config.json"):
        mapped = _read(Path(folder) / name).get("auto_map")
        for value in mapped.values() if isinstance(mapped, dict) else ():
            yield from (str(each) for each in (value if isinstance(value, list) else [value]) if each)


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; empty without the file, since a tokenizer may have none, and other checks name a missing one."""
    return files.read_json(file) if file.is_file() else {}
