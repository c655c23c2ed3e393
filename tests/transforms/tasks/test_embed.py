"""embed gives what a plain transformers loop gives."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    LlamaConfig,
    LlamaModel,
    T5Config,
    T5EncoderModel,
    T5Model,
)

from jobs import run, spec
from tests import lake, tiny
from transforms.annotate import Row
from transforms.annotators.embed import Sequence
from transforms.errors import ModelError, SpecError
from transforms.model import ModelRef, forward, load
from transforms.tasks import embed

TEXTS = tiny.texts(80)
WIDTH = 32


def task(folder, max_tokens=None, **options):
    return embed.load(embed.Options("text", **options), load(ModelRef(str(folder)), embed.ARCHITECTURE), max_tokens)


def annotate(folder, texts=TEXTS, max_tokens=None, **options):
    return task(folder, max_tokens, **options)(pa.record_batch({"text": pa.array(texts, pa.string())}))


def matrix(values):
    return values.flatten().to_numpy().reshape(len(values) - values.null_count, -1)


def reference(folder, how, texts=TEXTS, auto=AutoModel):
    tokenizer, network = AutoTokenizer.from_pretrained(folder), auto.from_pretrained(folder).eval()
    vectors = []
    for text in texts:
        inputs = tokenizer(
            text, truncation=True, max_length=tiny.WINDOW, return_tensors="pt", return_token_type_ids=False
        )
        with torch.inference_mode():
            hidden = network(**inputs).last_hidden_state[0]
        vectors.append({"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[how])
    return torch.stack(vectors).numpy()


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, models):
    """Bodies without a head: an encoder, a byte-level one, the encoder of an encoder-decoder, a decoder."""
    root = tmp_path_factory.mktemp("zoo")
    shutil.copytree(models / "mlm", root / "bert")
    shutil.copytree(models / "ner_bytes", root / "roberta")
    torch.manual_seed(5)
    size = {"vocab_size": 900, "pad_token_id": 0}
    T5Model(
        T5Config(d_model=WIDTH, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0, **size)
    ).save_pretrained(root / "t5")
    LlamaModel(
        LlamaConfig(
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            initializer_range=0.5,
            max_position_embeddings=tiny.WINDOW,
            **size,
        )
    ).save_pretrained(root / "llama")
    for name in ("t5", "llama"):
        tiny.wordpiece().save_pretrained(root / name)
    return root


@pytest.mark.parametrize("how", ["mean", "cls", "last"])
@pytest.mark.parametrize("name", ["bert", "roberta", "llama"])
def test_vectors_equal_a_plain_loop(zoo, name, how):
    values = annotate(zoo / name, pooling=how).values
    assert values.type == pa.list_(pa.float32(), WIDTH)
    np.testing.assert_allclose(matrix(values), reference(zoo / name, how), atol=1e-4)


def test_an_encoder_decoder_embeds_with_its_encoder(zoo):
    want = reference(zoo / "t5", "mean", auto=T5EncoderModel)
    np.testing.assert_allclose(matrix(annotate(zoo / "t5").values), want, atol=1e-4)


def test_the_token_budget_does_not_change_the_vectors(zoo):
    wide, narrow = (matrix(annotate(zoo / "bert", max_tokens=n).values) for n in (4096, 64))
    np.testing.assert_allclose(wide, narrow, atol=1e-5)


def test_only_one_vector_a_text_leaves_the_device(zoo):
    loaded = task(zoo / "bert")
    assert loaded.forward([Sequence([2, 9, 9, 9, 3]), Sequence([2, 3])]).shape == (2, WIDTH)


@pytest.mark.parametrize(
    ("options", "reduced"),
    [
        ({"pooling": "cls"}, True),
        ({"pooling": "cls", "prompt": "query: "}, True),
        ({"pooling": "mean"}, False),
        ({"pooling": "last"}, False),
    ],
)
def test_the_last_layer_computes_only_the_token_that_the_pooling_reads(zoo, options, reduced):
    loaded = task(zoo / "bert", **options)
    hidden = forward(loaded.model, [[2, 9, 9, 9, 3], [2, 3]]).last_hidden_state
    assert hidden.shape == (2, 1 if reduced else 5, WIDTH)


def test_dimensions_cut_first_and_normalise_then(zoo):
    values = annotate(zoo / "bert", dimensions=8, normalize=True).values
    assert values.type == pa.list_(pa.float32(), 8)
    want = reference(zoo / "bert", "mean")[:, :8]
    np.testing.assert_allclose(matrix(values), want / np.linalg.norm(want, axis=1, keepdims=True), atol=1e-4)
    cut = annotate(zoo / "bert", dimensions=8).values
    np.testing.assert_allclose(matrix(cut), want, atol=1e-4)


def test_null_and_empty_texts_are_null_and_keep_their_place(zoo):
    for texts in ([None, "", "fine", None], [], [None], ["", ""]):
        annotation = annotate(zoo / "bert", texts)
        assert annotation.values.is_null().to_pylist() == [not text for text in texts]
        assert not annotation.failures
    np.testing.assert_allclose(
        annotate(zoo / "bert", [None, "fine"]).values[1].values.to_numpy(),
        reference(zoo / "bert", "mean", ["fine"])[0],
        atol=1e-5,
    )


def test_a_prompt_is_put_before_every_text(zoo):
    got = matrix(annotate(zoo / "bert", prompt="query: ").values)
    np.testing.assert_allclose(got, reference(zoo / "bert", "mean", ["query: " + t for t in TEXTS]), atol=1e-4)


@pytest.mark.parametrize("prompt", [None, "e\u0301 query: "])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_windows_of_a_long_text_are_averaged_by_their_tokens_and_each_has_the_prompt(zoo, name, prompt):
    long = " ".join(TEXTS[20:40])
    got = annotate(zoo / name, [long, "short"], long_text="window", prompt=prompt).values[0].values.to_numpy()
    tokenizer, network = AutoTokenizer.from_pretrained(zoo / name), AutoModel.from_pretrained(zoo / name).eval()
    first, *ids, last = tokenizer((prompt or "") + long, verbose=False)["input_ids"]
    before = tokenizer((prompt or "").rstrip(), add_special_tokens=False)["input_ids"]
    assert ids[: len(before)] == before
    body, width = ids[len(before) :], tiny.WINDOW - 2 - len(before)
    windows = [[first, *before, *body[i : i + width], last] for i in range(0, len(body), width)]
    assert len(windows) > 3
    with torch.inference_mode():
        vectors = [network(torch.tensor([window])).last_hidden_state[0].mean(0).numpy() for window in windows]
    np.testing.assert_allclose(got, np.average(vectors, axis=0, weights=list(map(len, windows))), atol=1e-4)


def test_a_row_that_makes_the_model_raise_fails_alone(zoo, monkeypatch):
    loaded = task(zoo / "bert")
    batch = pa.record_batch({"text": TEXTS})
    clean, forward = loaded(batch).values, loaded.forward
    poison = loaded.tokenise([Row(0, TEXTS[17])])[0][1]

    def fragile(sequences):
        if poison in sequences:
            raise RuntimeError("index out of range")
        return forward(sequences)

    monkeypatch.setattr(loaded, "forward", fragile)
    annotation = loaded(batch)
    assert [(f.row, f.error_type) for f in annotation.failures] == [(17, "RuntimeError")]
    assert annotation.values.is_null().to_pylist() == [row == 17 for row in range(len(TEXTS))]
    np.testing.assert_allclose(matrix(annotation.values), np.delete(matrix(clean), 17, axis=0), atol=1e-5)


def test_an_encoder_decoder_whose_encoder_does_not_load_alone_is_refused():
    with pytest.raises(ModelError, match="embed needs an encoder, and bart is an encoder-decoder"):
        embed.check(embed.Options("text"), AutoConfig.for_model("bart"))


def test_a_prompt_as_long_as_the_window_is_refused(zoo):
    with pytest.raises(ModelError, match=r"the prompt 'word word .*' leaves no room in 64 tokens; shorten it"):
        task(zoo / "bert", prompt="word " * 80)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": 0}, "job: tasks.0: dimensions is 0; give a width from 1"),
        ({"pooling": "max"}, "job: tasks.0.pooling is 'max'; choices: 'auto', 'mean', 'cls' or 'last'"),
        ({"normalize": "sometimes"}, "job: tasks.0.normalize is 'sometimes'; input should be a valid boolean"),
        ({"prompt": "a", "prompt_name": "b"}, "job: tasks.0: prompt and prompt_name are both given"),
        ({"dimension": 3}, "job: tasks.0.dimension is not a key; did you mean dimensions?"),
    ],
)
def test_an_error_for_a_wrong_option_names_it_and_the_valid_values(options, message):
    item = {"task": "embed", "column": "text", "model": "org/model", "into": "vector"} | options
    with pytest.raises(SpecError) as caught:
        spec.parse({"name": "x", "source": {"path": "in"}, "tasks": [item], "sink": {"path": "out"}})
    assert str(caught.value).startswith(message)


def test_a_job_writes_vectors_that_every_reader_can_read_nulls_included(tmp_path, zoo):
    (tmp_path / "in").mkdir()
    pq.write_table(lake.rows(60), tmp_path / "in" / "a.parquet")
    item = {"task": "embed", "column": "text", "model": str(zoo / "bert"), "into": "vector", "dtype": "float32"}
    content = lake.job(tmp_path / "in", tmp_path / "out", zoo, tasks=[item | {"dimensions": 8, "normalize": True}])
    report = run.run(spec.parse(content))
    got = lake.read(tmp_path / "out")
    assert (report.rows_out, got.schema.field("vector").type) == (60, pa.list_(pa.float32()))
    assert got["vector"].is_null().to_pylist() == [not text for text in got["text"].to_pylist()]
    norms = np.linalg.norm(matrix(got["vector"].combine_chunks()), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-5)
