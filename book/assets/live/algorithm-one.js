/* Chapter 5: one mini-batch through the four lines of Algorithm 1. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const most = 40;
  const normals = math.random(7).normals(most);
  const plain = "γ = 1, β = 0";
  const moved = "γ = 2, β = −3";
  const undo = "γ = √(σ² + ε), β = μ";
  const rows = [
    { key: "x", label: "x", color: "plain" },
    { key: "centered", label: "x − μ", color: "third" },
    { key: "xHat", label: "x̂", color: "normalized" },
    { key: "y", label: "y", color: "fourth" },
  ];
  const small = (value) => (Math.abs(value) < 0.001 && value !== 0 ? value.toExponential(1).replace(/-/g, "−") : format(value, 3));

  BNLive.register("algorithm-one", {
    title: "One mini-batch through the four lines of Algorithm 1",
    controls: [
      { id: "m", label: "Batch size m", min: 2, max: most, step: 1, value: 8 },
      { id: "shift", label: "Shift of the input", min: -6, max: 6, step: 0.5, value: 3 },
      { id: "logSpread", label: "Spread of the input", min: -4, max: 0.4, step: 0.1, value: 0.2, format: (v) => small(10 ** v) },
      { id: "logEps", label: "ε", min: -8, max: 0, step: 0.5, value: -5, format: (v) => small(10 ** v) },
      { id: "affine", label: "Scale and shift", options: [plain, moved, undo], value: plain },
    ],
    compute({ m, shift, logSpread, logEps, affine }) {
      const x = normals.slice(0, m).map((z) => shift + 10 ** logSpread * z);
      const eps = 10 ** logEps;
      const { mean, variance } = math.batchNorm(x, 1, 0, eps);
      const root = Math.sqrt(variance + eps);
      const [gamma, beta] = { [plain]: [1, 0], [moved]: [2, -3], [undo]: [root, mean] }[affine];
      const { xHat, y } = math.batchNorm(x, gamma, beta, eps);
      const largest = Math.max(...xHat.map(Math.abs));
      const kept = variance / (variance + eps);
      return { x, centered: x.map((v) => v - mean), xHat, y, mean, variance, gamma, beta, eps, largest, kept };
    },
    draw(data, params, { Plot, width, narrow, colors }) {
      const dots = rows.flatMap(({ key, label, color }) =>
        data[key].map((value, i) => ({ value: Math.max(-12, Math.min(12, value)), label, color, first: i === 0 })));
      return Plot.plot({
        width,
        height: narrow ? 250 : 280,
        marginLeft: 48,
        marginBottom: 46,
        x: { domain: [-12, 12], label: "value", ticks: narrow ? 5 : 9 },
        y: { domain: rows.map((row) => row.label), label: null, padding: 0.4 },
        style: { fontSize: "13px" },
        marks: [
          Plot.ruleX([0], { stroke: colors.muted, strokeDasharray: "2 3" }),
          ...rows.slice(1).map((row, n) =>
            Plot.link(data.x.map((_, i) => [data[rows[n].key][i], data[row.key][i]]), {
              x1: ([a]) => Math.max(-12, Math.min(12, a)), x2: ([, b]) => Math.max(-12, Math.min(12, b)),
              y1: () => rows[n].label, y2: () => row.label, stroke: colors.muted, strokeOpacity: 0.4,
            })),
          Plot.dot(dots, { x: "value", y: "label", r: 4.5, fill: (d) => colors[d.color], fillOpacity: 0.75 }),
          Plot.dot(dots.filter((d) => d.first), { x: "value", y: "label", r: 7, stroke: "currentColor", strokeWidth: 1.5 }),
        ],
      });
    },
    readout: ({ mean, variance, y, largest, kept, gamma, beta }, { m }) => [
      `μ = ${format(mean, 2)}, σ² = ${small(variance)}. Variance of x̂ is σ²/(σ² + ε) = ${small(kept)}; ` +
        `largest |x̂| is ${format(largest, 2)}, the bound √(m − 1) is ${format(Math.sqrt(m - 1), 2)}.`,
      `With γ = ${small(gamma)}, β = ${format(beta, 2)} the output has mean ${format(math.mean(y), 2)} and standard deviation ${small(math.std(y))}.`,
    ],
  });
})();
