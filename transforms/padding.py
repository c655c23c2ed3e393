"""How rows of different lengths may share a batch, found by a trial when a model is loaded.

    right   rows are padded at their end: most networks
    left    rows are padded at their start: XLNet, whose classifier reads the last place
    equal   only rows of one length share a batch: padding changes the answer (FNet mixes it in, ConvBERT convolves over
            it, Funnel and CANINE pool it), or the network changes itself by the length of a batch (BigBird, Reformer)
    alone   one row a batch: the other rows change the answer

A few short rows are computed alone and together, by the network as its engine runs it, and must give the same except
for rounding. In half precision rounding could hide a small effect of padding, so there the padding is also embedded as
another token, which must change nothing at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from transforms import frame, pairs
from transforms.device import DTYPES
from transforms.engines.encoder import same
from transforms.errors import ModelError
from transforms.state import Snapshot, from_start, seeded

if TYPE_CHECKING:
    from transforms.model import Model

LOG = logging.getLogger(__name__)

Rule = Literal["right", "left", "equal", "alone"]
RULES: tuple[Rule, ...] = ("right", "left", "equal", "alone")

# What a task may read of a ModelOutput.
FIELDS = ("logits", "start_logits", "end_logits", "last_hidden_state")

# Tokens of the trial's rows, special ones apart: short ones get much padding beside a long one.
LENGTHS = (3, 7, 24)

# Eight-bit products round by the greatest activation of a whole batch, so neighbours always change a little. The same
# network was tried in float32 before.
INT8_TOLERANCE = 0.3

# Rotary embeddings whose frequencies follow the longest row of a batch, once that passes the length of the pretraining.
FREQUENCIES_BY_LENGTH = ("dynamic", "longrope")


class Tokens(NamedTuple):
    """One row of the trial: token ids; type ids if it is a pair of texts."""

    ids: list[int]
    type_ids: list[int] | None


# What a task may read of each row, padding left out.
Results = list[torch.Tensor]


def settle(model: Model, forward: Callable[..., Any], head: str, precision: str) -> Model:
    """The model with the rule by which its rows share batches.

    Args:
        model: as loaded, its `compute` as the engine runs it.
        forward: `transforms.model.forward`.
        head: name of the auto class that loaded it.
        precision: float32, bfloat16, float16 or int8.

    Returns:
        The model with its `padding`; with `text_types` if its network wants type ids for a text on its own; with a
        `compute` that gives the same for the same input whatever came before.

    Raises:
        ModelError: the network cannot compute a text on its own, or never gives the same twice.
    """
    kind = f"model {model.network.name_or_path!r} ({type(model.network).__name__})"
    rows = sample_rows(model, paired=head == "AutoModelForQuestionAnswering")
    trial = Trial(model, forward, precision, rows)
    snapshot = Snapshot(model.network)
    if "token_type_ids" in model.inputs:
        trial = trial.changed(text_types=_text_types(trial))
    try:
        alone = trial.alone(rows)
    except (torch.OutOfMemoryError, MemoryError, ModelError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"{kind} cannot compute a text on its own ({lines[0][:200]}); choose a model that takes texts and nothing "
            "else, of any length"
        ) from error
    if changed := snapshot.changes():
        LOG.info("%s starts every batch as it was loaded: it changes %s", kind, ", ".join(changed))
        trial = trial.changed(compute=from_start(model.compute, snapshot))
        alone = trial.alone(rows)
    if not trial.agree(trial.alone(rows), alone):
        trial = trial.changed(compute=seeded(trial.model.compute, model.device))
        alone = trial.alone(rows)
        if not trial.agree(trial.alone(rows), alone):
            raise ModelError(
                f"{kind} gives another result each time it computes the same text, so no result could be repeated; "
                "choose another model"
            )
    padded: tuple[Rule, ...] = ("right",) if head == "AutoModelForMaskedLM" else ("right", "left")
    if changed or _varies_with_length(model):
        padded = ()
    rule = trial.rule(padded, alone)
    if changed:
        snapshot.restore()
    return replace(trial.model, padding=rule)


def strictest(*rules: Rule) -> Rule:
    """The last of some rules in the order right, left, equal, alone."""
    return max(rules, key=RULES.index)


@dataclass(frozen=True)
class Trial:
    """A model and the rows that it is tried on.

    Attributes:
        model: the one that is tried.
        forward: `transforms.model.forward`.
        precision: float32, bfloat16, float16 or int8.
        rows: of several lengths.
    """

    model: Model
    forward: Callable[..., Any]
    precision: str
    rows: list[Tokens]

    def changed(self, **fields: Any) -> Trial:
        """The trial of a model that differs in some fields."""
        return replace(self, model=replace(self.model, **fields))

    def rule(self, padded: tuple[Rule, ...], alone: list[Results]) -> Rule:
        """The first rule under which rows give together what each gives alone.

        Args:
            padded: the sides on which rows may be padded.
            alone: what each row gives alone.
        """
        for side in padded:
            if self.changed(padding=side).fits(alone):
                return side
        ids = self.rows[1].ids
        twin = self.rows[1]._replace(ids=[ids[0], *ids[-2:0:-1], ids[-1]])
        want = [alone[1], *self.alone([twin])]
        return "equal" if self.agree(self.together([self.rows[1], twin]), want) else "alone"

    def fits(self, alone: list[Results]) -> bool:
        """Whether rows of several lengths, padded, give what each gives alone."""
        try:
            together = self.together(self.rows)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            LOG.info("rows padded on the %s cannot be computed: %s", self.model.padding, error)
            return False
        if not self.agree(together, alone):
            return False
        if self.precision not in ("bfloat16", "float16"):
            return True
        with _padding_embedded_otherwise(self.model, self.rows):
            other = self.together(self.rows)
        return all(map(torch.equal, _flat(together), _flat(other)))

    def alone(self, rows: list[Tokens]) -> list[Results]:
        """What each row gives in a batch of its own."""
        return [self.together([row])[0] for row in rows]

    def together(self, rows: list[Tokens]) -> list[Results]:
        """What each row gives in one batch."""
        types = None if rows[0].type_ids is None else [row.type_ids for row in rows]
        output = self.forward(self.model, [row.ids for row in rows], types)
        found = {name: output[name] for name in FIELDS if output.get(name) is not None}
        # A classifier's logits have no places.
        by_place = {name: name != "logits" or field.ndim > 2 for name, field in found.items()}
        return [
            [field[i, : len(row.ids)] if by_place[name] else field[i] for name, field in found.items()]
            for i, row in enumerate(rows)
        ]

    def agree(self, got: list[Results], want: list[Results]) -> bool:
        """Whether rows give the same except for rounding."""
        return all(
            self._same(torch.cat([x.flatten() for x in ours]), torch.cat([x.flatten() for x in theirs]))
            for ours, theirs in zip(zip(*got, strict=True), zip(*want, strict=True), strict=True)
        )

    def _same(self, got: torch.Tensor, want: torch.Tensor) -> bool:
        if got.shape != want.shape or not torch.equal(finite := want.isfinite(), got.isfinite()):
            return False
        # A row that overflows is rejected when it comes, and says nothing about padding.
        got, want = got[finite].float(), want[finite].float()
        if not len(want):
            return True
        if self.precision == "int8":
            return bool((got - want).abs().max() <= INT8_TOLERANCE * want.abs().max())
        return same(got.to(DTYPES[self.precision]), want.to(DTYPES[self.precision]))


def sample_rows(model: Model, paired: bool) -> list[Tokens]:
    """Rows of several lengths: ordinary tokens between the tokenizer's special ones, the same ones every time.

    Args:
        model: whose tokenizer, window and vocabulary they fit.
        paired: whether a row is a pair of texts.
    """
    tokenizer = model.tokenizer
    template = pairs.learn(tokenizer) if paired else None
    head, tail = frame.frame_ids(tokenizer)
    room = max(1, model.max_length - (template.special if template else len(head) + len(tail)))
    size = min(len(tokenizer), vocabulary(model.network))
    # Reformer attends in chunks, and only from rows longer than one on does it draw random numbers.
    attributes = vars(model.network.config.get_text_config())
    chunks = [n for name, n in attributes.items() if name.endswith("chunk_length") and isinstance(n, int)]
    lengths = (*LENGTHS[:-1], max([LENGTHS[-1], *(chunk + LENGTHS[0] for chunk in chunks)]))
    special = set(tokenizer.all_special_ids)
    # Neighbours in a vocabulary are often alike.
    ordinary = [i for i in ((13 + 7919 * k) % size for k in range(4 * sum(lengths))) if i not in special] or [0]
    rows = []
    for number, length in enumerate(lengths):
        body = [ordinary[(number + len(lengths) * k) % len(ordinary)] for k in range(min(length, room))]
        if template is None:
            rows.append(Tokens([*head, *body, *tail], None))
        else:
            first, second = body[: len(body) // 3], body[len(body) // 3 :]
            rows.append(Tokens(template.ids(first, second), template.type_ids(len(first), len(second))))
    return rows


def from_left(output: Any, starts: np.ndarray) -> Any:
    """Outputs of rows padded at their start -> the same with each row at place 0.

    Args:
        output: ModelOutput of a batch; changed in place.
        starts: int64 `(batch,)`, places of padding before each row.
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


