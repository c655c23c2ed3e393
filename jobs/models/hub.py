"""Model names -> pinned versions -> folders: of the Hub, of registries, and folders themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx

from jobs import registry
from jobs.registry import Registry, use
from transforms.digest import digest
from transforms.errors import ModelError, SpecError

# All files except weights: they are read before any weights are loaded.
SMALL_FILES = ["*.json", "*.txt", "*.model", "*.spm", "*.tiktoken", "*.jinja"]
UNUSED_FILES = ["*.h5", "*.msgpack", "*.onnx", "*.ot", "onnx/*", "openvino/*", "coreml/*", "original/*", "*.gguf"]


@dataclass(frozen=True)
class Pin:
    """A model or adapter at one version.

    Attributes:
        name: a Hub name, a folder, or REGISTRY@VERSION.
        commit: Hub commit, or a hash of the folder's contents.
        local: whether it is a folder.
        registry: URL of the registry that holds it; None for the others.
    """

    name: str
    commit: str
    local: bool
    registry: str | None = None

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)

    def folder(self, weights: bool = True) -> str:
        """A folder with its files, downloaded if needed.

        Raises:
            ModelError: it cannot be downloaded, or a local folder was changed after it was pinned.
        """
        if self.registry is not None:
            return str(Registry(self.registry).folder(self.name.rpartition("@")[2]))
        if self.local:
            if weights and digest(self.name) != self.commit:
                raise ModelError(f"model folder {self.name!r} was changed after the run was planned; plan again")
            return self.name
        try:
            return snapshot_download(
                self.name,
                revision=self.commit,
                allow_patterns=None if weights else SMALL_FILES,
                ignore_patterns=UNUSED_FILES,
            )
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError) as error:
            raise ModelError(f"model {self.name!r} cannot be downloaded: {_first_line(error)}") from error


def pin(name: str, revision: str | None, key: str, task: str | None = None) -> Pin:
    """Resolve a model or adapter to a version that cannot change.

    Args:
        name: folder, Hub name org/model, or REGISTRY@champion or REGISTRY@VERSION.
        revision: branch, tag or commit on the Hub; a folder has none.
        key: its key in the job file, for the error; it ends with `model` or `adapter`.
        task: the task that uses it; None does not check that a version was made for such a task.

    Raises:
        ModelError: it is neither a folder nor on the Hub.
        SpecError: the registry has no such version or no champion, the version is not for this key or this task, or the
            folder is a registry.
    """
    if (found := registry.resolve(name, key)) is not None:
        held, version = found
        if revision is not None:
            raise SpecError(
                f"{key} {name!r} names a version of a registry, which has no revision {revision!r}; leave it out, or "
                "write the version after the @"
            )
        if task is not None:
            use.check(version, key, name, task)
        return Pin(f"{held.url}@{version.version}", version.content, local=held.store.local, registry=held.url)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / registry.CHAMPION).is_file() and (folder / "versions").is_dir():
            raise SpecError(f"{key} {name!r} is a registry; write {name}@champion, or a version after the @")
        return Pin(str(folder), digest(folder), local=True)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{key} {name!r} is not a folder; give a folder that save_pretrained wrote, or org/model")
    try:
        return Pin(name, str(HfApi().model_info(name, revision=revision).sha), local=False)
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx.HTTPError, ValueError) as error:
        raise ModelError(
            f"{key} {name!r} is not a folder here, and {_why(error)}; check the name; a private model also needs "
            "HF_TOKEN"
        ) from error


def _why(error: BaseException) -> str:
    if isinstance(error, httpx.ConnectError):
        return "the Hub cannot be reached"
    return f"the Hub does not have it ({_first_line(error)})"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
