// One stage: its controls and its charts.

function redraw(list) {
  cancelAnimationFrame(list.pending);
  list.pending = requestAnimationFrame(() => list.forEach((chart) => chart.draw()));
}

function chip(label, onchange) {
  const button = make("button", { type: "button", class: "chip", "aria-pressed": "true" }, label);
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    onchange(on);
  });
  return button;
}

function buildStage(container, name) {
  const stage = DATA.stages[name];
  Object.assign(stage, { name, smoothing: 0.6, filter: { hiddenRuns: new Set(), hiddenSets: new Set(), noBaselines: false } });
  stage.lastStep = Math.max(...stage.frames.flatMap((frame) => frame.x.slice(-1)));
  const own = [];
  const update = () => redraw(own);
  const flip = (set, key) => (on) => { if (on) set.delete(key); else set.add(key); update(); };
  const controls = make("div", { class: "controls" });
  if (stage.runs.length > 1) {
    controls.append(make("div", { class: "chips", role: "group", "aria-label": "Runs" }, ...stage.runs.map((run) => {
      const button = chip("", flip(stage.filter.hiddenRuns, run));
      button.append(make("span", { class: `run-name run-${DATA.colours[run]}` }, run));
      return button;
    })));
  }
  const sets = stage.sets.map((set) => chip(words(set), flip(stage.filter.hiddenSets, set)));
  const hasBaselines = stage.groups.some((group) => group.charts.some((chart) => chart.baselines.length));
  if (hasBaselines) sets.push(chip("baselines", (on) => { stage.filter.noBaselines = !on; update(); }));
  controls.append(make("div", { class: "chips", role: "group", "aria-label": "Sets" }, ...sets));
  if (stage.sets.includes("train")) {
    const output = make("output", {}, stage.smoothing.toFixed(2));
    const slider = make("input", { type: "range", min: "0", max: "0.98", step: "0.02", value: stage.smoothing });
    slider.addEventListener("input", () => { stage.smoothing = Number(slider.value); output.textContent = stage.smoothing.toFixed(2); update(); });
    controls.append(make("label", { title: "Exponential mean of the training curves" }, "Smoothing", slider, output));
  }
  container.append(controls);
  for (const group of stage.groups) {
    const grid = make("div", { class: "charts" });
    container.append(make("h3", { class: "group-title" }, group.title), grid);
    for (const spec of group.charts) {
      const chart = new Chart(stage, spec);
      grid.append(chart.card);
      own.push(chart);
      charts.push(chart);
    }
  }
  own.forEach((chart) => chart.draw());
}
