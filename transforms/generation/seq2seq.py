"""Greedy decoding and sampling of encoder-decoders: a waiting row takes the slot of a finished row at once.

Sources are encoded in batches sorted by length with a limit on tokens, independent of the rows that are being decoded;
this also gives each row's first token. Rows then wait for a slot among the rows in flight, which are decoded one step
at a time: the continuous batching of Orca (Yu et al., OSDI 2022), with the source's keys and values in the slot beside
the row's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import GenerationConfig

from transforms.batches import Caps, corner, cut, device_is_lost
from transforms.generation.choice import Choice, RowInFlight
from transforms.generation.columns import Prefilled
from transforms.generation.groups import Groups
from transforms.generation.request import Request
from transforms.generation.stepper import Stepper
from transforms.model import Model

# An encoded batch: its keys and values, its rows, and the positions of rows not finished by their first token.
Read = tuple[Prefilled, list[RowInFlight], list[int]]

# Maximum number of rows in flight, and cache positions per token of `max_tokens`. From 64 rows on, a step is limited by
# its matrix products and not by reading the weights: with opus-mt's shapes and 500 rows, 64 to 192 rows in flight take
# the same time within 7 %.
MAX_ROWS = {"cpu": 96, "cuda": 512, "mps": 64}
CACHE_TOKENS = 16

# Number of groups of rows in flight. On a GPU the additional kernel launches of a group cost more than its padding.
MOST_GROUPS = {"cpu": 16, "cuda": 1, "mps": 1}


class Work:
    """The state of the requests of one call.

    Attributes:
        finished: request index -> its new tokens, and whether an end token ended the text.
        failures: request index -> the exception that the request raises on its own.
        tokens: number of real tokens computed so far.
        padded_tokens: number of token positions computed so far, including padding.
    """

    def __init__(
        self, model: Model, requests: Sequence[Request], settings: GenerationConfig, max_tokens: int, caps: Caps
    ):
        self.model, self.requests, self.settings = model, requests, settings
        self.max_tokens, self.caps = max_tokens, caps
        self.lengths = np.array([len(request.ids) for request in requests], dtype=np.int64)
        self.finished: dict[int, tuple[list[int], bool]] = {}
        self.failures: dict[int, Exception] = {}
        self.tokens = self.padded_tokens = 0
        self.most = MOST_GROUPS[model.device.type]
        self.choice = Choice(model.network, settings, model.device)
        self.stepper = Stepper(model, rough=self.choice.takes_rough)
        ends = settings.eos_token_id
        self.ends = frozenset([ends] if isinstance(ends, int) else ends or ())

    def run(self) -> None:
        """Generate every request."""
        # One prefix length at a time, so that all rows of a batch begin with equally many decoder tokens.
        starts = np.array([len(request.prefix) for request in self.requests], dtype=np.int64)
        for start in np.unique(starts):
            with torch.inference_mode():
                self._generate(np.flatnonzero(starts == start))

    def _generate(self, indices: np.ndarray) -> None:
        """Generate some requests, longest source first."""
        arriving = self._read(indices)
        ready: deque[Read] = deque()
        groups, flight = Groups(self.most), list[RowInFlight]()
        while True:
            self._refill(groups, flight, ready, arriving)
            if not flight:
                return
            error: Exception | None = None
            try:
                with self.model.rows(self._adapters(flight)):
                    logits = self.stepper.step(groups, [row.ids[-1] for row in flight])
                tokens = self.choice(logits, flight)
            except Exception as raised:
                if device_is_lost(raised):
                    raise
                error = raised
            if error is not None:
                # Outside the except block, because the traceback would keep the failed step's tensors in memory.
                groups, stranded, flight = Groups(self.most), flight, []
                self._halve(np.array([row.index for row in stranded]), error)
                continue
            self.tokens += len(flight)
            self.padded_tokens += len(flight)
            flight[:] = [flight[was] for was in groups.evict(self._settle(flight, tokens))]

    def _refill(self, groups: Groups, flight: list[RowInFlight], ready: deque[Read], arriving: Iterator[Read]) -> None:
        """Move waiting rows into free slots, several at a time, so that rows of similar length are in one group."""
        while True:
            if not ready:
                ready.extend(item for item in [next(arriving, None)] if item is not None)
            if not ready:
                return
            prefilled, rows, picks = ready[0]
            longest = max(int(self.lengths[row.index]) for row in [*flight, rows[picks[0]]])
            capacity = self._capacity(longest, groups)
            if flight and capacity - len(flight) < max(1, capacity // 8):
                return
            admitted = picks[: capacity - len(flight)]
            at = groups.admit(prefilled, admitted, capacity)
            flight[at:at] = [rows[pick] for pick in admitted]
            ready.popleft()
            if rest := picks[len(admitted) :]:
                ready.appendleft((prefilled, rows, rest))

    def _read(self, indices: np.ndarray) -> Iterator[Read]:
        """Encode sources batch by batch."""
        lengths = self.lengths[indices]
        for batch in cut(lengths, self.max_tokens, self.caps):
            for part, (prefilled, rows, tokens) in corner(
                indices[batch], self._prefill, self.lengths, self.caps, self.failures
            ):
                self.tokens += int(self.lengths[part].sum()) + len(part)
                self.padded_tokens += len(part) * (int(self.lengths[part].max()) + 1)
                gone = set(self._settle(rows, tokens))
                if picks := [position for position in range(len(rows)) if position not in gone]:
                    yield prefilled, rows, picks

    def _prefill(self, batch: np.ndarray) -> tuple[Prefilled, list[RowInFlight], list[int | None]]:
        rows = [self._row(index) for index in batch.tolist()]
        starts = [row.ids for row in rows]
        sources = [self.requests[row.index].ids for row in rows]
        with self.model.rows(self._adapters(rows)):
            prefilled, logits = self.stepper.read(sources, starts)
        return prefilled, rows, self.choice(logits, rows)

    def _adapters(self, rows: Sequence[RowInFlight]) -> list[int]:
        """The adapter of each row."""
        return [self.requests[row.index].adapter for row in rows]

    def _row(self, index: int) -> RowInFlight:
        request = self.requests[index]
        random = None
        if self.settings.do_sample:
            random = torch.Generator(self.model.device).manual_seed(request.seed)
        start = self.settings.decoder_start_token_id
        ids = [self.settings.bos_token_id if start is None else start, *request.prefix]
        limit = min(1 + request.max_new_tokens, self.stepper.longest)
        return RowInFlight(index, ids, 1, limit, random)

    def _settle(self, rows: Sequence[RowInFlight], tokens: Sequence[int | None]) -> list[int]:
        """Append the next token to each row; returns the positions of the rows that are finished or failed."""
        gone = []
        for position, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            if token is None:
                self.failures[row.index] = FloatingPointError("the model's output is not finite (nan or inf)")
            elif token in self.ends:
                self.finished[row.index] = (self._new(row), True)
            else:
                row.ids.append(token)
                if len(row.ids) < row.limit:
                    continue
                self.finished[row.index] = (self._new(row), False)
            gone.append(position)
        return gone

    def _new(self, row: RowInFlight) -> list[int]:
        return row.ids[1 + len(self.requests[row.index].prefix) :]

    def _capacity(self, longest: int, groups: Groups) -> int:
        """Maximum number of rows in flight if the longest source has `longest` tokens."""
        free = CACHE_TOKENS * self.max_tokens - groups.slots
        rows = min(MAX_ROWS[self.model.device.type], groups.rows + max(0, free) // longest)
        cap = self.caps.rows(longest)
        return max(1, rows if cap is None else min(rows, cap))

    def _halve(self, indices: np.ndarray, error: Exception) -> None:
        """A step failed: generate its rows again in halves, until the row that fails is found."""
        self.caps.learn(error, int(self.lengths[indices].max()), len(indices))
        if len(indices) == 1:
            self.failures[int(indices[0])] = error
            return
        middle = len(indices) // 2
        self._generate(indices[:middle])
        self._generate(indices[middle:])
