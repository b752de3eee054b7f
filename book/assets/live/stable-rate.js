/* Chapter 6: how well digits are learned in 100 steps at each learning rate, and where training breaks. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const SWEEPS = BNLive.data["stable-rate"]; // by arm: rates, accuracy (thousandths) and stable by seed, growth (tenths; null if not finite)
  const [two, centered, all] = ["two networks", "centered inputs too", "five variants"];
  const SHOWN = {
    [two]: ["without", "with"],
    [centered]: ["without", "with", "without centered", "with centered"],
    [all]: ["without", "with", "flat", "last fixed", "outputs too"],
  };
  const [least, most] = [-3, 7];

  const LOOKS = { // where each name stands
    without: { color: "plain", at: [0.9, 0.42], anchor: "end" },
    with: { color: "normalized", at: [5.9, 0.5], anchor: "start" },
    "without centered": { color: "plain", at: [2.4, 0.7], anchor: "start", dash: "6 4" },
    "with centered": { color: "normalized", at: [7, 0.38], anchor: "start", dash: "6 4" },
    flat: { color: "third", at: [25, 0.83], anchor: "start" },
    "last fixed": { color: "fourth", at: [128, 0.76], anchor: "end" },
    "outputs too": { color: "muted", at: [128, 0.97], anchor: "end" },
  };

  BNLive.register("stable-rate", {
    title: "Turn up the learning rate until training breaks. Drag across the plot",
    controls: [
      { id: "power", label: "Learning rate", min: least, max: most, step: 0.5, value: 0, play: 500, format: (v) => Number((2 ** v).toPrecision(2)) + "" },
      { id: "arms", label: "Show", options: [two, centered, all], value: two },
    ],
    compute({ power, arms }) {
      const rate = 2 ** power;
      return {
        rate,
        arms: SHOWN[arms].map((name) => {
          const { rates, accuracy, stable, growth } = SWEEPS[name];
          const points = rates.map((at, k) => {
            const seeds = accuracy.map((row) => row[k] / 1000);
            return {
              rate: at, mean: math.mean(seeds), low: Math.min(...seeds), high: Math.max(...seeds),
              stable: math.sum(stable.map((row) => row[k])), growth: growth[k] && growth[k] / 10,
            };
          });
          const now = points.find((point) => Math.abs(Math.log2(point.rate) - power) < 0.01) || null;
          return { name, points, now, seeds: accuracy.length };
        }),
      };
    },
    drag({ x }) {
      return { power: Math.max(least, Math.min(most, Math.round(2 * Math.log2(x)) / 2)) };
    },
    draw({ rate, arms }, params, { Plot, width, narrow, colors, panel }) {
      const ticks = narrow ? [0.125, 0.5, 2, 8, 32, 128] : [0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128];
      return panel("rates", Plot.plot({
        width,
        height: narrow ? 280 : 330,
        marginLeft: 44, marginBottom: 46, marginTop: 28,
        x: { type: "log", base: 2, domain: [0.11, 150], ticks, tickFormat: (t) => `${t}`, label: "learning rate (logarithmic)" },
        y: { domain: [0, 1], label: "accuracy on held-out digits after 100 steps", grid: true, ticks: 5 },
        marks: [
          Plot.ruleX([rate], { stroke: "currentColor", strokeDasharray: "2 3", strokeWidth: 1.5 }),
          arms.map(({ name, points, seeds, now }) => {
            const stroke = colors[LOOKS[name].color];
            return [
              Plot.areaY(points, { x: "rate", y1: "low", y2: "high", fill: stroke, fillOpacity: 0.18 }),
              Plot.lineY(points, { x: "rate", y: "mean", stroke, strokeWidth: 2.5, strokeDasharray: LOOKS[name].dash }),
              Plot.dot(points.filter((p) => p.stable === seeds), { x: "rate", y: "mean", fill: stroke, r: 3 }),
              Plot.dot(points.filter((p) => p.stable < seeds), { x: "rate", y: "mean", symbol: "times", stroke: "currentColor", strokeWidth: 1.5, r: 5 }),
              Plot.dot(now ? [now] : [], { x: "rate", y: "mean", stroke: "currentColor", fill: stroke, r: 6, strokeWidth: 1.5 }),
              Plot.text([LOOKS[name].at], { text: () => name, fill: stroke, textAnchor: LOOKS[name].anchor, fontSize: 13, fontWeight: 600 }),
            ];
          }),
          Plot.text(["× some seed was not stable"], { frameAnchor: "bottom-right", dy: -5, dx: -4, fontSize: 12, fill: "currentColor" }),
        ],
      }));
    },
    readout({ rate, arms }) {
      const shown = Number(rate.toPrecision(2));
      const grown = (now) => (now.growth ? `, weights of layer 1 × ${format(now.growth, 1)}` : "");
      const say = ({ name, now, seeds }) =>
        now ? `${name}: ${now.stable} of ${seeds} seeds stable, ${format(100 * now.mean, 0)}% right${grown(now)}` : `${name}: not measured here`;
      return [`Rate ${shown}.`, ...arms.map((arm) => `${say(arm)}.`)];
    },
  });
})();
