"""Tiny encoder-decoders of every family, trained for seconds to copy, so that each text ends at its own step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    LEDConfig,
    LEDForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    NllbTokenizer,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from tests import tiny

WINDOW = 48
PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
LANGUAGES = {"nllb": ["eng_Latn", "deu_Latn", "arb_Arab"], "mbart": ["en_XX", "de_DE", "ar_AR"]}
FAMILIES = ("t5", "bart", "marian", "pegasus", "led", "nllb", "mbart")

SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "dropout": 0.0,
    "init_std": 0.2,
    "pad_token_id": PAD,
    "bos_token_id": START,
    "eos_token_id": END,
    "max_position_embeddings": WINDOW,
}


def byte_level(template: str, more: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without an unknown character; `template` places its special tokens."""
    backend = tiny.byte_pairs(tiny.texts(200, seed=9)[len(tiny.HARD) :], 340, [*SPECIAL, *more])
    backend.post_processor = processors.TemplateProcessing(template, special_tokens=[("<s>", START), ("</s>", END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=WINDOW,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _letters() -> list[str]:
    return sorted({letter for text in tiny.texts(300, seed=9) for letter in text if not letter.isspace()})


def nllb_tokenizer() -> NllbTokenizer:
    """The tokenizer of NLLB, one letter a token: the source language stands before a text."""
    order = ["<s>", "<pad>", "</s>", "<unk>", "▁", *_letters()]
    vocabulary = {token: i for i, token in enumerate(order)}
    return NllbTokenizer(vocabulary, [], extra_special_tokens=LANGUAGES["nllb"], model_max_length=WINDOW)


def mbart_tokenizer() -> MBart50Tokenizer:
    """The tokenizer of mBART-50, one letter a token: the source language stands before a text."""
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocabulary += [(letter, -3.0) for letter in _letters()]
    return MBart50Tokenizer(vocab=vocabulary, src_lang="en_XX", model_max_length=WINDOW)


def make(folder: Path, family: str) -> Path:
    """Train and save one of FAMILIES with its tokenizer."""
    torch.manual_seed(7)
    network, tokenizer = _FACTORY[family]()
    _train(network, tokenizer)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _t5() -> tuple[PreTrainedModel, Any]:
    tokenizer = byte_level("$A </s>")
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, dropout_rate=0.0,
        pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=PAD,
        task_specific_params={
            "summarization": {"prefix": "sum: ", "max_length": 30, "min_length": 3},
            "translation_en_to_de": {"prefix": "en de: ", "max_length": 40},
        },
    )  # fmt: skip
    return T5ForConditionalGeneration(config), tokenizer


def _bart() -> tuple[PreTrainedModel, Any]:
    tokenizer = byte_level("<s> $A </s>")
    network = BartForConditionalGeneration(BartConfig(vocab_size=len(tokenizer), decoder_start_token_id=END, **SIZES))
    network.generation_config.forced_bos_token_id = START
    network.generation_config.forced_eos_token_id = END
    network.generation_config.max_length = 40
    network.generation_config.no_repeat_ngram_size = 3
    return network, tokenizer


def _marian() -> tuple[PreTrainedModel, Any]:
    tokenizer = byte_level("$A </s>", (">>deu<<", ">>ara<<"))
    config = MarianConfig(vocab_size=len(tokenizer), decoder_start_token_id=PAD, scale_embedding=True, **SIZES)
    network = MarianMTModel(config)
    network.generation_config.bad_words_ids = [[PAD]]
    network.generation_config.forced_eos_token_id = END
    network.generation_config.num_beams = 4
    network.generation_config.max_length = WINDOW
    return network, tokenizer


def _pegasus() -> tuple[PreTrainedModel, Any]:
    tokenizer = byte_level("$A </s>")
    config = PegasusConfig(vocab_size=len(tokenizer), decoder_start_token_id=PAD, forced_eos_token_id=END, **SIZES)
    network = PegasusForConditionalGeneration(config)
    network.generation_config.max_length = 32
    return network, tokenizer


def _led() -> tuple[PreTrainedModel, Any]:
    tokenizer = byte_level("<s> $A </s>")
    sizes = {key: value for key, value in SIZES.items() if key != "max_position_embeddings"}
    config = LEDConfig(
        vocab_size=len(tokenizer), decoder_start_token_id=END, attention_window=8,
        max_encoder_position_embeddings=WINDOW + 16, max_decoder_position_embeddings=WINDOW, **sizes,
    )  # fmt: skip
    return LEDForConditionalGeneration(config), tokenizer


def _nllb() -> tuple[PreTrainedModel, Any]:
    tokenizer = nllb_tokenizer()
    config = M2M100Config(
        vocab_size=len(tokenizer), decoder_start_token_id=2, **SIZES | {"pad_token_id": 1, "bos_token_id": 0}
    )
    network = M2M100ForConditionalGeneration(config)
    network.generation_config.max_length = WINDOW
    return network, tokenizer


def _mbart() -> tuple[PreTrainedModel, Any]:
    tokenizer = mbart_tokenizer()
    config = MBartConfig(
        vocab_size=len(tokenizer), decoder_start_token_id=2, **SIZES | {"pad_token_id": 1, "bos_token_id": 0}
    )
    network = MBartForConditionalGeneration(config)
    network.generation_config.max_length = WINDOW
    return network, tokenizer


_FACTORY = {
    "t5": _t5, "bart": _bart, "marian": _marian, "pegasus": _pegasus, "led": _led, "nllb": _nllb, "mbart": _mbart,
}  # fmt: skip


def _train(network: PreTrainedModel, tokenizer: Any, steps: int = 120, rows: int = 24) -> None:
    """Copy what is between the special tokens, behind the target language where the tokenizer has languages."""
    config = network.config
    codes = [tokenizer.convert_tokens_to_ids(code) for code in LANGUAGES.get(_family(tokenizer), [])]
    special = sorted(set(tokenizer.all_special_ids) | set(codes))
    ordinary = torch.tensor([i for i in range(5, len(tokenizer)) if i not in special])
    before = tokenizer("")["input_ids"][:-1] if not codes else codes[:1]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    random = torch.Generator().manual_seed(3)
    network.train()
    for _ in range(steps):
        sources = torch.full((rows, 20), config.pad_token_id)
        targets = torch.full((rows, 20), -100)
        for row in range(rows):
            n = int(torch.randint(1, 17, (1,), generator=random))
            body = ordinary[torch.randint(0, len(ordinary), (n,), generator=random)].tolist()
            source = [*before, *body, config.eos_token_id]
            target = [*(codes[1:2] or before), *body, config.eos_token_id]
            sources[row, : len(source)] = torch.tensor(source)
            targets[row, : len(target)] = torch.tensor(target)
        loss = network(input_ids=sources, attention_mask=(sources != config.pad_token_id).long(), labels=targets).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()


def _family(tokenizer: Any) -> str:
    return {"NllbTokenizer": "nllb", "MBart50Tokenizer": "mbart"}.get(type(tokenizer).__name__, "")
