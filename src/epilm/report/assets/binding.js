// Precision over recall, one chart a data set: a line a submission, the share of bound bins dashed.

class PrecisionRecall {
  constructor(mount, data) {
    Object.assign(this, { mount, data, plot: null });
    this.legend = make("div", { class: "legend" });
    this.lines = data.curves.map((curve, i) => ({ ...curve, visible: true, colour: `--run-${i % 8}`, round: Math.floor(i / 8), baseline: curve.plain ? "base_rate" : null }));
    mount.setAttribute("role", "img");
    mount.setAttribute("aria-label", `Precision over recall of ${data.title}. AUPRC: ${this.lines.map((l) => `${l.name} ${show(l.auprc, "fine")}`).join("; ")}`);
    mount.after(this.legend);
    new ResizeObserver(() => this.resize()).observe(mount);
    this.draw();
  }

  // one x for all; where a line has no point of its own, undefined joins its neighbours
  table() {
    const xs = [...new Set(this.lines.flatMap((line) => line.recall))].sort((a, b) => a - b);
    const place = new Map(xs.map((x, i) => [x, i]));
    return [xs, ...this.lines.map((line) => {
      const out = new Array(xs.length);
      line.recall.forEach((x, i) => { out[place.get(x)] = line.precision[i]; });
      return out;
    })];
  }

  draw() {
    if (this.plot) this.plot.destroy();
    const ink = rgba(cssColour("--muted")), grid = { stroke: rgba(cssColour("--line")), width: 1 };
    const axis = { stroke: ink, grid, ticks: { show: false }, font: "11px system-ui, sans-serif", labelFont: "11px system-ui, sans-serif", labelSize: 16 };
    for (const line of this.lines) line.rgb = line.plain ? cssColour("--muted") : cssColour(line.colour);
    this.plot = new uPlot({
      width: Math.max(220, this.mount.clientWidth), height: WIDE_HEIGHT * 0.75,
      legend: { show: false }, padding: [8, 12, 0, 0],
      scales: { x: { time: false, range: [0, 1] }, y: { range: [0, 1.02] } },
      series: [{}, ...this.lines.map((line) => ({
        show: line.visible, stroke: rgba(line.rgb), width: line.plain ? 1.4 : 2, points: { show: false },
        dash: line.plain ? DASHES.base_rate : line.round ? [8, 4 * line.round] : undefined,
      }))],
      axes: [{ ...axis, size: 24, label: "recall" }, { ...axis, size: 36, label: "precision" }],
      cursor: { y: false, drag: { x: true, y: false }, points: { show: false } },
      hooks: { setCursor: [(u) => this.readout(u)] },
    }, this.table(), this.mount);
    this.fillLegend();
  }

  fillLegend() {
    this.legend.replaceChildren(...this.lines.map((line) => {
      line.output = make("span", { class: "value" }, show(line.auprc, "fine"));
      return make("button", {
        type: "button", "aria-pressed": line.visible, title: "AUPRC; while the pointer is on the chart, precision at that recall. Click: hide or show.",
        onclick: () => { line.visible = !line.visible; this.draw(); },
      }, swatch(line), line.plain ? "constant score" : line.name, line.output);
    }));
  }

  readout(u) {
    const at = u.cursor.left >= 0 ? u.posToVal(u.cursor.left, "x") : null;
    for (const line of this.lines) {
      const i = at == null ? -1 : line.recall.findIndex((x) => x >= at);
      line.output.textContent = at == null ? show(line.auprc, "fine") : i < 0 ? "–" : `${show(line.precision[i], "percent")}`;
    }
  }

  resize() {
    const width = Math.max(220, this.mount.clientWidth);
    if (this.plot && Math.abs(width - this.plot.width) > 1) this.plot.setSize({ width, height: this.plot.height });
  }
}
