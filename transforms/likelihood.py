"""How probable a model finds given texts: the negative log-likelihood of each target after the task's own prompt.

Source: perplexity as in the documentation of transformers, exp of the mean negative log-likelihood of a token; here
only the tokens of the target count, the prompt or source is given. The annotators themselves make prompts and sources,
so that they are those of a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from transforms import batches
from transforms.annotators.generate import Generator
from transforms.annotators.summarize import Summarizer
from transforms.annotators.translate import Piece, Translator
from transforms.batches import padded
from transforms.contract import Failure, failures_of
from transforms.errors import ModelError
from transforms.model import Model

Writer = Generator | Summarizer | Translator

# Most numbers in the logits of one batch: half a gigabyte in float32.
MOST_LOGITS = 2**27


@dataclass(frozen=True)
class Example:
    """One target and what comes before it, as tokens.

    Attributes:
        source: the prompt of a causal model, or the source of an encoder-decoder.
        target: tokens of the target, end token included.
        given: number of first tokens of the target that the task forces, such as a language; they do not count.
    """

    source: list[int]
    target: list[int]
    given: int = 0


@dataclass(frozen=True)
class Likelihood:
    """How probable the targets of some rows are.

    Attributes:
        nll: float64 `(rows,)`, sum of the negative natural logarithms over a target's tokens; NaN for a row without
            text or target, and for one that failed.
        tokens: int64 `(rows,)`, tokens that count; 0 where `nll` is NaN.
        failures: the rows that raise, even alone.
    """

    nll: np.ndarray
    tokens: np.ndarray
    failures: Sequence[Failure]


def likelihood(writer: Writer, batch: pa.RecordBatch, targets: Sequence[str | None]) -> Likelihood:
    """The likelihood of a target for each row.

    A source that is longer than the window is cut, and so is a target. The end token counts, because a text that does
    not end is a mistake.

    Args:
        writer: the loaded task.
        batch: rows with the columns that the task reads.
        targets: the text that each row should give; an empty one is the end token alone, None is no target.
    """
    sources, failed = _sources(writer, batch)
    rows = [row for row in sources if targets[row] is not None]
    found = _computed(writer, [_example(writer, *sources[row], str(targets[row])) for row in rows])
    nll, tokens = np.full(len(batch), np.nan), np.zeros(len(batch), np.int64)
    nll[rows], tokens[rows] = found[:2]
    return Likelihood(nll, tokens, failures_of(failed | {rows[i]: error for i, error in found[2].items()}))


def of_tokens(writer: Writer, examples: Sequence[Example]) -> Likelihood:
    """The likelihood of targets that are tokens already.

    Args:
        writer: the loaded task.
        examples: targets and what comes before them; together they fit into the window.
    """
    nll, tokens, failed = _computed(writer, examples)
    return Likelihood(nll, tokens, failures_of(failed))


def _computed(writer: Writer, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray, dict[int, Exception]]:
    """`nll` and `tokens` of each example, and those that raise."""
    model = writer.model
    lengths = [len(example.source) + len(example.target) for example in examples]
    budget = max(1, min(writer.max_tokens, MOST_LOGITS // _vocabulary(model)))
    outcome = batches.run(lengths, partial(_compute, model, examples), budget, writer.caps)
    nll, tokens = np.full(len(examples), np.nan), np.zeros(len(examples), np.int64)
    for i, example in enumerate(examples):
        if (value := outcome.outputs[i]) is not None:
            # A prompt without tokens has nothing before its first target token, which then cannot count.
            unread = int(not example.source and not model.config.is_encoder_decoder)
            nll[i], tokens[i] = float(value), len(example.target) - example.given - unread
    return nll, tokens, outcome.failures


def _sources(writer: Writer, batch: pa.RecordBatch) -> tuple[dict[int, tuple[list[int], str | None]], dict[int, Any]]:
    """Row -> tokens of its prompt or source, and its target language; and the rows that the task refuses."""
    failed: dict[int, Any] = {}
    if isinstance(writer, Generator):
        texts = zip(*(batch.column(name).to_pylist() for name in writer.prompts.names), strict=True)
        rows = {row: values for row, values in enumerate(texts) if all(values)}
        prompts = dict(zip(rows, writer.prompts(list(rows.values())), strict=True))
        failed |= {row: ids for row, ids in prompts.items() if isinstance(ids, ValueError)}
        return {row: (ids, None) for row, ids in prompts.items() if not isinstance(ids, ValueError)}, failed
    whole = {row: text for row, text in enumerate(batch.column(writer.options.column).to_pylist()) if text}
    if isinstance(writer, Summarizer):
        ids = writer.ids(list(whole.values()))
        return {row: (tokens, None) for row, tokens in zip(whole, ids, strict=True)}, failed
    pieces = []
    sides = writer.side(batch, "source"), writer.side(batch, "target")
    for row, text in whole.items():
        source, target = sides[0][row], sides[1][row]
        try:
            writer.check_language("source", source)
            writer.check_language("target", target)
        except ModelError as error:
            failed[row] = error
            continue
        pieces.append(Piece(row, text, source, target))
    ids = writer.ids(pieces)
    return {piece.row: (tokens, piece.target) for piece, tokens in zip(pieces, ids, strict=True)}, failed


def _example(writer: Writer, source: list[int], language: str | None, text: str) -> Example:
    model = writer.model
    tokenizer: Any = model.tokenizer
    if not model.config.is_encoder_decoder:
        target = tokenizer(text, add_special_tokens=False)["input_ids"]
        return Example(source, [*target, *_end(model)][: max(1, model.max_length - len(source))])
    forced = writer.languages.forced(language) if isinstance(writer, Translator) else ()
    if forced:
        tokenizer.tgt_lang = language
    target = tokenizer(text_target=text, truncation=True, max_length=model.max_length)["input_ids"]
    if forced and tuple(target[: len(forced)]) != forced:
        target = [*forced, *target]
    first = model.network.generation_config.forced_bos_token_id
    given = len(forced) or int(first is not None and target[:1] == [first])
    return Example(source, target, given)


def _end(model: Model) -> list[int]:
    end = model.tokenizer.eos_token_id
    return [] if end is None else [end]


def _vocabulary(model: Model) -> int:
    embeddings: Any = model.network.get_output_embeddings()
    return int(getattr(embeddings, "out_features", 0) or len(model.tokenizer))


def _compute(model: Model, examples: Sequence[Example], batch: np.ndarray) -> torch.Tensor:
    """The negative log-likelihood of each example of a batch, `(batch,)`."""
    chosen = [examples[i] for i in batch]
    forward = _seq2seq if model.config.is_encoder_decoder else _causal
    with torch.inference_mode():
        logits, labels = forward(model, chosen)
        losses = torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2), labels, ignore_index=-100, reduction="none"
        )
        return losses.sum(dim=1)


def _causal(model: Model, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [[*example.source, *example.target] for example in examples]
    width = max(map(len, rows))
    ids, mask = _tensors(model, rows, model.filler)
    # A prompt without tokens has nothing before its first target token, which then cannot count.
    labels = [[-100] * (len(e.source) - 1) + e.target if e.source else [*e.target[1:], -100] for e in examples]
    more: dict[str, Any] = {}
    if (soft := model.soft_prompt).columns:
        mask, more = soft.ahead(mask), {"past_key_values": soft.cache(len(rows))}
    logits = model.network(input_ids=ids, attention_mask=mask, **more).logits
    return logits[:, :-1], _labels(model, labels, width - 1)


def _seq2seq(model: Model, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    settings: Any = model.network.generation_config
    start = settings.decoder_start_token_id
    start = settings.bos_token_id if start is None else start
    ids, mask = _tensors(model, [example.source for example in examples], model.filler)
    decoder, _ = _tensors(model, [[start, *example.target[:-1]] for example in examples], model.filler)
    labels = [[-100] * example.given + example.target[example.given :] for example in examples]
    encoded, mask = model.soft_prompt.encode(model.network, ids, mask)
    cache = model.soft_prompt.decoder_cache(len(examples)) if model.soft_prompt.columns else None
    logits = model.network(
        encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=decoder, past_key_values=cache
    ).logits
    width = decoder.shape[1]
    return logits[:, -width:], _labels(model, labels, width)


def _tensors(model: Model, rows: Sequence[list[int]], fill: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.from_numpy(padded(rows, fill)).to(model.device)
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    mask = (torch.arange(ids.shape[1], device=model.device) < lengths[:, None]).long()
    return ids, mask


def _labels(model: Model, rows: Sequence[list[int]], width: int) -> torch.Tensor:
    labels = np.full((len(rows), width), -100, np.int64)
    for row, ids in zip(labels, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(labels).to(model.device)
