"""Whatever is merged, the boxes of a flame graph lie on their callers and nothing is lost."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.flame import layout
from tracekit.report.flamegraph import Picture, svg
from tracekit.stacks import tree

frames = st.sampled_from(["a", "b", "c.py", "d_[k]", "blocked", "on-CPU"])
stacks = st.lists(frames, max_size=6).map(tuple)
weights = st.one_of(st.integers(0, 1000), st.floats(0.001, 1000))
weighted = st.dictionaries(stacks, weights, min_size=1, max_size=20).filter(lambda found: sum(found.values()) > 0)
limits = st.tuples(st.sampled_from([0, 0.01, 0.1, 0.5]), st.integers(1, 30))
hostile = st.text(st.characters(exclude_categories=()), max_size=6)
NEARLY = 1e-9


def by_caller(boxes):
    """Return {place of a box: the boxes that stand on it}."""
    found = {place: [] for place in range(len(boxes))}
    path = []
    for place, box in enumerate(boxes):
        del path[box.depth :]
        if path:
            found[path[-1]].append(box)
        path.append(place)
    return found


@given(weighted, limits)
def test_boxes_stand_on_their_callers_side_by_side(found, limit):
    """No box overlaps another or hangs over its caller, and shares of the caller are what they say."""
    boxes = layout(found, *limit).boxes

    for place, above in by_caller(boxes).items():
        below = boxes[place]
        ends = [below.start, *(box.start + box.share for box in above)]
        assert all(math.isclose(box.start, end, abs_tol=NEARLY) for box, end in zip(above, ends, strict=False))
        assert ends[-1] <= below.start + below.share + NEARLY
        assert all(box.depth == below.depth + 1 for box in above)
        assert all(math.isclose(box.of_parent, box.weight / below.weight) for box in above)


@given(weighted, limits)
def test_every_frame_is_drawn_or_counted(found, limit):
    """Nothing is left out silently."""
    flame = layout(found, *limit)

    own = [box for box in flame.boxes if not box.merged]
    grown = tree(found)
    assert len(own) + flame.merged == 1 + grown.below(grown.root)
    assert len(own) <= 1 + limit[1]
    assert sum(box.merged for box in flame.boxes) <= flame.merged


@given(weighted)
def test_all_weight_is_seen(found):
    """With nothing merged, a box weighs what the stacks through it weigh, and the legend adds up to one."""
    flame = layout(found, 0, 10**6)

    assert {box.name for box in flame.boxes} >= {frame for stack, weight in found.items() if weight for frame in stack}
    assert math.isclose(flame.total, sum(found.values()))
    assert math.isclose(sum(part.share or 0 for part in flame.parts), 1)


@given(st.lists(hostile, max_size=4).map(tuple), hostile, hostile)
def test_no_name_breaks_out_of_the_picture(stack, title, note):
    """Names are text, whatever is in them: the file stays XML with one script, and says every frame."""
    picture = Picture(layout({stack: 5, ("x",): 1}), title, "samples", (note,))

    root = ET.fromstring(svg(picture))

    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert set(tags) <= {"svg", "desc", "style", "rect", "g", "text", "title", "script"}
    assert tags.count("script") == 1
    assert tags.count("title") == 2 + len(stack)
    assert all(name.lower() not in ("onload", "onclick", "style", "href") for e in root.iter() for name in e.attrib)
