"use strict";
// Draws every figure in the dress of the page, and makes tables sortable.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const { templates, config } = JSON.parse(document.getElementById("dress").textContent);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll(".plot")];
  const touch = matchMedia("(pointer: coarse)").matches;
  // A finger that scrolls past a figure must not zoom it instead.
  const dragmode = touch ? false : "zoom";
  config.displayModeBar = touch ? false : "hover";
  // Figures lie on the page, whatever its colour.
  const clear = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };

  const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";

  const dressed = (layout, width) => {
    const template = templates[isDark() ? "dark" : "light"];
    return { dragmode, ...layout, ...clear, template, autosize: true, width };
  };

  const draw = async (plot, width) => {
    const figure = JSON.parse(plot.nextElementSibling.textContent);
    const { data, frames } = figure;
    await Plotly.react(plot, { data, frames, layout: dressed(figure.layout, width), config });
    describe(plot);
    const box = plot.closest("section").querySelector("[role=search] input");
    if (box?.value) find(box);
  };

  // A search box of a page: points and parts that do not match step back. A word counts from its
  // beginning; a blank after it asks for the whole word.
  const find = (box) => {
    const section = box.closest("section");
    const plot = section.querySelector(".plot");
    const word = ` ${box.value.trimStart().toLowerCase()}`;
    const asked = word !== " ";
    let [found, points, blocks] = [0, 0, 0];
    const chosen = plot.data.map(({ text }) => {
      if (!Array.isArray(text)) return null;
      const own = [...text.keys()].filter((i) => text[i].includes(word));
      points += text.length;
      found += own.length;
      return asked ? own : null;
    });
    for (const part of section.querySelectorAll("[data-words]")) {
      part.hidden = asked && !part.dataset.words.includes(word);
      blocks += !part.hidden;
    }
    Plotly.restyle(plot, { selectedpoints: chosen });
    box.parentElement.querySelector("output").textContent = asked
      ? `${found} of ${points} points match, ${blocks} of them ${blocks === 1 ? "has" : "have"} a block below.`
      : "";
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

  const drawAll = async (width) => {
    label();
    for (const plot of plots) await draw(plot, width);
    root.dataset.drawn = isDark() ? "dark" : "light";
  };

  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  };

  const sortable = (table) => {
    for (const [index, head] of [...table.tHead.rows[0].cells].entries()) {
      const control = document.createElement("button");
      control.type = "button";
      control.append(...head.childNodes);
      control.addEventListener("click", () => sort(table, head, index));
      head.append(control);
    }
  };

  const sort = (table, head, index) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const number = head.classList.contains("number");
    const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[index], number), row]);
    rows.sort(([a], [b]) => compare(a, b, down));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };

  const key = (cell, number) => {
    const text = cell.textContent;
    if (!number) return text;
    return Number(text.replaceAll(",", "").replace("−", "-").replace("∞", "Infinity"));
  };

  // Missing values go last in either direction.
  const compare = (a, b, down) => {
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    const order = typeof a === "number" ? a - b : a.localeCompare(b);
    return down ? -order : order;
  };

  // Paper is white, narrower than a screen, and cannot be unfolded.
  const PAPER_WIDTH = 640;
  const folded = new Set();
  let worn;
  addEventListener("beforeprint", () => {
    worn = root.dataset.theme;
    for (const details of document.querySelectorAll("details:not([open])")) {
      folded.add(details);
      details.open = true;
    }
    root.dataset.theme = "light";
    drawAll(PAPER_WIDTH);
  });
  addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
    folded.clear();
    if (worn) root.dataset.theme = worn;
    else delete root.dataset.theme;
    drawAll();
  });

  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    drawAll();
  });
  prefersDark.addEventListener("change", () => drawAll());
  document.querySelectorAll("table").forEach(sortable);
  for (const search of document.querySelectorAll("[role=search]")) {
    search.hidden = false;
    search.querySelector("input").addEventListener("input", ({ target }) => find(target));
  }
  drawAll();
})();
