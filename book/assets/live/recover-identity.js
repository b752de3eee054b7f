/* Chapter 5: find the scale and shift that give the input back, then try them on another batch. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const most = 64;
  const count = 20;
  const [shift, spread, eps] = [3, 2, 1e-5];
  const random = math.random(11);
  const draws = Array.from({ length: count }, () => random.normals(most).map((z) => shift + spread * z));
  let held = null; // the dot that is dragged, and the scale and shift it was taken up at
  const lossOf = (x, gamma, beta) =>
    math.mean(math.batchNorm(x, gamma, beta, eps).y.map((y, i) => (y - x[i]) ** 2));

  BNLive.register("recover-identity", {
    title: "Can γ and β undo the normalization? Drag a dot",
    controls: [
      { id: "gamma", label: "γ, the scale", min: 0, max: 4, step: 0.01, value: 1 },
      { id: "beta", label: "β, the shift", min: -1, max: 6, step: 0.01, value: 0 },
      { id: "batch", label: "Batch", min: 1, max: count, step: 1, value: 1 },
      { id: "m", label: "Batch size m", min: 2, max: most, step: 1, value: 8 },
      { id: "solve", label: "Solve for batch 1", value: false },
    ],
    compute({ gamma, beta, batch, m, solve }) {
      const batches = draws.map((x) => x.slice(0, m));
      if (solve) {
        const first = math.batchNorm(batches[0], 1, 0, eps);
        [gamma, beta] = [Math.sqrt(first.variance + eps), first.mean];
      }
      const x = batches[batch - 1];
      const { y, xHat, mean, variance } = math.batchNorm(x, gamma, beta, eps);
      return {
        x, y, xHat, gamma, beta, mean, root: Math.sqrt(variance + eps),
        loss: lossOf(x, gamma, beta),
        lossOfAll: math.mean(batches.map((other) => lossOf(other, gamma, beta))),
      };
    },
    /** Take hold of the nearest dot; then the smallest change of γ and β that brings it to the pointer. */
    drag({ x, y }, params, type) {
      if (type === "pointerdown") {
        const { x: all, xHat, gamma, beta } = BNLive.figures["recover-identity"].compute(params);
        const off = all.map((value) => Math.abs(value - x));
        held = { xHat: xHat[off.indexOf(Math.min(...off))], gamma, beta };
      }
      const share = (y - (held.gamma * held.xHat + held.beta)) / (1 + held.xHat ** 2);
      return { gamma: held.gamma + share * held.xHat, beta: held.beta + share, solve: false };
    },
    draw({ x, y }, params, { Plot, width, narrow, colors, panel }) {
      const points = x.map((value, i) => ({ x: value, y: y[i] }));
      return panel("dots", Plot.plot({
        width,
        height: narrow ? 300 : 340,
        marginTop: 30,
        marginLeft: 44,
        marginBottom: 46,
        x: { domain: [-4, 10], label: "x, the input", ticks: 5 },
        y: { domain: [-6, 12], label: "y, the output", grid: true, ticks: 6 },
        marks: [
          Plot.line([[-4, -4], [10, 10]], { stroke: colors.theory, strokeDasharray: "6 4", strokeWidth: 1.5 }),
          Plot.text([[9.7, 10.8]], { text: ["y = x"], fill: colors.theory, textAnchor: "end", fontSize: 12 }),
          Plot.link(points, { x1: "x", x2: "x", y1: "x", y2: "y", stroke: colors.muted, strokeOpacity: 0.6 }),
          Plot.dot(points, { x: "x", y: "y", r: 4.5, fill: colors.normalized }),
        ],
      }));
    },
    readout: ({ gamma, beta, mean, root, loss, lossOfAll }, { batch }) => [
      `γ = ${format(gamma, 2)}, β = ${format(beta, 2)}. Mean squared distance to y = x: ` +
        `${format(loss, 3)} on batch ${batch}, ${format(lossOfAll, 3)} on average over ${count} batches.`,
      `Batch ${batch} has μ = ${format(mean, 2)} and √(σ² + ε) = ${format(root, 2)}.`,
    ],
  });
})();