def vocabulary(network: Any) -> int:
    """How many token ids a network can embed."""
    return int(getattr(_embedding(network), "num_embeddings", None) or network.config.get_text_config().vocab_size)


def filler(network: Any, tokenizer: PreTrainedTokenizerBase, reads_last: bool) -> int:
    """The token id that padding gets.

    A sequence classifier such as GPT-2's finds its last token by the padding token of its configuration, and without
    one reads the last place. Then padding gets an id past the vocabulary, which no text has: an end token in its place
    would hide the end tokens of a text.

    Args:
        network: changed where it needs such an id.
        tokenizer: the model's.
        reads_last: whether it may be such a classifier.
    """
    config, size = network.config.get_text_config(), vocabulary(network)
    if isinstance(known := config.pad_token_id, int) and 0 <= known < size:
        return known
    fallback = tokenizer.pad_token_id if tokenizer.pad_token_id is not None and tokenizer.pad_token_id < size else 0
    if not reads_last or (embedding := _embedding(network)) is None:
        return fallback
    embedding.register_forward_pre_hook(lambda _, inputs: (inputs[0].clamp(max=size - 1), *inputs[1:]))
    config.pad_token_id = network.config.pad_token_id = size
    return size


def _embedding(network: Any) -> nn.Module | None:
    try:
        return network.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return None


