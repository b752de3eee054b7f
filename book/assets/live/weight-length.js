/* Chapter 6: steps at a right angle stretch the weights, decay shrinks them, and a balance is found. */
(function () {
  "use strict";
  const { format } = BNLive;
  const STEPS = 2000, EVERY = 10;
  const power = (digits) => (v) => (10 ** v).toPrecision(digits);

  BNLive.register("weight-length", {
    title: "The length of normalized weights under SGD",
    controls: [
      { id: "logLr", label: "Learning rate η", min: -2, max: 0.5, step: 0.1, value: -0.5, format: power(2) },
      { id: "logDecay", label: "Weight decay λ", min: -4, max: -1, step: 0.1, value: -2, format: power(2) },
      { id: "start", label: "Length at the start", min: 0.5, max: 6, step: 0.5, value: 4 },
      { id: "decays", label: "Use weight decay", value: true },
    ],
    compute({ logLr, logDecay, start, decays }) {
      const lr = 10 ** logLr, decay = decays ? 10 ** logDecay : 0;
      // The gradient at length 1 has squared length 1; at squared length n it is 1 / n.
      const points = [];
      for (let t = 0, n = start ** 2; t <= STEPS; t += 1) {
        if (t % EVERY === 0) points.push({ t, length: Math.sqrt(n), effective: lr / n });
        n = (1 - lr * decay) ** 2 * n + lr ** 2 / n;
      }
      const settled = decay ? (lr / (decay * (2 - lr * decay))) ** 0.25 : null;
      return { points, settled, rotation: decay ? Math.sqrt(2 * lr * decay) : null };
    },
    draw({ points, settled }, params, { Plot, width, narrow, colors }) {
      const x = { label: "step", domain: [0, STEPS], ticks: narrow ? 4 : 8 };
      const marginLeft = 52;
      const lengths = Plot.plot({
        width, height: 190, marginLeft, x,
        y: { label: "length of w", domain: [0, 9], grid: true, clamp: true },
        marks: [
          settled === null ? null : Plot.ruleY([settled], { stroke: colors.theory, strokeDasharray: "5 4", strokeWidth: 2 }),
          settled === null ? null : Plot.text([settled], { y: (d) => d, text: () => "balance", frameAnchor: "right", dy: -9, fontSize: 12, fill: colors.theory }),
          Plot.line(points, { x: "t", y: "length", stroke: colors.normalized, strokeWidth: 2.5 }),
        ],
      });
      const rates = Plot.plot({
        width, height: 170, marginLeft, x,
        y: { label: "effective learning rate, η / length²", type: "log", domain: [1e-4, 10], grid: true, clamp: true, ticks: 5, tickFormat: (v) => String(v) },
        marks: [Plot.line(points, { x: "t", y: "effective", stroke: colors.plain, strokeWidth: 2.5 })],
      });
      return [lengths, rates];
    },
    readout({ points, settled, rotation }) {
      const end = points.at(-1);
      const now = `After ${STEPS} steps the length is ${format(end.length)} and the effective learning rate ${end.effective.toPrecision(3)}.`;
      if (settled === null) return [now, "Without decay the length grows for ever, like the fourth root of the step."];
      return [now, `Balance: length ${format(settled)}, and each step turns w by about √(2ηλ) = ${format((rotation * 180) / Math.PI, 1)}°.`];
    },
  });
})();
