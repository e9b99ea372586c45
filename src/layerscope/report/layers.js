// One layer, chosen once: the figures mark it, the tables' rows about it are lit, and each section
// says its numbers there. Figures say themselves where their layers are (layout.meta.layers).
const strip = document.getElementById("layers");
let chosen = null;

const layersOf = (plot) => plot.layout?.meta?.layers ?? {};
const axisOf = (plot, id) => plot._fullLayout[id.replace(/^[xy]/, "$&axis")];
const nameOf = (layer) => (layer < 0 ? "embed" : `block ${layer}`);
const half = (pairs) => Math.min(1, ...pairs.slice(1).map(([, b], i) => b - pairs[i][1] || 1)) / 2;

// A box over the plot rather than a shape in it: nothing is drawn again, so arrow keys can run.
const mark = (plot) => {
  plot.querySelectorAll(".mark").forEach((box) => box.remove());
  let marked = false;
  for (const [id, pairs] of Object.entries(layersOf(plot))) {
    const places = pairs.filter(([layer]) => layer === chosen).map(([, place]) => place);
    if (!places.length) continue;
    marked = true;
    if (id === "slider") slide(plot, places[0]);
    else for (const place of places) plot.append(boxAt(plot, id, place, half(pairs)));
  }
  return marked;
};

const boxAt = (plot, id, place, reach) => {
  const along = axisOf(plot, id);
  const across = axisOf(plot, along.anchor === "free" ? (id[0] === "x" ? "y" : "x") : along.anchor);
  const ends = [along.c2p(place - reach), along.c2p(place + reach)];
  const from = Math.max(0, Math.min(...ends));
  const to = Math.min(along._length, Math.max(...ends));
  const [start, size, side, width] =
    id[0] === "x" ? ["left", "width", "top", "height"] : ["top", "height", "left", "width"];
  const box = document.createElement("div");
  const cells = plot._fullData.some((t) => t.type === "heatmap" && (t.xaxis === id || t.yaxis === id));
  box.className = cells ? "mark cells" : "mark";
  box.hidden = to <= from;
  box.style[start] = `${along._offset + from}px`;
  box.style[size] = `${Math.max(0, to - from)}px`;
  box.style[side] = `${across._offset}px`;
  box.style[width] = `${across._length}px`;
  return box;
};

const slide = (plot, number) => {
  const step = plot.layout.sliders[0].steps[number];
  if (plot.layout.sliders[0].active === number) return;
  Plotly.relayout(plot, { "sliders[0].active": number });
  Plotly[step.method](plot, ...step.args);
};

const choose = (layer) => {
  chosen = layer;
  const seen = inView();
  const before = seen?.getBoundingClientRect().top;
  const marked = plots.filter((plot) => plot._fullLayout && mark(plot)).length;
  for (const line of document.querySelectorAll(".here")) tell(line);
  for (const table of document.querySelectorAll("table.data")) light(table);
  strip.querySelector("output").textContent =
    layer === null ? strip.dataset.hint : `${nameOf(layer)}, marked in ${marked} figures`;
  const radio = strip.querySelector(`input[value="${layer ?? ""}"]`);
  if (radio) radio.checked = true;
  // The lines that came or went must not push away what is being looked at.
  if (seen) scrollBy({ top: seen.getBoundingClientRect().top - before, behavior: "instant" });
};

const inView = () =>
  [...document.querySelectorAll(".plot")].find((plot) => {
    const { top, bottom } = plot.getBoundingClientRect();
    return bottom > 80 && top < innerHeight;
  });

const tell = (line) => {
  const told = JSON.parse(line.dataset.layers)[chosen];
  line.hidden = told === undefined;
  line.querySelector("b").textContent = chosen === null ? "" : `At ${nameOf(chosen)}`;
  line.querySelector("span").textContent = told ?? "";
};

const light = (table) => {
  let lit = 0;
  for (const row of table.tBodies[0].rows) {
    const own = chosen !== null && (row.dataset.layers ?? "").split(" ").includes(String(chosen));
    lit += own;
    row.classList.toggle("lit", own);
    if (own) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
  const count = table.closest("details").querySelector(".lit-rows");
  count.textContent = lit ? `${lit} at ${nameOf(chosen)}` : "";
};

// A click on a point, bar or cell chooses its layer; a second one lets it go.
const chooseByClick = (plot) =>
  plot.on("plotly_click", ({ points: [point] }) => {
    for (const letter of ["x", "y"]) {
      const axis = point[`${letter}axis`];
      const pairs = layersOf(plot)[axis?._id];
      if (!pairs) continue;
      const place = axis.d2c(point[letter]);
      const hit = pairs.find(([, at]) => Math.abs(at - place) <= half(pairs));
      if (!hit) continue;
      choose(hit[0] === chosen ? null : hit[0]);
      return;
    }
  });

if (strip) {
  strip.hidden = false;
  strip.addEventListener("change", ({ target }) =>
    choose(target.value === "" ? null : Number(target.value)),
  );
  addEventListener("keydown", ({ key }) => {
    if (key === "Escape" && chosen !== null) choose(null);
  });
}
