// Figures of different models beside each other have the same axes and the same colours.
const together = (panels) => {
  const drawn = [...panels.querySelectorAll(".plot")].filter((plot) => plot._fullLayout);
  if (drawn.length < 2) return;
  const common = {};
  for (const name of axesOf(drawn[0])) {
    const axes = drawn.map((plot) => plot._fullLayout[name]);
    const ranged = axes.every((axis) => axis?.range && axis.type === axes[0].type);
    if (ranged && axes[0].type !== "category") common[`${name}.range`] = union(axes);
  }
  for (const plot of drawn) Plotly.relayout(plot, common);
  paintAlike(drawn);
};

const axesOf = (plot) => Object.keys(plot._fullLayout).filter((key) => /^[xy]axis\d*$/.test(key));

// An axis that runs downwards keeps doing so.
const union = (axes) => {
  const ends = axes.flatMap(({ range }) => range);
  const span = [Math.min(...ends), Math.max(...ends)];
  return axes[0].range[0] > axes[0].range[1] ? span.reverse() : span;
};

const paintAlike = (drawn) => {
  const maps = drawn.map((plot) => plot._fullData.filter(({ type }) => type === "heatmap"));
  for (const index of maps[0].keys()) {
    const same = maps.map((own) => own[index]);
    if (same.some((map) => !map || map.coloraxis || !Number.isFinite(map.zmin))) continue;
    const [zmin, zmax] = [
      Math.min(...same.map((map) => map.zmin)),
      Math.max(...same.map((map) => map.zmax)),
    ];
    drawn.forEach((plot, i) => Plotly.restyle(plot, { zmin, zmax }, [same[i].index]));
  }
};
