"""A module of one's own as a task: held to the shape of a task, one sentence for whatever it gets wrong."""

import textwrap
import types

import pyarrow as pa
import pytest
import torch

from transforms import registry
from transforms.architecture import resolve
from transforms.contract import Annotation
from transforms.errors import ModelError, RunError, SpecError

SHOUT = """
    '''Shouting: a text in capitals.'''
    from dataclasses import dataclass
    import pyarrow as pa
    import pyarrow.compute as pc
    from transforms.contract import Annotation
    from transforms.options import column_field

    ARCHITECTURE = None
    VERSION = 3

    @dataclass(frozen=True)
    class Options:
        column: str = column_field("text column")
        end: str = "!"

    def check(options, config): pass
    def output_type(options, config): return pa.string()
    def load(options, model, max_tokens=None):
        def annotate(batch):
            return Annotation(pc.binary_join_element_wise(pc.utf8_upper(batch[options.column]), options.end, ""))
        return annotate
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module and gives its name; a new one each time, since Python keeps what it imported."""
    monkeypatch.syspath_prepend(tmp_path)
    count = iter(range(100))

    def write(source, **changes):
        for old, new in changes.values():
            assert old in source
            source = source.replace(old, new)
        name = f"own_{tmp_path.name}_{next(count)}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        return name

    return write


def loaded(name, **options):
    task = registry.get(name)
    return task.load(task.Options(**({"column": "text"} | options)), None)


def test_a_module_of_ones_own_is_a_task(module):
    name = module(SHOUT)
    annotation = loaded(name)(pa.record_batch({"text": ["hey", None, ""]}))
    assert annotation.values.to_pylist() == ["HEY!", None, "!"]
    assert registry.version(name).startswith("3-")


def test_text_columns_of_every_kind_of_string_arrive_as_string(module):
    name = module(SHOUT)
    for type_ in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        batch = pa.record_batch({"text": pa.array(["hey", None]).cast(type_)})
        assert loaded(name)(batch).values.to_pylist() == ["HEY!", None]


def test_an_edited_module_has_another_version_and_an_unedited_one_the_same(module, tmp_path):
    name = module(SHOUT)
    before = registry.version(name)
    assert registry.version(name) == before
    file = tmp_path / f"{name}.py"
    file.write_text(file.read_text().replace("upper", "lower"))
    assert registry.version(name) != before


def test_the_version_of_a_package_is_of_all_its_files(tmp_path, module):
    package = tmp_path / f"package_{tmp_path.name}".replace("-", "_")
    package.mkdir()
    (package / "__init__.py").write_text(textwrap.dedent(SHOUT))
    (package / "words.py").write_text("ONE = 1")
    before = registry.version(package.name)
    (package / "words.py").write_text("ONE = 2")
    assert registry.version(package.name) != before


def test_a_row_that_raises_alone_is_a_failure_and_the_others_are_kept(module):
    name = module(
        SHOUT,
        shout=(
            "def annotate(batch):",
            "def annotate(batch):\n            if 'bad' in batch['text'].to_pylist(): raise KeyError('bad row')",
        ),
    )
    texts = ["a", "b", "bad", "c", "d", "bad", "e"]
    annotation = loaded(name)(pa.record_batch({"text": texts}))
    assert annotation.values.to_pylist() == ["A!", "B!", None, "C!", "D!", None, "E!"]
    assert [(f.row, f.error_type, f.message) for f in annotation.failures] == [
        (2, "KeyError", "'bad row'"),
        (5, "KeyError", "'bad row'"),
    ]


