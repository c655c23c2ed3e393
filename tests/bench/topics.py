"""A corpus with long-tailed topics and lengths, and a small base model that has read it without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

TOPICS, WORDS, OWN, LONGEST = 24, 1800, 60, 120
# The share of a text's words that are of its topic, and of those that are of a neighbouring topic.
TOPICAL, NEIGHBOUR = 0.3, 0.1


def corpus(rows: int, seed: int) -> pa.Table:
    """Texts with their true topics: `id`, `text`, `topic`, all string.

    Topic k has a share proportional to 1 / k; words follow Zipf's law; lengths are log-normal, median 22 words.
    """
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, TOPICS + 1)
    topics = rng.choice(TOPICS, rows, p=shares / shares.sum())
    lengths = np.clip(rng.lognormal(3.1, 0.7, rows), 4, LONGEST).astype(int)
    zipf = 1 / np.arange(1, WORDS + 1)
    own = np.random.default_rng(0).permutation(WORDS)[: TOPICS * OWN].reshape(TOPICS, OWN)
    texts = []
    for topic, length in zip(topics, lengths, strict=True):
        words = rng.choice(WORDS, length, p=zipf / zipf.sum())
        kind = rng.random(length)
        for part, of in ((kind < TOPICAL, topic), (kind > 1 - NEIGHBOUR, (topic + 1) % TOPICS)):
            words[part] = own[of][rng.integers(0, OWN, int(part.sum()))]
        texts.append(" ".join(word_of(word) for word in words))
    names = [f"topic {topic:02}" for topic in topics]
    return pa.table({"id": [f"{seed}-{row}" for row in range(rows)], "text": texts, "topic": names})


def word_of(number: int) -> str:
    """The spelling of a word, in syllables."""
    syllables = [f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    return "".join(syllables[number // len(syllables) ** place % len(syllables)] for place in range(2))


def base(folder: Path, texts: list[str], steps: int) -> Path:
    """A BERT of two layers that has learnt to fill masks in these texts."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])}
    vocabulary |= {word_of(word): len(vocabulary) + word for word in range(WORDS)}
    words = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=128, **special)
    torch.manual_seed(0)
    network = BertForMaskedLM(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            max_position_embeddings=128,
        )
    )
    arguments = TrainingArguments(
        output_dir=str(folder / "pretraining"),
        max_steps=steps,
        per_device_train_batch_size=32,
        learning_rate=2e-3,
        warmup_steps=0.1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    encoded = [{"input_ids": ids} for ids in tokenizer(texts, truncation=True, max_length=32)["input_ids"]]
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.2)
    # The stub asks for a data set of torch; the trainer takes anything with a length and items.
    Trainer(network, arguments, train_dataset=encoded, data_collator=collator).train()  # type: ignore[arg-type]
    network.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder / "base"
