"""Settings in a sentence-transformers folder: pooling, dense layers, normalisation, prompts.

Source: the folder that SentenceTransformer.save_pretrained writes (version 6.2, and the keys of older versions).
modules.json lists the steps, each a folder with a config.json; the transformer itself is the root.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transforms.checkpoint import files
from transforms.errors import ModelError

POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}

# Keys of folders from before `pooling_mode`, in the order in which they were concatenated.
OLD_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Layout:
    """The steps after the transformer, and the settings of its input.

    Attributes:
        pooling: the mode by the folder's own name, such as lasttoken; `a+b` where several are concatenated. None in a
            folder without modules.json.
        pools_prompt: whether the tokens of a prompt count in the pooling.
        dense: folders of the dense layers, in order.
        width: outputs of the last dense layer; None without one.
        normalize: whether the last step scales the vector to length 1.
        max_length: tokens of a text, special tokens included, where the folder limits them.
        lowercase: whether texts are lowercased first.
        prompts: prefixes by name.
        prompt: the prefix of texts if the task's options set none.
    """

    pooling: str | None = None
    pools_prompt: bool = True
    dense: tuple[str, ...] = ()
    width: int | None = None
    normalize: bool = False
    max_length: int | None = None
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    prompt: str = ""


def read(folder: str | Path) -> Layout:
    """Read the small files of a model folder; a plain transformers folder gives a layout with defaults only.

    Raises:
        ModelError: the folder has a step that is not pooling, dense or normalise, or has them in another order.
    """
    root = Path(folder)
    if not (root / "modules.json").is_file():
        return Layout()
    try:
        return _layout(root)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{root / 'modules.json'} and the folders that it names cannot be read ({files.first_line(error)}); "
            "copy the folder again from where the model came from"
        ) from error


def _layout(root: Path) -> Layout:
    pooling: dict[str, Any] = {}
    dense: list[str] = []
    width, normalize = None, False
    for module in json.loads(files.require(root / "modules.json", "JSON").read_text()):
        place = root / module["path"]
        kind = module["type"].rsplit(".", 1)[-1]
        if normalize and kind != "Dropout":
            raise ModelError(
                f"{root / 'modules.json'} has {kind} after Normalize; choose a model in which Normalize is the last "
                "step"
            )
        match kind:
            case "Transformer" | "Dropout":
                pass
            case "Pooling":
                pooling = read_json(place / "config.json")
            case "Dense":
                dense.append(str(place))
                width = int(read_json(place / "config.json")["out_features"])
            case "Normalize":
                normalize = True
            case _:
                raise ModelError(
                    f"{root / 'modules.json'} has a step {module['type']}; embed knows Transformer, Pooling, Dense "
                    "and Normalize; choose a model made of these"
                )
    texts = read_json(next(root.glob("sentence_*_config.json"), root / "sentence_bert_config.json"))
    prompts = read_json(root / "config_sentence_transformers.json")
    named = dict(prompts.get("prompts") or {})
    return Layout(
        pooling=_pooling(pooling),
        pools_prompt=pooling.get("include_prompt", True),
        dense=tuple(dense),
        width=width,
        normalize=normalize,
        max_length=texts.get("max_seq_length"),
        lowercase=bool(texts.get("do_lower_case")),
        prompts=named,
        prompt=named.get(prompts.get("default_prompt_name") or "", ""),
    )


def read_json(file: Path) -> dict[str, Any]:
    """A small JSON file of a folder; empty if the file does not exist."""
    return files.read_json(file) if file.is_file() else {}


def _pooling(config: dict[str, Any]) -> str:
    modes = config.get("pooling_mode") or [mode for key, mode in OLD_POOLINGS.items() if config.get(key)] or "mean"
    return modes if isinstance(modes, str) else "+".join(modes)
