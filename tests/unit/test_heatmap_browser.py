"""The heat map as people use it: a click on a cell, its flame graph, and back, in Chromium."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

import pytest

from tests.browser import Page, browser
from tests.unit.test_flamegraph_browser import middle, widths, words
from tests.unit.test_heatmap_flames import EVIL
from tests.unit.test_heatmap_pictures import heat
from tracekit.recording.reader import Recording
from tracekit.report import heatmap_svg
from tracekit.report.heatmap_flames import About, Part, embed
from tracekit.report.heatmap_picture import INSIDE
from tracekit.units import format_ns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.conftest import Run

SHOWN = """[...document.querySelectorAll('svg > g')].filter((g) => getComputedStyle(g).display !== 'none')
  .map((g) => g.getAttribute('class'))"""
SIZE = "['width', 'height', 'viewBox'].map((name) => document.documentElement.getAttribute(name))"
LAST = "[...document.querySelectorAll('[data-graph]')].at(-1)"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def page(tab: Page, tmp_path: Path, run: Run, sample: Path) -> Page:
    """The spans `evaluation` of the sample recording, 1200 pixels wide."""
    run("heatmap", sample, "--metric", "span.latency", "--where", "span=evaluation", "-o", tmp_path / "x.svg")
    return opened(tab, tmp_path / "x.svg")


@pytest.fixture
def odd(tab: Page, tmp_path: Path) -> Page:
    """Three cells: one with a graph of hostile names, one with none, one that is left out."""
    subject, build = heat({0: [5_000, 90_000], 1: [5_000]}, [0, 1], role=EVIL)
    weights = {("r", "s", "on-CPU", EVIL): 30, ("r", "s", "on-CPU"): 10}
    parts = [Part(((row, column),), weights, "spans", (EVIL,), code=True) for row, column in ((0, 0), (0, 1))]
    flames = embed(About(EVIL, by_cell=True, bare=frozenset({1, 2})), parts[:1], 1)
    assert flames
    cut = type(flames)(flames.data, flames.of, frozenset({(0, 1)}))
    (tmp_path / "x.svg").write_bytes(heatmap_svg.of_grid(subject, build(INSIDE), cut))
    return opened(tab, tmp_path / "x.svg")


def opened(tab: Page, path: Path) -> Page:
    tab.size(1200, 700)
    tab.open(path.as_uri())
    return tab


def click(page: Page, cell: str = LAST) -> None:
    x, y = page.js(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({cell}.getBoundingClientRect())")
    page.click(x, y)


def head(page: Page) -> list[str]:
    return page.js("[...document.querySelectorAll('.flame .head > text')].map((one) => one.textContent)")


def test_a_click_shows_the_flame_graph_of_the_cell(page: Page, sample: Path) -> None:
    """Its frames, as wide as they took time of the spans that are in it, and which cell it is."""
    click(page)

    with Recording(sample) as recording:
        slowest = recording.exemplars({"span": "evaluation"}, (29, 30))[0][1].duration_ns
    lock = 1180 * 0.71
    assert page.js(SHOWN) == ["flame"]
    assert widths(page) == pytest.approx(
        {
            "all": 1180,
            "blocked: lock": lock,
            "main (agent.py)": lock,
            "run (agent.py)": lock,
            "evaluate (app/eval.py)": lock,
            "acquire (app/pool.py)": lock,
            "+0x1f2e3 (libc.so.6)": lock,
            "futex_wait_[k]": lock,
            "blocked: network": 1180 * 0.02,
            "on-CPU": 1180 * 0.18,
            "run queue": 1180 * 0.09,
        },
        abs=0.1,
    )
    title, events, total, *_ = head(page)
    assert (title, events) == (
        "134 ms to 151 ms, 29 s to 30 s",
        'span.latency{role="worker", span="evaluation"}: 1 event, 0.99 % of this column',
    )
    assert total == f"{format_ns(slowest)} in 4 stacks, read from the top down"


def test_the_flame_graph_is_used_as_any_other(page: Page) -> None:
    """Zoom, search and what the mouse tells."""
    click(page)
    page.click(*middle(page, "acquire"))
    page.press("/")
    page.type("futex")
    page.hover(*middle(page, "futex"))

    assert widths(page)["futex_wait_[k]"] == pytest.approx(1180)
    assert words(page, ".tools output") == "matched 100 % of the zoomed box"
    assert words(page, ".details").endswith(" · 71 % of all · 100 % of the box above · futex_wait_[k]")


def test_escape_goes_back_step_by_step(page: Page) -> None:
    """Out of the search, out of the zoom, to the map as it was, to the cell; and another cell can be opened."""
    size = page.js(SIZE)
    click(page)
    page.click(*middle(page, "acquire"))
    page.press("/")
    page.type("futex")
    found = []
    for _ in range(3):
        page.press("Escape")
        found.append((page.js(SHOWN), len(page.js("[...document.querySelectorAll('.f:not(.hide)')]"))))

    assert found == [(["flame"], 8), (["flame"], 11), (["heat"], 0)]
    assert page.js(SIZE) == size
    assert page.js(f"document.activeElement === {LAST}")
    page.press("Escape")
    click(page, "document.querySelector('[data-graph]')")
    assert page.js(SHOWN) == ["flame"]


def test_a_button_goes_back(page: Page) -> None:
    """For those who have no Escape; only one thing of the flame graph is left: nothing."""
    click(page)
    page.js("[...document.querySelectorAll('button')].find((one) => one.textContent === 'Heat map').click()")

    assert page.js(SHOWN) == ["heat"]
    assert page.js("document.querySelectorAll('.flame, foreignObject').length") == 0


def test_the_tools_fit_in_their_row(page: Page) -> None:
    """The longest words beside all controls."""
    click(page)
    page.click(*middle(page, "acquire"))
    page.press("/")
    page.type("zzz|futex_wait")

    assert max(page.js("[...document.querySelector('.tools').children].map((one) => one.offsetHeight)")) < 30
    assert page.js("(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.querySelector('.tools'))")


def test_keys_do_what_the_mouse_does(page: Page) -> None:
    """One stop for Tab, arrows to a neighbour, Enter opens, arrows walk in it, Escape comes back."""
    stops = page.js("document.querySelectorAll('[tabindex]').length")
    click(page)
    page.press("Escape")
    page.press("ArrowLeft")
    page.press("ArrowDown")
    there = page.js("document.activeElement.getAttribute('aria-label')")
    page.press("Enter")
    page.press("ArrowDown")
    inside = page.js("document.activeElement.getAttribute('aria-label')")
    page.press("Escape")

    assert stops == 1
    assert there.startswith("28 s to 29 s, ")
    assert re.match(r"(blocked|on-CPU|run queue).*, .* ms · .* of all", inside)
    assert page.js("document.activeElement.getAttribute('aria-label')") == there


def test_a_cell_without_stacks_says_so(odd: Page) -> None:
    """And one whose graph was left out says that; the map stays."""
    click(odd, "document.querySelectorAll('[data-graph]')[1]")
    none = words(odd, ".told")
    click(odd)
    left = words(odd, ".told")

    assert none == "Stacks of 84.5 µs to 92.7 µs, 0 s to 1 s were not recorded."
    assert left.endswith(", 1 s to 2 s are left out, the file would be too large.")
    assert odd.js(SHOWN) == ["heat"]


def test_names_run_nothing(odd: Page) -> None:
    """A frame, a role and a note are what they are called, and no markup."""
    click(odd, "document.querySelector('[data-graph]')")

    shown = "</metadata><script>top.bad = 1</script>]]>&\\x1b\\ufffe\\ud800 <b>"
    assert widths(odd) == pytest.approx({"all": 1180, "on-CPU": 1180, shown: 885})
    assert shown in head(odd)
    assert odd.js(
        "[typeof bad, document.querySelectorAll('script').length, document.querySelectorAll('b').length]"
    ) == [
        *("undefined", 1, 0),
    ]


def test_a_strict_policy_lets_it_work(page: Page, tmp_path: Path) -> None:
    """In a page that allows only the hashes of its script and styles."""
    picture = (tmp_path / "x.svg").read_text("utf-8")
    parts = re.findall(r"<(style|script)>(.*?)</\1>", re.sub(r"<!\[CDATA\[|\]\]>", "", picture), re.DOTALL)
    sums = {kind: " ".join(_sha256(text) for name, text in parts if name == kind) for kind in ("style", "script")}
    policy = f"default-src 'none'; script-src {sums['script']}; style-src {sums['style']}"
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    (tmp_path / "x.html").write_text(f"<!doctype html><meta charset=utf-8>{meta}<body>{picture}", "utf-8")

    opened(page, tmp_path / "x.html")
    click(page)

    assert page.js(SHOWN) == ["flame"]
    assert widths(page)["futex_wait_[k]"] == pytest.approx(1180 * 0.71, abs=20)
    assert page.js("getComputedStyle(document.querySelector('.frames text')).fontSize") == "12px"


def _sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
