"""A small training loop: AdamW, batches of rows of similar length, one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random
from threading import Event

import torch
from transformers import PreTrainedModel

IGNORED = -100
PADDING = 0
WARM_UP = 0.1
SHIFTED = 0.2
# Seconds without a line after which the step is told: on a slow machine an epoch takes longer than people wait.
SAY_EVERY_S = 10.0

# The rows of one epoch: the token ids of each row, and its labels: one for the row, or one for each token.
Rows = tuple[list[list[int]], list[list[int]]]


def fit(
    model: PreTrainedModel,
    rows: Callable[[Random], Rows],
    *,
    lengths: Sequence[int],
    batch_tokens: int,
    learning_rate: float,
    seed: int,
    stop: Event,
    progress: Callable[[str], None],
) -> None:
    """Train a model in place.

    Equal arguments give equal weights. Dropout uses torch's global random generator, so with dropout this holds only
    if no other thread uses that generator at the same time.

    Args:
        model: a BERT whose forward gives a loss.
        rows: returns the rows of an epoch; they may differ from epoch to epoch.
        lengths: for each epoch, the maximum number of tokens of a row; training on short rows first takes less time.
        batch_tokens: token positions in a batch, including padding.
        learning_rate: peak learning rate, after a linear warm-up and before a linear decay.
        seed: seed of all random numbers.
        stop: when set, training ends at the next step.
        progress: called with what will be done, then with the loss after each epoch, and with the step in long ones.
    """
    # The setting applies to this thread only. For a model of this size a second thread gains little, and is very slow
    # if another process uses a core: an epoch of 11 s on one thread took 75 s on two threads beside a busy process.
    torch.set_num_threads(1)
    rng = Random(seed)
    places = model.config.max_position_embeddings
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, fused=True)
    model.train()
    for epoch, longest in enumerate(lengths):
        ids, labels = rows(rng)
        if not epoch:
            progress(f"{len(ids):,} rows, about {steps(ids, lengths, batch_tokens):,} steps in {len(lengths)} epochs")
            said = time.monotonic()
        batches = batched([len(row) for row in ids], longest, batch_tokens, rng)
        total = 0.0
        for step, batch in enumerate(batches):
            if stop.is_set():
                return
            done = (epoch + step / len(batches)) / len(lengths)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * min(done / WARM_UP + 0.01, (1 - done) / (1 - WARM_UP))
            tokens = _padded([ids[row] for row in batch], PADDING)
            # Some batches start at a random position; otherwise only the few long texts would train late positions.
            first = rng.randint(0, places - tokens.shape[1]) if rng.random() < SHIFTED else 0
            loss = model(
                input_ids=tokens,
                attention_mask=(tokens != PADDING).long(),
                position_ids=torch.arange(first, first + tokens.shape[1])[None],
                labels=_padded([labels[row] for row in batch], IGNORED).squeeze(1),
            ).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
            if time.monotonic() - said >= SAY_EVERY_S:
                progress(f"epoch {epoch + 1} of {len(lengths)}, step {step + 1:,} of {len(batches):,}")
                said = time.monotonic()
        progress(f"epoch {epoch + 1} of {len(lengths)}, loss {total / max(1, len(batches)):.3f}")
        said = time.monotonic()
    model.eval()


def steps(ids: list[list[int]], lengths: Sequence[int], batch_tokens: int) -> int:
    """About how many steps all epochs have; rows that are drawn again for an epoch may give a few more or less."""
    sizes = [len(row) for row in ids]
    # Random numbers of its own, so that those of the training stay the same.
    return sum(len(batched(sizes, longest, batch_tokens, Random(0))) for longest in lengths)


def batched(lengths: list[int], longest: int, batch_tokens: int, rng: Random) -> list[list[int]]:
    """Divide rows of similar length into batches of row numbers, grouped at random within a budget of padded tokens.

    Args:
        lengths: number of tokens of each row.
        longest: rows with more tokens are left out.
        batch_tokens: maximum of rows times tokens of the longest one; a batch of one row may exceed it.
        rng: random numbers for the grouping and the order.
    """
    batches: list[list[int]] = []
    rows = [row for row, length in enumerate(lengths) if length <= longest]
    for row in sorted(rows, key=lambda row: lengths[row] + 4 * rng.random()):
        widest = max(lengths[row], *(lengths[other] for other in batches[-1])) if batches else 0
        if not batches or widest * (len(batches[-1]) + 1) > batch_tokens:
            batches.append([])
        batches[-1].append(row)
    rng.shuffle(batches)
    return batches


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    """Rows of different lengths -> int64 tensor `(batch, longest)`."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
