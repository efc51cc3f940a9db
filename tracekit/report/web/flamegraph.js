// Zoom, search, details and keys of a flame graph. Without it the picture is whole, but still.
//
// Boxes are in the order of a walk: callers before callees, left before right. So the
// boxes above box i are i + 1 .. end(i) - 1, and all else follows from place and width.
//
// root: the picture; page: what of it the flame graph is in; back: where Escape and a button lead from
// the whole of it, {name, go}. Returns what ends it.
function flameGraph(root, page = root, back = null) {
  const SVG = "http://www.w3.org/2000/svg";
  const HTML = "http://www.w3.org/1999/xhtml";
  const KEYS = "Click or Enter: zoom. Arrows: move. Ctrl-F: search. Esc: back.";
  const WIDE = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\u{1f000}-\u{3fffd}]/u;

  const picture = page.querySelector(".frames");
  const details = page.querySelector(".details");
  const { pad, row, cell, width, height } = Object.fromEntries(
    Object.entries(picture.dataset).map(([name, value]) => [name, Number(value)]));
  const boxes = Array.from(picture.children, read);
  let right = width;  // of the picture, in pixels
  let zoomed = 0;
  let focused = 0;

  connect();

  function read(element) {
    const rect = element.querySelector("rect");
    return {
      element,
      rect,
      text: element.querySelector("text"),
      left: (rect.x.baseVal.value - pad) / (width - 2 * pad),
      share: rect.width.baseVal.value / (width - 2 * pad),
      depth: Math.round(rect.y.baseVal.value / row),
      facts: element.querySelector("title").textContent.split("\n"),
      hit: false,
    };
  }

  function connect() {
    const open = [];
    boxes.forEach((box, i) => {
      while (open.length > box.depth) boxes[open.pop()].end = i;
      box.parent = open.length ? open[open.length - 1] : -1;
      open.push(i);
    });
    while (open.length) boxes[open.pop()].end = boxes.length;
  }

  // Is box i one of the callers of box j, or j itself?
  const carries = (i, j) => i <= j && j < boxes[i].end;

  const visible = (i) => !boxes[i].element.classList.contains("hide");

  function draw() {
    const view = boxes[zoomed];
    const room = right - 2 * pad;
    boxes.forEach((box, i) => {
      const caller = carries(i, zoomed);
      const left = caller ? 0 : (box.left - view.left) / view.share * room;
      const wide = caller ? room : box.share / view.share * room;
      const shown = (caller || carries(zoomed, i)) && wide >= 0.1;
      box.element.classList.toggle("hide", !shown);
      if (!shown) return;
      box.element.classList.toggle("caller", caller && i !== zoomed);
      box.element.classList.toggle("wide", wide > 3);
      box.rect.setAttribute("x", (left + pad).toFixed(2));
      box.rect.setAttribute("width", wide.toFixed(2));
      label(box, left + pad, wide);
    });
    reset.hidden = zoomed === 0;
    count();
  }

  function label(box, left, wide) {
    const cells = Math.floor((wide - 6) / cell);
    if (!box.text) {
      if (cells < 3) return;
      box.text = box.element.appendChild(document.createElementNS(SVG, "text"));
      box.text.setAttribute("y", box.rect.y.baseVal.value + 13);
    }
    box.text.textContent = cells < 3 ? "" : fit(box.facts[0], cells);
    box.text.setAttribute("x", (left + 3).toFixed(2));
  }

  function fit(name, cells) {
    let room = cells, at = 0, cut = 0;
    for (const letter of name) {
      room -= WIDE.test(letter) ? 2 : 1;
      if (room < 0) return name.slice(0, cut) + "…";
      at += letter.length;
      if (room > 0) cut = at;
    }
    return name;
  }

  function resize() {
    right = Math.max(width, Math.floor(root.getBoundingClientRect().width));
    root.setAttribute("viewBox", `0 0 ${right} ${height}`);
    root.setAttribute("height", height * Math.min(1, root.getBoundingClientRect().width / right));
    panel.setAttribute("x", right - pad - panel.width.baseVal.value);
    draw();
  }

  function zoom(i) {
    zoomed = i;
    draw();
    if (!visible(focused)) focus(i);
  }

  function tell(i) {
    const box = boxes[i];
    details.textContent = fit(`${box.facts[1]} · ${box.facts[0]}`, Math.floor((right - 2 * pad) / cell));
  }

  function focus(i) {
    boxes[focused].element.removeAttribute("tabindex");
    focused = i;
    const { element, depth, facts } = boxes[i];
    element.setAttribute("tabindex", "0");
    element.setAttribute("role", "treeitem");
    element.setAttribute("aria-level", depth + 1);
    element.setAttribute("aria-label", facts.join(", "));
    element.focus();
    tell(i);
  }

  // Marks what the search matches, and says its share of what is in view. A match on top of a match counts once.
  function search() {
    const pattern = expression();
    box.setCustomValidity(pattern ? "" : "not a regular expression");
    boxes.forEach((one) => {
      one.hit = Boolean(pattern && box.value && !one.element.classList.contains("m") && pattern.test(one.facts[0]));
      one.element.classList.toggle("hit", one.hit);
    });
    picture.classList.toggle("searching", Boolean(pattern && box.value));
    count();
  }

  // A pattern without capitals ignores case.
  function expression() {
    try {
      return new RegExp(box.value, box.value === box.value.toLowerCase() ? "i" : "");
    } catch {
      return null;
    }
  }

  function count() {
    const view = boxes[zoomed];
    let sum = 0;
    for (let i = zoomed; i < view.end; i = boxes[i].hit ? boxes[i].end : i + 1)
      sum += boxes[i].hit ? boxes[i].share : 0;
    const above = boxes.some((one, i) => one.hit && carries(i, zoomed));
    const share = above ? 1 : sum / view.share;
    const where = zoomed ? "of the zoomed box" : "of all";
    const found = picture.classList.contains("searching") ? `matched ${percent(share)} ${where}` : "";
    matched.textContent = box.validity.valid ? found : "not a regular expression";
  }

  function escape() {
    if (box.value) {
      box.value = "";
      search();
      focus(focused);
    } else if (back && zoomed === 0) {
      back.go();
    } else {
      zoom(0);
    }
  }

  function move(key) {
    const { parent, depth, end } = boxes[focused];
    const level = [...boxes.keys()].filter((i) => boxes[i].depth === depth && visible(i));
    const place = level.indexOf(focused);
    let to = { ArrowUp: parent, ArrowLeft: level[place - 1], ArrowRight: level[place + 1], Home: 0 }[key];
    if (key === "ArrowDown")
      for (let i = focused + 1; i < end; i = boxes[i].end)
        if (visible(i) && (to === undefined || boxes[i].share > boxes[to].share)) to = i;
    if (to !== undefined && to >= 0) focus(to);
  }

  function press(event) {
    const typing = event.target === box;
    const find = event.key === "f" && (event.ctrlKey || event.metaKey) || event.key === "/" && !typing;
    if (find && !typing) box.focus();
    else if (event.key === "Escape") escape();
    else if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "Enter" && event.target.localName !== "button") zoom(focused);
    else if (event.key === "Home" || event.key.startsWith("Arrow")) move(event.key);
    else return;
    event.preventDefault();
  }

  const at = (event) => {
    const element = event.target.closest(".f");
    return element ? boxes.findIndex((one) => one.element === element) : -1;
  };

  function make(name, parent, attributes) {
    const element = parent.appendChild(document.createElementNS(HTML, name));
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return element;
  }

  function button(words, pressed) {
    const element = make("button", tools, { type: "button" });
    element.textContent = words;
    element.addEventListener("click", pressed);
    return element;
  }

  const ended = new AbortController();
  const during = { signal: ended.signal };
  const panel = page.appendChild(document.createElementNS(SVG, "foreignObject"));
  Object.entries({ y: 8, width: back ? 570 : 480, height: 30 }).forEach(([key, value]) => panel.setAttribute(key, value));
  const tools = make("div", panel, { class: "tools" });
  const matched = make("output", tools, {});
  const reset = button("Reset zoom", () => zoom(0));
  if (back) button(back.name, back.go);
  const box = make("input", tools, { type: "search", placeholder: "search (regex)", "aria-label": "Search frames" });

  root.setAttribute("role", "group");
  root.setAttribute("width", "100%");
  picture.setAttribute("role", "tree");
  picture.setAttribute("aria-label", KEYS);
  details.textContent = KEYS;
  boxes[0].element.setAttribute("tabindex", "0");

  picture.addEventListener("click", (event) => {
    const i = at(event);
    if (i < 0) return;
    focus(i);
    zoom(i);
  });
  picture.addEventListener("mouseover", (event) => at(event) >= 0 && tell(at(event)));
  picture.addEventListener("mouseleave", () => { details.textContent = KEYS; });
  document.addEventListener("focusin", (event) => at(event) >= 0 && tell(at(event)), during);
  box.addEventListener("input", search);
  document.addEventListener("keydown", press, during);
  window.addEventListener("resize", resize, during);
  resize();
  return () => ended.abort();
}

const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;
