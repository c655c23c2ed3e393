"""A tiny causal model, trained for seconds, that answers in one to five clauses: most often in four."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tests.tiny import byte_pairs

SUBJECTS = ["cat", "dog", "bird", "fish", "horse", "fox", "owl", "bear", "frog", "duck"]
VERBS = ["eats", "sees", "likes", "finds", "wants"]
THINGS = ["bread", "soup", "rain", "grass", "milk", "corn", "wood", "sand"]
# Shares of answers with one to five clauses.
SHARES = (0.3, 0.25, 0.2, 0.15, 0.1)
WINDOW = 96
# Enough for the longest answer.
LONGEST = 40


def prompts(n: int, seed: int = 0) -> list[str]:
    """Different prompts, of 400 that there are."""
    every = [f"the {subject} {verb} {thing} ->" for subject in SUBJECTS for verb in VERBS for thing in THINGS]
    return random.Random(seed).sample(every, n)


def answer(rng: random.Random, clauses: int | None = None) -> str:
    """An answer with a number of clauses, or one as the model's."""
    count = clauses or rng.choices(range(1, 6), SHARES)[0]
    return " it " + " and ".join(f"{rng.choice(VERBS)} {rng.choice(THINGS)}" for _ in range(count))


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which each word of the answers is a token."""
    rng = random.Random(1)
    texts = [text + answer(rng) for text in prompts(300, seed=1)]
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_pairs(texts, 340, ["<pad>", "<s>", "</s>"]),
        model_max_length=WINDOW,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )


def save(folder: Path, steps: int = 120) -> Path:
    """Train and save the model with its tokenizer."""
    torch.manual_seed(4)
    words, rng = tokenizer(), random.Random(3)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": WINDOW}
    network = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), **shape, **special))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    asked = prompts(400)
    for _ in range(steps):
        rows = [[*words(rng.choice(asked) + answer(rng))["input_ids"], 2] for _ in range(24)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        labels = ids.masked_fill(ids == 0, -100)
        network(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    network.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
