// Curves over steps: series from the data, and one chart a metric on uPlot.

// ---- series -------------------------------------------------------------------------------------------------------

const lastValue = (values) => { for (let i = values.length - 1; i >= 0; i--) if (values[i] != null) return values[i]; return null; };

function seriesOf(stage, chart) {
  const evalSets = stage.sets.filter((set) => set !== "train");
  const several = stage.runs.length > 1;
  const found = [];
  for (const frame of stage.frames) {
    const column = frame.columns[chart.key];
    if (column) {
      found.push({
        run: frame.run, set: frame.set, x: frame.x, ...column,
        label: several ? `${frame.run}, ${words(frame.set)}` : words(frame.set),
      });
    }
  }
  for (const baseline of chart.baselines) {
    for (const frame of stage.frames) {
      const column = frame.columns[baseline.key];
      // on the few rows of a training step a baseline is noise around its value on the held-out sets
      if (!column || (frame.set === "train" && evalSets.length)) continue;
      // runs scored on the same windows share a baseline: show it once
      const same = found.find((s) => s.baseline === baseline.name && s.set === frame.set &&
        Math.abs(lastValue(s.y) - lastValue(column.y)) <= 1e-4 * Math.abs(lastValue(s.y)));
      if (same) { same.runs.push(frame.run); continue; }
      found.push({ run: frame.run, runs: [frame.run], set: frame.set, x: frame.x, ...column, baseline: baseline.name });
    }
  }
  if (chart.reference && found.length) {
    const { value, name } = chart.reference;
    found.push({ run: found[0].run, runs: stage.runs, set: null, x: [0, Math.max(1, stage.lastStep)], y: [value, value], baseline: "uniform", label: name, plain: true });
  }
  for (const series of found.filter((s) => s.baseline && !s.plain)) {
    const twins = found.filter((s) => s.baseline === series.baseline && s.set === series.set).length;
    const place = evalSets.length > 1 ? `, ${words(series.set)}` : "";
    series.label = `${DATA.stages[stage.name].baselines[series.baseline]}${place}${twins > 1 ? ` (${series.run})` : ""}`;
    if (series.x.length === 1) { series.x = [0, Math.max(1, stage.lastStep)]; series.y = [series.y[0], series.y[0]]; }
  }
  return found.map((series, id) => ({ ...series, id, visible: true, train: series.set === "train", order: evalSets.indexOf(series.set) }));
}

