/* Landing page: a mini-batch of one feature before and after Batch Normalization. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const m = 400;
  const shapes = {
    bell: (random) => random.normals(m),
    skewed: (random) => Array.from({ length: m }, () => -Math.log(1 - random.uniform()) - 1),
    "two groups": (random) => random.normals(m).map((z, i) => (i % 2 ? 0.45 * z + 0.9 : 0.45 * z - 0.9)),
  };

  BNLive.register("normalize", {
    title: "One feature of a mini-batch, before and after Batch Normalization",
    controls: [
      { id: "shift", label: "Mean of the input", min: -6, max: 6, step: 0.1, value: 4 },
      { id: "scale", label: "Spread of the input", min: 0.1, max: 3, step: 0.1, value: 2 },
      { id: "shape", label: "Shape of the input", options: Object.keys(shapes), value: "bell" },
      { id: "gamma", label: "γ, the learned scale", min: 0, max: 3, step: 0.1, value: 1 },
      { id: "beta", label: "β, the learned shift", min: -6, max: 6, step: 0.1, value: 0 },
    ],
    compute({ shift, scale, shape, gamma, beta }) {
      const z = shapes[shape](math.random(1));
      const x = math.batchNorm(z, scale, shift, 0).y; // exactly the mean and spread asked for
      const { y } = math.batchNorm(x, gamma, beta);
      return { x, y, meanX: math.mean(x), stdX: math.std(x), meanY: math.mean(y), stdY: math.std(y) };
    },
    draw({ x, y }, params, { Plot, width, colors }) {
      const before = "x, as it arrives";
      const after = "y, after Batch Normalization";
      const bins = (values, row) => math.histogram(values, -12, 12, 96).map((bin) => ({ ...bin, row }));
      return Plot.plot({
        width,
        height: 300,
        marginLeft: 12,
        marginRight: 12,
        fy: { domain: [before, after], axis: null, padding: 0.18 },
        x: { domain: [-12, 12], label: null, grid: true },
        y: { axis: null, domain: [0, 90], clamp: true },
        marks: [
          Plot.rectY([...bins(x, before), ...bins(y, after)], {
            x1: "x0", x2: "x1", y: "count", fy: "row", insetLeft: 0.5,
            fill: (bin) => (bin.row === before ? colors.plain : colors.normalized),
          }),
          Plot.ruleY([0]),
          Plot.text([before, after], { fy: (d) => d, text: (d) => d, frameAnchor: "top-left", fontSize: 13, fill: "currentColor" }),
        ],
      });
    },
    readout: ({ meanX, stdX, meanY, stdY }) => [
      `Before: mean ${format(meanX)}, standard deviation ${format(stdX)}.`,
      `After: mean ${format(meanY)}, standard deviation ${format(stdY)}. The shape is the input's.`,
    ],
  });
})();
