"""What one interval gathers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit import committing
from tracekit.capture.batch import Batch
from tracekit.recording.reader import Recording
from tracekit.records import Interval, Series

if TYPE_CHECKING:
    from pathlib import Path


def test_equal_samples_add_up_and_are_forgotten_at_the_tick(tmp_path: Path) -> None:
    """Of the same series, bucket and stack; another bucket, stack or series is another row."""
    other = Series("stack.errors", (("errno", "ENOENT"),), "stacks", "count")
    with committing.begin(tmp_path / "x.tk") as writer:
        batch = Batch(writer)
        for bucket, frames in ((7, ("a",)), (7, ("a",)), (8, ("a",)), (7, ("a", "b"))):
            batch.sample(batch.place(committing.SEEN, bucket, frames), 5, 1)
        batch.sample(batch.place(other, 0, ("a",)), 3, 2)
        writer.append(batch.tick(Interval(0, 1), []))
        assert batch.tick(Interval(1, 2), []).samples == []
        writer.finish([], {})

    with Recording(tmp_path / "x.tk") as recording:
        found = recording.samples()
    rows = {
        (series, bucket, seen.frames[stack], weight, count)
        for series, seen in found.items()
        for bucket, stack, weight, count in zip(*(c.tolist() for c in list(vars(seen).values())[:4]), strict=True)
    }
    assert rows == {
        (committing.SEEN, 7, ("a",), 10, 2),
        (committing.SEEN, 8, ("a",), 5, 1),
        (committing.SEEN, 7, ("a", "b"), 5, 1),
        (other, 0, ("a",), 3, 2),
    }
