"""Which files of a model repository are downloaded: safetensors weights, configuration, tokenizer."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from transforms.errors import ModelError

# Endings of files of a configuration or a tokenizer.
SMALL = (".json", ".txt", ".model", ".spm", ".tiktoken", ".jinja", ".codes", ".tokenizer")
CODE = ".py"

MODEL = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
# Weights whose loading can run any code that their author wrote: they are pickles, or files that a pickle names.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

# Folders of the steps of a sentence-transformers model.
STEP = re.compile(r"\d+_\w+")


def small(names: Iterable[str], subfolder: str, code: bool) -> list[str]:
    """The files without weights that loading may need.

    Args:
        names: all files of the repository.
        subfolder: the folder of the model; empty for the repository itself.
        code: whether the job trusts the code of the repository.
    """
    endings = (*SMALL, CODE) if code else SMALL
    return [name for name in names if name.endswith(endings) and _is_of(name, subfolder)]


def weights(names: Collection[str], subfolder: str, adapter: bool, reference: str) -> list[str]:
    """The files of weights that are downloaded, or the index that names them.

    Args:
        names: all files of the repository.
        subfolder: the folder of the model; empty for the repository itself.
        adapter: whether an adapter is wanted.
        reference: the model, as the message names it.

    Raises:
        ModelError: there are none in safetensors.
    """
    wanted = [ADAPTER] if adapter else [MODEL, INDEX]
    inside = {name: posixpath.relpath(name, subfolder or ".") for name in names if _is_of(name, subfolder)}
    top = {short: name for name, short in inside.items() if "/" not in short}
    first = next((top[name] for name in wanted if name in top), None)
    if first is None:
        raise ModelError(f"{reference} {_lacks(top, names, wanted, adapter, subfolder)}")
    steps = {posixpath.dirname(name) for name, short in inside.items() if "/" in short}
    for step in sorted(steps):
        pickles = [name for name in inside if posixpath.dirname(name) == step and name.endswith(PICKLES)]
        if pickles and f"{step}/{MODEL}" not in inside:
            raise ModelError(f"{reference} {_refusal(pickles[0])}")
    return [first, *(name for name in inside if "/" in inside[name] and posixpath.basename(name) == MODEL)]


def shards(index: Path, names: Collection[str], subfolder: str, reference: str) -> list[str]:
    """The files of weights that a downloaded index names.

    Args:
        index: the file.
        names: all files of the repository.
        subfolder: the folder of the model; empty for the repository itself.
        reference: the model, as the message names it.

    Raises:
        ModelError: the index is damaged, or names a file elsewhere, or one that the repository lacks.
    """
    try:
        found = sorted({str(name) for name in json.loads(index.read_bytes())["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{reference} has a damaged {INDEX} ({error}); choose another revision") from error
    if outside := [name for name in found if "/" in name or not name.endswith(".safetensors")]:
        raise ModelError(
            f"{reference} has an {INDEX} that names {outside[0]!r}, which is no safetensors file beside it"
        )
    paths = [posixpath.join(subfolder, name) for name in found]
    if missing := [path for path in paths if path not in names]:
        raise ModelError(
            f"{reference} lacks {len(missing)} of the {len(paths)} files of weights that its {INDEX} names, such as "
            f"{missing[0]}; choose another revision"
        )
    return paths


def _is_of(name: str, subfolder: str) -> bool:
    """Whether a file lies in the folder of the model, or in that of one of its steps."""
    folder = posixpath.dirname(name)
    if folder == subfolder:
        return True
    above, step = posixpath.split(folder)
    return above == subfolder and STEP.fullmatch(step) is not None


def _lacks(top: Collection[str], names: Collection[str], wanted: Sequence[str], adapter: bool, subfolder: str) -> str:
    """Why there are no weights to download, as the end of a sentence."""
    if pickles := [name for name in sorted(top) if name.endswith(PICKLES)]:
        return _refusal(pickles[0])
    if not adapter and ADAPTER in top:
        return "holds an adapter and no model; write it as adapter, beside the model that it was trained on"
    if adapter and (MODEL in top or INDEX in top):
        return "holds a whole model and no adapter; write it as model, without an adapter"
    if subfolder and not any(name.startswith(f"{subfolder}/") for name in names):
        return f"names the folder {subfolder!r}, which its repository does not have"
    here = sorted({posixpath.dirname(name) for name in names if posixpath.basename(name) in wanted})
    if here:
        there = ", ".join(here[:5])
        return f"has no {wanted[0]}, but these folders have: {there}; write one after a colon, org/name:folder"
    others = [
        name for name in sorted(top) if name.endswith((".h5", ".msgpack", ".onnx", ".gguf", ".ot", ".safetensors"))
    ]
    only = f", only {others[0]}" if others else ""
    return f"has no {wanted[0]}{only}; choose a model that was saved by save_pretrained with safetensors"


def _refusal(pickle: str) -> str:
    return (
        f"has its weights only as a pickle ({pickle}), and loading a pickle can run any code of its author; "
        "choose a revision with safetensors (many repositories have one in a pull request, refs/pr/N), or convert it "
        "on a machine that may run that code and give the folder that save_pretrained writes"
    )
