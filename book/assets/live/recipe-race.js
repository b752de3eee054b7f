/* Chapter 10: how many times faster a recipe is depends on the accuracy one asks for. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const RUNS = BNLive.data["recipe-race"]; // test accuracy in ten-thousandths, by arm, seed and checkpoint

  const CHANGES = [
    "no Dropout", "L2 / 5", "decay x 6", "no LRN", "shuffled", "distortion / 5", "rate x 5", "all, rate x 1", "all",
  ];

  /** The first checkpoint at which a curve reaches the target, or infinity. */
  function stepsTo(curve, target) {
    const k = curve.findIndex((a) => a >= target - 1e-9);
    return k < 0 ? Infinity : RUNS.at[k];
  }

  /** The middle value; none if it is infinite, as where half of the values are. */
  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const half = (sorted.length - 1) / 2;
    const middle = (sorted[Math.floor(half)] + sorted[Math.ceil(half)]) / 2;
    return Number.isFinite(middle) ? middle : null;
  }

  BNLive.register("recipe-race", {
    title: "The race to an accuracy: four nets, eight seeds each",
    controls: [
      { id: "target", label: "Accuracy to reach", min: 0.7, max: 0.88, step: 0.005, value: 0.83, format: (v) => `${format(100 * v, 1)}%` },
      { id: "change", label: "Change of the recipe", options: CHANGES, value: "all, rate x 1" },
    ],
    compute({ target, change }) {
      const arms = ["plain", `plain + ${change}`, "BN", `BN + ${change}`];
      return {
        arms: arms.map((arm) => {
          const seeds = RUNS.accuracy[arm].map((curve) => curve.map((a) => a / 10000));
          const steps = seeds.map((curve) => stepsTo(curve, target));
          return {
            arm,
            points: RUNS.at.map((t, k) => ({ t, accuracy: math.mean(seeds.map((curve) => curve[k])) })),
            reached: steps.filter(Number.isFinite).length,
            seeds: steps.length,
            steps: median(steps),
          };
        }),
      };
    },
    draw({ arms }, { target }, { Plot, width, narrow, colors }) {
      const looks = [
        { stroke: colors.plain }, { stroke: colors.plain, strokeDasharray: "6 4" },
        { stroke: colors.normalized }, { stroke: colors.normalized, strokeDasharray: "6 4" },
      ];
      const names = ["\u2014 without BN", "- - without BN, changed", "\u2014 with BN", "- - with BN, changed"];
      const [start, end] = [RUNS.at[0], RUNS.at[RUNS.at.length - 1]];
      return Plot.plot({
        width,
        height: narrow ? 270 : 320,
        marginLeft: 46,
        marginBottom: 38,
        x: { type: "log", base: 2, domain: [start, end], label: "steps (logarithmic)", ticks: [1, 2, 4, 8, 16, 32, 64].map((k) => k * start), tickFormat: (t) => `${t}` },
        y: { domain: [0.6, 0.88], label: "test accuracy", ticks: 6, grid: true },
        marks: [
          Plot.ruleY([target], { stroke: colors.theory, strokeDasharray: "2 3" }),
          arms.map(({ points }, k) =>
            Plot.lineY(points, { x: "t", y: "accuracy", strokeWidth: 2.5, clip: true, ...looks[k] })),
          arms.map(({ steps }, k) =>
            Plot.dot(Number.isFinite(steps) ? [steps] : [], { x: (d) => d, y: () => target, r: 6, fill: looks[k].stroke, stroke: "white" })),
          names.map((name, k) =>
            Plot.text([name], { frameAnchor: "bottom-right", dx: -6, dy: -8 - 17 * (3 - k), fill: looks[k].stroke, fontSize: 12 })),
        ],
      });
    },
    readout({ arms }, { target, change }) {
      const say = ({ steps, reached, seeds }) =>
        Number.isFinite(steps) ? `${format(steps, 0)} steps (${reached} of ${seeds} seeds)` : `not reached (${reached} of ${seeds} seeds)`;
      const [plain, , bn] = arms;
      const ratio = (a, b) => (Number.isFinite(a.steps) && Number.isFinite(b.steps) ? `${format(a.steps / b.steps, 1)} times` : "no factor");
      return [
        `To ${format(100 * target, 1)}%, median: without BN ${say(plain)}, changed ${say(arms[1])}; with BN ${say(bn)}, changed ${say(arms[3])}.`,
        `BN alone: ${ratio(plain, bn)}. BN and "${change}": ${ratio(plain, arms[3])}.`,
      ];
    },
  });
})();
