"""Load a model without its weights, to find errors in its folder, its adapter or its options at plan time.

A task is constructed with this model as with a real one, so that errors of its constructor appear at plan time; nothing
is computed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from transforms import adapter as adapters
from transforms import heads, registry, virtual_tokens
from transforms.architecture import WRITERS, resolve
from transforms.batches import MAX_TOKENS
from transforms.by_row import kind, loading
from transforms.checkpoint import network as networks
from transforms.checkpoint import tokenizer as tokenizers
from transforms.checkpoint import weights
from transforms.checkpoint.files import first_line
from transforms.checkpoint.loading import require_all
from transforms.errors import ModelError, UserError
from transforms.generation import settings as generation
from transforms.model import Model, input_names, longest, tokenizer_folder
from transforms.reference import ModelRef, read_config

# The device of tensors that a task creates itself, such as token ids.
HOST = torch.device("cpu")


def rehearse(ref: ModelRef, name: str, options: Any) -> None:
    """Load a model and set up its task without reading weights.

    Args:
        ref: the model; its weight files exist.
        name: name of the task.
        options: options of the task.

    Raises:
        UserError: the model cannot be loaded, or cannot do what the options ask for.
    """
    if ref.adapters:
        _rehearse_rows(ref, name, options)
        return
    task = registry.get(name)
    if task.ARCHITECTURE is None or (model := load(ref, task.ARCHITECTURE)) is None:
        return
    _set_up(task, name, options, model, ref)


def _set_up(task: Any, name: str, options: Any, model: Model, ref: ModelRef) -> None:
    """Construct a task with a model without weights."""
    try:
        task.load(options, model, MAX_TOKENS["cpu"])
    except UserError:
        raise
    except Exception as error:
        # Code that reads a weight fails here, because there are none; everything before it has been checked.
        if "meta" not in str(error):
            raise ModelError(
                f"{name} cannot be set up with model {ref.path!r} ({first_line(error)}); choose another model"
            ) from error


def _rehearse_rows(ref: ModelRef, name: str, options: Any) -> None:
    """The same for a model whose rows have adapters of their own; adapters that differ in numbers only, once."""
    task = registry.get(name)
    loader = resolve(task.ARCHITECTURE or "")
    reader = loading.reader_of(ref, loader)
    models: dict[int | None, Model | None] = {}
    seen: set[Any] = set()
    tokenizer = tokenizers.read(ref.path, read_config(ref), ref.trusted)
    for each in loading.references(ref):
        config = read_config(each)
        labels = tuple(heads.labels(config)), config.problem_type
        if each.adapter is not None:
            kind.check(each.adapter)
        shape = None if each.adapter is None else id(reader.structure(each.adapter))
        if shape not in models:
            models[shape] = load(each, loader)
        if (model := models[shape]) is not None and labels not in seen:
            seen.add(labels)
            _set_up(task, name, options, replace(model, config=config), each)
        loading.check(each, set(), loader.__name__, tokenizer)


def load(ref: ModelRef, architecture: str | type) -> Model | None:
    """A model as from `transforms.model.load`, with a network that has shapes but no values.

    Returns:
        None for an architecture without `from_config`: its network cannot be built without its weights. Its files are
        checked nevertheless.

    Raises:
        ModelError: the model's folder or its adapter is incomplete, damaged or does not fit.
    """
    stored = weights.read(weights.find(ref.path))
    if ref.adapter is not None:
        adapters.check_weights(ref.adapter, ref.path)
    config = read_config(ref)
    tokenizer = tokenizers.read(tokenizer_folder(ref), config, ref.trusted)
    loader = resolve(architecture)
    if not hasattr(loader, "from_config"):
        return None
    network, missing = networks.build(ref.path, config, loader, stored, ref.adapter, ref.trusted)
    if ref.adapter is not None:
        network, missing = adapters.lay(network, ref.adapter, missing)
    require_all(missing, ref, loader.__name__)
    window = longest(tokenizer, network)
    if loader.__name__ in WRITERS:
        network = virtual_tokens.base_of(network)
    embeddings: Any = network.get_input_embeddings()
    tokenizers.check_embedding(tokenizer_folder(ref), tokenizer, len(embeddings.weight))
    if loader.__name__ in WRITERS:
        network.generation_config = generation.read(ref.path, network)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if network.config.pad_token_id is None and loader.__name__ in WRITERS:
        network.config.pad_token_id = tokenizer.pad_token_id
    names = input_names(tokenizer, network)
    model = Model(tokenizer, network, network.config, HOST, window, MAX_TOKENS["cpu"], names, network)
    if loader.__name__ in WRITERS:
        generation.check(ref.path, model)
    return model
