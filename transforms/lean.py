"""Imports the model code of transformers without libraries that it names on import and that a job never calls.

    scipy.optimize   losses of object detection
    accelerate       networks that are spread over devices; it imports boto3 and its own command line
    torch._dynamo    the compiler: decorators in transformers and torch say how it should treat a function
    torch.distributed.fsdp, .checkpoint    networks that are spread over processes

They are half of the seconds of `import transformers.modeling_utils` and 145 MB (tests/bench/README.md, "Start-up").
While that module is imported, a stand-in answers for each of them: what is taken from it imports the library when it is
first called, and decorators for the compiler are passed on when the compiler is imported. Afterwards the stand-ins are
gone, and anybody who imports one of these libraries gets it. Only Python's import system is used, no library is
changed; whatever else is asked of a stand-in is answered by the library itself, and if the import fails nevertheless,
it is done again without stand-ins. Python 3.15 has lazy imports of its own (PEP 810).
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from transforms import exports, garbage
from transforms.after_import import AfterImport

LOG = logging.getLogger(__name__)

# What the rest of transformers' model code imports too.
WANTED = ("transformers.modeling_utils", "transformers.masking_utils", "transformers.generation.utils")

# Names that transformers takes from these modules on import and uses only when a function is called.
LATER: dict[str, tuple[str, ...]] = {
    "scipy.optimize": ("linear_sum_assignment",),
    "accelerate": ("PartialState", "dispatch_model"),
    "accelerate.hooks": ("AlignDevicesHook", "add_hook_to_module"),
    "accelerate.utils": (
        "extract_model_from_parallel",
        "get_balanced_memory",
        "get_max_memory",
        "infer_auto_device_map",
        "reduce",
    ),
    "accelerate.utils.modeling": ("clean_device_map", "get_max_layer_size"),
    "torch.distributed._composable.fsdp": ("fully_shard",),
    "torch.distributed.checkpoint": (),
    "torch.distributed.checkpoint.hf_storage": ("HuggingFaceStorageReader", "HuggingFaceStorageWriter"),
    "torch.distributed.fsdp": ("CPUOffloadPolicy", "MixedPrecisionPolicy"),
    "torch._dynamo": (),
    "torch._dynamo._trace_wrapped_higher_order_op": ("TransformGetItemToIndex",),
}
COMPILER = "torch._dynamo"
# Decorators that return the function itself, and one that returns another function.
MARKS, WRAPPER = ("allow_in_graph", "assume_constant_result"), "disable"


def load() -> None:
    """Import the model code of transformers, unless it is imported already."""
    if WANTED[0] in sys.modules:
        return
    before = set(sys.modules)
    finder = StandIns()
    sys.meta_path.insert(0, finder)
    try:
        with exports.kept(), garbage.importing(WANTED[0]):
            _import_all()
    except Exception as error:
        finder.withdraw()
        LOG.info("transformers is imported with all of its libraries: %s: %s", type(error).__name__, error)
        # Modules that were imported completely hold stand-ins.
        for name in set(sys.modules) - before:
            if name.startswith("transformers."):
                del sys.modules[name]
        _import_all()
    finally:
        finder.withdraw()


def _import_all() -> None:
    for name in WANTED:
        importlib.import_module(name)


class Later:
    """A function or class of a module that is imported when it is first used."""

    def __init__(self, module: str, name: str, withdraw: Callable[[], None]):
        self._place, self._withdraw = (module, name), withdraw

    def _real(self) -> Any:
        # Without effect after the import; during it, a stand-in would be found otherwise.
        self._withdraw()
        module, name = self._place
        return getattr(importlib.import_module(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._real())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)


class StandIns(MetaPathFinder, Loader):
    """Finds stand-ins for the modules in `LATER`, in the thread that made it, until it is withdrawn."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.marks = Marks()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """A stand-in for one of the modules; the real module if a part of a stand-in is asked for."""
        parent = name.rpartition(".")[0]
        is_part = isinstance(sys.modules.get(parent), StandIn)
        if threading.get_ident() != self.thread or (name in LATER and parent in LATER and not is_part):
            return None
        if name in LATER:
            return ModuleSpec(name, self, is_package=True)
        if not is_part:
            return None
        self.withdraw()
        importlib.import_module(name)
        return ModuleSpec(name, Imported())

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The stand-in."""
        return StandIn(spec.name, self)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is executed."""

    def withdraw(self) -> None:
        """Remove this finder and every stand-in, so that the next import finds the real module."""
        if self not in sys.meta_path:
            return
        sys.meta_path.remove(self)
        for name, module in list(sys.modules.items()):
            if isinstance(module, StandIn):
                del sys.modules[name]
                parent, _, child = name.rpartition(".")
                if vars(sys.modules.get(parent, module)).get(child) is module:
                    delattr(sys.modules[parent], child)
        self.marks.follow()


class StandIn(ModuleType):
    """A module whose attributes are imported later."""

    def __init__(self, name: str, finder: StandIns):
        super().__init__(name)
        self.__finder = finder

    def __getattr__(self, name: str) -> Any:
        own = self.__name__
        if name.startswith("__"):
            raise AttributeError(f"module {own!r} has no attribute {name!r}")
        if name in LATER[own]:
            return Later(own, name, self.__finder.withdraw)
        if own == COMPILER and name in (*MARKS, WRAPPER):
            return functools.partial(self.__finder.marks.add, name)
        self.__finder.withdraw()
        return getattr(importlib.import_module(own), name)


class Imported(Loader):
    """Gives a module that is imported already."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module."""
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """It was executed."""


class Marks:
    """Decorators for the compiler; it gets them when it is imported."""

    def __init__(self) -> None:
        self.made: list[Callable[[ModuleType], None]] = []
        self.waiting = AfterImport(COMPILER, self._pass_on)

    def add(self, decorator: str, function: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Decorate a function, or with keywords only return the decorator."""
        if function is None:
            return lambda wanted: self.add(decorator, wanted, *args, **kwargs)
        if decorator in MARKS:
            self.made.append(lambda compiler: getattr(compiler, decorator)(function))
            return function
        wanted = function

        def decorate(compiler: ModuleType) -> None:
            nonlocal wanted
            wanted = getattr(compiler, decorator)(function, *args, **kwargs)

        @functools.wraps(function)
        def wrapper(*given: Any, **named: Any) -> Any:
            return wanted(*given, **named)

        self.made.append(decorate)
        return wrapper

    def follow(self) -> None:
        """Wait for the compiler to be imported, if it has anything to be told."""
        if self.made and COMPILER not in sys.modules and self.waiting not in sys.meta_path:
            self.waiting.wait()

    def _pass_on(self, compiler: ModuleType) -> None:
        for decorate in self.made:
            decorate(compiler)
