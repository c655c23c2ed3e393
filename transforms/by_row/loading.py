"""The adapters of a model reference, laid over its network so that each row is computed with its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from transforms import adapter as adapters
from transforms.by_row.install import install
from transforms.by_row.selection import Selection
from transforms.by_row.terms import Reader
from transforms.checkpoint import network as networks
from transforms.checkpoint import tokenizer as tokenizers
from transforms.checkpoint import weights
from transforms.checkpoint.loading import require_all
from transforms.errors import ModelError
from transforms.pairs import PROBES
from transforms.reference import ModelRef, read_config


@dataclass(frozen=True)
class Adapters:
    """The adapters of a loaded network, by number.

    Attributes:
        selection: says which of them computes each row of a forward pass.
        configs: the configuration of the base with the labels of each.
        mixes: whether rows of several adapters may share a batch.
    """

    selection: Selection
    configs: tuple[PretrainedConfig, ...]
    mixes: bool = True


def references(ref: ModelRef) -> Iterator[ModelRef]:
    """A reference with adapters by row as one reference for each of them."""
    for folder in ref.adapters:
        yield replace(ref, adapter=folder, adapters=())


def lay(network: Any, ref: ModelRef, loader: Any, missing: set[str], tokenizer: PreTrainedTokenizerBase) -> Adapters:
    """Put the adapters of a reference into a network, in place.

    Args:
        network: the base, in float32 on the CPU.
        ref: the base and its adapters.
        loader: the class that loaded the network.
        missing: parameters that the base's own weight files do not contain.
        tokenizer: the tokenizer of the base.

    Raises:
        ModelError: an adapter does not fit the base, is no plain LoRA, or lacks a head that the base lacks too.
    """
    reader = reader_of(ref, loader)
    found = []
    for each in references(ref):
        check(each, missing, loader.__name__, tokenizer)
        found.append(None if each.adapter is None else reader.read(each.adapter))
    selection = Selection()
    install(network, found, selection)
    return Adapters(selection, tuple(map(read_config, references(ref))))


def reader_of(ref: ModelRef, loader: Any) -> Reader:
    """What reads the adapters of a reference."""
    stored = weights.read(weights.find(ref.path))

    def build(folder: str) -> Any:
        config = read_config(replace(ref, adapter=folder, adapters=()))
        return networks.build(ref.path, config, loader, stored, folder, ref.trusted)[0]

    return Reader(build)


def check(ref: ModelRef, missing: set[str], architecture: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse an adapter of another base, without the head that the task needs, or with a tokenizer of its own.

    Args:
        ref: the base and one adapter, or none.
        missing: parameters that the base's own weight files do not contain.
        architecture: name of the class that loads the network.
        tokenizer: the tokenizer of the base.

    Raises:
        ModelError: one of these.
    """
    saved: set[str] = set()
    if ref.adapter is not None:
        adapters.check_weights(ref.adapter, ref.path)
        saved = set(adapters.read(ref.adapter).get("modules_to_save") or ())
    if lacking := {key for key in missing if not saved.intersection(key.split("."))}:
        if ref.adapter is None:
            require_all(lacking, ref, architecture)
        raise ModelError(
            f"neither adapter {ref.adapter!r} nor its base has weights for {', '.join(sorted(lacking)[:4])}; it was "
            "not trained for this task: choose another, or train it with these modules_to_save"
        )
    if ref.adapter is not None and (Path(ref.adapter) / "tokenizer_config.json").is_file():
        own = tokenizers.read(ref.adapter, read_config(ref), ref.trusted)
        if _reads(own) != _reads(tokenizer):
            raise ModelError(
                f"adapter {ref.adapter!r} has another tokenizer than its base {ref.path!r}, and adapters by row share "
                "that of the base; use `adapter:` in a task of its own for it"
            )


def _reads(tokenizer: Any) -> tuple[Any, ...]:
    """What of a tokenizer can change the tokens of a text."""
    texts = [text for pair in PROBES for text in pair]
    ids = tokenizer(texts)["input_ids"]
    sides = tokenizer.padding_side, tokenizer.truncation_side, tokenizer.model_max_length
    return ids, tokenizer.get_vocab(), sides, getattr(tokenizer, "chat_template", None)
