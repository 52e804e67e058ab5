// What every part of the page uses: its data, elements, numbers as text, colours.

const DATA = JSON.parse(document.getElementById("data").textContent);
const ROOT = document.documentElement;
const TIP = document.getElementById("tip");
const PLOT_HEIGHT = 230;
const WIDE_HEIGHT = 430;
const DASHES = { copy: [8, 5], majority: [2, 4], unigram: [8, 5], uniform: [2, 4], random: [2, 4], mean: [8, 5], base_rate: [2, 4] };
const charts = [];

// ---- small helpers ------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const words = (key) => key.replace("held_out_both", "held-out contigs and cell types").replace("held_out", "held-out").replaceAll("_", " ");

function scaled(value, units) {
  let size = value, unit = 0;
  while (Math.abs(size) >= 1000 && unit < units.length - 1) { size /= 1000; unit++; }
  return `${Number(size.toPrecision(3))}${units[unit] ? " " + units[unit] : ""}`;
}

function plain(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumFractionDigits: Math.max(0, 3 - Math.floor(Math.log10(size || 1))) });
}

const STYLES = {
  number: plain,
  fine: (v) => v.toFixed(4),
  percent: (v) => `${(100 * v).toFixed(Math.abs(v) < 0.1 ? 2 : 1)} %`,
  si: (v) => scaled(v, ["", "k", "M", "G", "T"]),
  seconds: (v) => (v === 0 ? "0" : Math.abs(v) >= 1 ? `${v.toPrecision(3)} s` : `${(1000 * v).toPrecision(3)} ms`),
};
const AXIS = { ...STYLES, percent: (v) => `${Number((100 * v).toPrecision(4))} %`, number: (v) => plain(Number(v.toPrecision(6))), fine: (v) => plain(Number(v.toPrecision(6))) };
const show = (value, style) => (value == null ? "–" : (STYLES[style] || plain)(value));

// ---- colours: one hue family a run, one member of it a set ---------------------------------------------------------

function cssColour(name) {
  const probe = make("i", { style: `color: var(${name}); display: none` });
  document.body.append(probe);
  const parts = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  probe.remove();
  return parts;
}

const rgba = ([r, g, b], alpha = 1) => `rgba(${Math.round(r)}, ${Math.round(g)}, ${Math.round(b)}, ${alpha})`;
const mix = (a, b, share) => a.map((value, i) => value * (1 - share) + b[i] * share);

function turnHue([r, g, b], degrees) {
  // rotation about the grey axis keeps lightness about as it is (the matrix of CSS hue-rotate)
  const c = Math.cos((degrees * Math.PI) / 180), s = Math.sin((degrees * Math.PI) / 180);
  const row = (x, y, z) => Math.min(255, Math.max(0, x * r + y * g + z * b));
  return [
    row(0.213 + c * 0.787 - s * 0.213, 0.715 - c * 0.715 - s * 0.715, 0.072 - c * 0.072 + s * 0.928),
    row(0.213 - c * 0.213 + s * 0.143, 0.715 + c * 0.285 + s * 0.14, 0.072 - c * 0.072 - s * 0.283),
    row(0.213 - c * 0.213 - s * 0.787, 0.715 - c * 0.715 + s * 0.715, 0.072 + c * 0.928 + s * 0.072),
  ];
}

function seriesColour(run, setIndex, isTrain) {
  const base = cssColour(`--run-${DATA.colours[run] ?? 0}`);
  if (isTrain) return mix(base, cssColour("--card"), 0.35);
  return setIndex === 0 ? base : turnHue(base, [45, -45, 90, -90][(setIndex - 1) % 4]);
}
