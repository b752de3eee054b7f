/* Chapter 12: six norms on one small tensor: which values share a statistic, and which outputs move. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const [images, maps, side, inputs, eps] = [3, 4, 2, 3, 1e-5];
  const places = side * side;
  const average = (kind, axes, same, centered = true) => ({ kind, axes, same, centered });
  const norms = {
    batch: average("mean and variance", "images and positions", (a, b) => a.c === b.c),
    layer: average("mean and variance", "maps and positions", (a, b) => a.n === b.n),
    instance: average("mean and variance", "positions", (a, b) => a.n === b.n && a.c === b.c),
    "group (2 groups)": average("mean and variance", "half of the maps, and positions",
      (a, b) => a.n === b.n && a.c * 2 < maps === b.c * 2 < maps),
    RMS: average("mean square", "maps and positions", (a, b) => a.n === b.n, false),
    weight: { kind: "weight length", same: (a, b) => a.c === b.c },
  };
  const cells = [];
  for (let n = 0; n < images; n += 1)
    for (let c = 0; c < maps; c += 1)
      for (let p = 0; p < places; p += 1) cells.push({ n, c, p });
  // The layer before: a 1 x 1 convolution from `inputs` maps, without a bias.
  const random = math.random(3);
  const weights = Array.from({ length: maps }, () => random.normals(inputs));
  const given = Array.from({ length: images }, () => Array.from({ length: places }, () => random.normals(inputs)));
  const convolved = cells.map(({ n, c, p }) => math.dot(weights[c], given[n][p]));

  function normalized(x, norm) {
    const { same, axes, centered } = norms[norm];
    return x.map((value, i) => {
      if (!axes) return value / Math.sqrt(math.dot(weights[cells[i].c], weights[cells[i].c]));
      const group = x.filter((_, j) => same(cells[j], cells[i]));
      const mean = centered ? math.mean(group) : 0;
      return (value - mean) / Math.sqrt(math.mean(group.map((v) => (v - mean) ** 2)) + eps);
    });
  }

  const step = side + 0.3;
  let held = null; // where the pointer took up a value, and what had been added to it

  BNLive.register("norms-by-axis", {
    title: "Who shares a statistic, and which outputs move? Drag a value sideways",
    controls: [
      { id: "norm", label: "Normalization", options: Object.keys(norms), value: "batch" },
      { id: "look", label: "Value", min: 1, max: cells.length, step: 1, value: 22 },
      { id: "by", label: "Add to it", min: -4, max: 4, step: 0.1, value: 2 },
    ],
    compute({ norm, look, by }) {
      const chosen = look - 1;
      const x = convolved.map((value, i) => (i === chosen ? value + by : value));
      const before = normalized(convolved, norm);
      const y = normalized(x, norm);
      const shares = cells.map((cell) => norms[norm].same(cell, cells[chosen]));
      const count = shares.filter(Boolean).length;
      const moves = y.map((value, i) => Math.abs(value - before[i]) > 1e-9);
      return { x, y, before, shares, moves, count, statistics: cells.length / count, weights, given };
    },
    drag({ panel, x, y, pixel }, { norm, look, by }, type) {
      if (panel !== "x") return null;
      if (type !== "pointerdown") {
        if (!held) return null;
        const moved = Math.round((held.by + (pixel.x - held.at) / 25) * 10) / 10;
        return { by: Math.min(4, Math.max(-4, moved)) };
      }
      const [c, n] = [Math.floor(x / step), Math.floor(y / step)];
      const [w, h] = [Math.floor(x - c * step), Math.floor(y - n * step)];
      held = null;
      if (!(c >= 0 && c < maps && n >= 0 && n < images && w < side && h < side)) return null;
      const found = (n * maps + c) * places + h * side + w + 1;
      held = { at: pixel.x, by: found === look ? by : 0 };
      return { look: found, by: held.by };
    },
    draw({ x, y, shares, moves }, { look }, { Plot, d3, width, narrow, colors, panel }) {
      const wide = narrow ? width : Math.floor(width / 2) - 4;
      const size = Math.min((wide - 64) / (maps * step), 36);
      const grid = (name, title, values, marked, color) => {
        const squares = cells.map((cell, i) => ({
          x: cell.c * step + (cell.p % side), y: cell.n * step + Math.floor(cell.p / side),
          marked: marked[i], chosen: i === look - 1, text: format(values[i], 1),
        }));
        return panel(name, Plot.plot({
          width: wide,
          height: images * step * size + 56,
          marginLeft: 60,
          marginRight: Math.max(4, wide - 60 - maps * step * size),
          marginTop: 50,
          marginBottom: 4,
          x: { axis: null, domain: [0, maps * step] },
          y: { axis: null, domain: [images * step, 0] },
          marks: [
            Plot.rect(squares, {
              x1: "x", x2: (d) => d.x + 1, y1: "y", y2: (d) => d.y + 1, inset: 1,
              fill: (d) => (d.marked ? color : colors.muted),
              fillOpacity: (d) => (d.marked ? 0.45 : 0.1),
              stroke: (d) => (d.chosen ? "currentColor" : d.marked ? color : colors.muted),
              strokeWidth: (d) => (d.chosen ? 3 : d.marked ? 1.5 : 0.5),
            }),
            ...(size >= 26
              ? [Plot.text(squares, { x: (d) => d.x + 0.5, y: (d) => d.y + 0.5, text: "text", fill: "currentColor", fontSize: 12 })]
              : []),
            Plot.text([title], { x: 0, y: 0, dy: -38, textAnchor: "start", fill: "currentColor", fontSize: 14, fontWeight: 600 }),
            Plot.text(math.linspace(1, maps, maps), {
              x: (c) => (c - 1) * step + side / 2, y: 0, dy: -12, text: (c) => (narrow ? `${c}` : `map ${c}`), fill: "currentColor", fontSize: 12,
            }),
            Plot.text(math.linspace(1, images, images), {
              x: 0, y: (n) => (n - 1) * step + side / 2, dx: -8, textAnchor: "end", text: (n) => `image ${n}`, fill: "currentColor", fontSize: 12,
            }),
          ],
        }));
      };
      const pair = d3.create("div").style("display", "flex").style("flex-wrap", "wrap").style("gap", "8px").node();
      pair.append(
        grid("x", "x: values that share a statistic", x, shares, colors.normalized),
        grid("y", "y: outputs that move", y, moves, colors.fourth),
      );
      return pair;
    },
    readout: ({ x, y, before, count, statistics, moves }, { norm, look, by }) => [
      norms[norm].axes
        ? `One ${norms[norm].kind} over ${norms[norm].axes}: ${count} values share it, ${statistics} in all.`
        : `One ${norms[norm].kind} for each map: ${count} values are divided by it, ${statistics} in all, and none of them enters it.`,
      by === 0
        ? "Add to the value to see which outputs move."
        : `Adding ${format(by, 1)} makes the value ${format(x[look - 1], 1)}. It moves ${moves.filter(Boolean).length} output${moves.filter(Boolean).length === 1 ? "" : "s"}; its own from ${format(before[look - 1])} to ${format(y[look - 1])}.`,
    ],
  });
})();
