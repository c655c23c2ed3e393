"""Tokens a second of a whole translate job, file to file, against plain `generate()` and CTranslate2.

    python -m tests.bench.seq2seq [--rows 256] [--repeats 3] [--arms job,ct2]

The model has the shape of an opus-mt Marian model (512 wide, 6 + 6 layers, 58,101 tokens). Its weights are random
except for what makes a text end: the source's word `s24` makes the decoder begin with `c24`, which the output layer
follows with `c23` and so on to `c1` and the end token, since the layers between add next to nothing to their input.
Every matrix product is computed as in any other model; only what comes out is known. So every arm writes the same
texts, and their lengths are skewed: log-normal with a median of 24 tokens and a tail to 200, the sources 0.4 to 2.5
times as long.

Every arm loads the model, reads the same Parquet file and writes Parquet; all of that is timed. The arms take turns in
one process, repeat by repeat; medians are of the repeats; the last line is JSON. All arms are greedy.

    job          nightscribe
    generate 32  batches of 32 texts sorted by length through model.generate(), as transformers loads it
    generate 64  the same in batches of 64
    ct2          CTranslate2, which sorts and drops finished rows itself, batches of 64, float32
    ct2 int8     the same with int8 weights
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import decoders, processors
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, MarianConfig, MarianMTModel

from jobs import run, spec
from tests.bench import corpus

LONGEST = 200
VOCABULARY = 58_101


def marian(folder: Path) -> Path:
    """A Marian model that counts down from the number its source says."""
    torch.manual_seed(0)
    words = [f"s{n}" for n in range(1, LONGEST + 1)] + [f"c{n}" for n in range(1, LONGEST + 1)]
    order = ["</s>", "<unk>", *words]
    order += [f"w{n}" for n in range(VOCABULARY - len(order) - 1)] + ["<pad>"]
    ids = {word: i for i, word in enumerate(order)}
    tokenizer = corpus.word_level(order, 512, model_input_names=["input_ids", "attention_mask"])
    backend = tokenizer.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 0)])
    backend.decoder = decoders.Fuse()
    pad = ids["<pad>"]
    config = MarianConfig(
        vocab_size=VOCABULARY, d_model=512, encoder_layers=6, decoder_layers=6, encoder_ffn_dim=2048,
        decoder_ffn_dim=2048, encoder_attention_heads=8, decoder_attention_heads=8, activation_function="swish",
        max_position_embeddings=512, scale_embedding=True, static_position_embeddings=True, pad_token_id=pad,
        eos_token_id=0, decoder_start_token_id=pad, forced_eos_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    network = MarianMTModel(config)
    with torch.no_grad():
        embedded = torch.randn(VOCABULARY, 512)
        embedded[pad] = 0
        for table in (network.model.shared, network.model.encoder.embed_tokens, network.model.decoder.embed_tokens):
            table.weight.copy_(embedded)
        for stack in (network.model.encoder, network.model.decoder):
            for layer in stack.layers:
                layer.self_attn.out_proj.weight.mul_(0.01)
                layer.fc2.weight.mul_(0.01)
        for i, layer in enumerate(network.model.decoder.layers):
            layer.encoder_attn.out_proj.weight.mul_(0.01)
            if i == 0:
                layer.encoder_attn.v_proj.weight.copy_(torch.eye(512))
                layer.encoder_attn.out_proj.weight.copy_(0.5 * torch.eye(512))
        rows = network.lm_head.weight
        rows.normal_(std=0.02)
        rows[0] = embedded[ids["c1"]]
        for n in range(1, LONGEST + 1):
            rows[ids[f"c{n}"]] = embedded[ids[f"s{n}"]]
            if n < LONGEST:
                rows[ids[f"c{n}"]] += embedded[ids[f"c{n + 1}"]]
    network.generation_config.bad_words_ids = [[pad]]
    network.generation_config.max_length = 512
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def texts(rows: int, seed: int = 0) -> list[str]:
    """Sources that say how long their translation is."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(24), 0.9, rows), 1, LONGEST).astype(int)
    sources = np.clip(lengths * rng.lognormal(0, 0.4, rows).clip(0.4, 2.5), 4, 480).astype(int)
    # The last word makes every text another one: the job computes equal texts once.
    pairs = enumerate(zip(lengths.tolist(), sources.tolist(), strict=True))
    return [" ".join([f"s{n}"] * size + [f"w{i}"]) for i, (n, size) in pairs]


