"""Fill-mask on a loaded model: see transforms/tasks/fill_mask.py for its source and options."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from transforms.annotate import Row, Steps, alone, cut_at, of_texts
from transforms.contract import Annotation
from transforms.errors import ModelError
from transforms.frame import frame
from transforms.model import Model, logits
from transforms.tasks.fill_mask import FILL, Options
from transforms.tokens import cut_ids


@dataclass(frozen=True)
class Sequence:
    """Token ids of one text, which of them are masks, and whether they are all that is left of a longer text."""

    ids: list[int]
    masks: list[int]
    is_cut: bool = False


# Positions of the masks, `(batch, masks)`, during a forward pass that computes logits only there. A context variable,
# because threads may share the network.
_wanted: ContextVar[torch.Tensor | None] = ContextVar("wanted", default=None)


class MaskFiller:
    """Texts with masks in, tokens out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        self.tokenizer = model.tokenizer
        if self.tokenizer.mask_token_id is None:
            raise ModelError("fill_mask needs a tokenizer with a mask token; this model's has none")
        self.options = options
        self.model = model
        self.max_tokens = max_tokens or model.max_tokens
        self.caps = model.caps()
        self.before, self.after = frame(self.tokenizer)
        self.special = {token for token, added in self.tokenizer.added_tokens_decoder.items() if added.special}
        self.targets = None
        if options.targets is not None:
            ids = dict.fromkeys(self.target(word) for word in options.targets)
            self.targets = torch.tensor(list(ids), device=model.device)
        self.narrows = False
        self.narrows = self.narrow()

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Fill the masks in the rows of a batch."""
        return alone(self.steps(batch), self.max_tokens, self.caps)

    def steps(self, batch: pa.RecordBatch) -> Steps:
        """The same in steps."""
        texts = batch.column(self.options.column)
        work = of_texts(texts, self.tokenise, lambda s: len(s.ids), self.forward)
        gathered, failures, tokens, slots = yield from work
        cut = cut_at(gathered, len(texts), self.model.max_length)
        return Annotation(self.column(gathered, len(texts)), failures, tokens, slots, cut_at=cut)

    def target(self, word: str) -> int:
        """The id of a word that is a single token."""
        if (known := self.tokenizer.get_vocab().get(word)) is not None:
            return known
        pieces = self.tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(pieces) != 1 or pieces[0] == self.tokenizer.unk_token_id:
            raise ModelError(
                f"target {word!r} is not one token of this model but {self.tokenizer.convert_ids_to_tokens(pieces)}; "
                "give words that are single tokens of its vocabulary"
            )
        return pieces[0]

    def tokenise(self, rows: list[Row]) -> list[tuple[Row, Any]]:
        """Rows -> token ids with the positions of the masks; a text is refused if truncation removed a mask.

        A row without a mask is left out, unless the task is strict.
        """
        mask = self.tokenizer.mask_token
        texts = [row.text.replace(self.options.mask, mask) if self.options.mask else row.text for row in rows]
        encoded = cut_ids(self.tokenizer, texts, self.model.max_length)
        sequences = [(row, self.sequence(text, *cut)) for row, text, cut in zip(rows, texts, encoded, strict=True)]
        return [(row, sequence) for row, sequence in sequences if sequence is not None]

    def sequence(self, text: str, ids: list[int], is_cut: bool) -> Sequence | ValueError | None:
        """One text, or the reason why it cannot be filled; None if it has no mask and the task is not strict."""
        masks = [place for place, token in enumerate(ids) if token == self.tokenizer.mask_token_id]
        if lost := text.count(self.tokenizer.mask_token) - len(masks):
            return ValueError(
                f"{lost} of {lost + len(masks)} masks are past the {self.model.max_length} tokens that the model "
                "reads; shorten the text before them"
            )
        if not masks and not self.options.strict:
            return None
        if not masks:
            own = f" or {self.tokenizer.mask_token}" if self.options.mask else ""
            return ValueError(f"the text has no {self.options.mask or self.tokenizer.mask_token}{own} to fill")
        return Sequence(ids, masks, is_cut)

    def forward(self, sequences: list[Sequence]) -> torch.Tensor:
        """Score and id of the best tokens, `(batch, masks, 2 * k)`, zero where a text has fewer masks.

        Softmax and choice happen on the device; ids travel as float32, which is exact up to 2 ** 24.
        """
        counts = [len(s.masks) for s in sequences]
        places = torch.zeros(len(sequences), max(counts), dtype=torch.int64)
        for row, s in enumerate(sequences):
            places[row, : len(s.masks)] = torch.tensor(s.masks)
        places = places.to(self.model.device)
        with torch.inference_mode():
            scores = self.at(places, [s.ids for s in sequences]).float().softmax(dim=-1)
            if self.targets is not None:
                scores = scores[..., self.targets]
            best, chosen = scores.topk(min(self.options.top_k, scores.shape[-1]), dim=-1)
            ids = chosen if self.targets is None else self.targets[chosen]
            present = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
            return torch.cat([best, ids.float()], dim=-1) * present.to(best.device).unsqueeze(-1)

    def at(self, places: torch.Tensor, ids: list[list[int]]) -> torch.Tensor:
        """Logits `(batch, masks, vocabulary)` at the positions `places`."""
        if not self.narrows:
            return _gather(logits(self.model, ids), places)
        token = _wanted.set(places)
        try:
            return logits(self.model, ids)
        finally:
            _wanted.reset(token)

    def narrow(self) -> bool:
        """Run the head on the mask positions only: the vocabulary is large, and each position is independent.

        Returns:
            Whether this architecture has a body whose output can be narrowed, with the same logits on a probe.
        """
        body = self.model.network.base_model
        if body is self.model.network:
            return False
        probe, places = [self.tokenizer("a b c")["input_ids"]], torch.tensor([[1]], device=self.model.device)
        want = self.at(places, probe)
        hook = body.register_forward_hook(_narrowed)
        self.narrows = True
        try:
            got = self.at(places, probe)
            same = got.shape == want.shape and torch.allclose(got, want, rtol=1e-2, atol=1e-2)
        except (AttributeError, IndexError, RuntimeError, TypeError):
            same = False
        if not same:
            hook.remove()
        return same

    def fills(self, s: Sequence, best: np.ndarray) -> Iterator[tuple[int, int, float, list[int]]]:
        """Number of the mask, id, score and filled token ids, `(masks, 2 * k)` numbers to `masks * k` fills."""
        k = best.shape[1] // 2
        for number, (place, numbers) in enumerate(zip(s.masks, best.tolist(), strict=False)):
            for score, token in zip(numbers[:k], map(int, numbers[k:]), strict=True):
                ids = [*s.ids[:place], token, *s.ids[place + 1 :]]
                # As in the pipeline: no special tokens, except where they are the text's other masks.
                shown = [i for i in ids if i not in self.special] if len(s.masks) == 1 else self.unframed(ids)
                yield number, token, score, shown

    def unframed(self, ids: list[int]) -> list[int]:
        """Token ids without the special ones around the text."""
        return ids[self.before : len(ids) - self.after]

    def column(self, gathered: dict[int, list[tuple[Sequence, np.ndarray]]], rows: int) -> pa.Array:
        """Scores and ids by row -> the Arrow column; rows without an entry are null."""
        filled = {row: list(self.fills(*windows[0])) for row, windows in gathered.items()}
        flat = [fill for row in range(rows) for fill in filled.get(row, ())]
        values = [
            pa.array([number for number, *_ in flat], pa.int32()),
            pa.array([self.tokenizer.decode([token]) for _, token, _, _ in flat], pa.string()),
            pa.array([score for _, _, score, _ in flat], pa.float32()),
            pa.array([self.tokenizer.decode(ids) for *_, ids in flat], pa.string()),
        ]
        offsets = np.concatenate([[0], np.cumsum([len(filled.get(row, ())) for row in range(rows)])]).astype(np.int32)
        missing = pa.array([row not in filled for row in range(rows)], pa.bool_())
        fills = pa.StructArray.from_arrays(values, fields=list(FILL))
        return pa.ListArray.from_arrays(pa.array(offsets), fills, type=pa.list_(FILL), mask=missing)


def _narrowed(body: torch.nn.Module, inputs: Any, output: Any) -> Any:
    """The output of a body with its hidden states at the mask positions only."""
    if (places := _wanted.get()) is not None:
        output.last_hidden_state = _gather(output.last_hidden_state, places)
    return output


def _gather(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """`(batch, seq, width)` at `(batch, n)` places -> `(batch, n, width)`."""
    return states.gather(1, places.to(states.device).unsqueeze(-1).expand(-1, -1, states.shape[-1]))
