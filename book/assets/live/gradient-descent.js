/* Chapter 1: gradient descent in a bowl, long and narrow or round; past 2/h_max it climbs out. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const MOST = 60;

  BNLive.register("gradient-descent", {
    title: "Gradient descent in a bowl",
    controls: [
      { id: "condition", label: "Condition number κ", min: 0, max: 2, step: 0.1, value: 1.3, format: (v) => format(10 ** v, v < 1 ? 1 : 0) },
      { id: "step", label: "Step size η, times 1/hₘₐₓ", min: 0.1, max: 2.2, step: 0.05, value: 1 },
      { id: "steps", label: "Steps taken", min: 0, max: MOST, step: 1, value: 12, play: 150 },
    ],
    compute({ condition, step, steps, start = [1, 1] }) {
      const eigenvalues = [10 ** -condition, 1]; // so that h_max is 1
      const factors = eigenvalues.map((value) => 1 - step * value);
      const path = [start];
      for (let t = 0; t < MOST; t += 1) path.push(path[t].map((value, i) => factors[i] * value));
      const distance = path.map((w) => Math.hypot(...w) / Math.hypot(...start));
      return {
        eigenvalues,
        path: path.slice(0, steps + 1),
        distance,
        rate: Math.max(...factors.map(Math.abs)),
        best: 2 / (eigenvalues[0] + 1),
        bestRate: (1 - eigenvalues[0]) / (1 + eigenvalues[0]),
      };
    },
    draw({ eigenvalues, path, distance, bestRate }, { steps }, { Plot, width, narrow, colors, panel }) {
      const side = narrow ? width : Math.floor(width / 2) - 5;
      const contours = math.linspace(0.15, 3, 20).map((r) =>
        math.linspace(0, 2 * Math.PI, 181).map((a) => [(r * Math.cos(a)) / Math.sqrt(eigenvalues[0]), r * Math.sin(a)]));
      const style = { fontSize: "13px" };
      const bowl = Plot.plot({
        width: side,
        height: Math.min(side, 320),
        margin: 8,
        marginBottom: 36,
        marginLeft: 40,
        style,
        x: { domain: [-1.4, 1.4], label: "w₁ (soft direction)", ticks: 5 },
        y: { domain: [-1.4, 1.4], label: "w₂ (stiff)", ticks: 5 },
        marks: [
          contours.map((line) => Plot.line(line, { stroke: colors.muted, strokeOpacity: 0.5, clip: true })),
          Plot.line(path, { stroke: colors.plain, strokeWidth: 2, clip: true }),
          Plot.dot(path, { r: 3, fill: colors.plain, clip: true }),
          Plot.dot([path[0]], { r: 7, stroke: colors.plain, strokeWidth: 2 }),
          Plot.text([path[0]], { text: ["drag me"], dy: path[0][1] > 1 ? 18 : -16, fill: "currentColor" }),
          Plot.dot([[0, 0]], { symbol: "times", r: 6, stroke: "currentColor", strokeWidth: 2 }),
        ],
      });
      const rows = distance.map((value, t) => ({ t, value }));
      const promise = rows.map(({ t }) => ({ t, value: bestRate ** t })).filter((row) => row.value > 1e-9);
      const race = Plot.plot({
        width: side,
        height: Math.min(side, 320),
        marginTop: 24,
        marginLeft: 52,
        marginBottom: 36,
        style,
        x: { domain: [0, MOST], label: "step", ticks: narrow ? 4 : 6 },
        y: { type: "log", domain: [1e-6, 1e3], label: "distance / first", ticks: 5, tickFormat: ".0e" },
        marks: [
          Plot.line(promise, { x: "t", y: "value", stroke: colors.theory, strokeDasharray: "5 4", clip: true }),
          Plot.text([{ t: MOST, value: 3e2 }], { x: "t", y: "value", text: () => "dashed: best step", textAnchor: "end", fill: "currentColor" }),
          Plot.line(rows.filter((row) => row.value > 1e-12), { x: "t", y: "value", stroke: colors.plain, strokeOpacity: 0.35, strokeWidth: 2, clip: true }),
          Plot.dot(rows.slice(0, steps + 1).filter((row) => row.value > 1e-12), { x: "t", y: "value", r: 3, fill: colors.plain, clip: true }),
        ],
      });
      const pair = document.createElement("div"); // side by side where there is room
      pair.style.cssText = "display: flex; flex-wrap: wrap; gap: 8px";
      pair.append(panel("bowl", bowl), race);
      return pair;
    },
    drag({ panel, x, y }) {
      const within = (value) => Math.max(-1.3, Math.min(1.3, Number(value.toFixed(2))));
      const start = [within(x), within(y)];
      return panel === "bowl" && Math.hypot(...start) > 0.2 ? { start } : null;
    },
    readout: ({ distance, rate, best, bestRate }, { steps, step }) => [
      `After ${steps} steps the distance to the minimum is ${distance[steps].toPrecision(2)} of the first. ` +
        (rate > 1 + 1e-12
          ? `It diverges: beyond 2/hₘₐₓ the stiff direction grows by ${format(rate, 2)} a step.`
          : `The slowest direction keeps ${format(rate, 3)} of its distance a step.`),
      `The best step here is ${format(best, 2)}/hₘₐₓ (yours: ${format(step, 2)}/hₘₐₓ); it keeps ${format(bestRate, 3)}.`,
    ],
  });
})();
