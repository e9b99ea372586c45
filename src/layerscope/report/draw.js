// Unpacks plotly and draws every figure in the dress of the page, those in sight first.
const touch = matchMedia("(pointer: coarse)").matches;
// A finger that scrolls past a figure must not zoom it instead.
const dragmode = touch ? false : "zoom";
config.displayModeBar = touch ? false : "hover";
// Figures lie on the page, whatever its colour.
const clear = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };

const unpacked = async (id) => {
  const packed = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i += 1) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};

const dressed = (layout, width) => {
  const template = templates[isDark() ? "dark" : "light"];
  return { dragmode, ...layout, ...clear, template, autosize: true, width };
};

// Panels side by side keep a width at which their words are read; a narrow screen moves along them.
const PANEL = 220;
const WORD = 52;
const roomFor = ({ data, layout }) => {
  const axes = Object.entries(layout).filter(([name]) => name.startsWith("xaxis"));
  const columns = new Set(axes.map(([, axis]) => (axis.domain?.[0] ?? 0).toFixed(2))).size;
  const cells = Math.max(0, ...data.map((trace) => (hasWords(trace) ? trace.text[0].length : 0)));
  const room = Math.max(columns > 1 ? PANEL * columns : 0, WORD * cells);
  return room ? `${room + 80}px` : "";
};
const hasWords = ({ type, texttemplate, text }) => type === "heatmap" && texttemplate && text?.length;

const draw = async (plot, width) => {
  const before = plot._fullLayout?.width;
  const { data, layout, frames } = JSON.parse(plot.nextElementSibling.textContent);
  plot.style.zoom = width ? scaled(layout.height) : "";
  plot.style.minWidth = roomFor({ data, layout });
  plot.parentElement.classList.toggle("pans", plot.scrollWidth > plot.parentElement.clientWidth);
  await Plotly.react(plot, { data, frames, layout: dressed(layout, width), config });
  // At another width a legend has other rows, and keeps the place of the old ones until the next time.
  if (before && before !== plot._fullLayout.width) await Plotly.redraw(plot);
  describe(plot);
  findAgain(plot);
  if (chosen !== null) mark(plot);
  if (before) return;
  plot.on("plotly_afterplot", () => chosen !== null && mark(plot));
  plot.on("plotly_relayout", () => retitle(plot));
  chooseByClick(plot);
  performance.mark("figure");
};

// The picture is one image to a screen reader; the buttons above it stay buttons.
const describe = (plot) => {
  const [picture, ...layers] = plot.querySelectorAll(".main-svg");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", plot.dataset.alternative);
  for (const layer of layers) layer.setAttribute("aria-hidden", "true");
  plot.removeAttribute("role");
  plot.removeAttribute("aria-label");
};

// A menu in a figure may rename it; the name stands above the figure, not in it.
const retitle = (plot) => {
  const text = plot.layout.title?.text;
  const caption = plot.parentElement.querySelector("figcaption");
  if (!text || !caption) return;
  const [name, ...more] = text.split(/<br *\/?>/).map(wordsOf);
  caption.firstElementChild.textContent = name;
  if (caption.lastElementChild !== caption.firstElementChild)
    caption.lastElementChild.textContent = more.join("\n");
  Plotly.relayout(plot, { "title.text": "" });
};

const wordsOf = (markup) => new DOMParser().parseFromString(markup, "text/html").body.textContent;

const distance = (plot) => {
  const { top, bottom } = plot.getBoundingClientRect();
  return Math.max(0, top - innerHeight, -bottom);
};

// What is near is drawn first; between two figures the page can scroll and answer.
let round = 0;
const drawAll = async (width) => {
  const own = (round += 1);
  nameTheme();
  const near = [...plots].sort((a, b) => distance(a) - distance(b));
  for (const plot of near) {
    await draw(plot, width);
    if (!width) await new Promise((next) => setTimeout(next));
    if (own !== round) return;
  }
  document.querySelectorAll(".panels").forEach(together);
  performance.mark("all figures");
  root.dataset.drawn = isDark() ? "dark" : "light";
};

if ("DecompressionStream" in window) {
  const library = document.createElement("script");
  library.textContent = await unpacked("plotly");
  document.head.append(library);
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    drawAll();
  });
  prefersDark.addEventListener("change", () => drawAll());
  offerSearch();
  drawAll();
} else {
  document.getElementById("no-figures").hidden = false;
}
