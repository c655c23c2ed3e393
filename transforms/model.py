"""A model reference (folder, adapter, dtype, device) -> tokenizer + model, ready for inference on a device.

Nothing here uses the network: a Hub repository has been downloaded to a folder before.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from transforms import adapter as adapters
from transforms import device as devices
from transforms import engines, filler, padding, soft_prompt, virtual_tokens
from transforms.architecture import WRITERS, resolve
from transforms.batches import Caps, padded, usual
from transforms.by_row import loading
from transforms.by_row.loading import Adapters
from transforms.by_row.trial import mixes
from transforms.casting import cast, in_float32
from transforms.checkpoint import pretrained
from transforms.checkpoint import tokenizer as tokenizers
from transforms.checkpoint.loading import require_all
from transforms.device import DTYPES, choose_device, choose_dtype
from transforms.padding import Rule
from transforms.reference import ModelRef, read_config
from transforms.sample import sample_rows
from transforms.soft_prompt import SoftPrompt

# A tokenizer without a length limit has model_max_length 1e30.
NO_LIMIT = 1_000_000

# Up to this many parameters, a network in low precision is first tried in float32 (4 GB of memory for a short time).
EXACT_TRIAL = 1_000_000_000


@dataclass(frozen=True)
class Model:
    """A loaded model: everything that a task needs to compute logits from texts.

    Attributes:
        tokenizer: its tokenizer, with a padding token.
        network: the module, in eval mode, on `device`, any adapter merged in.
        config: the network's configuration, with the adapter's labels where it has a head of its own.
        device: where the network is.
        max_length: tokens that fit in one sequence, special tokens included.
        max_tokens: slots of an encoder's batch that suit the device and the dtype.
        inputs: names that the tokenizer makes and the network's forward takes.
        compute: the network as its engine runs it: keyword tensors `(batch, seq)` of the host -> ModelOutput.
        filler: token id that padding gets.
        padding: how rows of different lengths may share a batch; see `transforms.padding`.
        text_types: type ids of the special tokens before a text on its own, of its tokens, of the special tokens after
            it; None for a network that needs none.
        adapters: the adapters of which each row is computed with its own; None if one is for all rows.
        soft_prompt: virtual tokens before every row of a network that writes text; in others, PEFT puts them there.
    """

    tokenizer: PreTrainedTokenizerBase
    network: PreTrainedModel
    config: PretrainedConfig
    device: torch.device
    max_length: int
    max_tokens: int
    inputs: frozenset[str]
    compute: Callable[..., Any]
    filler: int = 0
    padding: Rule = "right"
    text_types: tuple[list[int], int, list[int]] | None = None
    adapters: Adapters | None = None
    soft_prompt: SoftPrompt = soft_prompt.NONE

    def caps(self) -> Caps:
        """Limits of one batch, before any out-of-memory error."""
        one = {0: 1} if self.padding == "alone" else {}
        return Caps(one, one_length=self.padding in ("equal", "alone"))

    def rows(self, adapters: Sequence[int]) -> AbstractContextManager[None]:
        """Compute the rows of a batch with their own adapters; nothing for a network with one adapter for all.

        Args:
            adapters: number of the adapter of each row of the forward passes in the block.
        """
        return nullcontext() if self.adapters is None else self.adapters.selection.rows(adapters)


@dataclass(frozen=True)
class Unprepared:
    """A model as it was read, before an engine changes its network.

    Attributes:
        model: on its device; `compute` is the network itself.
        head: name of the auto class that loaded it.
        dtype: float32, bfloat16, float16 or int8: what it is to compute in.
        mapped: whether its weights are maps of their file.
    """

    model: Model
    head: str
    dtype: str
    mapped: bool

    @property
    def network_dtype(self) -> torch.dtype:
        """The dtype of the network: float32 for int8, whose linear layers are replaced."""
        return DTYPES["float32" if self.dtype == "int8" else self.dtype]


def load(ref: ModelRef, architecture: str | type) -> Model:
    """Load tokenizer and weights, apply the adapter, move them to the device.

    Args:
        ref: what to load.
        architecture: a task's ARCHITECTURE, such as `AutoModelForTokenClassification`, or the class itself.

    Returns:
        The model in eval mode; LoRA-like adapters are merged, so they cost nothing per token.

    Raises:
        ModelError: the folder lacks weights that the task needs (a head that was never trained).
    """
    found = read(ref, architecture)
    model, network, head, name = found.model, found.model.network, found.head, found.dtype
    spread = devices.is_spread(network)
    exact = None
    if head not in WRITERS and name != "float32" and not spread and network.num_parameters() <= EXACT_TRIAL:
        with in_float32(network, mapped=found.mapped):
            exact = padding.settle(model, forward, head, "float32").padding
    if not spread:
        cast(network, found.network_dtype)
    # Int8 would hide a small effect of one row on another.
    model = tried(model, head, "float32") if name == "int8" else model
    selection = None if model.adapters is None else model.adapters.selection
    compute = engines.prepare(network, ref.engine, name, head, model.inputs, selection, ref.ranges)
    return settled(replace(model, compute=compute), head, name, exact)


def settled(model: Model, head: str, name: str, rule: Rule | None = None) -> Model:
    """A model as its engine runs it, with what trials find out about its batches.

    Args:
        model: its `compute` as the engine runs it.
        head: name of the auto class that loaded it.
        name: float32, bfloat16, float16 or int8.
        rule: how the same network may be padded in float32, if known.
    """
    if head not in WRITERS:
        model = padding.settle(model, forward, head, name, rule)
    return tried(model, head, name)


def read(ref: ModelRef, architecture: str | type) -> Unprepared:
    """Load a model as `load` does, and leave its network as transformers made it, in the dtype it was loaded in."""
    device = choose_device(ref.device)
    name = choose_dtype(ref.dtype, ref.device)
    dtype = DTYPES["float32" if name == "int8" else name]
    config = read_config(ref)
    tokenizer = tokenizers.read(tokenizer_folder(ref), config, ref.trusted)
    loader = resolve(architecture)
    # An adapter is merged in float32 and rounded once; a network that needs several devices has no room for that.
    first = torch.float32 if (ref.adapter or ref.adapters) and ref.device_map is None else dtype
    # Every value comes from a file; random ones, which would be replaced, import torch's compiler (0.8 s).
    with no_init_weights():
        network, missing = pretrained.load(
            loader,
            ref.path,
            config=config,
            dtype=first,
            ignore_mismatched_sizes=ref.adapter is not None or bool(ref.adapters),
            **({"trust_remote_code": True} if ref.trusted else {}),
            **({"device_map": ref.device_map} if ref.device_map else {}),
        )
    if ref.adapter is not None:
        network, missing = adapters.lay(network, ref.adapter, missing)
    by_row = None
    if ref.adapters:
        by_row, missing = loading.lay(network, ref, loader, missing, tokenizer), set()
        by_row.selection.device = device
    require_all(missing, ref, loader.__name__)
    spread = devices.is_spread(network)
    if spread:
        device = devices.of(network)
    network = (network if spread else network.to(device)).eval()
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    head = loader.__name__
    if network.config.pad_token_id is None and head in WRITERS:
        network.config.pad_token_id = tokenizer.pad_token_id
    names, window = input_names(tokenizer, network), longest(tokenizer, network)
    budget = usual(device.type, name)
    model = Model(tokenizer, network, network.config, device, window, budget, names, network, adapters=by_row)
    if head in WRITERS:
        if not spread:
            # With the virtual tokens, which `soft_prompt.of` reads.
            cast(network, dtype)
        model = replace(model, network=virtual_tokens.base_of(network), soft_prompt=soft_prompt.of(network))
    else:
        model = replace(model, filler=filler.choose(network, tokenizer, head == "AutoModelForSequenceClassification"))
    return Unprepared(model, head, name, mapped=first == getattr(config, "dtype", None))


def tried(model: Model, head: str, precision: str) -> Model:
    """The model with `adapters.mixes` as a trial finds it."""
    adapters = model.adapters
    if adapters is None or not adapters.mixes:
        return model
    row = sample_rows(model, paired=head == "AutoModelForQuestionAnswering")[1]

    def compute(rows: int) -> torch.Tensor:
        if head not in WRITERS:
            output = forward(model, [row.ids] * rows, None if row.type_ids is None else [row.type_ids] * rows)
            return output[0]
        ids = torch.tensor([row.ids] * rows)
        more = {"decoder_input_ids": ids[:, :3]} if model.config.is_encoder_decoder else {}
        return model.compute(input_ids=ids, attention_mask=torch.ones_like(ids), **more)[0]

    found = mixes(model.network, compute, adapters.selection, len(adapters.configs), precision)
    return replace(model, adapters=replace(adapters, mixes=found))


def forward(model: Model, ids: list[list[int]], type_ids: list[list[int]] | None = None) -> Any:
    """Compute one batch; returns transformers' ModelOutput, in which each row's outputs start at position 0.

    Args:
        model: a loaded model.
        ids: token ids of each sequence, as many as `model.caps()` allows; padded here.
        type_ids: the segment of each token, for pairs of texts; by default those of a single text.

    Raises:
        ValueError: the sequences have different lengths, and the model needs batches of equal length.
    """
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    width = int(lengths.max())
    if model.padding in ("equal", "alone") and lengths.min() < width:
        raise ValueError(f"a batch of this model has sequences of one length only, not of {lengths.min()} to {width}")
    left = model.padding == "left"
    inputs = {"input_ids": torch.from_numpy(padded(ids, model.filler, left))}
    if "attention_mask" in model.inputs:
        places = np.arange(width)
        present = places >= width - lengths[:, None] if left else places < lengths[:, None]
        inputs["attention_mask"] = torch.from_numpy(present.astype(np.int64))
    if type_ids is None and model.text_types is not None:
        head, own, tail = model.text_types
        type_ids = [[*head, *[own] * (len(row) - len(head) - len(tail)), *tail] for row in ids]
    if type_ids is not None and "token_type_ids" in model.inputs:
        inputs["token_type_ids"] = torch.from_numpy(padded(type_ids, 0, left))
    with torch.inference_mode():
        output = model.compute(**inputs)
        return padding.from_left(output, width - lengths) if left and lengths.min() < width else output


def logits(model: Model, ids: list[list[int]], type_ids: list[list[int]] | None = None) -> torch.Tensor:
    """Logits of one batch, `(batch, labels)` or `(batch, seq, labels)`; arguments as of `forward`."""
    return forward(model, ids, type_ids).logits


def tokenizer_folder(ref: ModelRef) -> str:
    """The folder of the tokenizer: the adapter's if it has one, because adapters can add tokens."""
    return ref.adapter if ref.adapter and (Path(ref.adapter) / "tokenizer_config.json").is_file() else ref.path


def longest(tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel) -> int:
    """The longest sequence that both the tokenizer and the position embeddings support."""
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < NO_LIMIT else []
    if isinstance(positions := getattr(network.config, "max_position_embeddings", None), int) and positions > 0:
        limits.append(positions - _first_position(network) - virtual_tokens.count(network))
    return min(limits, default=512)


def _first_position(network: PreTrainedModel) -> int:
    """RoBERTa-like models count positions from padding_idx + 1, so fewer tokens fit than there are embeddings."""
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0


def input_names(tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel) -> frozenset[str]:
    """Names of the tensors that the tokenizer makes and the network's forward accepts."""
    taken = inspect.signature(virtual_tokens.base_of(network).forward).parameters
    return frozenset(name for name in tokenizer.model_input_names if name in taken)
