"""Tiny models of real architectures with real tokenizers, made in a second: random weights, sharp logits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
)

from flows.demo.tokenizer import train_tokenizer

WINDOW = 64
HARD = [
    "Zoë visited São Paulo — and naïve café owners smiled 😀👩‍👩‍👧 twice.",
    "e\u0301galite\u0301 with combining marks",
    "مرحبا بكم في القاهرة",
    "שלום ירושלים, John Smith!",
    "don't, can't; U.S.A. e-mail@example.com 3.14",
    "   leading and   inner   spaces  ",
    "\u200bzero width \ufeff bom",
    "日本語のテキスト and English",
    "x" * 300,
    ".",
    " ",
]


def texts(n: int, seed: int = 0) -> list[str]:
    """Sentences of invented words with long-tailed lengths, the hard ones among them."""
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyzäéñ"
    words = ["".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(800)]
    words += [word.title() for word in words[:200]] + [",", ".", "-", "'s"]
    lengths = [max(1, min(400, int(rng.lognormvariate(2.6, 1.0)))) for _ in range(n)]
    sentences = [" ".join(rng.choices(words, k=length)) for length in lengths]
    return (HARD + sentences)[:n] if n > len(HARD) else sentences


def wordpiece(max_length: int = WINDOW, lowercase: bool = False, vocabulary: int = 900) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer as BERT's; the small vocabulary cuts most words to pieces."""
    return train_tokenizer(texts(200, seed=9)[len(HARD) :], vocabulary, max_length, lowercase=lowercase)


def byte_pairs(learn_from: list[str], vocabulary: int, special: list[str]) -> Tokenizer:
    """A byte-level BPE, trained: what GPT-2 and RoBERTa have, special tokens first and placed by nobody yet."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(learn_from, trainer)
    return backend


def byte_level(max_length: int = WINDOW) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer as RoBERTa's."""
    backend = byte_pairs(texts(200, seed=9)[len(HARD) :], 900, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _shape(labels: Sequence[str], **more: object) -> dict[str, object]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.5,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        **more,
    }


def bert(folder: Path, head: str, labels: Sequence[str], seed: int = 1, **more: object) -> Path:
    """Save a tiny BERT with a classification, token, masked-LM or question answering head and its tokenizer."""
    heads = {
        "classify": BertForSequenceClassification,
        "ner": BertForTokenClassification,
        "mlm": BertForMaskedLM,
        "answer": BertForQuestionAnswering,
    }
    lowercase = bool(more.pop("lowercase", False))
    torch.manual_seed(seed)
    tokenizer = wordpiece(lowercase=lowercase)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=WINDOW, **_shape(labels, **more))
    heads[head](config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def roberta(folder: Path, head: str, labels: Sequence[str], seed: int = 1) -> Path:
    """Save a tiny RoBERTa with a classification, token or question answering head and its byte-level tokenizer."""
    heads = {
        "classify": RobertaForSequenceClassification,
        "ner": RobertaForTokenClassification,
        "answer": RobertaForQuestionAnswering,
    }
    torch.manual_seed(seed)
    tokenizer = byte_level()
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=WINDOW + 2,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
        **_shape(labels),
    )
    heads[head](config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