def _text_types(trial: Trial) -> tuple[list[int], int, list[int]] | None:
    """The type ids of a text on its own, unless the network takes none for them."""
    row = trial.rows[:1]
    if row[0].type_ids is not None:
        return None
    head, own, tail = types = frame.type_ids(trial.model.tokenizer)
    if any((*head, own, *tail)):
        return types
    try:
        same_without = trial.agree(trial.alone(row), trial.changed(text_types=types).alone(row))
    except Exception:
        return None
    return None if same_without else types


def _varies_with_length(model: Model) -> bool:
    """Whether a long row changes what a short one gives in the same batch, past a length that no trial reaches."""
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
    """Let the network embed another token in the places of padding, while its token ids stay the same."""
    lengths = np.array([len(row.ids) for row in rows])[:, None]
    places, width = np.arange(lengths.max()), lengths.max()
    mask = torch.from_numpy(places < width - lengths if model.padding == "left" else places >= lengths).to(model.device)
    other = rows[-1].ids[width // 2]

    def swapped(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        fits = inputs[0].shape == mask.shape
        return (inputs[0].masked_fill(mask, other), *inputs[1:]) if fits else inputs

    embedding = _embedding(model.network)
    hook = None if embedding is None else embedding.register_forward_pre_hook(swapped)
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def _flat(results: list[Results]) -> list[torch.Tensor]:
    return [tensor for row in results for tensor in row]
