// What pages do with scripts; without them they can be read all the same.
"use strict";
(() => {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  // Times are relative: they go on while nothing else changes.
  const tick = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const gap = (Date.now() - Date.parse(time.dateTime)) / 1000 - skew;
      const size = Math.abs(gap);
      const unit = units.find(([seconds]) => size >= seconds);
      const said = unit ? `${Math.floor(size / unit[0])} ${unit[1]}` : "";
      time.textContent = !said ? "now" : gap > 0 ? `${said} ago` : `in ${said}`;
    }
  };
  // The coordinator's clock counts, not this machine's.
  const told = Number(document.documentElement.dataset.now);
  const skew = told ? Date.now() / 1000 - told : 0;
  setInterval(tick, 10000);

  // Plots, which are drawn by uPlot from the figures beside them.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const resolve = (name) => {
    const probe = document.createElement("i");
    probe.hidden = true;
    document.body.append(probe);
    probe.style.color = `var(${name})`;
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found || colour(name);
  };
  const drawn = new Map();
  const draw = () => {
    if (!window.uPlot) return;
    for (const [box, plot] of drawn) if (!box.isConnected) { plot.destroy(); drawn.delete(box); }
    for (const box of document.querySelectorAll("[data-plot]")) {
      const told = JSON.parse(box.dataset.plot);
      const old = drawn.get(box);
      if (old) { old.setData(told.data); continue; }
      const line = resolve("--line"), quiet = resolve("--quiet");
      const strokes = ["--accent", "--busy", "--good", "--bad", "--wait", "--idle"].map(resolve);
      const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "11px system-ui" };
      const options = {
        width: box.clientWidth, height: 190, legend: { show: told.series.length > 1 }, cursor: { y: false },
        scales: { y: { range: (_, low, high) => [Math.min(0, low), told.top || (high > 0 ? high * 1.1 : 1)] } },
        axes: [{ ...axis, values: "{HH}:{mm}" }, { ...axis, size: 54 }],
        series: [{ label: "Time", value: "{HH}:{mm}" }, ...told.series.map((label, n) => ({ label, stroke: strokes[n % strokes.length], width: 1.5, points: { show: false } }))],
      };
      drawn.set(box, new window.uPlot(options, told.data, box));
    }
  };
  new ResizeObserver(() => {
    for (const [box, plot] of drawn) plot.setSize({ width: box.clientWidth, height: 190 });
  }).observe(document.documentElement);

  // Whether the page follows what happens.
  const light = document.getElementById("pulse");
  let paused = false;
  const pulse = (state, said) => {
    if (!light) return;
    light.hidden = false;
    light.dataset.state = paused ? "" : state;
    light.textContent = paused ? "Paused" : said;
    light.setAttribute("aria-pressed", String(!paused));
  };
  document.addEventListener("htmx:sseOpen", () => pulse("on", "Live"));
  document.addEventListener("htmx:sseError", () => pulse("off", "Reconnecting"));
  // Whoever reads can hold the page still.
  light?.addEventListener("click", () => {
    paused = !paused;
    pulse("on", "Live");
    if (!paused) htmx.trigger("#live", "sse:change");
  });
  document.addEventListener("htmx:beforeRequest", (event) => { if (paused) event.preventDefault(); });
  document.addEventListener("htmx:afterSettle", () => { draw(); tick(); });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
    button.textContent = "Copied";
  });

  for (const one of document.querySelectorAll(".needs-script")) one.hidden = false;
  draw();
})();
