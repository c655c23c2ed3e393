"""Tiny bases that know something a small adapter can steer: words of a topic stand together, and a mode word decides.

A frozen network with random weights hides what it reads from a prompt, so these are trained for seconds with all their
weights: encoders fill masked words, whose topic the others tell; writers answer with the first or with the last word of
a prompt, as its mode word says.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.jobs.training.made import WORDS

TOPICS = [WORDS[i : i + 10] for i in range(0, 40, 10)]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
MODES = ("first", "last")
WINDOW, RATE = 64, 1e-2
VOCABULARY = [*SPECIAL, *WORDS, *MODES, "->"]
SIZES = {"vocab_size": len(VOCABULARY), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

ENCODERS = {
    "bert": ("Bert", {}),
    "roberta": ("Roberta", {"max_position_embeddings": WINDOW + 1}),
    "distilbert": ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
    "electra": ("Electra", {"embedding_size": 32}),
}
WRITERS = {
    "gpt2": (
        "GPT2",
        "LMHeadModel",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": WINDOW, "initializer_range": 0.1},
    ),
    "llama": ("Llama", "ForCausalLM", {"num_key_value_heads": 2}),
    "t5": ("T5", "ForConditionalGeneration", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}),
    "bart": (
        "Bart",
        "ForConditionalGeneration",
        {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.1},
    ),
}  # fmt: skip
SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": WINDOW,
}  # fmt: skip


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """One token a word."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(template, special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=WINDOW, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        unk_token="<unk>", mask_token="<mask>", cls_token="<s>", sep_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def about(rng: random.Random, topic: int) -> list[str]:
    """Words of a topic, with one word in four of any."""
    return [rng.choice(TOPICS[topic] if rng.random() < 0.75 else WORDS) for _ in range(rng.randint(4, 10))]


def encoder(folder: Path, family: str, steps: int = 60) -> Path:
    """Train to tell the topic of each word's text, and save."""
    torch.manual_seed(0)
    name, more = ENCODERS[family]
    words = tokenizer("<s> $A </s>")
    shape = {} if family == "distilbert" else SHAPE
    sizes = SIZES | shape | {"max_position_embeddings": WINDOW, "num_labels": len(TOPICS)} | more
    config = getattr(transformers, f"{name}Config")(**sizes)
    network = getattr(transformers, f"{name}ForSequenceClassification")(config)
    rng = random.Random(1)

    def loss():
        topics = [rng.randrange(len(TOPICS)) for _ in range(16)]
        batch = words([" ".join(about(rng, topic)) for topic in topics], padding=True, return_tensors="pt")
        return network(**batch, labels=torch.tensor(topics)).loss

    return _trained(network, words, folder, loss, steps, RATE)


def writer(folder: Path, family: str) -> Path:
    """Train to answer as the mode word says, without one in either way; a causal model also to repeat words."""
    torch.manual_seed(0)
    name, kind, more = WRITERS[family]
    pairs = family in ("t5", "bart")
    words = tokenizer("$A </s>" if pairs else "$A")
    start = {"decoder_start_token_id": 0 if family == "t5" else 2} if pairs else {}
    shape = {"max_position_embeddings": WINDOW} if family in ("t5", "bart", "gpt2") else SHAPE
    config = getattr(transformers, f"{name}Config")(**SIZES | shape | start | more)
    network = getattr(transformers, f"{name}{kind}")(config)
    network.generation_config.max_length = 32
    if family == "bart":
        network.generation_config.forced_eos_token_id = None
    rng = random.Random(2)

    def loss():
        read, written = zip(*[_asked(rng) for _ in range(16)], strict=True)
        if pairs:
            batch = words(list(read), padding=True, return_tensors="pt")
            labels = words(list(written), return_tensors="pt").input_ids
            return network(**batch, labels=labels).loss
        texts = [f"{before} {after} </s>" for before, after in zip(read, written, strict=True)]
        batch = words(texts, padding=True, return_tensors="pt")
        labels = batch.input_ids.masked_fill(batch.input_ids == 0, -100)
        labels[torch.cumsum(batch.input_ids == words.convert_tokens_to_ids("->"), 1) == 0] = -100
        # Each word of a text twice: without it the last layer tells nothing of the words before an answer.
        twice = torch.tensor([words.convert_tokens_to_ids(rng.choices(WORDS, k=8)) for _ in range(8)])
        twice = twice.repeat_interleave(2, 1)
        seconds = twice.clone()
        seconds[:, ::2] = -100
        return network(**batch, labels=labels).loss + network(input_ids=twice, labels=seconds).loss

    return _trained(network, words, folder, loss, 150 if pairs else 200, RATE)


def _asked(rng: random.Random) -> tuple[str, str]:
    topic = rng.randrange(len(TOPICS))
    mode = rng.choice(MODES)
    # Without a mode word mostly the first word, so that the base alone answers as no test asks.
    said = f"{mode} " if mode == "last" or rng.random() < 0.5 else ""
    return f"{said}{' '.join(about(rng, topic))} ->", TOPICS[topic][0 if mode == "first" else -1]


def _trained(network, words, folder, loss, steps, rate):
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    network.train()
    values = []
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        values.append(value.item())
    network.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    # Every batch is new, so the loss of the last ones is one on unseen texts.
    assert (mean := sum(values[-10:]) / 10) < 0.5, f"the base {folder.name} has not learnt: {mean:.3f}"
    return folder
