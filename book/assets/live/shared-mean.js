/* Chapter 8: which values of a small batch of feature maps share a mean and a variance. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const kinds = {
    "per map": { axes: "images and positions", same: (a, b) => a.c === b.c },
    "per activation": { axes: "images", same: (a, b) => a.c === b.c && a.h === b.h && a.w === b.w },
    "per image and map": { axes: "positions", same: (a, b) => a.c === b.c && a.n === b.n },
  };

  const maps = 3;
  const batches = {
    "3 images, 3 × 3": { images: 3, side: 3 },
    "1 image, 3 × 3": { images: 1, side: 3 },
    "3 images, 1 × 1": { images: 3, side: 1 },
    "1 image, 1 × 1": { images: 1, side: 1 },
  };

  BNLive.register("shared-mean", {
    title: "Which values share a mean? Pick one.",
    controls: [
      { id: "kind", label: "One mean", options: Object.keys(kinds), value: "per map" },
      { id: "batch", label: "Batch of maps", options: Object.keys(batches), value: "3 images, 3 × 3" },
      { id: "look", label: "Look at value", min: 1, max: 9 * 3 * maps, step: 1, value: 14 },
    ],
    compute({ kind, batch, look }) {
      const { images, side } = batches[batch];
      const random = math.random(11);
      const cells = [];
      for (let n = 0; n < images; n += 1)
        for (let c = 0; c < maps; c += 1)
          for (let h = 0; h < side; h += 1)
            for (let w = 0; w < side; w += 1) cells.push({ n, c, h, w, x: c - 1 + random.normal() });
      const chosen = (look - 1) % cells.length;
      const shares = cells.map((cell) => kinds[kind].same(cell, cells[chosen]));
      const group = cells.filter((_, i) => shares[i]).map((cell) => cell.x);
      const { mean, variance } = math.batchNorm(group);
      return {
        cells,
        shares,
        chosen,
        count: group.length,
        means: cells.length / group.length,
        learned: 2 * maps * (kind === "per activation" ? side * side : 1),
        mean,
        variance,
        normalized: (cells[chosen].x - mean) / Math.sqrt(variance + 1e-5),
      };
    },
    // A place in the plot is the value to look at.
    drag: ({ x, y }, { batch }) => {
      const { images, side } = batches[batch];
      const step = side + 0.6;
      const [c, n] = [Math.floor(x / step), Math.floor(y / step)];
      const [w, h] = [Math.floor(x - c * step), Math.floor(y - n * step)];
      if (!(c >= 0 && c < maps && n >= 0 && n < images && w < side && h < side)) return null;
      return { look: ((n * maps + c) * side + h) * side + w + 1 };
    },
    draw({ cells, shares, chosen }, { batch }, { Plot, width, narrow, colors, panel }) {
      const { images, side } = batches[batch];
      const step = side + 0.6;
      const squares = cells.map((cell, i) => ({
        x: cell.c * step + cell.w,
        y: cell.n * step + cell.h,
        shares: shares[i],
        chosen: i === chosen,
        text: format(cell.x, 1),
      }));
      const size = Math.min((width - 90) / (maps * step), narrow ? 34 : 42);
      return panel("maps", Plot.plot({
        width,
        height: images * step * size + 30,
        marginLeft: 76,
        marginRight: Math.max(4, width - 76 - maps * step * size),
        marginTop: 26,
        marginBottom: 4,
        x: { axis: null, domain: [0, maps * step] },
        y: { axis: null, domain: [images * step, 0] },
        marks: [
          Plot.rect(squares, {
            x1: "x", x2: (d) => d.x + 1, y1: "y", y2: (d) => d.y + 1, inset: 1,
            fill: (d) => (d.shares ? colors.normalized : colors.muted),
            fillOpacity: (d) => (d.shares ? 0.45 : 0.12),
            stroke: (d) => (d.chosen ? colors.fourth : d.shares ? colors.normalized : colors.muted),
            strokeWidth: (d) => (d.chosen ? 4 : d.shares ? 1.5 : 0.5),
          }),
          ...(size >= 30
            ? [Plot.text(squares, { x: (d) => d.x + 0.5, y: (d) => d.y + 0.5, text: "text", fill: "currentColor", fontSize: 12 })]
            : []),
          Plot.text(math.linspace(0, maps - 1, Math.max(maps, 2)).slice(0, maps), {
            x: (c) => c * step + side / 2, y: 0, dy: -12, text: (c) => (narrow && maps > 2 ? `${c + 1}` : `map ${c + 1}`), fill: "currentColor", fontSize: 13,
          }),
          Plot.text(math.linspace(0, images - 1, Math.max(images, 2)).slice(0, images), {
            x: 0, y: (n) => n * step + side / 2, dx: -10, textAnchor: "end", text: (n) => `image ${n + 1}`, fill: "currentColor", fontSize: 13,
          }),
        ],
      }));
    },
    readout: ({ cells, chosen, count, means, learned, mean, variance, normalized }, { kind }) => [
      `Averaged over ${kinds[kind].axes}: ${count} value${count === 1 ? "" : "s"} share this mean, ${means} mean${means === 1 ? "" : "s"} in all; the layer learns ${learned} numbers.`,
      count === 1
        ? "One value alone has no variance: training refuses it."
        : `Here the mean is ${format(mean, 2)}, the variance ${format(variance, 2)}, and ${format(cells[chosen].x, 2)} becomes ${format(normalized, 2)}.`,
    ],
  });
})();
