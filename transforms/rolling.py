"""Greedy decoding and sampling that computes no finished row: who is done leaves, who waits takes the slot.

Sources (or prompts) are read in length-sorted, token-budgeted batches, independent of who is being decoded; each row
read gets its first token there. Rows then wait for a slot in the batch in flight, which takes one step a turn. That is
continuous batching (Yu et al., Orca, OSDI 2022) for encoder-decoders as well as for decoder-only models.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from transforms.batches import Caps, corner, cut, device_is_lost, is_out_of_memory, padded
from transforms.choice import Choice, Row
from transforms.generation import Generation, Request
from transforms.model import Model
from transforms.slots import Prefilled, Slots

# Rows in flight at most, and slots of the cache for each slot of `max_tokens`. A step's cost is its matrix products'
# once the weights are read for 64 rows or more.
MAX_ROWS = {"cpu": 96, "cuda": 512, "mps": 64}
CACHE_TOKENS = 8


class Rolling:
    """The requests of one call on their way.

    Attributes:
        outputs: one `Generation` a request, None while it has none.
        failures: request index -> the exception that it alone raises.
        padded_tokens: slots computed so far.
    """

    def __init__(
        self, model: Model, requests: Sequence[Request], settings: GenerationConfig, max_tokens: int, caps: Caps
    ):
        self.model, self.requests, self.settings = model, requests, settings
        self.max_tokens, self.caps = max_tokens, caps
        self.lengths = np.array([len(request.ids) for request in requests], dtype=np.int64)
        self.outputs: list[Generation | None] = [None] * len(requests)
        self.failures: dict[int, Exception] = {}
        self.padded_tokens = 0
        self.pass_ = Pass(model)
        self.choice = Choice(model.network, settings, model.device)
        ends = settings.eos_token_id
        self.ends = frozenset([ends] if isinstance(ends, int) else ends or ())

    def run(self) -> None:
        """Generate every request."""
        # One prefix length at a time, so that decoders start in step.
        starts = np.array([len(request.prefix) for request in self.requests], dtype=np.int64)
        for start in np.unique(starts):
            with torch.inference_mode():
                self._flow(np.flatnonzero(starts == start))

    def _flow(self, indices: np.ndarray) -> None:
        """Bring some requests through, longest first."""
        arriving = self._read(indices)
        ready: deque[tuple[Prefilled, list[Row], list[int]]] = deque()
        slots, flight = Slots(1), list[Row]()
        while True:
            self._refill(slots, flight, ready, arriving)
            if not flight:
                return
            error: Exception | None = None
            try:
                tokens = self.choice(self.pass_.step(slots, [row.ids[-1] for row in flight]), flight)
            except Exception as raised:
                if device_is_lost(raised):
                    raise
                error = raised
            if error is not None:
                # Outside the except block: its traceback would keep the failed step's tensors alive.
                slots, stranded, flight = Slots(1), flight, []
                self._halve(np.array([row.index for row in stranded]), error)
                continue
            self.padded_tokens += len(flight)
            self._leave(slots, flight, self._settle(flight, tokens))

    def _refill(
        self,
        slots: Slots,
        flight: list[Row],
        ready: deque[tuple[Prefilled, list[Row], list[int]]],
        arriving: Iterator[tuple[Prefilled, list[Row], list[int]]],
    ) -> None:
        """Let waiting rows into free slots, a wave at a time: rows of one age share the work of choosing."""
        while True:
            if not ready:
                ready.extend(item for item in [next(arriving, None)] if item is not None)
            if not ready:
                return
            prefilled, rows, picks = ready[0]
            longest = max(int(self.lengths[row.index]) for row in [*flight, rows[picks[0]]])
            capacity = self._capacity(longest)
            if flight and capacity - len(flight) < max(1, capacity // 8):
                return
            if capacity > slots.capacity:
                slots.resize(capacity)
            admitted = picks[: capacity - len(flight)]
            slots.admit(prefilled, admitted)
            flight.extend(rows[pick] for pick in admitted)
            ready.popleft()
            if rest := picks[len(admitted) :]:
                ready.appendleft((prefilled, rows, rest))

    def _read(self, indices: np.ndarray) -> Iterator[tuple[Prefilled, list[Row], list[int]]]:
        """Read sources batch by batch: what was read, its rows, and which of them go on after their first token."""
        lengths = self.lengths[indices]
        for batch in cut(lengths, self.max_tokens, self.caps):
            for part, (prefilled, rows, tokens) in corner(
                indices[batch], self._prefill, self.lengths, self.caps, self.failures
            ):
                self.padded_tokens += len(part) * int(self.lengths[part].max())
                gone = set(self._settle(rows, tokens))
                if picks := [position for position in range(len(rows)) if position not in gone]:
                    yield prefilled, rows, picks

    def _prefill(self, batch: np.ndarray) -> tuple[Prefilled, list[Row], list[int | None]]:
        rows = [self._row(index) for index in batch.tolist()]
        starts = [row.ids for row in rows]
        sources = [self.requests[row.index].ids for row in rows] if self.model.config.is_encoder_decoder else starts
        prefilled, logits = self.pass_.prefill(sources, starts)
        return prefilled, rows, self.choice(logits, rows)

    def _row(self, index: int) -> Row:
        request = self.requests[index]
        random = None
        if self.settings.do_sample:
            random = torch.Generator(self.model.device).manual_seed(request.seed)
        if not self.model.config.is_encoder_decoder:
            prompt = len(request.ids)
            return Row(index, [*request.ids, *request.prefix], prompt, prompt + request.max_new_tokens, random)
        start = self.settings.decoder_start_token_id
        ids = [self.settings.bos_token_id if start is None else start, *request.prefix]
        limit = min(1 + request.max_new_tokens, self.pass_.longest)
        return Row(index, ids, 1, limit, random)

    def _settle(self, rows: Sequence[Row], tokens: Sequence[int | None]) -> list[int]:
        """Note each row's next token; give the rows that are done with it."""
        gone = []
        for position, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            if token is None:
                self.failures[row.index] = FloatingPointError("the model's output is not finite (nan or inf)")
            elif token in self.ends:
                self.outputs[row.index] = self._generation(row, finished=True)
            else:
                row.ids.append(token)
                if len(row.ids) < row.limit:
                    continue
                self.outputs[row.index] = self._generation(row, finished=False)
            gone.append(position)
        return gone

    def _generation(self, row: Row, finished: bool) -> Generation:
        return Generation(row.ids[row.prompt + len(self.requests[row.index].prefix) :], finished)

    def _leave(self, slots: Slots, flight: list[Row], gone: Sequence[int]) -> None:
        for slot, was in slots.evict(gone):
            flight[slot] = flight[was]
        del flight[slots.rows :]

    def _capacity(self, longest: int) -> int:
        """Rows in flight at most, where the longest has that many source tokens."""
        rows = min(MAX_ROWS[self.model.device.type], CACHE_TOKENS * self.max_tokens // longest)
        cap = self.caps.rows(longest)
        return max(1, rows if cap is None else min(rows, cap))

    def _halve(self, indices: np.ndarray, error: Exception) -> None:
        """A step failed: bring its rows through again in halves, down to the one that fails."""
        if is_out_of_memory(error):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.caps.lower(int(self.lengths[indices].max()), max(1, len(indices) // 2))
        if len(indices) == 1:
            self.failures[int(indices[0])] = error
            return
        middle = len(indices) // 2
        self._flow(indices[:middle])
        self._flow(indices[middle:])


class Pass:
    """Forward passes of one model: reading sources or prompts, and one step of the rows in flight."""

    def __init__(self, model: Model):
        self.model = model
        self.network: Any = model.network
        self.encoder_decoder = bool(model.config.is_encoder_decoder)
        self.pad = model.tokenizer.pad_token_id or 0
        self.positions = self.table = None
        if self.encoder_decoder:
            self.positions = getattr(self.network.get_decoder(), "embed_positions", None)
            self.table = None if self.positions is None else _table(self.positions)
        # The last token is never fed.
        self.longest = 2**31 if self.table is None else len(self.table) + 1
        keep = getattr(self.network, "_supports_logits_to_keep", lambda: False)()
        self.only_last = {"logits_to_keep": 1} if keep else {}

    def prefill(self, sources: Sequence[Sequence[int]], starts: Sequence[list[int]]) -> tuple[Prefilled, torch.Tensor]:
        """Read sources, or prompts.

        Args:
            sources: token ids of each source; a decoder-only model's prompts.
            starts: the decoder's first tokens, equally many in each row; not used for a decoder-only model.

        Returns:
            what was read; the logits `(rows, vocabulary)` of the token that comes next.
        """
        lengths = np.fromiter(map(len, sources), dtype=np.int64, count=len(sources))
        if not self.encoder_decoder:
            return self._prefill_prompts(sources, lengths)
        ids = torch.from_numpy(padded(sources, self.pad)).to(self.model.device)
        mask = torch.from_numpy((np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)).to(self.model.device)
        encoded = self.network.get_encoder()(input_ids=ids, attention_mask=mask, return_dict=True)
        cache = EncoderDecoderCache(*(DynamicCache(config=self.model.config) for _ in range(2)))
        logits = self.network(
            encoder_outputs=encoded,
            attention_mask=mask,
            decoder_input_ids=torch.tensor(starts, device=self.model.device),
            past_key_values=cache,
            use_cache=True,
        ).logits
        own = _layers(cache.self_attention_cache)
        started = np.array([len(start) for start in starts])
        return Prefilled(own, started, _layers(cache.cross_attention_cache), lengths), logits[:, -1]

    def _prefill_prompts(self, prompts: Sequence[Sequence[int]], lengths: np.ndarray) -> tuple[Prefilled, torch.Tensor]:
        width = int(lengths.max())
        ids = padded([prompt[::-1] for prompt in prompts], self.pad)[:, ::-1].copy()
        mask = (np.arange(width)[::-1] < lengths[:, None]).astype(np.int64)
        positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
        cache = DynamicCache(config=self.model.config)
        logits = self.network(
            input_ids=torch.from_numpy(ids).to(self.model.device),
            attention_mask=torch.from_numpy(mask).to(self.model.device),
            position_ids=torch.from_numpy(positions).to(self.model.device),
            past_key_values=cache,
            use_cache=True,
            **self.only_last,
        ).logits
        return Prefilled(_layers(cache), lengths, [], lengths), logits[:, -1]

    def step(self, slots: Slots, tokens: Sequence[int]) -> torch.Tensor:
        """Feed one token a row; give the logits `(rows, vocabulary)` of the next."""
        cache, mask, positions = slots.open(), slots.mask(), slots.positions()
        fed = torch.tensor(tokens, device=self.model.device)[:, None]
        if not self.encoder_decoder:
            logits = self.network(
                input_ids=fed, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            ).logits
        else:
            source_mask = slots.source_mask()
            # Its keys and values are in the cache; the decoder only asks for the shape.
            shape = (len(tokens), source_mask.shape[-1], self.model.config.hidden_size)
            encoded = torch.zeros(1, dtype=self.network.dtype, device=self.model.device).expand(shape)
            with self._at(positions):
                logits = self.network(
                    encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
                    attention_mask=source_mask,
                    decoder_input_ids=fed,
                    decoder_attention_mask=mask,
                    past_key_values=cache,
                    use_cache=True,
                ).logits
        slots.end += 1
        return logits[:, -1]

    def _at(self, positions: torch.Tensor) -> AbstractContextManager[None]:
        return nullcontext() if self.positions is None else self._looked_up(positions)

    @contextmanager
    def _looked_up(self, positions: torch.Tensor) -> Iterator[None]:
        """Give each row the embedding of its own position; by itself the decoder takes one for all."""
        assert self.positions is not None
        assert self.table is not None
        embedded = self.table[positions]
        handle = self.positions.register_forward_hook(lambda *_: embedded)
        try:
            yield
        finally:
            handle.remove()


def _table(module: Any) -> torch.Tensor:
    """The position embeddings of a decoder from position 0 on, learned (BART) or sinusoidal (Marian, M2M100)."""
    if hasattr(module, "weights"):
        return module.weights[module.padding_idx + 1 :]
    return module.weight[getattr(module, "offset", 0) :]


def _layers(cache: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


_known: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def rolls(model: Model) -> bool:
    """Whether rows of different ages can share a batch of this architecture: tried out once, on two short rows.

    Decoders that ignore the mask of a single token, or that take their positions from elsewhere, or that keep only a
    window, cannot; `generate()` is for them.
    """
    if model.network not in _known:
        cache = DynamicCache(config=model.config)
        plain = all(type(layer) is DynamicLayer for layer in cache.layers)
        with torch.inference_mode():
            _known[model.network] = plain and _agrees(model)
    return _known[model.network]


def _agrees(model: Model) -> bool:
    """Let a row of three tokens join a row that is two steps ahead, and compare with both alone."""
    low = min(8, model.config.get_text_config().vocab_size - 6)
    long, short = ([low + i for i in (1, 3, 0, 2, 4)], [low + i for i in (2, 0, 1)])
    new = [low + i for i in (3, 1, 2)]
    start = [low]
    slots = Slots(2)
    try:
        pass_ = Pass(model)
        slots.admit(pass_.prefill([long], [start])[0], [0])
        for token in new[:2]:
            pass_.step(slots, [token])
        slots.admit(pass_.prefill([short], [start])[0], [0])
        together = pass_.step(slots, [new[2], new[2]])
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        # Such a decoder takes no mask, no position or no cache of this kind.
        return False
    if pass_.encoder_decoder:
        alone = [pass_.prefill([long], [start + new])[1], pass_.prefill([short], [start + new[2:]])[1]]
    else:
        alone = [pass_.prefill([long + new], [[]])[1], pass_.prefill([short + new[2:]], [[]])[1]]
    wanted = torch.cat(alone).float()
    tolerance = 1e-3 if model.network.dtype == torch.float32 else 5e-2
    return bool((together.float() - wanted).norm() <= tolerance * (wanted - wanted.mean()).norm())