def test_the_task_is_not_called_without_rows(module):
    name = module(SHOUT, broken=("def annotate(batch):", "def annotate(batch):\n            assert len(batch)"))
    annotation = loaded(name)(pa.record_batch({"text": pa.array([], pa.string())}))
    assert isinstance(annotation, Annotation)
    assert annotation.values.type == pa.string()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "VERSION = 3",
            "",
            "lacks VERSION; a task module has ARCHITECTURE, VERSION, Options, check, output_type, load",
        ),
        ("VERSION = 3", "VERSION = '3'", "VERSION is '3'; give a whole number"),
        ("def check(options, config): pass", "", "lacks check"),
        ("ARCHITECTURE = None", "ARCHITECTURE = 5", "ARCHITECTURE is 5; give the name of a class that loads weights"),
        ("(frozen=True)", "", "Options is not a frozen dataclass; write @dataclass(frozen=True) above it"),
        ("@dataclass(frozen=True)", "", "Options is not a frozen dataclass"),
        ("def check(options, config): pass", "check = 5", "check is 5; it must be a function"),
        (
            "VERSION = 3",
            "import no_such_package_at_all",
            "cannot be imported: ModuleNotFoundError: No module named 'no_s",
        ),
        ("VERSION = 3", "VERSION = 1 / 0", "cannot be imported: ZeroDivisionError: division by zero ("),
        ("VERSION = 3", "VERSION = = 3", "cannot be imported: SyntaxError: invalid syntax ("),
    ],
)
def test_a_module_without_the_interface_of_a_task_is_refused_in_one_sentence(module, old, new, complaint):
    name = module(SHOUT, change=(old, new))
    with pytest.raises(SpecError) as raised:
        registry.get(name)
    assert complaint in str(raised.value)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("return pa.string()", "return 'string'", "output_type gave 'string'; it must give an Arrow type"),
        ("return pa.string()", "return 1 / 0", "output_type failed: ZeroDivisionError: division by zero ("),
        ("return annotate", "return None", "load gave None; it must give a function, RecordBatch -> Annotation"),
        ("return annotate", "open('/no/such')", "load failed: FileNotFoundError: "),
    ],
)
def test_an_exception_of_a_module_at_plan_or_load_time_is_reported_in_one_sentence(module, old, new, complaint):
    name = module(SHOUT, change=(old, new))
    with pytest.raises(SpecError) as raised:
        loaded(name)
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("gives", "complaint"),
    [
        ("['HEY']", "gave a list; it must give a transforms.contract.Annotation"),
        ("Annotation(['HEY'])", "gave values in a list; they must be a pyarrow.Array"),
        (
            "Annotation(pa.array(['a', 'b', 'c']))",
            "gave 3 values for 1 rows; give one value per row, null for a row without one",
        ),
        ("Annotation(pa.array([[1]]))", "gave values of type list<item: int64>, and its output_type is string"),
    ],
)
def test_a_result_that_is_not_an_annotation_of_the_batch_stops_the_run(module, gives, complaint):
    name = module(
        SHOUT,
        change=(
            'return Annotation(pc.binary_join_element_wise(pc.utf8_upper(batch[options.column]), options.end, ""))',
            f"return {gives}",
        ),
    )
    with pytest.raises(RunError) as raised:
        loaded(name)(pa.record_batch({"text": ["hey"]}))
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    "name", ["no_such_module_at_all", "no_such_package_at_all.redact", "a b", ".redact", "redact.", ""]
)
def test_an_unknown_task_is_refused_with_the_known_tasks(name):
    with pytest.raises(SpecError, match=r"is not known; tasks: answer, classify, .*or a module of your own"):
        registry.get(name)


def test_a_module_that_does_not_exist_in_its_package_is_refused():
    with pytest.raises(SpecError, match=r"task 'json\.redact' cannot be imported: ModuleNotFoundError: "):
        registry.get("json.redact")


def test_a_task_that_reads_weights_in_its_constructor_can_be_planned(module):
    # Planning sets a task up on a network that has shapes and no numbers.
    reading = "model.network.weight.detach()[0, 0].item()\n        def annotate(batch):"
    name = module(SHOUT, reads=("def annotate(batch):", reading))
    task = registry.get(name)
    network = torch.nn.Embedding(3, 2, device="meta")
    network.device = network.weight.device
    with pytest.raises(RuntimeError, match="meta"):
        task.load(task.Options("text"), types.SimpleNamespace(network=network))


@pytest.mark.parametrize("name", ["AutoModelForClasification", "no_such_module_at_all:Model", "json:Model", ":Mode"])
def test_an_unknown_class_of_weights_is_refused(name):
    with pytest.raises(ModelError, match=r"ARCHITECTURE is '.*; give the name of a class of transf") as raised:
        resolve(name)
    assert "\n" not in str(raised.value)


def test_a_module_that_ends_the_process_is_refused(module):
    name = module("import sys\nsys.exit(3)")
    with pytest.raises(SpecError, match="cannot be imported: SystemExit: 3"):
        registry.get(name)
