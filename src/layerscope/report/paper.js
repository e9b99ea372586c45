// Paper is white, narrower than a screen, and cannot be unfolded: sources and caveats are, and what
// the reader has opened stays open.
const PAPER_WIDTH = 660;
const folded = new Set();
let worn;

addEventListener("beforeprint", () => {
  worn = root.dataset.theme;
  for (const details of document.querySelectorAll("details:is(.source, .more):not([open])")) {
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
