// A sweep: parallel coordinates, the metric over tokens, and a table that sorts. A trial lights up in all three at once.
// Places come as shares 0..1; colours are those of style sheet classes, so that a change of scheme needs no redrawing.

const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// gaps (null) break a line into pieces; a place between two gaps is only its dot
function pieces(points) {
  const found = [[]];
  for (const point of points) {
    if (point) found.at(-1).push(point);
    else if (found.at(-1).length) found.push([]);
  }
  return found.filter((piece) => piece.length);
}

const path = (points) => pieces(points).filter((p) => p.length > 1)
  .map((p) => `M${p.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`).join("");

function clip(text, width) {
  // about 6 px a character at this size
  const most = Math.max(4, Math.floor(width / 6));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

class Sweep {
  constructor(container, data) {
    Object.assign(this, { container, data, marks: new Map() });
    // worst first: what is drawn later lies above
    this.order = data.trials.map((trial, i) => i).sort((a, b) => this.rank(data.trials[a]) - this.rank(data.trials[b]));
    this.parallel = container.querySelector(".parallel .mount");
    this.curves = container.querySelector(".trial-curves .mount");
    this.mounts = [this.parallel, this.curves].filter(Boolean);  // no curves where trials are scored once
    this.drawKey(container.querySelector(".ramp-key"));
    for (const mount of this.mounts) {
      mount.addEventListener("mousemove", (event) => this.point(mount, event));
      mount.addEventListener("mouseleave", () => this.light(null));
      new ResizeObserver(() => { if (mount.clientWidth !== mount.drawn) this.drawOne(mount); }).observe(mount);
    }
    for (const row of container.querySelectorAll("tr[data-trial]")) {
      row.addEventListener("mouseenter", () => this.light(row.dataset.trial));
      row.addEventListener("mouseleave", () => this.light(null));
    }
    for (const mount of this.mounts) this.drawOne(mount);
  }

  rank(trial) { return trial.best ? 3 : trial.share == null ? -1 : trial.share; }

  drawOne(mount) {
    mount.drawn = mount.clientWidth;
    if (mount === this.parallel) this.drawParallel(); else this.drawCurves();
  }

  drawKey(key) {
    const { low, high, trials } = this.data;
    key.append(make("span", {}, `worst ${low}`), make("i", { class: "ramp" }), make("span", {}, `best ${high}`));
    if (trials.some((t) => t.best)) key.append(make("i", { class: "line best" }), make("span", {}, "the best trial"));
    if (trials.some((t) => t.share == null)) key.append(make("i", { class: "line lost" }), make("span", {}, "no value"));
  }

  // every line of a trial has its class, its share of the way to the best as --share, and its id
  trialAttributes(trial) {
    const kind = trial.best ? "best" : trial.share == null ? "lost" : "";
    return { class: `trial ${kind} ${trial.status}`, "data-trial": trial.id, style: `--share: ${(100 * (trial.share ?? 0)).toFixed(1)}%` };
  }

  drawParallel() {
    const { axes, trials } = this.data, mount = this.parallel;
    const labelled = axes.map((axis) => 6 * Math.max(3, ...axis.ticks.map(([, text]) => Math.min(18, text.length))) + 18);
    const gap = Math.max(96, ...labelled.slice(1, -1).map((w) => w + 14));
    const left = Math.max(48, labelled[0]), right = Math.max(48, labelled.at(-1)), top = 44, height = 320;
    const width = Math.max(mount.clientWidth, left + right + gap * (axes.length - 1));
    const at = (i) => left + (axes.length > 1 ? i / (axes.length - 1) : 0.5) * (width - left - right);
    const y = (share) => top + (1 - share) * (height - top - 16);
    const svg = draw("svg", { width, height, role: "img", "aria-label": `Parallel coordinates of ${trials.length} trials over ${axes.map((a) => a.label).join(", ")}` });
    const lines = draw("g", { class: "lines" }), frame = draw("g", { class: "frame" });
    this.spots = { parallel: [], curves: this.spots?.curves || [] };
    for (const i of this.order) {
      const trial = trials[i];
      const points = trial.places.map((place, axis) => (place == null ? null : [at(axis), y(place)]));
      const known = points.filter(Boolean);
      const group = draw("g", this.trialAttributes(trial));
      group.append(draw("path", { class: "bridge", d: path(known) }), draw("path", { d: path(points) }));
      for (const [cx, cy] of known) group.append(draw("circle", { cx: cx.toFixed(1), cy: cy.toFixed(1), r: 2.4 }));
      lines.append(group);
      this.spots.parallel.push({ id: trial.id, pieces: pieces(points) });
    }
    axes.forEach((axis, i) => {
      const x = at(i), last = i === axes.length - 1;
      frame.append(draw("path", { class: "axis", d: `M${x} ${y(1)}V${y(0)}` }));
      for (const [low, high] of axis.bands) frame.append(draw("path", { class: "band", d: `M${x} ${y(low)}V${y(high)}` }));
      for (const [place, text] of axis.ticks) {
        const shown = clip(text, 18 * 6), title = draw("title", {}, text);
        frame.append(draw("path", { class: "tick", d: `M${x} ${y(place)}h${last ? 4 : -4}` }),
          draw("text", { x: x + (last ? 7 : -7), y: y(place) + 3.5, "text-anchor": last ? "start" : "end" }, shown, title));
      }
      // heads stand on two heights, so that neighbours may be long
      const room = Math.max(60, 1.7 * (width - left - right) / Math.max(1, axes.length - 1));
      const anchor = last ? "end" : i === 0 ? "start" : "middle";
      const heading = draw("text", { class: "head", x: last ? x + right - 4 : i === 0 ? Math.max(2, x - left + 2) : x, y: i % 2 ? 30 : 14, "text-anchor": anchor }, clip(axis.label, room * 0.9));
      heading.append(draw("title", {}, axis.title));
      frame.append(heading);
    });
    svg.append(lines, frame);
    mount.replaceChildren(svg);
    this.gather();
  }

  drawCurves() {
    const { curves, trials } = this.data, mount = this.curves;
    const left = 14 + 6 * Math.max(3, ...curves.y.map(([, text]) => text.length)), right = 16, top = 10, height = 290, bottom = 30;
    const width = Math.max(260, mount.clientWidth);
    const x = (share) => left + share * (width - left - right), y = (share) => height - bottom - share * (height - top - bottom);
    const svg = draw("svg", { width, height, role: "img", "aria-label": `${curves.title} of ${trials.length} trials` });
    const frame = draw("g", { class: "frame" }), lines = draw("g", { class: "lines" });
    for (const [place, text] of curves.x) frame.append(draw("path", { class: "grid", d: `M${x(place)} ${top}V${height - bottom}` }), draw("text", { x: x(place), y: height - bottom + 15, "text-anchor": place > 0.96 ? "end" : "middle" }, text));
    for (const [place, text] of curves.y) frame.append(draw("path", { class: "grid", d: `M${left} ${y(place)}H${width - right}` }), draw("text", { x: left - 6, y: y(place) + 3.5, "text-anchor": "end" }, text));
    this.spots = { curves: [], parallel: this.spots?.parallel || [] };
    for (const i of this.order) {
      const trial = trials[i];
      const points = trial.curve.map(([px, py]) => (px == null || py == null ? null : [x(px), y(py)]));
      const group = draw("g", this.trialAttributes(trial)), known = points.filter(Boolean);
      group.append(draw("path", { d: path(points) }));
      if (known.length) group.append(draw("circle", { cx: known.at(-1)[0].toFixed(1), cy: known.at(-1)[1].toFixed(1), r: 3 }));
      lines.append(group);
      this.spots.curves.push({ id: trial.id, pieces: pieces(points) });
    }
    svg.append(frame, lines);
    mount.replaceChildren(svg);
    this.gather();
  }

  gather() {
    this.marks = new Map();
    for (const node of this.container.querySelectorAll("[data-trial]")) {
      if (!this.marks.has(node.dataset.trial)) this.marks.set(node.dataset.trial, []);
      this.marks.get(node.dataset.trial).push(node);
    }
  }

  point(mount, event) {
    const box = mount.querySelector("svg").getBoundingClientRect();
    const here = [event.clientX - box.left, event.clientY - box.top];
    let best = null, least = 14;
    for (const spot of this.spots[mount === this.parallel ? "parallel" : "curves"]) {
      const away = Math.min(...spot.pieces.map((piece) => distance(piece, here)));
      if (away <= least) { best = spot.id; least = away; }
    }
    this.light(best, event);
  }

  light(id, event) {
    this.container.classList.toggle("lit", id != null);
    for (const node of this.container.querySelectorAll(".hot")) node.classList.remove("hot");
    for (const node of this.marks.get(id) || []) {
      node.classList.add("hot");
      if (node.parentNode?.classList?.contains("lines")) node.parentNode.append(node);
    }
    if (id == null) this.restack();
    if (id == null || !event) { TIP.hidden = true; return; }
    const trial = this.data.trials.find((t) => t.id === id);
    const body = make("table");
    for (const [name, value] of trial.facts) body.append(make("tr", {}, make("td", {}, name), make("td", {}, value)));
    TIP.replaceChildren(make("b", {}, `Trial ${id}, ${trial.status === "stopped" ? "stopped early" : trial.status}${trial.best ? ", the best" : ""}`), body);
    TIP.hidden = false;
    const size = TIP.getBoundingClientRect(), right = event.clientX + 18 + size.width < innerWidth;
    TIP.style.left = `${Math.max(4, right ? event.clientX + 18 : event.clientX - 18 - size.width)}px`;
    TIP.style.top = `${Math.max(4, Math.min(innerHeight - size.height - 4, event.clientY - size.height / 2))}px`;
  }

  // the order of drawing after a trial was lifted above the others
  restack() {
    for (const lines of this.container.querySelectorAll("svg .lines")) {
      const nodes = new Map([...lines.children].map((node) => [node.dataset.trial, node]));
      const wanted = this.order.map((i) => nodes.get(this.data.trials[i].id));
      if (wanted.at(-1) !== lines.lastChild) lines.append(...wanted);
    }
  }
}

// pixels from a point to a polyline
function distance(points, [px, py]) {
  let least = Infinity;
  for (let i = 0; i < points.length; i++) {
    const [ax, ay] = points[i], [bx, by] = points[Math.min(i + 1, points.length - 1)];
    const length = (bx - ax) ** 2 + (by - ay) ** 2;
    const along = length ? Math.min(1, Math.max(0, ((px - ax) * (bx - ax) + (py - ay) * (by - ay)) / length)) : 0;
    least = Math.min(least, Math.hypot(px - ax - along * (bx - ax), py - ay - along * (by - ay)));
  }
  return least;
}

// rows by the clicked column, numbers as numbers; a second click turns the order; cells without a key stay last
function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [row, row.cells[column].dataset.key]);
    rows.sort(([, a], [, b]) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      const order = a - b;
      return (down ? -1 : 1) * (Number.isNaN(order) ? a.localeCompare(b, "en", { numeric: true }) : order);
    });
    table.tBodies[0].append(...rows.map(([row]) => row));
  }));
}
