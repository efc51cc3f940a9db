"""A recording that grows: readers see finished intervals, and its end is always one that can be read."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.unit import committing
from tracekit.recording.reader import Recording
from tracekit.records import (
    Interval,
    Loss,
    StackWeight,
    Tick,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_growing_recording_shows_finished_intervals(tmp_path: Path) -> None:
    """A live reader opens at any time, never waits and never sees a half of an interval."""
    path = tmp_path / "x.tk"
    with committing.begin(path) as writer:
        for number in range(1, 30):
            writer.append(committing.tick(writer, number))
            with Recording(path) as recording:
                assert len(recording.intervals) == number
                assert recording.histograms(where={"role": "worker"})[committing.WAIT].count == number
                assert not recording.complete


def test_an_open_reader_stays_at_its_moment(tmp_path: Path) -> None:
    """Intervals that arrive later do not run past the arrays of a reader that opened before."""
    path = tmp_path / "x.tk"
    with committing.begin(path) as writer:
        writer.append(committing.tick(writer, 1))
        with Recording(path) as recording:
            for number in range(2, 2 + committing.CHECKPOINT_EVERY):
                writer.append(committing.tick(writer, number))
            committing.checkpoint(writer, 1 + committing.CHECKPOINT_EVERY)

            assert recording.values()[committing.CALLS].tolist() == [1]
            assert recording.cells([committing.WAIT]).interval.tolist() == [0]
            assert recording.histograms()[committing.WAIT].count == 1


def test_a_reader_does_not_keep_the_collector_from_finishing(tmp_path: Path) -> None:
    """Somebody looks at the recording when it ends: it is complete all the same, and soon."""
    path = tmp_path / "x.tk"
    with committing.begin(path) as writer:
        writer.append(committing.tick(writer, 1))
        with Recording(path) as recording:
            recording.histograms()
            start = time.monotonic()

            writer.finish([], {"reason": "duration"})

            assert time.monotonic() - start < 2
            assert recording.histograms()[committing.WAIT].count == 1

    with Recording(path) as recording:
        assert recording.complete
        assert len(recording.intervals) == 1


def test_a_finished_recording_is_one_file(tmp_path: Path) -> None:
    """It can be copied without thinking of journals."""
    committing.made(tmp_path / "x.tk", 3)

    assert [path.name for path in tmp_path.iterdir()] == ["x.tk"]


def test_a_recording_without_its_end_is_valid_but_not_complete(tmp_path: Path) -> None:
    """The collector left by an error: what it had is there."""
    with pytest.raises(ZeroDivisionError), committing.begin(tmp_path / "x.tk") as writer:
        writer.append(committing.tick(writer, 1))
        raise ZeroDivisionError

    with Recording(tmp_path / "x.tk") as recording:
        assert not recording.complete
        assert len(recording.intervals) == 1


def test_ctrl_c_within_an_interval_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    """The interval that was being committed is lost; the end is not, nor the names that were new in it."""

    class Interrupting(list[Loss]):
        def __iter__(self):
            raise KeyboardInterrupt

    path = tmp_path / "x.tk"
    with committing.begin(path) as writer:
        writer.append(committing.tick(writer, 1))
        new = [(writer.stack(("new",)), 7, 1)]
        with pytest.raises(KeyboardInterrupt):
            writer.append(Tick(Interval(5, 6), stacks=new, losses=Interrupting()))
        writer.append(replace(committing.tick(writer, 2), stacks=new))
        writer.finish([], {"reason": "interrupted"})

    with Recording(path) as recording:
        assert recording.complete
        assert recording.values()[committing.CALLS].tolist() == [1, 2]
        assert recording.lossy == {0, 1}
        assert recording.stacks() == {committing.STACK: StackWeight(1, 1), ("new",): StackWeight(7, 1)}