def job(model: Path, source: Path, sink: Path) -> None:
    """The job, through the same call as the command."""
    task = {"task": "translate", "column": "text", "model": str(model), "into": "translated", "dtype": "float32"}
    content = {"name": "seq2seq", "source": {"path": str(source)}, "tasks": [task], "sink": {"path": str(sink)}}
    run.run(spec.parse(content))


def generate(model: Path, source: Path, sink: Path, batch_size: int) -> None:
    """Batches sorted by length through model.generate()."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForSeq2SeqLM.from_pretrained(model, dtype=torch.float32).eval()
    table = pq.read_table(source)
    ids = tokenizer(table["text"].to_pylist())["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    written = [""] * len(ids)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt")
            output = network.generate(**inputs, num_beams=1, do_sample=False)
            for i, text in zip(batch, tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
                written[i] = text
    _write(table, written, sink)


def ct2(model: Path, source: Path, sink: Path, compute_type: str) -> None:
    """CTranslate2 on a model that was converted before the clock started."""
    import ctranslate2

    tokenizer = AutoTokenizer.from_pretrained(model)
    translator = ctranslate2.Translator(
        str(model.with_name("ct2")), compute_type=compute_type, intra_threads=torch.get_num_threads()
    )
    table = pq.read_table(source)
    tokens = [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(table["text"].to_pylist())["input_ids"]]
    results = translator.translate_batch(tokens, beam_size=1, max_batch_size=64, max_decoding_length=511)
    written = [" ".join(result.hypotheses[0]) for result in results]
    _write(table, written, sink)


def _write(table: pa.Table, written: list[str], sink: Path) -> None:
    sink.mkdir(parents=True)
    pq.write_table(table.append_column("translated", pa.array(written)), sink / "part.parquet", compression="zstd")


def _counted(sink: Path) -> list[list[str]]:
    files = sorted(sink.rglob("*.parquet"))
    return [text.replace("c", " c").split() for file in files for text in pq.read_table(file)["translated"].to_pylist()]


def main() -> None:
    """Run the arms in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", default="job,generate 32,generate 64,ct2,ct2 int8")
    arguments = parser.parse_args()
    known: dict[str, tuple[Callable[..., None], tuple]] = {
        "job": (job, ()),
        "generate 32": (generate, (32,)),
        "generate 64": (generate, (64,)),
        "ct2": (ct2, ("float32",)),
        "ct2 int8": (ct2, ("int8",)),
    }
    arms = {name: known[name] for name in arguments.arms.split(",")}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = marian(root / "model")
        if any(name.startswith("ct2") for name in arms):
            from ctranslate2.converters import TransformersConverter

            TransformersConverter(str(model)).convert(str(root / "ct2"))
        sources = texts(arguments.rows)
        pq.write_table(pa.table({"id": range(len(sources)), "text": sources}), root / "source.parquet")
        wanted = [[f"c{n}" for n in range(int(text.split()[0][1:]), 0, -1)] for text in sources]
        tokens = sum(map(len, wanted))
        for repeat in range(arguments.repeats):
            for name, (call, extra) in arms.items():
                sink = root / f"{name}-{repeat}".replace(" ", "-")
                started = time.perf_counter()
                call(model, root / "source.parquet", sink, *extra)
                seconds[name].append(time.perf_counter() - started)
                right = sum(a == b for a, b in zip(_counted(sink), wanted, strict=True))
                rate = tokens / seconds[name][-1]
                print(f"{repeat} {name:<12} {rate:>8,.0f} tokens/s, {right} of {len(wanted)} texts right", flush=True)
    rate = {name: tokens / statistics.median(values) for name, values in seconds.items()}
    print(f"\n{'arm':<12} {'tokens/s':>10}   spread")
    for name, value in rate.items():
        print(f"{name:<12} {value:>10,.0f}   {tokens / max(seconds[name]):,.0f} to {tokens / min(seconds[name]):,.0f}")
    plain = [value for name, value in rate.items() if name.startswith("generate")]
    summary = {
        "bench": "seq2seq",
        "rows": arguments.rows,
        "tokens": tokens,
        "repeats": arguments.repeats,
        "tokens_per_s": {name: round(value) for name, value in rate.items()},
        "job_over_generate": round(rate["job"] / max(plain), 2) if plain and "job" in rate else None,
        "job_over_ct2": round(rate["job"] / rate["ct2"], 2) if {"job", "ct2"} <= rate.keys() else None,
        "versions": corpus.versions() | {"ctranslate2": version("ctranslate2")},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
