/* Chapter 3: parameters run away, or not, while the normalized output stands still. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const n = 40;

  // One fixed sample: u and noise with mean 0 and standard deviation 1, and noise that u does not predict.
  const random = math.random(3);
  const standardize = (x) => math.batchNorm(x, 1, 0, 0).xHat;
  const u = standardize(random.normals(n));
  const raw = standardize(random.normals(n));
  const along = math.dot(raw, u) / n;
  const noise = standardize(raw.map((value, i) => value - along * u[i]));

  const variants = [
    { value: "center", label: "center" },
    { value: "center_beta", label: "center, then β" },
    { value: "scale", label: "scale, steep targets" },
    { value: "scale_flat", label: "scale, flat targets" },
    { value: "center_scale", label: "center and scale" },
    { value: "center_scale_affine", label: "center, scale, γ, β" },
  ];
  const trained = {
    center: ["b"],
    center_beta: ["b", "beta"],
    scale: ["a"],
    scale_flat: ["a"],
    center_scale: ["a", "b"],
    center_scale_affine: ["a", "b", "gamma", "beta"],
  };

  /** Output, loss and gradients, as bnlab.naive.gradients computes them. */
  function gradients(t, variant, through, { a, b, gamma, beta }) {
    const center = variant.includes("center");
    const scale = variant.includes("scale");
    const x = u.map((value) => a * value + b);
    const mean = math.mean(x);
    const std = scale ? math.std(x) : 1;
    const xHat = x.map((value) => (center ? value - mean : value) / std);
    const error = xHat.map((value, i) => gamma * value + beta - t[i]);
    const g = error.map((value) => 2 * gamma * value);
    let dx = g.map((value) => value / std);
    if (through && scale) {
      const pull = math.dot(g, xHat) / n / std ** 2;
      dx = dx.map((value, i) => value - (x[i] - mean) * pull);
    }
    if (through && center) {
      const push = math.mean(dx);
      dx = dx.map((value) => value - push);
    }
    return {
      y: xHat.map((value) => gamma * value + beta),
      loss: math.dot(error, error) / n,
      a: math.dot(dx, u) / n,
      b: math.mean(dx),
      gamma: (2 * math.dot(error, xHat)) / n,
      beta: 2 * math.mean(error),
    };
  }

  BNLive.register("naive-run", {
    title: "Gradient descent on a normalized layer: what moves, and what does not",
    controls: [
      { id: "variant", label: "Layer", options: variants, value: "center" },
      { id: "through", label: "Right way: through the statistics", value: false },
      { id: "lr", label: "Learning rate", min: 0.01, max: 1.05, step: 0.01, value: 0.1 },
      { id: "target", label: "Mean of the target", min: -2, max: 2, step: 0.1, value: 1 },
      { id: "steps", label: "Steps", min: 1, max: 100, step: 1, value: 60 },
    ],
    compute({ variant, through, lr, target, steps }) {
      const slope = variant === "scale_flat" ? 0.5 : 1.5; // the normalized output has slope 1
      const t = u.map((value, i) => target + slope * value + 0.5 * noise[i]);
      const theta = { a: 1, b: 0, gamma: 1, beta: 0 };
      const path = [];
      let first;
      let now;
      for (let step = 0; step <= steps; step += 1) {
        now = gradients(t, variant, through, theta);
        first = first || now.y;
        path.push({ step, ...theta, loss: now.loss });
        for (const name of trained[variant]) theta[name] -= lr * now[name];
      }
      return { u, t, first, last: now.y, path };
    },
    draw({ u, t, first, last, path }, { variant }, { Plot, d3, width, narrow, colors }) {
      const wide = narrow ? width : Math.floor(width / 2) - 4;
      const points = u.map((value, i) => ({ u: value, t: t[i], first: first[i], last: last[i] }));
      const label = { fontSize: 13, fill: "currentColor", frameAnchor: "top-left" };
      const names = { a: "a", b: "b", beta: "β", gamma: "γ" };
      const strokes = { a: colors.third, b: colors.plain, beta: colors.normalized, gamma: colors.fourth };
      const dashes = { a: "8 3", b: null, beta: "3 3", gamma: "1 3" };
      const moving = trained[variant];
      const limit = moving.includes("beta") ? 5 : 25; // with β the parameters stay small
      const data = Plot.plot({
        width: wide, height: narrow ? 230 : 320, marginBottom: 34,
        x: { domain: [-3, 3], label: "input u", ticks: 7 },
        y: { domain: [-7, 7], label: null, grid: true, ticks: 7 },
        marks: [
          Plot.dot(points, { x: "u", y: "t", r: 2.5, fill: colors.muted, clip: true }),
          Plot.line(points, { x: "u", y: "first", sort: "u", stroke: colors.theory, strokeWidth: 5, strokeOpacity: 0.35, clip: true }),
          Plot.line(points, { x: "u", y: "last", sort: "u", stroke: colors.plain, strokeWidth: 2, clip: true }),
          Plot.text(["Output: start (wide), now (thin); targets (dots)"], label),
        ],
      });
      const parameters = Plot.plot({
        width: wide, height: narrow ? 200 : 190, marginRight: 46, marginBottom: 34,
        x: { domain: [0, 100], label: "step", ticks: 5 },
        y: { domain: [-limit, limit], label: null, grid: true, ticks: 5 },
        marks: [
          Plot.ruleY([0]),
          ...moving.map((name) => Plot.line(path, {
            x: "step", y: name, stroke: strokes[name], strokeDasharray: dashes[name], strokeWidth: 2.5, clip: true,
          })),
          ...moving.map((name, i) => Plot.text([path.at(-1)], {
            x: "step", y: (d) => Math.max(-limit, Math.min(limit, d[name])), text: () => names[name],
            dx: 5 + 11 * i, fontSize: 14, fill: strokes[name], textAnchor: "start",
          })),
          Plot.text([`Parameters that learn: ${moving.map((name) => names[name]).join(", ")}`], label),
        ],
      });
      const loss = Plot.plot({
        width: wide, height: narrow ? 140 : 130, marginRight: 46, marginBottom: 34,
        x: { domain: [0, 100], label: "step", ticks: 5 },
        y: { domain: [0, 8], label: null, grid: true, ticks: 3 },
        marks: [
          Plot.line(path, { x: "step", y: "loss", stroke: colors.plain, strokeWidth: 2.5, clip: true }),
          Plot.text(["Loss"], label),
        ],
      });
      const right = d3.create("div").node();
      right.append(parameters, loss);
      const row = d3.create("div").style("display", narrow ? "block" : "flex").style("gap", "8px").node();
      row.append(data, right);
      return row;
    },
    readout({ first, last, path }, { variant, through, lr }) {
      const end = path.at(-1);
      const names = { a: "a", b: "b", beta: "β", gamma: "γ" };
      const moved = Math.max(...last.map((value, i) => Math.abs(value - first[i])));
      const at = trained[variant].map((name) => `${names[name]} = ${format(end[name], 3)}`).join(", ");
      return [
        `After ${end.step} ${through ? "right" : "naive"} steps at learning rate ${format(lr)}: ${at}.`,
        `Largest change of an output: ${format(moved, 3)}. Loss: ${format(path[0].loss, 3)} at the start, ${format(end.loss, 3)} now.`,
      ];
    },
  });
})();
