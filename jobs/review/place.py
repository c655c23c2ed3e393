"""Where the review folder of a job may be: neither among the rows that it reads nor among those that it writes."""

from __future__ import annotations

from jobs.review import columns
from jobs.source import files
from jobs.spec import JobSpec
from jobs.store import Store
from transforms.errors import SpecError


def check(spec: JobSpec) -> None:
    """Refuse a review folder whose files would be read as rows.

    Raises:
        SpecError: it lies in the source or in the sink, or contains one of them.
    """
    if spec.review is None:
        return
    review, sink = Store(spec.review.path, "review.path"), Store(spec.sink.path)
    if type(review.fs) is type(sink.fs):
        inside, around = f"{review.root.rstrip('/')}/", f"{sink.root.rstrip('/')}/"
        if inside.startswith(around) or around.startswith(inside):
            raise SpecError(
                f"review.path {spec.review.path!r} and sink.path {spec.sink.path!r} lie in each other, so a reader of "
                f"one would read the rows of the other; point review.path to a folder beside the sink"
            )
    if spec.source.path is not None:
        found = files.find(spec.source.path, spec.source.format)
        names = [columns.draw_file(spec.name, "run"), columns.labels_file(spec.name, "run")]
        files.check_sink(spec.source.path, found, spec.review.path, "review.path", names)
