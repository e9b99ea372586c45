// Paper is white, narrower than a screen, and cannot be unfolded: sources and caveats are, and what
// the reader has opened stays open.
const PAPER_WIDTH = 660;
const PAPER_HEIGHT = 850;
const SMALLEST = 0.75;
const folded = new Set();
let worn;

// A figure a little taller than a sheet is drawn smaller; one that is much taller is cut at its size.
const scaled = (height) =>
  PAPER_HEIGHT / height < SMALLEST ? 1 : Math.min(1, PAPER_HEIGHT / height);

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
