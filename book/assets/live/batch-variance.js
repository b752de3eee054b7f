/* Chapter 7: how the variance of a mini-batch scatters around the population's, and where its mean lies. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const draws = 1000;
  const low = 0;
  const high = 4;
  const bins = 40;
  // Each has mean 0 and variance 1.
  const sources = {
    bell: (random) => random.normal(),
    skewed: (random) => -Math.log(1 - random.uniform()) - 1,
    "two groups": (random) => Math.sqrt(0.19) * random.normal() + (random.uniform() < 0.5 ? -0.9 : 0.9),
  };

  BNLive.register("batch-variance", {
    title: `The variance of ${draws} mini-batches; the population's is 1`,
    controls: [
      { id: "m", label: "Values in a batch, m", min: 2, max: 64, step: 1, value: 4 },
      { id: "source", label: "Population", options: Object.keys(sources), value: "bell" },
      { id: "divisor", label: "Sum of squares divided by", options: ["m", "m − 1"], value: "m" },
    ],
    compute({ m, source, divisor }) {
      const random = math.random(7);
      const factor = divisor === "m" ? 1 : m / (m - 1);
      const biased = Array.from({ length: draws }, () =>
        math.variance(Array.from({ length: m }, () => sources[source](random))));
      const variances = biased.map((value) => factor * value);
      return {
        biased,
        variances,
        mean: math.mean(variances),
        error: math.std(variances) / Math.sqrt(draws),
        expected: (factor * (m - 1)) / m,
        root: math.mean(variances.map(Math.sqrt)),
        bars: math.histogram(variances, low, high, bins),
      };
    },
    draw({ bars, mean, expected }, params, { Plot, width, narrow, colors }) {
      return Plot.plot({
        width,
        height: narrow ? 240 : 280,
        marginLeft: 44,
        marginTop: 46,
        marginBottom: 42,
        x: { label: "variance of a batch", labelOffset: 36, domain: [low, high], ticks: narrow ? 5 : 9 },
        y: { label: "batches", domain: [0, 240], clamp: true, grid: true },
        marks: [
          Plot.rectY(bars, { x1: "x0", x2: "x1", y: "count", fill: colors.normalized, insetLeft: 0.5 }),
          Plot.ruleY([0]),
          Plot.ruleX([1], { stroke: "currentColor", strokeDasharray: "4,3", strokeWidth: 1.5 }),
          Plot.ruleX([mean], { stroke: colors.fourth, strokeWidth: 2.5 }),
          Plot.text([mean], { x: (d) => d, y: 240, dy: -8, text: () => "average", fill: colors.fourth, fontSize: 13, textAnchor: "end", dx: -4 }),
          Plot.text([1], { x: 1, y: 240, dy: -8, text: () => "population", fill: "currentColor", fontSize: 13, textAnchor: "start", dx: 4 }),
        ],
      });
    },
    readout: ({ mean, error, expected, root, variances }, { m }) => [
      `Average variance ${format(mean, 3)} ± ${format(1.96 * error, 3)}; theory says ${format(expected, 3)}.`,
      `Average of its root ${format(root, 3)}. ${variances.filter((v) => v < 0.5).length} of ${draws} batches of ${m} are below half the truth.`,
    ],
  });
})();
