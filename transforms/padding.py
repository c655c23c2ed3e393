"""How rows of different lengths may share a batch, found by a trial when a model is loaded.

    right   rows are padded at their end: most networks
    left    rows are padded at their start: XLNet, because its classifier reads the last position
    equal   only rows of equal length share a batch: padding changes the result (FNet mixes it in, ConvBERT convolves
            over it, Funnel and CANINE pool it), or the network's state depends on the batch length (BigBird, Reformer)
    alone   one row per batch: the other rows change the result

A few short rows are computed alone and in one batch, and the outputs must be equal except for rounding. Half precision
and int8 could hide a small effect of padding, so for them the rule is found in float32, before the network is
converted. A network that is too large for float32 is tried in its own precision, and a second time with other
embeddings at the padding positions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from transforms import frame
from transforms.device import DTYPES
from transforms.engines.encoder import same
from transforms.errors import ModelError
from transforms.filler import embedding
from transforms.sample import Tokens, chunk_length, sample_rows
from transforms.state import Snapshot, from_start, seeded

if TYPE_CHECKING:
    from transforms.model import Model

LOG = logging.getLogger(__name__)

Rule = Literal["right", "left", "equal", "alone"]

# The fields of a ModelOutput that tasks read.
FIELDS = ("logits", "start_logits", "end_logits", "last_hidden_state")

# Types of rotary embeddings whose frequencies depend on the longest row of a batch, if that is longer than the rows of
# the pretraining.
FREQUENCIES_BY_LENGTH = ("dynamic", "longrope")

# The outputs of one row that tasks read, without padding positions.
Results = list[torch.Tensor]


def settle(model: Model, forward: Callable[..., Any], head: str, precision: str, found: Rule | None = None) -> Model:
    """Find the padding rule of a model and return the model with it.

    Args:
        model: as loaded, its `compute` as the engine runs it.
        forward: `transforms.model.forward`.
        head: name of the auto class that loaded it.
        precision: float32, bfloat16, float16 or int8.
        found: the rule of the same network in float32, if known; the trial then checks only that the network computes
            and that its results are repeatable.

    Returns:
        The model with its `padding`; with `text_types` if its network needs type ids for a single text; with a
        `compute` that gives equal results for equal inputs, independent of earlier batches.

    Raises:
        ModelError: the network cannot compute a single text, or its results are not repeatable.
    """
    kind = f"model {model.network.name_or_path!r} ({type(model.network).__name__})"
    rows = sample_rows(model, paired=head == "AutoModelForQuestionAnswering")
    trial = Trial(model, forward, precision, rows)
    snapshot = Snapshot(model.network)
    types = None
    if "token_type_ids" in model.inputs and rows[0].type_ids is None:
        head_types, own, tail_types = types = frame.type_ids(model.tokenizer)
        if any((*head_types, own, *tail_types)):
            trial, types = trial.changed(text_types=types), None
    try:
        alone = trial.alone()
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        fix = "choose a model that takes only texts, of any length"
        if found is not None:
            fix = f"its dtype is {precision}; use dtype: float32, which works"
        raise ModelError(f"{kind} cannot compute a text on its own ({lines[0][:200]}); {fix}") from error
    if changed := snapshot.changes():
        LOG.info(
            "%s is reset to its loaded state before every batch, because a batch changes %s", kind, ", ".join(changed)
        )
        trial = trial.changed(compute=from_start(model.compute, snapshot))
        alone = trial.alone()
    # One pass checks two things: that results are repeatable, and that type ids of 0 give the same as no type ids.
    if not trial.changed(text_types=types or trial.model.text_types).gives(alone):
        if not trial.gives(alone):
            trial = trial.changed(compute=seeded(trial.model.compute, model.device))
            alone = trial.alone()
        if not trial.gives(alone):
            raise ModelError(f"{kind} gives another result each time it computes the same text; choose another model")
        if types and not trial.changed(text_types=types).gives(alone):
            trial = trial.changed(text_types=types)
            alone = trial.alone()
    padded: tuple[Rule, ...] = ("right",) if head == "AutoModelForMaskedLM" else ("right", "left")
    if changed or _varies_with_length(model):
        padded = ()
    rule = found or trial.rule(padded, alone)
    if changed:
        snapshot.restore()
    return replace(trial.model, padding=rule)


@dataclass(frozen=True)
class Trial:
    """A model and the rows that it is tried on.

    Attributes:
        model: the model.
        forward: `transforms.model.forward`.
        precision: float32, bfloat16, float16 or int8.
        rows: rows of several lengths.
    """

    model: Model
    forward: Callable[..., Any]
    precision: str
    rows: list[Tokens]

    def changed(self, **fields: Any) -> Trial:
        """The same trial for a copy of the model with some fields changed."""
        return replace(self, model=replace(self.model, **fields))

    def rule(self, padded: tuple[Rule, ...], alone: list[Results]) -> Rule:
        """The first rule under which rows give the same results in one batch as alone.

        Args:
            padded: the sides on which rows may be padded.
            alone: the results of each row alone.
        """
        for side in padded:
            if self.changed(padding=side).fits(alone):
                return side
        ids = self.rows[1].ids
        twin = self.rows[1]._replace(ids=[ids[0], *ids[-2:0:-1], ids[-1]])
        want = [alone[1], *self.together([twin])]
        return "equal" if self.agree(self.together([self.rows[1], twin]), want) else "alone"

    def fits(self, alone: list[Results]) -> bool:
        """Whether padded rows of several lengths give the same results as alone."""
        try:
            together = self.together(self.rows)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            LOG.info("rows padded on the %s cannot be computed: %s", self.model.padding, error)
            return False
        if not self.agree(together[: len(alone)], alone):
            return False
        if self.precision == "float32":
            return True
        # Rounding could hide a small effect of padding. Equal shapes are rounded alike: results must be identical.
        with _padding_embedded_otherwise(self.model, self.rows):
            other = self.together(self.rows)
        return all(map(torch.equal, _flat(together), _flat(other)))

    def alone(self) -> list[Results]:
        """The results of each row that will be padded, alone in a batch.

        The longest row is included only for networks that compute in chunks, for which it is longer than a chunk.
        """
        count = 3 if chunk_length(self.model) else 2
        return [self.together([row])[0] for row in self.rows[:count]]

    def gives(self, alone: list[Results]) -> bool:
        """Whether the first row, and the longest one if it was computed, give the same results again."""
        try:
            again = [self.together([row])[0] for row in (self.rows[0], *self.rows[2 : len(alone)])]
        except (RuntimeError, ValueError, IndexError):
            return False
        return self.agree(again, [alone[0], *alone[2:]])

    def together(self, rows: list[Tokens]) -> list[Results]:
        """The results of each row, computed in one batch."""
        types = None if rows[0].type_ids is None else [row.type_ids for row in rows]
        output = self.forward(self.model, [row.ids for row in rows], types)
        found = {name: output[name] for name in FIELDS if output.get(name) is not None}
        # A classifier has one vector of logits per row, not one per token.
        by_place = {name: name != "logits" or field.ndim > 2 for name, field in found.items()}
        return [
            [field[i, : len(row.ids)] if by_place[name] else field[i] for name, field in found.items()]
            for i, row in enumerate(rows)
        ]

    def agree(self, got: list[Results], want: list[Results]) -> bool:
        """Whether results are equal except for rounding."""
        return all(
            self._same(torch.cat([x.flatten() for x in ours]), torch.cat([x.flatten() for x in theirs]))
            for ours, theirs in zip(zip(*got, strict=True), zip(*want, strict=True), strict=True)
        )

    def _same(self, got: torch.Tensor, want: torch.Tensor) -> bool:
        if got.shape != want.shape or not torch.equal(finite := want.isfinite(), got.isfinite()):
            return False
        # Values that overflow are left out: they are no evidence about padding, and such rows are rejected in a run.
        got, want = got[finite].float(), want[finite].float()
        if not len(want):
            return True
        dtype = DTYPES.get(self.precision, torch.float32)
        return same(got.to(dtype), want.to(dtype))


def from_left(output: Any, starts: np.ndarray) -> Any:
    """Shift the outputs of rows that were padded at their start, so that each row begins at position 0.

    Args:
        output: ModelOutput of a batch; changed in place.
        starts: int64 `(batch,)`, number of padding positions before each row.
    """
    for name in FIELDS:
        field = output.get(name)
        if field is None or (name == "logits" and field.ndim < 3):
            continue
        places = torch.arange(field.shape[1]) + torch.from_numpy(starts)[:, None]
        places = places.clamp(max=field.shape[1] - 1).to(field.device)
        index = places.view(*places.shape, *[1] * (field.ndim - 2)).expand_as(field)
        output[name] = field.gather(1, index)
    return output


def _varies_with_length(model: Model) -> bool:
    """Whether a long row changes the results of short rows in its batch, at lengths that the trial does not reach."""
    config = model.network.config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    return any(
        rope.get("rope_type") in FREQUENCIES_BY_LENGTH
        and model.max_length > (rope.get("original_max_position_embeddings") or config.max_position_embeddings)
        for rope in (parameters, *parameters.values())
        if isinstance(rope, dict)
    )


@contextmanager
def _padding_embedded_otherwise(model: Model, rows: list[Tokens]) -> Iterator[None]:
    """Let the network embed another token at the padding positions, without changing the token ids."""
    lengths = np.array([len(row.ids) for row in rows])[:, None]
    places, width = np.arange(lengths.max()), lengths.max()
    mask = torch.from_numpy(places < width - lengths if model.padding == "left" else places >= lengths).to(model.device)
    other = rows[-1].ids[width // 2]

    def swapped(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        fits = inputs[0].shape == mask.shape
        return (inputs[0].masked_fill(mask, other), *inputs[1:]) if fits else inputs

    layer = embedding(model.network)
    hook = None if layer is None else layer.register_forward_pre_hook(swapped)
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def _flat(results: list[Results]) -> list[torch.Tensor]:
    return [tensor for row in results for tensor in row]
