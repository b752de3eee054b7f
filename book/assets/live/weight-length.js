/* Chapter 6: steps at a right angle turn the weights and stretch them, decay shrinks them, and a balance is found. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const STEPS = 1000;
  const power = (digits) => (v) => Number((10 ** v).toPrecision(digits)) + "";
  const uniform = math.random(3).uniform;
  const SIDES = Array.from({ length: STEPS }, () => (uniform() < 0.5 ? -1 : 1)); // which way each step turns
  const reach = 5;

  BNLive.register("weight-length", {
    title: "Every step is at a right angle to w. Drag the start up or down, and the step along",
    controls: [
      { id: "step", label: "Step", min: 0, max: STEPS, step: 10, value: 300, play: 40 },
      { id: "logLr", label: "Learning rate η", min: -2, max: 0.5, step: 0.1, value: -0.5, format: power(2) },
      { id: "logDecay", label: "Weight decay λ", min: -4, max: -1, step: 0.1, value: -2, format: power(2) },
      { id: "start", label: "Length at the start", min: 0.5, max: 5, step: 0.1, value: 4 },
      { id: "decays", label: "Use weight decay", value: true },
    ],
    compute({ step, logLr, logDecay, start, decays }) {
      const lr = 10 ** logLr, decay = decays ? 10 ** logDecay : 0;
      // The gradient at length 1 has squared length 1; at squared length n it is 1 / n.
      const points = [];
      for (let t = 0, n = start ** 2, angle = 0; t <= STEPS; t += 1) {
        const length = Math.sqrt(n);
        points.push({ t, length, effective: lr / n, x: length * Math.cos(angle), y: length * Math.sin(angle) });
        angle += SIDES[t] * Math.atan2(lr / length, (1 - lr * decay) * length);
        n = (1 - lr * decay) ** 2 * n + lr ** 2 / n;
      }
      const settled = decay ? (lr / (decay * (2 - lr * decay))) ** 0.25 : null;
      return { points, now: points[step], settled, rotation: decay ? Math.sqrt(2 * lr * decay) : null };
    },
    drag({ panel, x, y }) {
      if (panel !== "lengths") return null;
      if (x < 0.12 * STEPS) return { start: Math.max(0.5, Math.min(reach, y)) };
      return { step: Math.max(0, Math.min(STEPS, 10 * Math.round(x / 10))) };
    },
    draw({ points, now, settled }, params, { Plot, width, narrow, colors, panel }) {
      const side = narrow ? width : Math.min(260, Math.floor(0.4 * width));
      const height = narrow ? 230 : 260;
      const curve = panel("lengths", Plot.plot({
        width: narrow ? width : width - side - 8, height, marginLeft: 40, marginBottom: 46, marginTop: 26,
        x: { label: "step", domain: [0, STEPS], ticks: 5 },
        y: { label: "length of w", domain: [0, reach + 0.5], grid: true, clamp: true },
        marks: [
          settled === null ? null : Plot.ruleY([settled].filter((v) => v <= reach + 0.5), { stroke: colors.theory, strokeDasharray: "5 4", strokeWidth: 2 }),
          settled === null ? null : Plot.text([settled].filter((v) => v <= reach), { y: (d) => d, text: () => "balance", frameAnchor: "right", dy: -9, fontSize: 12, fill: colors.theory }),
          Plot.ruleX([now.t], { stroke: colors.muted, strokeDasharray: "2 3" }),
          Plot.line(points, { x: "t", y: "length", stroke: colors.normalized, strokeWidth: 2.5 }),
          Plot.dot([points[0]], { x: "t", y: "length", r: 7, fill: colors.third }),
          Plot.dot([now], { x: "t", y: "length", r: 5, fill: colors.normalized }),
        ],
      }));
      const half = narrow ? 4 : reach + 0.3;
      const wide = narrow ? half * (width / height) : half * (side / height);
      const plane = Plot.plot({
        width: side, height, margin: 2,
        x: { axis: null, domain: [-wide, wide] },
        y: { axis: null, domain: [-half, half] },
        style: { overflow: "hidden" },
        marks: [
          Plot.line(math.linspace(0, 2 * Math.PI, 91).map((a) => [now.length * Math.cos(a), now.length * Math.sin(a)]), { stroke: colors.muted, strokeDasharray: "2 3" }),
          Plot.line(points.slice(0, now.t + 1), { x: "x", y: "y", stroke: colors.normalized, strokeOpacity: 0.45, strokeWidth: 1 }),
          Plot.arrow([points[0]], { x1: 0, y1: 0, x2: "x", y2: "y", stroke: colors.third, strokeWidth: 2, headLength: 8 }),
          Plot.arrow([now], { x1: 0, y1: 0, x2: "x", y2: "y", stroke: colors.normalized, strokeWidth: 3, headLength: 5 }),
          Plot.text([now], { x: "x", y: "y", text: () => "w", dx: now.x < 0 ? -12 : 12, dy: now.y < 0 ? 10 : -10, fontSize: 15, fontWeight: 600, fill: colors.normalized }),
        ],
      });
      if (narrow) return [curve, plane];
      const row = document.createElement("div");
      row.style.display = "flex";
      row.style.gap = "8px";
      row.append(curve, plane);
      return row;
    },
    readout({ now, settled, rotation }) {
      const said = `After ${now.t} steps the length is ${format(now.length)} and the effective learning rate η / length² is ${now.effective.toPrecision(2)}.`;
      if (settled === null) return [said, "Without decay the length grows for ever, in the long run like the fourth root of the step."];
      return [said, `Balance: length ${format(settled)}, and each step turns w by about √(2ηλ) = ${format((rotation * 180) / Math.PI, 1)}°.`];
    },
  });
})();
