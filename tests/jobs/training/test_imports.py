"""What a training imports, and what it does not."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from jobs.training.methods import qlora
from jobs.training.request import REQUEST, Request, write_json

PROGRAM = """
import gc, json, sys
from pathlib import Path
from jobs.training import imports
from jobs.training.request import Request

usual = gc.get_threshold()
imports.libraries(Request.read(Path(sys.argv[1])))
from peft.import_utils import is_bnb_available
heavy = {"bitsandbytes", "jobs.evaluation", "peft", "torch._inductor.compile_fx", "transformers"}
found = sorted(name for name in heavy if sys.modules.get(name) is not None)
print(json.dumps([found, is_bnb_available(), gc.get_threshold() == usual, gc.get_freeze_count() > 100_000]))
"""


@pytest.fixture
def request_of(tmp_path):
    """A training over a base that is quantised or not."""

    def made(quantised=False, **more):
        config = {"model_type": "bert"} | ({"quantization_config": {"load_in_4bit": True}} if quantised else {})
        (tmp_path / "config.json").write_text(json.dumps(config))
        fields = {"method": "lora", "arguments": {}, "adapter": {}} | more
        return Request("classify", fields.pop("method"), str(tmp_path), "base", "", "", (), {}, **fields, train_hash="")

    return made


def test_a_training_that_quantises_nothing_imports_no_bitsandbytes(tmp_path, request_of):
    write_json(tmp_path / REQUEST, asdict(request_of()))
    ran = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [["peft", "transformers"], False, True, True]


@pytest.mark.parametrize(
    ("training", "used"),
    [
        ({}, False),
        ({"method": "full", "arguments": {"optim": "adamw_torch_fused"}}, False),
        ({"adapter": {"init_lora_weights": "pissa"}}, False),
        ({"method": "qlora"}, True),
        ({"quantised": True}, True),
        ({"arguments": {"optim": "paged_adamw_8bit"}}, True),
        ({"adapter": {"init_lora_weights": "loftq"}}, True),
        ({"objective": "rloo", "reward": {"model": "reward"}}, True),
    ],
)
def test_bitsandbytes_is_used_where_something_may_be_quantised(request_of, training, used):
    assert qlora.has_use(request_of(**training)) is used


def test_bitsandbytes_is_used_where_a_training_goes_on_from_a_quantised_model(tmp_path, request_of):
    start = tmp_path / "start"
    start.mkdir()
    assert not qlora.has_use(request_of(start=str(start)))
    (start / "config.json").write_text('{"quantization_config": {}}')
    assert qlora.has_use(request_of(start=str(start)))
