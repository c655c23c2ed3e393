"""Chooses the next token: transformers' logits processors, applied to rows at different lengths in one batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.generation import logits_process as processors

from transforms.generation.head import BLOCK, Rough

# Processors that read only the scores of their own row, so all rows can be processed together.
ROWWISE = (
    processors.InfNanRemoveLogitsProcessor,
    processors.LogitNormalization,
    processors.TemperatureLogitsWarper,
    processors.TopKLogitsWarper,
    processors.TopPLogitsWarper,
    processors.MinPLogitsWarper,
    processors.TopHLogitsWarper,
    processors.TypicalLogitsWarper,
    processors.EpsilonLogitsWarper,
    processors.EtaLogitsWarper,
)

# Processors that forbid tokens, or all but one, and do not change the scores of the others.
FORBIDDING = (
    processors.ForcedBOSTokenLogitsProcessor,
    processors.ForcedEOSTokenLogitsProcessor,
    processors.MinLengthLogitsProcessor,
    processors.MinNewTokensLengthLogitsProcessor,
    processors.NoBadWordsLogitsProcessor,
    processors.NoRepeatNGramLogitsProcessor,
    processors.SuppressTokensAtBeginLogitsProcessor,
    processors.SuppressTokensLogitsProcessor,
)

# Processors that act at these lengths only (tokens so far), so that they can be skipped at other lengths.
WHEN: dict[type, Callable[[Any, int], bool]] = {
    processors.ForcedBOSTokenLogitsProcessor: lambda p, length: length == 1,
    processors.ForcedEOSTokenLogitsProcessor: lambda p, length: length == p.max_length - 1,
    processors.MinLengthLogitsProcessor: lambda p, length: length < p.min_length,
    processors.MinNewTokensLengthLogitsProcessor: lambda p, length: length - p.prompt_length_to_skip < p.min_new_tokens,
    processors.SuppressTokensAtBeginLogitsProcessor: lambda p, length: length == p.begin_index,
}


@dataclass
class RowInFlight:
    """One row in flight.

    Attributes:
        index: index of its request.
        ids: its tokens as the processors see them: start or prompt, prefix, new tokens.
        prompt: number of these that `generate()` would count as prompt.
        limit: maximum number of tokens.
        random: random numbers of this row, if tokens are sampled.
    """

    index: int
    ids: list[int]
    prompt: int
    limit: int
    random: torch.Generator | None = field(default=None, repr=False)


class Choice:
    """Chooses the next token of every row.

    Args:
        network: the network; its logits processors are used.
        settings: a complete generation config.
        device: device of the scores.
    """

    def __init__(self, network: PreTrainedModel, settings: GenerationConfig, device: torch.device):
        self.network: Any = network
        self.settings, self.device = settings, device
        self.lists: dict[tuple[int, int], LogitsProcessorList] = {}

    @property
    def takes_rough(self) -> bool:
        """Whether approximate logits suffice: the most likely token is chosen, and processors only forbid tokens."""
        return not self.settings.do_sample and all(isinstance(one, FORBIDDING) for one in self._list(1, 2))

    def __call__(self, logits: torch.Tensor | Rough, rows: Sequence[RowInFlight]) -> list[int | None]:
        """The next token of each row; None if the model's output for a row is not finite.

        Args:
            logits: `(rows, vocabulary)`; changed in place.
            rows: in the same order.
        """
        if isinstance(logits, Rough):
            self._process(logits.scores, rows)
            if (likeliest := logits.best()) is not None:
                return likeliest.tolist()
            scores = logits.exact()
        else:
            scores = self._process(logits.float(), rows)
        best = _likeliest(scores)
        # nan counts as the largest number, so one pass finds both.
        broken = scores.gather(1, best[:, None])[:, 0].isnan().tolist()
        tokens: list[int | None] = best.tolist()
        if self.settings.do_sample:
            # Each row with its own random numbers, as when generate() samples the row alone.
            probabilities = torch.softmax(scores, dim=-1)
            for position, row in enumerate(rows):
                if not broken[position]:
                    tokens[position] = int(torch.multinomial(probabilities[position], 1, generator=row.random))
        return [None if is_broken else token for token, is_broken in zip(tokens, broken, strict=True)]

    def _process(self, scores: torch.Tensor, rows: Sequence[RowInFlight]) -> torch.Tensor:
        """Apply the processors to the scores; in place if they only forbid tokens."""
        groups: dict[tuple[int, int, int], list[int]] = {}
        for position, row in enumerate(rows):
            groups.setdefault((len(row.ids), row.prompt, row.limit), []).append(position)
        lists = {key: self._list(*key[1:]) for key in groups}
        # All lists have the same processors in the same order; only the lengths in them differ.
        no_ids: Any = None
        first: Any = next(iter(lists.values()))
        for number, common in enumerate(first):
            if (banned := _banned(common)) is not None:
                scores.index_fill_(1, torch.tensor(banned, device=scores.device), -torch.inf)
            elif isinstance(common, ROWWISE):
                scores = common(no_ids, scores)
            else:
                for key, members in groups.items():
                    _apply(lists[key][number], key[0], members, rows, scores)
        return scores

    def _list(self, prompt: int, limit: int) -> LogitsProcessorList:
        if (prompt, limit) not in self.lists:
            settings = copy.deepcopy(self.settings)
            settings.max_length = limit
            self.network._prepare_special_tokens(settings, True, device=self.device)
            self.lists[prompt, limit] = self.network._get_logits_processor(
                settings, input_ids_seq_length=prompt, device=str(self.device)
            )
        return self.lists[prompt, limit]


def _likeliest(scores: torch.Tensor) -> torch.Tensor:
    """The argmax of each row. On a CPU torch's argmax takes ten times as long as its maximum."""
    vocabulary = scores.shape[1]
    whole = vocabulary // BLOCK * BLOCK
    if scores.device.type != "cpu" or not whole:
        return scores.argmax(dim=-1)
    tops = scores[:, :whole].unflatten(1, (-1, BLOCK)).amax(-1)
    if whole < vocabulary:
        tops = torch.cat([tops, scores[:, whole:].amax(1, keepdim=True)], dim=1)
    # The last block begins early enough to be whole: had the ones before it the maximum, they would have been chosen.
    start = (tops.argmax(dim=-1) * BLOCK).clamp(max=vocabulary - BLOCK)
    return start + scores.gather(1, start[:, None] + torch.arange(BLOCK)).argmax(dim=-1)


def _banned(processor: Any) -> list[int] | None:
    """The tokens that a processor always forbids; None if it does anything else."""
    if isinstance(processor, processors.SuppressTokensLogitsProcessor):
        return processor.suppress_tokens.tolist()
    if isinstance(processor, processors.NoBadWordsLogitsProcessor):
        words = list(processor.sequence_bias)
        return [word[0] for word in words] if all(len(word) == 1 for word in words) else None
    return None


def _apply(processor: Any, length: int, members: list[int], rows: Sequence[RowInFlight], scores: torch.Tensor) -> None:
    """One processor on the rows of one length, in place."""
    if (when := WHEN.get(type(processor))) is not None and not when(processor, length):
        return
    ids = torch.tensor([rows[position].ids for position in members], device=scores.device)
    if len(members) == len(rows):
        scores.copy_(processor(ids, scores))
    else:
        index = torch.tensor(members, device=scores.device)
        scores[index] = processor(ids, scores[index])
