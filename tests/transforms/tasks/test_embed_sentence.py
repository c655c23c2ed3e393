"""embed does with a sentence-transformers folder what sentence-transformers does with it."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from tests.transforms.tasks.test_embed import TEXTS, WIDTH, annotate, matrix, reference
from transforms import dense
from transforms.errors import ModelError
from transforms.model import ModelRef, read_config
from transforms.tasks import embed


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory, models):
    """Make a sentence-transformers folder with the given files in it, beside a tiny BERT."""

    def make(pooling, *more, texts=None, prompts=None, default=None):
        folder = tmp_path_factory.mktemp("sentence") / "model"
        shutil.copytree(models / "mlm", folder)
        kinds = {
            "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
            "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
            "Dense": "sentence_transformers.base.modules.dense.Dense",
            "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
            "LSTM": "sentence_transformers.sentence_transformer.modules.lstm.LSTM",
        }
        steps = [
            ("Transformer", ""),
            ("Pooling", "1_Pooling"),
            *((kind, f"{i}_{kind}") for i, kind in enumerate(more, 2)),
        ]
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": kinds[kind]} for i, (kind, path) in enumerate(steps)
        ]
        write(folder / "modules.json", modules)
        write(folder / "1_Pooling" / "config.json", {"embedding_dimension": WIDTH} | pooling)
        write(folder / "sentence_bert_config.json", texts or {})
        write(
            folder / "config_sentence_transformers.json",
            {"model_type": "SentenceTransformer", "prompts": prompts or {}, "default_prompt_name": default},
        )
        for _, path in steps[2:]:
            write(folder / path / "config.json", {})
        return folder

    return make


def write(file, content):
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))


def add_dense(folder, place, width, **config):
    torch.manual_seed(3)
    weights = {"linear.weight": torch.randn(width, WIDTH) / 4, "linear.bias": torch.randn(width)}
    if config.get("use_residual") and width != WIDTH:
        weights["residual.weight"] = torch.randn(width, WIDTH) / 4
    write(folder / place / "config.json", {"in_features": WIDTH, "out_features": width, "bias": True} | config)
    save_file(weights, folder / place / "model.safetensors")


def encode(folder, texts=TEXTS, **options):
    sentence_transformers = pytest.importorskip(
        "sentence_transformers", reason="the reference; it comes with the extra [bench]"
    )
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts, **options)


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
def test_pooling_and_normalising_follow_the_sentence_transformers_folder(sentence_folder, mode):
    folder = sentence_folder({"pooling_mode": mode}, "Normalize")
    got = matrix(annotate(folder).values)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(got, encode(folder), atol=1e-4)
    raw = sentence_folder({"pooling_mode": mode})
    np.testing.assert_allclose(matrix(annotate(raw).values), encode(raw), atol=1e-4)


@pytest.mark.parametrize(
    ("width", "config"),
    [
        (16, {"activation_function": "torch.nn.modules.activation.Tanh"}),
        (16, {"activation_function": "torch.nn.modules.linear.Identity", "use_residual": True}),
        (WIDTH, {"activation_function": "torch.nn.modules.activation.GELU", "use_residual": True}),
        (16, {}),
    ],
)
def test_dense_layers_are_applied_and_known_at_plan_time(sentence_folder, width, config):
    folder = sentence_folder({"pooling_mode": "mean"}, "Dense", "Normalize")
    add_dense(folder, "2_Dense", width, **config)
    planned = embed.output_type(embed.Options("text"), read_config(ModelRef(str(folder))))
    values = annotate(folder).values
    assert values.type == planned == pa.list_(pa.float32(), width)
    np.testing.assert_allclose(matrix(values), encode(folder), atol=1e-4)


def test_weights_in_the_old_format_are_read_and_nothing_in_them_is_executed(sentence_folder):
    folder = sentence_folder({"pooling_mode": "mean"}, "Dense")
    add_dense(folder, "2_Dense", 16)
    new = matrix(annotate(folder).values)
    weights = dense._weights(folder / "2_Dense")
    (folder / "2_Dense" / "model.safetensors").unlink()
    torch.save(weights, folder / "2_Dense" / "pytorch_model.bin")
    np.testing.assert_allclose(matrix(annotate(folder).values), new, atol=1e-6)
    add_dense(folder, "2_Dense", 16, activation_function="os.system")
    with pytest.raises(ModelError, match=r"has the activation 'os.system'; embed takes those of torch.nn only"):
        annotate(folder)


def test_old_keys_limits_and_lowercasing_are_read(sentence_folder):
    old = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    folder = sentence_folder(old, texts={"max_seq_length": 20, "do_lower_case": True})
    long = [*TEXTS, "ÄRGER Im Haus " * 20, "MİXED Σ"]
    got = matrix(annotate(folder, long).values)
    assert not np.allclose(got, reference(folder, "cls", long), atol=1e-2)
    np.testing.assert_allclose(got, encode(folder, long), atol=1e-4)


@pytest.mark.parametrize("counts", [True, False])
def test_prompts_of_the_folder_are_used_by_default_or_by_name(sentence_folder, counts):
    prompts = {"query": "query: ", "passage": "a passage – "}
    folder = sentence_folder({"pooling_mode": "mean", "include_prompt": counts}, prompts=prompts, default="query")
    np.testing.assert_allclose(matrix(annotate(folder).values), encode(folder), atol=1e-4)
    named = matrix(annotate(folder, prompt_name="passage").values)
    np.testing.assert_allclose(named, encode(folder, prompt_name="passage"), atol=1e-4)
    bare = matrix(annotate(folder, prompt="").values)
    np.testing.assert_allclose(bare, reference(folder, "mean"), atol=1e-4)
    assert not np.allclose(named, bare, atol=1e-2)


def test_a_folder_that_sentence_transformers_itself_wrote_is_read(models, tmp_path):
    st = pytest.importorskip("sentence_transformers", reason="the reference; it comes with the extra [bench]")
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    steps = [Transformer(str(models / "mlm")), Pooling(WIDTH, "cls"), Dense(WIDTH, 24), Normalize()]
    written = st.SentenceTransformer(modules=steps, device="cpu")
    written.save(str(tmp_path / "model"))
    np.testing.assert_allclose(matrix(annotate(tmp_path / "model").values), written.encode(TEXTS), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "pooling", "steps", "message"),
    [
        ({}, {"pooling_mode": "max"}, (), "this model pools by max, and embed by mean, cls, lasttoken; choose another"),
        ({}, {"pooling_mode": ["cls", "mean"]}, (), r"this model pools by cls\+mean, and embed by"),
        ({}, {}, ("LSTM",), r"has a step .*LSTM; embed knows Transformer, Pooling, Dense and Normalize"),
        ({}, {}, ("Normalize", "LSTM"), "has LSTM after Normalize; choose a model in which Normalize is the last step"),
        (
            {"prompt_name": "q"},
            {},
            (),
            "prompt_name 'q' is not a prompt of this model; prompts: none; or give",
        ),
        ({"dimensions": 33}, {}, (), "dimensions is 33, and this model gives 32; give a number up to 32"),
    ],
)
def test_options_that_a_folder_does_not_support_are_refused_before_weights_load(
    sentence_folder, options, pooling, steps, message
):
    config = read_config(ModelRef(str(sentence_folder(pooling, *steps))))
    with pytest.raises(ModelError, match=message):
        embed.check(embed.Options("text", **options), config)
