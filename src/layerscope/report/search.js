// A search box of a finding's page: points and parts that do not match step back. A word counts
// from its beginning; a blank after it asks for the whole word.
const find = (box) => {
  const panel = box.closest(".panel");
  const plot = panel.querySelector(".plot");
  const word = ` ${box.value.trimStart().toLowerCase()}`;
  const asked = word !== " ";
  let [found, points, blocks] = [0, 0, 0];
  const matching = plot.data.map(({ text }) => {
    if (!Array.isArray(text)) return null;
    const own = [...text.keys()].filter((i) => text[i].includes(word));
    points += text.length;
    found += own.length;
    return asked ? own : null;
  });
  for (const part of panel.querySelectorAll("[data-words]")) {
    part.hidden = asked && !part.dataset.words.includes(word);
    blocks += !part.hidden;
  }
  Plotly.restyle(plot, { selectedpoints: matching });
  box.parentElement.querySelector("output").textContent = asked
    ? `${found} of ${points} points match, ${blocks} of them ${blocks === 1 ? "has" : "have"} a block below.`
    : "";
};

// What was searched for is still searched for when a figure is drawn again.
const findAgain = (plot) => {
  const box = plot.closest(".panel").querySelector("[role=search] input");
  if (box?.value) find(box);
};

const offerSearch = () => {
  for (const search of document.querySelectorAll("[role=search]")) {
    search.hidden = false;
    search.querySelector("input").addEventListener("input", ({ target }) => find(target));
  }
};
