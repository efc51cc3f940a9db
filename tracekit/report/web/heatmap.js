// A click on a cell of a heat map shows its flame graph, and Escape the map again.
//
// The data: {title, byCell, caption, words, frames, graphs}. frames: pairs of words, name and look of each. A graph is
// [boxes, legend, notes]: boxes are four numbers each (frame, depth, own ns, words for the ns), callers before callees,
// or -1 - frame if they only carry the next one; the legend pairs of words, look and what it tells; notes are words.
function heatMap(root) {
  const SVG = "http://www.w3.org/2000/svg";
  const KEYS = "Click or Enter on a cell: its flame graph. Arrows: move.";

  const heat = root.querySelector(".heat");
  const data = JSON.parse(root.querySelector(".graphs").textContent);
  const { pad, row, cell, width } = Object.fromEntries(
    Object.entries(heat.dataset).map(([name, value]) => [name, Number(value)]));
  const cells = Array.from(heat.querySelectorAll("[data-graph]"));
  const size = Object.fromEntries(["width", "height", "viewBox"].map((name) => [name, root.getAttribute(name)]));
  const told = heat.appendChild(make("text", { class: "told muted", x: 90, y: 74 }));
  let focused = cells[0];

  function make(name, attributes, ...children) {
    const element = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    element.append(...children);
    return element;
  }

  const facts = (one) => one.querySelector("title").textContent.split("\n");

  function open(one) {
    focus(one);
    const graph = data.graphs[one.dataset.graph];
    const [time, values, events] = facts(one);
    if (!graph) {
      const why = one.dataset.graph ? "are left out, the file would be too large" : "were not recorded";
      told.textContent = `Stacks of ${values}, ${time} ${why}.`;
      return false;
    }
    const title = data.byCell ? `${values}, ${time}` : time;
    const about = `${data.title}${data.byCell ? ": " : `, clicked: ${values}, `}${events}`;
    const [boxes, legend, notes] = graph;
    const page = drawn(title, [about, ...notes.map((word) => data.words[word])], legend, boxes);
    heat.setAttribute("display", "none");
    root.append(page);
    const go = () => {
      end();
      page.remove();
      Object.entries(size).forEach(([name, value]) => root.setAttribute(name, value));
      heat.removeAttribute("display");
      focus(one);
    };
    const end = flameGraph(root, page, { name: "Heat map", go });
    return true;
  }

  // The same page as that of a flame graph alone.
  function drawn(title, notes, legend, boxes) {
    const head = make("g", { class: "head" }, text(pad, 26, title, { class: "name" }));
    notes.forEach((note, place) => head.append(text(pad, 46 + row * place, note)));
    const rows = swatches(head, legend, 34 + row * notes.length);
    const top = 40 + row * (notes.length + rows + 1);
    head.append(text(pad, top - 12, "", { class: "details" }));
    const walked = walk(boxes);
    const height = top + row * (1 + Math.max(...walked.map((one) => one.depth))) + pad;
    const frames = make("g", { class: "frames", transform: `translate(0 ${top})` }, ...walked.map(frame));
    Object.assign(frames.dataset, { pad, row, cell, width, height });
    return make("g", { class: "flame" }, make("rect", { class: "page", width: "100%", height: "100%" }), head, frames);
  }

  function text(x, y, words, attributes = {}) {
    return make("text", { x, y, ...attributes }, words);
  }

  function swatches(head, legend, top) {
    head.append(text(pad, top + 12, data.caption));
    const begin = pad + Math.round((data.caption.length + 1) * cell);
    let left = begin, line = 0;
    for (let i = 0; i < legend.length; i += 2) {
      const words = data.words[legend[i + 1]];
      const room = Math.round(30 + words.length * cell);
      if (left + room > width - pad && left > begin) [left, line] = [begin, line + 1];
      const y = top + line * row;
      const swatch = make("rect", { x: left, y: y + 2, width: 12, height: 12 });
      head.append(make("g", { class: data.words[legend[i]] }, swatch), text(left + 17, y + 12, words));
      left += room;
    }
    return line + 1;
  }

  // Boxes with their weight, which is what they own and all on them do, and where on the axis they begin.
  function walk(numbers) {
    const boxes = [], path = [];
    const add = (frame, depth, own, words) => {
      path[depth] = { frame, depth, words: data.words[words], weight: own, parent: path[depth - 1] };
      boxes.push(path[depth]);
    };
    let carrying = [];
    for (let i = 0; i < numbers.length; i++) {
      if (numbers[i] < 0) {
        carrying.push(-1 - numbers[i]);
        continue;
      }
      const [frame, depth, own, words] = numbers.slice(i, i + 4);
      carrying.forEach((one, place) => add(one, depth - carrying.length + place, 0, words));
      add(frame, depth, own, words);
      [carrying, i] = [[], i + 3];
    }
    for (const box of boxes.slice(1).reverse()) box.parent.weight += box.weight;
    for (const box of boxes) {
      box.start = box.free = box.parent ? box.parent.free : 0;
      if (box.parent) box.parent.free += box.weight;
    }
    return boxes;
  }

  function frame(box, _, boxes) {
    const [name, look] = data.frames[box.frame].map((word) => data.words[word]);
    const whole = boxes[0].weight, room = (width - 2 * pad) / whole;
    const said = [box.words, box.depth > 0 && `${percent(box.weight / whole)} of all`,
      box.depth > 1 && `${percent(box.weight / box.parent.weight)} of the box above`];
    const place = { x: pad + box.start * room, y: box.depth * row, width: box.weight * room, height: row - 1 };
    const title = make("title", {}, `${name}\n${said.filter(Boolean).join(" · ")}`);
    return make("g", { class: `f ${look}` }, title, make("rect", place));
  }

  function focus(one) {
    focused.removeAttribute("tabindex");
    focused = one;
    one.setAttribute("tabindex", "0");
    one.setAttribute("role", "button");
    one.setAttribute("aria-label", facts(one).join(", "));
    one.focus();
  }

  // The nearest cell in the direction of an arrow, those straight ahead before others.
  function move(key) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    const middle = ({ x, y, width: wide, height }) => [x.baseVal.value + wide.baseVal.value / 2, y.baseVal.value + height.baseVal.value / 2];
    const [x, y] = middle(focused);
    let nearest, least = Infinity;
    for (const one of cells) {
      const [left, top] = middle(one);
      const ahead = (left - x) * dx + (top - y) * dy, aside = Math.abs((left - x) * dy) + Math.abs((top - y) * dx);
      if (ahead > 0.5 && (dy === 0 || aside < 0.5) && ahead * 1000 + aside < least)
        [nearest, least] = [one, ahead * 1000 + aside];
    }
    if (nearest) focus(nearest);
  }

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !cells.includes(event.target)) return;
    if (event.key === "Enter" || event.key === " ") open(event.target) && root.querySelector(".flame .f").focus();
    else if (/^Arrow(Left|Right|Up|Down)$/.test(event.key)) move(event.key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  root.setAttribute("role", "group");
  told.setAttribute("role", "status");
  told.textContent = KEYS;
  focused.setAttribute("tabindex", "0");
  heat.addEventListener("click", (event) => cells.includes(event.target) && open(event.target));
  heat.addEventListener("keydown", press);
}
