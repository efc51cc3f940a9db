"""The file that a session writes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tracekit.capture.host.facts import clocks, facts
from tracekit.capture.owner import owner
from tracekit.recording.writer import Writer
from tracekit.records import Target

if TYPE_CHECKING:
    from tracekit.capture.options import Options


def create(options: Options, pids: tuple[int, ...]) -> Writer:
    """Return a new recording, which belongs to the user behind sudo."""
    how = "run" if options.command else "attach"
    selection = (options.comm, options.cgroup, options.everything, options.command, options.children)
    settings = {"interval_ns": options.interval_ns, "tiers": options.tiers}
    user = owner()
    host = replace(facts(), tiers=options.tiers)
    owned_by = (user.uid, user.gid) if user else None
    target = Target(how, pids, *selection)
    return Writer(options.output, host, target, clocks(), settings, force=options.force, owner=owned_by)
