/* Chapter 10: how many times faster a recipe is depends on the accuracy one asks for. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const RUNS = BNLive.data["recipe-race"]; // test accuracy in ten-thousandths, by arm, seed and checkpoint

  const CHANGES = [
    { value: "all, rate x 1", label: "list, same rate" },
    { value: "all", label: "list, rate \u00d7 5" },
    { value: "rate x 5", label: "rate \u00d7 5" },
    { value: "no Dropout", label: "no Dropout" },
    { value: "L2 / 5", label: "L2 \u00f7 5" },
    { value: "decay x 6", label: "decay \u00d7 6" },
    { value: "no LRN", label: "no LRN" },
    { value: "shuffled", label: "shuffled" },
    { value: "distortion / 5", label: "distortion \u00f7 5" },
  ];
  const TARGET = { min: 0.7, max: 0.88, step: 0.005 };
  const [LOW, HIGH] = [0.6, 0.88]; // accuracies on the axis

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
    title: "The race to an accuracy: four networks, eight seeds each",
    controls: [
      { id: "target", label: "Accuracy to reach", ...TARGET, value: 0.83, format: (v) => `${format(100 * v, 1)}%` },
      { id: "change", label: "Change of the recipe", options: CHANGES, value: "all, rate x 1" },
      { id: "every", label: "Show every seed", value: false },
    ],
    compute({ target, change }) {
      const arms = ["plain", `plain + ${change}`, "BN", `BN + ${change}`];
      return {
        arms: arms.map((arm) => {
          const seeds = RUNS.accuracy[arm].map((curve) => curve.map((a) => a / 10000));
          const steps = seeds.map((curve) => stepsTo(curve, target));
          return {
            arm,
            curves: seeds,
            points: RUNS.at.map((t, k) => ({ t, accuracy: math.mean(seeds.map((curve) => curve[k])) })),
            reached: steps.filter(Number.isFinite).length,
            seeds: steps.length,
            steps: median(steps),
          };
        }),
      };
    },
    draw({ arms }, { target, every }, { Plot, width, narrow, colors, panel }) {
      const looks = [
        { stroke: colors.plain }, { stroke: colors.plain, strokeDasharray: "6 4" },
        { stroke: colors.normalized }, { stroke: colors.normalized, strokeDasharray: "6 4" },
      ];
      const names = ["\u2014 without BN", "- - without BN, changed", "\u2014 with BN", "- - with BN, changed"];
      const [start, end] = [RUNS.at[0], RUNS.at[RUNS.at.length - 1]];
      const ticks = (narrow ? [1, 4, 16, 64] : [1, 2, 4, 8, 16, 32, 64]).map((k) => k * start);
      const plot = Plot.plot({
        width,
        height: narrow ? 300 : 340,
        marginLeft: 46,
        marginBottom: 38,
        x: { type: "log", base: 2, domain: [start, end], label: "steps (logarithmic)", ticks, tickFormat: (t) => `${t}` },
        y: { domain: [LOW, HIGH], label: "test accuracy", ticks: 6, grid: true },
        marks: [
          every
            ? arms.map(({ curves }, k) =>
                curves.map((curve) =>
                  Plot.lineY(curve, { x: (_, i) => RUNS.at[i], y: (a) => a, strokeWidth: 1, strokeOpacity: 0.35, clip: true, ...looks[k] })))
            : [],
          arms.map(({ points }, k) =>
            Plot.lineY(points, { x: "t", y: "accuracy", strokeWidth: 2.5, clip: true, ...looks[k] })),
          arms.map(({ steps }, k) =>
            Plot.ruleX(Number.isFinite(steps) ? [steps] : [], { y1: LOW, y2: target, strokeWidth: 1.2, ...looks[k] })),
          Plot.ruleY([target], { stroke: colors.theory, strokeDasharray: "6 4", strokeWidth: 1.5 }),
          Plot.text([`\u2195 to ${format(100 * target, 1)}%`], { x: start, y: target, dx: 6, dy: -9, textAnchor: "start", fill: colors.theory, stroke: "var(--bn-card)", strokeWidth: 4, fontSize: 12 }),
          arms.map(({ steps }, k) =>
            Plot.dot(Number.isFinite(steps) ? [steps] : [], { x: (d) => d, y: () => target, r: 6, fill: looks[k].stroke, stroke: "white" })),
          names.map((name, k) =>
            Plot.text([name], { frameAnchor: "bottom-right", dx: -6, dy: -8 - 17 * (3 - k), fill: looks[k].stroke, stroke: "var(--bn-card)", strokeWidth: 4, fontSize: 12 })),
        ],
      });
      plot.style.cursor = "ns-resize";
      return panel("race", plot);
    },
    drag: ({ y }) => ({ target: Math.min(TARGET.max, Math.max(TARGET.min, y)) }),
    readout({ arms }, { target, every }) {
      const say = ({ steps, reached, seeds }) =>
        Number.isFinite(steps) ? `${format(steps, 0)} steps` + (reached < seeds ? ` (${reached} of ${seeds} seeds)` : "") : `never (${reached} of ${seeds} seeds)`;
      const [plain, changed, bn, both] = arms;
      const ratio = (a) => (Number.isFinite(plain.steps) && Number.isFinite(a.steps) ? `${format(plain.steps / a.steps, 1)} times fewer` : "no factor");
      return [
        `To ${format(100 * target, 1)}%, median of eight seeds: without BN ${say(plain)}, changed ${say(changed)}; with BN ${say(bn)}, changed ${say(both)}.`,
        `BN alone: ${ratio(bn)}. The change alone: ${ratio(changed)}. Both: ${ratio(both)}.` + (every ? " Thin lines: the seeds." : ""),
      ];
    },
  });
})();
