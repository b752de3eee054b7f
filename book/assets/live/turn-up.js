/* Chapter 9: two networks at one learning rate, and what their sigmoids receive, layer by layer. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const data = BNLive.data["turn-up"];
  const flat = 4; // beyond it a sigmoid's slope is below a tenth of its largest
  const percent = (value) => `${format(100 * value, 0)}%`;
  const steps = (time) => data.steps[time].toLocaleString("en-US");
  const last = data.steps.length - 1;
  const width = (data.high - data.low) / data.bins;
  const middle = (i) => data.low + (i + 0.5) * width;

  /** The share of a layer's inputs in each bin. Stored are the number of the first bar that is not empty, and thousandths from there. */
  function shares([first, ...heights]) {
    const total = math.sum(heights);
    return Array.from({ length: data.bins }, (_, i) => (heights[i - first] || 0) / total);
  }

  /** How far a drawn curve is from the true one, on average over the looks that it covers. */
  function missedBy(drawn, accuracy) {
    const looks = Object.keys(drawn || {}).map(Number);
    return looks.length ? math.mean(looks.map((t) => Math.abs(drawn[t] - accuracy[t]))) : null;
  }

  BNLive.register("turn-up", {
    title: "Turn up the learning rate",
    controls: [
      { id: "rate", label: "Learning rate", min: 0, max: data.rates.length - 1, step: 1, value: 3, main: true, format: (i) => String(data.rates[i]) },
      { id: "time", label: "Training steps", min: 0, max: last, step: 1, value: 6, play: 350, format: steps },
      { id: "reveal", label: "Show the accuracy of the normalized network", value: false },
      { id: "layer", label: "Hidden layer", options: [{ value: 0, label: "all three" }, ...[1, 2, 3].map((n) => ({ value: n, label: String(n) }))], value: 0 },
      { id: "sigma", label: "Initial weights", options: data.sigmas.map((s, i) => ({ value: i, label: `N(0, ${s}²)` })), value: 1 },
    ],
    compute({ rate, time, sigma, drawn }) {
      const arms = data.arms.map((arm, a) => {
        const seen = data.bars[a][sigma][rate][time].map(shares);
        const accuracy = data.accuracy[a][sigma][rate].map((v) => v / 1000);
        const saturated = seen.map((s) => math.sum(s.filter((_, i) => Math.abs(middle(i)) > flat)));
        return { arm, shares: seen, saturated, accuracy };
      });
      return { step: data.steps[time], rate: data.rates[rate], arms, missed: missedBy(drawn, arms[1].accuracy) };
    },
    drag({ panel, x, y }, { reveal, drawn, layer }, type) {
      if (panel !== "accuracy") {
        if (type !== "pointerdown") return null;
        const chosen = Math.max(1, Math.min(3, 4 - Math.ceil(y)));
        return { layer: layer === chosen ? 0 : chosen };
      }
      const place = data.steps.map((step) => Math.abs(Math.log10(step + 5) - Math.log10(x)));
      const time = place.indexOf(Math.min(...place));
      if (reveal) return { time };
      return { drawn: { ...(type === "pointerdown" ? {} : drawn), [time]: Math.max(0, Math.min(1, y)) } };
    },
    draw({ step, arms, rate }, { layer, reveal, drawn }, { Plot, d3, width: whole, narrow, colors, panel }) {
      const color = { without: colors.plain, with: colors.normalized };
      const name = { without: "plain", with: "normalized" };
      const across = Math.floor(whole / 2);
      const box = document.createElement("div");
      const row = document.createElement("div");
      row.style.cssText = "display: flex";
      for (const { arm, shares: seen, saturated } of arms) {
        const ridges = seen.map((s, i) => ({ layer: i + 1, base: 2 - i, s })).filter((r) => !layer || r.layer === layer);
        const points = ridges.flatMap((r) => r.s.map((share, i) => ({ ...r, x: middle(i), y: r.base + 0.92 * Math.min(1, share / 0.3) })));
        row.append(panel(arm, Plot.plot({
          width: across, height: narrow ? 215 : 255, marginLeft: narrow ? 8 : 62, marginRight: 8, marginBottom: 42, marginTop: 26,
          x: { domain: [data.low, data.high], label: narrow ? "input" : "input of the sigmoids", labelOffset: 32, ticks: [-8, -4, 0, 4, 8], labelAnchor: "center" },
          y: { domain: [0, 3], axis: null },
          marks: [
            Plot.rect([[-8, -flat], [flat, 8]], { x1: (d) => d[0], x2: (d) => d[1], y1: 0, y2: 3, fill: colors.muted, fillOpacity: 0.16 }),
            Plot.ruleY(ridges, { y: "base", stroke: colors.muted, strokeOpacity: 0.6 }),
            Plot.areaY(points, { x: "x", y1: "base", y2: "y", z: "layer", fill: color[arm], fillOpacity: 0.45, curve: "basis" }),
            Plot.lineY(points, { x: "x", y: "y", z: "layer", stroke: color[arm], strokeWidth: 1.5, curve: "basis" }),
            narrow ? null : Plot.text(ridges, { x: data.low, y: "base", dx: -6, dy: -9, textAnchor: "end", text: (r) => `layer ${r.layer}`, fill: "currentColor" }),
            Plot.text(ridges, { x: data.high, y: "base", dx: -4, dy: -40, textAnchor: "end", text: (r) => `${percent(saturated[r.layer - 1])} flat`, fill: "currentColor" }),
            Plot.text([name[arm]], { frameAnchor: "top-left", dy: -22, fill: color[arm], fontSize: 14, fontWeight: 600 }),
          ],
        })));
      }
      const at = (t) => data.steps[t] + 5; // so that step 0 has a place on a logarithmic axis
      const line = (arm) => arm.accuracy.map((v, t) => ({ x: at(t), y: v }));
      const guess = Object.entries(drawn || {}).map(([t, y]) => ({ x: at(Number(t)), y })).sort((a, b) => a.x - b.x);
      const end = { textAnchor: "end", dx: -4, fontSize: 13, fontWeight: 600, stroke: "var(--bn-card)", strokeWidth: 4 };
      const label = (arm, dy) => Plot.text([arm], { ...end, x: at(last), y: arm.accuracy[last], dy, text: () => name[arm.arm], fill: color[arm.arm] });
      const apart = arms[0].accuracy[last] <= arms[1].accuracy[last] ? [18, -12] : [-12, 18];
      box.append(row, panel("accuracy", Plot.plot({
        width: whole, height: narrow ? 200 : 230, marginLeft: 42, marginBottom: 44, marginTop: 18,
        x: { type: "log", domain: [5, at(last)], label: "training steps", labelAnchor: "center", labelOffset: 34, ticks: [10, 100, 1000, 10000], tickFormat: (v) => v.toLocaleString("en-US") },
        y: { domain: [0, 1.05], label: null, ticks: [0, 0.25, 0.5, 0.75, 1], tickFormat: (v) => `${Math.round(100 * v)}%`, grid: true },
        marks: [
          Plot.ruleX([step + 5], { stroke: "currentColor", strokeDasharray: "4 3" }),
          Plot.lineY(line(arms[0]), { x: "x", y: "y", stroke: colors.plain, strokeWidth: 2.5 }),
          label(arms[0], apart[0]),
          reveal ? Plot.lineY(line(arms[1]), { x: "x", y: "y", stroke: colors.normalized, strokeWidth: 2.5 }) : null,
          reveal ? label(arms[1], apart[1]) : null,
          Plot.lineY(guess, { x: "x", y: "y", stroke: colors.fourth, strokeWidth: 2, strokeDasharray: "6 4" }),
          guess.length ? Plot.text(guess.slice(0, 1), { x: "x", y: "y", text: ["your guess"], dx: 6, dy: -10, textAnchor: "start", fill: colors.fourth }) : null,
          !reveal && !guess.length ? Plot.text([`Draw here: where does the normalized network's accuracy go at rate ${rate}?`], { frameAnchor: "left", dx: 10, dy: -26, fill: colors.fourth, fontSize: 13, lineWidth: narrow ? 11 : 17 }) : null,
          Plot.text(["accuracy on test digits"], { frameAnchor: "top-left", dx: 4, dy: -12, fill: "currentColor" }),
        ],
      })));
      return box;
    },
    readout({ step, rate, arms, missed }, { time, reveal }) {
      const [plain, normalized] = arms;
      const lines = [
        `Rate ${rate}, ${step.toLocaleString("en-US")} steps: of what the third layer's sigmoids receive, ${percent(plain.saturated[2])} lies on the flat ends without normalization and ${percent(normalized.saturated[2])} with it.`,
        `Accuracy: ${percent(plain.accuracy[time])} without${reveal ? `, ${percent(normalized.accuracy[time])} with` : ""}.${reveal && missed !== null ? ` Your curve was ${format(100 * missed, 0)} points off on average.` : ""}`,
      ];
      if (reveal) {
        lines.push(`And each at its own best rate? After ${data.end.steps.toLocaleString("en-US")} steps the normalized network is ahead by ${format(data.end.gap, 1)} points (${data.end.seeds} seeds, 95% interval ${format(data.end.low, 2)} to ${format(data.end.high, 2)}).`);
      }
      return lines;
    },
  });
})();
