// Start of the page: colour scheme, copy buttons, and every section that has something to draw.

const THEMES = ["auto", "light", "dark"];
function setTheme(theme) {
  if (theme === "auto") ROOT.removeAttribute("data-theme"); else ROOT.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.textContent = theme[0].toUpperCase() + theme.slice(1);
  button.dataset.value = theme;
  try { localStorage.setItem("epilm-theme", theme); } catch { /* a page from a file may have no storage */ }
  redraw(charts);
}

async function copy(text) {
  try { await navigator.clipboard.writeText(text); } catch {
    const area = make("textarea", { style: "position: fixed; opacity: 0" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

for (const container of document.querySelectorAll(".stage-curves")) buildStage(container, container.dataset.stage);
for (const container of document.querySelectorAll(".sweep")) new Sweep(container, DATA.sweeps[container.dataset.sweep]);
for (const mount of document.querySelectorAll("[data-curves]")) charts.push(new PrecisionRecall(mount, DATA.binding[mount.dataset.curves]));
document.querySelectorAll("table.sortable").forEach(makeSortable);
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    await copy(button.parentElement.querySelector("pre").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
let theme = "auto";
try { theme = localStorage.getItem("epilm-theme") || "auto"; } catch { /* see setTheme */ }
setTheme(THEMES.includes(theme) ? theme : "auto");
document.getElementById("theme").addEventListener("click", (event) => {
  setTheme(THEMES[(THEMES.indexOf(event.target.dataset.value) + 1) % THEMES.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw(charts));
ROOT.dataset.charts = charts.length;
