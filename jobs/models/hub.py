"""Model names -> pinned versions -> folders: of the Hub, of registries, and folders themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from jobs import registry
from jobs.hub import download, listing
from jobs.hub.complaint import HUB_ERRORS, explain, is_passing
from jobs.models import choice
from jobs.models import name as names
from jobs.registry import Registry, use
from transforms.digest import digest
from transforms.errors import ModelError, NightscribeError, SpecError, UnreachableModel


@dataclass(frozen=True)
class Pin:
    """A model or adapter at one version.

    Attributes:
        name: a Hub name, a folder, or REGISTRY@VERSION.
        commit: Hub commit, or a hash of the folder's contents.
        local: whether it is a folder.
        registry: URL of the registry that holds it; None for the others.
        adapter: whether it is an adapter.
        code: whether the job trusts code of its repository, so that it is downloaded and run.
    """

    name: str
    commit: str
    local: bool
    registry: str | None = None
    adapter: bool = False
    code: bool = False

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)

    @property
    def version(self) -> str:
        """The commit, and the subfolder if there is one: the same for the same files."""
        found = None if self.local or self.registry else names.parse(self.name)
        return f"{self.commit}:{found.subfolder}" if found and found.subfolder else self.commit

    def folder(self, weights: bool = True) -> str:
        """A folder with its files, downloaded if needed.

        Args:
            weights: whether the weights are needed too.

        Raises:
            ModelError: it cannot be downloaded, or a local folder was changed after it was pinned.
            UnreachableModel: the Hub does not answer now.
        """
        if self.registry is not None:
            return str(Registry(self.registry).folder(self.name.rpartition("@")[2]))
        if self.local:
            if weights and digest(self.name) != self.commit:
                raise ModelError(f"model folder {self.name!r} was changed after the run was planned; plan again")
            return self.name
        try:
            return str(self._downloaded(weights))
        except NightscribeError:
            raise
        except HUB_ERRORS as error:
            named = names.parse(self.name)
            place = named.repository if named else self.name
            raise _kind(error)(f"model {self.name!r} cannot be downloaded: {explain(error, place)}") from error

    def missing(self) -> int:
        """How many files of a model of the Hub are to be downloaded; of weights in several files one is counted."""
        named = names.parse(self.name)
        assert named is not None, self.name
        every = list(listing.files(named.repository, self.commit))
        wanted = {
            *choice.small(every, named.subfolder, self.code),
            *choice.weights(every, named.subfolder, self.adapter, f"model {self.name!r}"),
        }
        return sum(not download.is_here(named.repository, self.commit, name) for name in wanted)

    def _downloaded(self, weights: bool) -> Path:
        named = names.parse(self.name)
        assert named is not None, self.name
        known = listing.files(named.repository, self.commit)
        every = list(known)
        heavy = choice.weights(every, named.subfolder, self.adapter, f"model {self.name!r}") if weights else []
        wanted = [*dict.fromkeys([*choice.small(every, named.subfolder, self.code), *heavy])]
        if not wanted:
            raise ModelError(f"model {self.name!r} has no configuration in its repository; correct the name")

        def fetch(files: list[str]) -> Path:
            blobs = [known[file] for file in files]
            return download.files(named.repository, self.commit, blobs, f"model {self.name!r}") / named.subfolder

        folder = fetch(wanted)
        if any(name.endswith(choice.INDEX) for name in heavy):
            fetch(choice.shards(folder / choice.INDEX, every, named.subfolder, f"model {self.name!r}"))
        return folder


def pin(name: str, revision: str | None, key: str, task: str | None = None, kind: str | None = None) -> Pin:
    """Resolve a model or adapter to a version that cannot change.

    Args:
        name: folder, Hub name org/model or org/model:subfolder, or REGISTRY@champion or REGISTRY@VERSION.
        revision: branch, tag or commit on the Hub; a folder has none.
        key: its key in the job file, for the error; it ends with `model` or `adapter` unless `kind` is given.
        task: the task that uses it; None does not check that a version was made for such a task.
        kind: model or adapter.

    Raises:
        ModelError: it is neither a folder nor on the Hub, or has no weights in safetensors there.
        UnreachableModel: the Hub does not answer now.
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
            use.check(version, key, name, task, kind)
        return Pin(f"{held.url}@{version.version}", version.content, local=held.store.local, registry=held.url)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / registry.CHAMPION).is_file() and (folder / "versions").is_dir():
            raise SpecError(f"{key} {name!r} is a registry; write {name}@champion, or a version after the @")
        return Pin(str(folder), digest(folder), local=True)
    if (named := names.parse(name)) is None:
        raise ModelError(
            f"{key} {name!r} is not a folder; give a folder that save_pretrained wrote, org/model, or "
            "org/model:subfolder"
        )
    is_adapter = (kind or key.rpartition(".")[2]) == "adapter"
    try:
        commit = listing.commit_of(named.repository, revision)
        every = list(listing.files(named.repository, commit))
    except HUB_ERRORS as error:
        at = "" if revision is None else f" at revision {revision!r}"
        why = explain(error, named.repository)
        raise _kind(error)(f"{key} {name!r}{at} is not a folder here, and {why}") from error
    choice.weights(every, named.subfolder, is_adapter, f"{key} {name!r}")
    return Pin(name, commit, local=False, adapter=is_adapter)


def _kind(error: BaseException) -> type[NightscribeError]:
    """The kind of error for what a client of the Hub raised: a network that fails is no mistake in the job file."""
    return UnreachableModel if is_passing(error) else ModelError
