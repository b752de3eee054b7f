/* Chapter 9: how the input of each sigmoid in the last hidden layer changes in training, with and without. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const data = BNLive.data["figure-one"];
  const arms = Object.keys(data.arms);
  const last = data.steps.length - 1;
  const limit = 10;
  const steps = (time) => data.steps[time].toLocaleString("en-US");

  /** The share of the images in each bin. Stored are the number of the first bar that is not empty, and heights from there. */
  function histogram(arm, time, unit) {
    const [first, ...heights] = data.arms[arm].bars[time][unit];
    const width = (data.high - data.low) / data.bins;
    const total = math.sum(heights);
    return Array.from({ length: data.bins }, (_, i) => ({
      x0: data.low + i * width, x1: data.low + (i + 1) * width, share: (heights[i - first] || 0) / total,
    }));
  }

  function look(arm, time, unit) {
    const series = data.steps.map((step, t) => {
      const [low, middle, high] = data.arms[arm].percentiles[t].map((row) => row[unit] / 100); // stored in hundredths
      return { step, low, middle, high };
    });
    const middles = series.map((d) => d.middle);
    const spread = math.mean(series.map((d) => d.high - d.low));
    return {
      arm,
      series,
      now: series[time],
      bars: histogram(arm, time, unit),
      wander: (Math.max(...middles) - Math.min(...middles)) / spread,
    };
  }

  BNLive.register("figure-one", {
    title: "The input of one sigmoid of the last hidden layer, in training",
    controls: [
      { id: "time", label: "Training steps", min: 0, max: last, step: 1, value: 6, format: steps },
      { id: "unit", label: "Unit", min: 0, max: data.units - 1, step: 1, value: 0 },
    ],
    compute: ({ time, unit }) => ({ step: data.steps[time], arms: arms.map((arm) => look(arm, time, unit)) }),
    draw({ step, arms: looks }, params, { Plot, width, narrow, colors }) {
      const color = { without: colors.plain, with: colors.normalized };
      const clip = (value) => Math.max(-limit, Math.min(limit, value));
      const across = narrow ? width : Math.floor(width / 2);
      const frame = { height: 190, marginLeft: 40, marginBottom: 38 };
      const drawing = document.createElement("div");
      drawing.style.cssText = `display: grid; grid-template-columns: repeat(${narrow ? 1 : 2}, ${across}px)`;
      for (const { arm, series, bars } of looks) {
        const name = Plot.text([`${arm} normalization`], {
          frameAnchor: "top-left", dx: 6, dy: 2, fill: color[arm], fontSize: 13,
        });
        drawing.append(
          Plot.plot({
            ...frame,
            width: across,
            x: { type: "sqrt", domain: [0, data.steps[last]], label: "training steps (root scale)",
                 ticks: [1000, 10000, 25000, 50000].filter((t) => t <= data.steps[last]),
                 tickFormat: (t) => (t >= 1000 ? `${t / 1000}k` : String(t)) },
            y: { domain: [-limit, limit], label: null, ticks: 5, grid: true },
            marks: [
              Plot.areaY(series, { x: "step", y1: (d) => clip(d.low), y2: (d) => clip(d.high), fill: color[arm], fillOpacity: 0.25 }),
              Plot.lineY(series, { x: "step", y: (d) => clip(d.middle), stroke: color[arm], strokeWidth: 2.5 }),
              Plot.ruleX([step], { stroke: "currentColor", strokeDasharray: "4 3", strokeWidth: 1.5 }),
              name,
            ],
          }),
          Plot.plot({
            ...frame,
            width: across,
            x: { domain: [-limit, limit], label: "input of the sigmoid", ticks: 5 },
            y: { domain: [0, 0.6], clamp: true, label: null, tickFormat: (v) => `${Math.round(100 * v)}%`, ticks: 3, grid: true },
            marks: [
              Plot.rectY(bars, { x1: "x0", x2: "x1", y: "share", fill: color[arm], insetLeft: 0.5 }),
              Plot.ruleY([0]),
              name,
            ],
          }),
        );
      }
      return drawing;
    },
    readout: ({ step, arms: looks }, { unit }) => [
      `Unit ${unit} after ${step.toLocaleString("en-US")} steps, 15th, 50th and 85th percentile: ` +
        looks.map(({ arm, now }) => `${arm} ${[now.low, now.middle, now.high].map((v) => format(v, 1)).join(", ")}`).join("; ") + ".",
      `Over all steps its median ranges over ${looks.map(({ arm, wander }) => `${format(wander, 1)} spreads ${arm}`).join(", ")}.`,
    ],
  });
})();
