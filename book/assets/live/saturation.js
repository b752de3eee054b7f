/* Chapter 2: where the inputs of a sigmoid lie decides how much of the gradient comes through. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const flat = 0.1 / 4; // a tenth of the steepest slope
  const edge = Math.log((1 + Math.sqrt(1 - 4 * flat)) / (1 - Math.sqrt(1 - 4 * flat)));
  const slope = (z) => math.sigmoid(z) * (1 - math.sigmoid(z));
  const density = (z, mean, std) => Math.exp(-(((z - mean) / std) ** 2) / 2) / (std * Math.sqrt(2 * Math.PI));

  /** The normal distribution function: Abramowitz & Stegun 7.1.26, error below 1.5e-7. */
  function normalCdf(x) {
    const u = Math.abs(x) / Math.SQRT2;
    const t = 1 / (1 + 0.3275911 * u);
    const tail =
      t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    const half = (tail * Math.exp(-u * u)) / 2;
    return x < 0 ? half : 1 - half;
  }

  const logit = (p) => (p <= 0 ? -Infinity : p >= 1 ? Infinity : Math.log(p / (1 - p)));

  BNLive.register("saturation", {
    title: "Inputs of a sigmoid, its outputs, and the slope that is left",
    controls: [
      { id: "mean", label: "Mean of the inputs", min: -8, max: 8, step: 0.25, value: 2 },
      { id: "std", label: "Spread of the inputs", min: 0.25, max: 8, step: 0.25, value: 3 },
      { id: "layers", label: "Sigmoids in a row", min: 1, max: 10, step: 1, value: 4 },
      { id: "normalize", label: "Normalize before the sigmoid (mean 0, spread 1)", value: false },
    ],
    compute({ mean, std, layers, normalize }) {
      const [mu, sigma] = normalize ? [0, 1] : [mean, std];
      const below = (z) => normalCdf((z - mu) / sigma);
      const nodes = math.linspace(-8, 8, 1601);
      const weights = nodes.map((z) => density(z, 0, 1) * 0.01);
      const meanSlope = math.dot(weights, nodes.map((z) => slope(mu + sigma * z)));
      const bins = math.linspace(0, 0.95, 20).map((p) => ({
        x0: p, x1: p + 0.05, share: below(logit(p + 0.05)) - below(logit(p)),
      }));
      return {
        saturated: below(-edge) + 1 - below(edge),
        meanSlope,
        through: meanSlope ** layers,
        bound: 0.25 ** layers,
        bins,
        curve: math.linspace(-14, 14, 281).map((z) => ({ z, density: density(z, mu, sigma), slope: slope(z) })),
      };
    },
    draw({ curve, bins }, params, { Plot, width, narrow, colors }) {
      const label = (text, fill, dy) =>
        Plot.text([text], { frameAnchor: "top-left", dx: 4, dy, fill, fontSize: 12 });
      const height = narrow ? 190 : 210;
      const shaded = curve.map(({ z, density: y }) => ({ z, y: Math.abs(z) >= edge ? y : null }));
      return [
        Plot.plot({
          width, height, marginLeft: 40, marginBottom: 38,
          x: { domain: [-14, 14], label: "input z of the sigmoid", ticks: narrow ? 5 : 9 },
          y: { domain: [0, 0.45], clamp: true, label: null, ticks: 3, grid: true },
          marks: [
            Plot.areaY(shaded, { x: "z", y: "y", fill: colors.plain, fillOpacity: 0.45, clip: true }),
            Plot.lineY(curve, { x: "z", y: "density", stroke: colors.plain, strokeWidth: 2.5, clip: true }),
            Plot.lineY(curve, { x: "z", y: "slope", stroke: colors.theory, strokeWidth: 2, strokeDasharray: "5 4" }),
            Plot.ruleX([-edge, edge], { y1: 0, y2: 0.34, stroke: colors.muted, strokeDasharray: "2 3" }),
            label("\u2014 density of the inputs, shaded where saturated", colors.plain, 2),
            label("- - slope of the sigmoid", colors.theory, 18),
          ],
        }),
        Plot.plot({
          width, height, marginLeft: 40, marginBottom: 38,
          x: { domain: [0, 1], label: "output of the sigmoid", ticks: 5 },
          y: { domain: [0, 60], clamp: true, label: null, tickFormat: (v) => `${v}%`, ticks: 3, grid: true },
          marks: [
            Plot.rectY(bins, { x1: "x0", x2: "x1", y: (b) => 100 * b.share, fill: colors.normalized, insetLeft: 1 }),
            Plot.ruleY([0]),
            label("share of the outputs", colors.normalized, 2),
          ],
        }),
      ];
    },
    readout: ({ saturated, meanSlope, through, bound }, { layers }) => [
      `${format(100 * saturated, 1)}% of the inputs are saturated; the mean slope is ${format(meanSlope, 3)}, at most 0.25.`,
      `Through ${layers} in a row, mean slope to that power: ${through.toExponential(1)}, at most ${bound.toExponential(1)}.`,
    ],
  });
})();