function smooth(values, weight) {
  // exponential mean without the bias towards its start; gaps stay gaps
  let sum = 0, norm = 0;
  return values.map((value) => {
    if (value == null) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

function nearest(series, x) {
  const xs = series.x, ys = series.drawn;
  let low = 0, high = xs.length - 1;
  if (high < 0) return null;
  while (high - low > 1) { const mid = (low + high) >> 1; if (xs[mid] <= x) low = mid; else high = mid; }
  const order = Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? [low, high] : [high, low];
  const reach = xs.length > 1 ? 1.01 * Math.max(1, (xs[xs.length - 1] - xs[0]) / (xs.length - 1)) : Infinity;
  for (const i of order) if (ys[i] != null && Math.abs(xs[i] - x) <= Math.max(reach, xs[high] - xs[low])) return ys[i];
  return null;
}

// ---- one chart ----------------------------------------------------------------------------------------------------

class Chart {
  constructor(stage, spec) {
    Object.assign(this, { stage, spec, log: false, wide: false, plot: null });
    this.series = seriesOf(stage, spec);
    this.logButton = make("button", { type: "button", class: "quiet", "aria-pressed": "false", title: "Logarithmic scale", onclick: () => this.toggle("log", this.logButton) }, "log");
    this.wideButton = make("button", { type: "button", class: "quiet", "aria-pressed": "false", title: "Full width", onclick: () => this.toggle("wide", this.wideButton) }, "wide");
    const title = make("h4", { title: spec.help }, spec.title);
    this.mount = make("div", { class: "plot", tabindex: "0", role: "img", "aria-label": this.describe() });
    this.mount.addEventListener("keydown", (event) => this.key(event));
    this.mount.addEventListener("mouseenter", () => { Chart.active = this; });
    this.mount.addEventListener("mouseleave", () => { Chart.active = null; TIP.hidden = true; });
    this.mount.addEventListener("blur", () => { if (Chart.active === this) { Chart.active = null; TIP.hidden = true; } });
    this.legend = make("div", { class: "legend" });
    this.card = make("figure", { class: "card chart", "data-metric": spec.key }, make("div", { class: "chart-head" }, title, this.logButton, this.wideButton), this.mount, this.legend);
    new ResizeObserver(() => this.resize()).observe(this.mount);
  }

  describe() {
    const ends = this.series.map((s) => `${s.label}: ${show(lastValue(s.y), this.spec.style)}`);
    const marks = this.stage.marks.map((m) => ` ${m.run}: ${m.word} ${m.when} ${m.step}.`);
    return `${this.spec.title} by step. Last values: ${ends.join("; ")}.${marks.join("")}`;
  }

  toggle(name, button) {
    this[name] = !this[name];
    button.setAttribute("aria-pressed", this[name]);
    this.card.classList.toggle("wide", this.wide);
    this.draw();
  }

  shown() {
    const { hiddenRuns, hiddenSets, noBaselines } = this.stage.filter;
    return this.series.filter((s) => !hiddenSets.has(s.set) && !(s.baseline && noBaselines) &&
      !(s.runs || [s.run]).every((run) => hiddenRuns.has(run)));
  }

  table(shown) {
    // one x for all; a step that a series has no record of is undefined (joined), a record without a value null (a gap)
    const xs = [...new Set(shown.flatMap((s) => s.x))].sort((a, b) => a - b);
    const place = new Map(xs.map((x, i) => [x, i]));
    const spread = (s, values) => {
      const out = new Array(xs.length);
      s.x.forEach((x, i) => { const v = values[i]; out[place.get(x)] = v == null || (this.log && v <= 0) ? null : v; });
      return out;
    };
    const rows = [xs], series = [{}], bands = [];
    for (const s of shown) {
      const smoothing = s.train && this.stage.smoothing > 0;
      s.drawn = smoothing ? smooth(s.y, this.stage.smoothing) : s.y;
      s.rgb = s.plain ? cssColour("--muted") : seriesColour(s.run, s.order, s.train);
      if (s.baseline) s.rgb = mix(s.rgb, cssColour("--muted"), 0.35);
      const show_ = s.visible;
      const aux = { show: show_, points: { show: false }, width: 0, aux: true };
      if (s.lo) {
        rows.push(spread(s, s.hi), spread(s, s.lo));
        series.push({ ...aux }, { ...aux });
        bands.push({ series: [rows.length - 2, rows.length - 1], fill: rgba(s.rgb, 0.14) });
      }
      if (smoothing) {
        rows.push(spread(s, s.y));
        series.push({ ...aux, width: 1, stroke: rgba(s.rgb, 0.3) });
      }
      rows.push(spread(s, s.drawn));
      series.push({
        show: show_, stroke: rgba(s.rgb), fillPoint: s, width: s.baseline ? 1.4 : s.train ? 1.6 : 2.2,
        dash: s.baseline ? DASHES[s.baseline] || [8, 5] : undefined,
        points: s.baseline || s.train && s.x.length > 1 ? { show: false } : { size: 5, fill: rgba(s.rgb) },
      });
    }
    return { rows, series, bands };
  }

  draw() {
    const shown = this.shown();
    const keep = this.plot && !this.plot.fresh ? { min: this.plot.scales.x.min, max: this.plot.scales.x.max } : null;
    const zoomed = keep && (keep.min > 0 || keep.max < this.stage.lastStep) ? keep : null;
    if (this.plot) this.plot.destroy();
    const { rows, series, bands } = this.table(shown);
    this.plot = new uPlot(this.options(series, bands), rows, this.mount);
    if (zoomed) this.plot.setScale("x", zoomed);
    this.fillLegend(shown);
  }

  options(series, bands) {
    const ink = rgba(cssColour("--muted")), grid = { stroke: rgba(cssColour("--line")), width: 1 };
    const axis = { stroke: ink, grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const pad = (min, max) => (min > 0 && min < max ? [min / 1.04, max * 1.04] : [min / 2, max * 2]);
    return {
      width: Math.max(220, this.mount.clientWidth), height: this.wide ? WIDE_HEIGHT : PLOT_HEIGHT, series, bands,
      legend: { show: false },
      padding: [8, 10, 0, 0],
      scales: {
        x: { time: false, range: (u, min, max) => (min === max ? [0, Math.max(1, this.stage.lastStep)] : [min, max]) },
        y: this.log ? { distr: 3, range: (u, min, max) => (min == null ? [1, 10] : pad(min, max)) } : {},
      },
      axes: [
        { ...axis, size: 28, values: (u, splits) => splits.map((v) => (Number.isInteger(v) ? scaled(v, ["", "k", "M", "G"]) : "")) },
        {
          ...axis, size: (u, values) => 14 + 6.4 * Math.max(3, ...(values || []).map((v) => (v || "").length)),
          values: (u, splits) => splits.map((v) => (v == null ? "" : AXIS[this.spec.style](v))),
          ...(this.log ? { splits: (u, i, min, max) => logTicks(min, max), filter: (u, splits) => splits } : {}),
        },
      ],
      cursor: {
        y: false,
        sync: { key: `steps-${this.stage.name}`, scales: ["x", null], setSeries: false },
        points: { size: (u, i) => (u.series[i].aux ? 0 : 8), fill: (u, i) => u.series[i].points.fill?.(u, i) || u.series[i].stroke(u, i) },
        dataIdx: (u, i, at) => closestValue(u.data[i], at),
        drag: { x: true, y: false },
      },
      hooks: { setCursor: [(u) => this.readout(u)], draw: [(u) => this.drawMarks(u)] },
    };
  }

  drawMarks(u) {
    // a dashed line a mark, its word beside it; words that would touch go below each other
    const { ctx, bbox } = u, ratio = devicePixelRatio, { min, max } = u.scales.x;
    const runs = new Set(this.shown().filter((s) => s.visible && !s.baseline).map((s) => s.run));
    const marks = this.stage.marks.filter((m) => runs.has(m.run) && m.step >= min && m.step <= max);
    const taken = [];
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    ctx.lineWidth = 1.4 * ratio;
    for (const mark of marks) {
      const x = Math.floor(u.valToPos(mark.step, "x", true)) + 0.5; // a whole pixel, not two halves
      ctx.strokeStyle = ctx.fillStyle = rgba(seriesColour(mark.run, 0, false));
      ctx.setLineDash([5 * ratio, 4 * ratio]);
      ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
      const width = ctx.measureText(mark.word).width, gap = 4 * ratio;
      const left = x + gap + width > bbox.left + bbox.width ? x - gap - width : x + gap;
      let row = 0;
      while (taken.some((t) => t.row === row && left < t.right + gap && t.left < left + width + gap)) row++;
      taken.push({ row, left, right: left + width });
      ctx.fillText(mark.word, left, bbox.top + 2 * ratio + 13 * ratio * row);
    }
    ctx.restore();
  }

  readout(u) {
    const at = u.cursor.left >= 0 && u.cursor.idx != null ? u.data[0][u.cursor.idx] : null;
    const shown = this.shown().filter((s) => s.visible);
    for (const s of this.shown()) s.output.textContent = show(at == null ? lastValue(s.drawn) : nearest(s, at), this.spec.style);
    if (Chart.active !== this) return;
    if (at == null) { TIP.hidden = true; return; }
    const rows = shown.map((s) => [s, nearest(s, at)]).filter(([, value]) => value != null).sort((a, b) => b[1] - a[1]);
    const body = make("table");
    for (const [s, value] of rows) {
      body.append(make("tr", {}, make("td", {}, swatch(s)), make("td", {}, s.label), make("td", {}, show(value, this.spec.style))));
    }
    TIP.replaceChildren(make("b", {}, `Step ${at.toLocaleString("en")}`), body);
    TIP.hidden = false;
    const box = u.over.getBoundingClientRect(), size = TIP.getBoundingClientRect();
    const x = box.left + u.cursor.left, right = x + 18 + size.width < innerWidth;
    TIP.style.left = `${Math.max(4, right ? x + 18 : x - 18 - size.width)}px`;
    TIP.style.top = `${Math.max(4, Math.min(innerHeight - size.height - 4, box.top + Math.max(0, u.cursor.top) - size.height / 2))}px`;
  }

  fillLegend(shown) {
    this.legend.replaceChildren(...shown.map((s) => {
      s.output = make("span", { class: "value" }, show(lastValue(s.drawn), this.spec.style));
      return make("button", {
        type: "button", "aria-pressed": s.visible, title: "Click: hide or show. Shift-click: only this one.",
        onclick: (event) => this.pick(s, event.shiftKey),
      }, swatch(s), s.label, s.output);
    }));
  }

  pick(series, alone) {
    if (alone) {
      const already = this.shown().every((s) => s.visible === (s === series));
      for (const s of this.series) s.visible = already || s === series;
    } else series.visible = !series.visible;
    this.draw();
  }

  key(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) { if (event.key === "Escape") { this.plot.setCursor({ left: -10, top: -10 }); TIP.hidden = true; } return; }
    event.preventDefault();
    Chart.active = this;
    const u = this.plot, xs = u.data[0];
    const step = event.shiftKey ? Math.max(1, Math.round(xs.length / 20)) : 1;
    const idx = Math.min(xs.length - 1, Math.max(0, (u.cursor.idx ?? (move > 0 ? -1 : xs.length)) + move * step));
    u.setCursor({ left: u.valToPos(xs[idx], "x"), top: u.over.clientHeight / 2 });
  }

  resize() {
    const width = Math.max(220, this.mount.clientWidth);
    if (this.plot && Math.abs(width - this.plot.width) > 1) this.plot.setSize({ width, height: this.wide ? WIDE_HEIGHT : PLOT_HEIGHT });
  }
}

function closestValue(values, at) {
  if (at == null || values[at] != null) return at;
  for (let reach = 1; reach < values.length; reach++) {
    if (values[at - reach] != null) return at - reach;
    if (values[at + reach] != null) return at + reach;
  }
  return null;
}

function logTicks(min, max) {
  const decades = Math.log10(max / min);
  const steps = decades > 4 ? [1] : decades > 1.2 ? [1, 2, 5] : null;
  const ticks = [];
  if (steps) {
    for (let power = Math.floor(Math.log10(min)); power <= Math.log10(max); power++)
      for (const step of steps) ticks.push(Number((step * 10 ** power).toPrecision(3)));
  } else {
    const size = 10 ** Math.floor(Math.log10((max - min) / 4));
    const step = [1, 2, 5, 10].map((m) => m * size).find((s) => (max - min) / s <= 6);
    for (let tick = Math.ceil(min / step) * step; tick <= max; tick += step) ticks.push(Number(tick.toPrecision(6)));
  }
  return ticks.filter((tick) => tick >= min && tick <= max);
}

function swatch(series) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg"), line = document.createElementNS(ns, "path");
  svg.setAttribute("width", "18"); svg.setAttribute("height", "8"); svg.setAttribute("aria-hidden", "true");
  line.setAttribute("d", "M0 4H18");
  line.setAttribute("stroke", rgba(series.rgb));
  line.setAttribute("stroke-width", series.baseline ? "1.6" : "3");
  if (series.baseline) line.setAttribute("stroke-dasharray", DASHES[series.baseline]?.[0] === 2 ? "2 2.5" : "5 3");
  svg.append(line);
  return svg;
}
