"""The flame graph as people use it: zoom, search, reset and keys, in Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser import Page, browser
from tracekit.analysis import stackdiff
from tracekit.analysis.flame import layout
from tracekit.report import flamediff, flamegraph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STACKS = {
    ("worker", "main (app.py:3)", "load (data.py:9)", "read"): 30,
    ("worker", "main (app.py:3)", "load (data.py:9)"): 10,
    ("worker", "main (app.py:3)", "score (model.py:7)"): 40,
    ("worker", "log"): 15,
    ("ctl", "</title><script>top.bad = 1</script>"): 5,
}
BOXES = """[...document.querySelectorAll(".frames > .f:not(.hide)")].map((box) =>
  [box.querySelector("title").textContent.split("\\n")[0], Number(box.querySelector("rect").getAttribute("width"))])"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def page(tab: Page, tmp_path: Path) -> Page:
    """The picture of STACKS, 1200 pixels wide."""
    return opened(tab, tmp_path, flamegraph.svg(flamegraph.Picture(layout(STACKS), "t", "samples")))


def opened(tab: Page, folder: Path, picture: str) -> Page:
    (folder / "x.svg").write_text(picture, "utf-8")
    tab.size(1200, 600)
    tab.open((folder / "x.svg").as_uri())
    return tab


def widths(page: Page) -> dict[str, float]:
    return dict(page.js(BOXES))


def middle(page: Page, name: str) -> tuple[float, float]:
    """Return where on the screen the box *name* is."""
    found = page.js(f"""(() => {{
      const box = [...document.querySelectorAll(".f")].find((f) => f.textContent.startsWith({name!r}));
      const r = box.querySelector("rect").getBoundingClientRect();
      return [r.x + r.width / 2, r.y + r.height / 2];
    }})()""")
    return found[0], found[1]


def words(page: Page, selector: str) -> str:
    return page.js(f"document.querySelector({selector!r}).textContent")


def test_a_click_zooms_and_reset_comes_back(page: Page) -> None:
    """The box that was clicked and its callers fill the width, its callees their share, and all others are hidden."""
    whole = widths(page)

    page.click(*middle(page, "load"))
    zoomed = widths(page)
    page.js("document.querySelector('.tools button').click()")

    assert zoomed == pytest.approx(
        {"all": 1180, "worker": 1180, "main (app.py:3)": 1180, "load (data.py:9)": 1180, "read": 885}
    )
    assert whole["load (data.py:9)"] == pytest.approx(472, abs=0.01)
    assert widths(page) == pytest.approx(whole, abs=0.01)


def test_reset_is_only_there_while_zoomed(page: Page) -> None:
    """A button that does nothing is no button; Escape does the same."""
    hidden = "document.querySelector('.tools button').hidden"
    states = [page.js(hidden)]

    page.click(*middle(page, "score"))
    states.append(page.js(hidden))
    page.press("Escape")
    states.append(page.js(hidden))

    assert states == [True, False, True]


def test_search_marks_and_adds_up(page: Page) -> None:
    """Each share once, of all and of what is zoomed to."""
    page.press("/")
    page.type("load|read")
    found = [words(page, ".tools output"), page.js("document.querySelectorAll('.hit').length")]
    page.click(*middle(page, "main"))
    found.append(words(page, ".tools output"))

    assert found == ["matched 40 % of all", 2, "matched 50 % of the zoomed box"]


def test_the_tools_fit_in_their_row(page: Page) -> None:
    """The longest words beside both controls: no line is broken and nothing is cut off."""
    page.click(*middle(page, "main"))
    page.press("/")
    page.type("read|score")

    heights = page.js("[...document.querySelector('.tools').children].map((one) => one.offsetHeight)")
    assert words(page, ".tools output") == "matched 87.5 % of the zoomed box"
    assert max(heights) < 30
    assert page.js("(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.querySelector('.tools'))")


def test_what_is_no_expression_says_so(page: Page) -> None:
    """And Escape empties the search."""
    page.press("/")
    page.type("(")
    wrong = words(page, ".tools output")
    page.press("Escape")

    assert wrong == "not a regular expression"
    assert [words(page, ".tools output"), page.js("document.querySelector('input').value")] == ["", ""]


def test_the_mouse_tells_what_is_under_it(page: Page) -> None:
    """Facts and name on one line over the boxes."""
    page.hover(*middle(page, "score"))

    assert words(page, ".details") == "40 samples · 40 % of all · 50 % of the box above · score (model.py:7)"


def test_arrows_walk_and_enter_zooms(page: Page) -> None:
    """Down goes to the widest callee; a screen reader hears what is there."""
    page.click(*middle(page, "all"))
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Enter"):
        page.press(key)

    assert page.js("document.activeElement.getAttribute('aria-label')").startswith("load (data.py:9), 40 samples")
    assert widths(page)["load (data.py:9)"] == pytest.approx(1180)


def test_names_run_nothing(page: Page) -> None:
    """A frame is what it is called, and no markup."""
    assert page.js("[typeof bad, document.querySelectorAll('script').length]") == ["undefined", 1]
    assert "</title><script>top.bad = 1</script>" in widths(page)


def test_a_picture_of_changes_is_used_the_same_way(tab: Page, tmp_path: Path) -> None:
    """Zoom and search; what is gone stays below at its place."""
    before = {**STACKS, ("worker", "old"): 60}
    page = opened(
        tab,
        tmp_path,
        flamediff.svg(flamediff.Picture(stackdiff.compare(before, STACKS), "t", ("samples", "samples"))),
    )
    gone = page.js("document.querySelector('.gone rect').getBoundingClientRect().width")

    page.click(*middle(page, "load"))
    page.press("/")
    page.type("read")

    assert widths(page)["read"] == pytest.approx(885)
    assert words(page, ".tools output") == "matched 75 % of the zoomed box"
    assert gone == page.js("document.querySelector('.gone rect').getBoundingClientRect().width") == pytest.approx(442.5)
