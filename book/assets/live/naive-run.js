/* Chapter 3: the same layer trained in the naive way and in the right way: what moves, and what does not. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const n = 40;
  const last = 100; // steps of each run

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
  const names = { a: "a", b: "b", beta: "β", gamma: "γ" };

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

  /** Every state of one run, and the outputs at the start and at one step. */
  function train(t, variant, through, lr, step) {
    const theta = { a: 1, b: 0, gamma: 1, beta: 0 };
    const path = [];
    let first;
    let now;
    for (let k = 0; k <= last; k += 1) {
      const found = gradients(t, variant, through, theta);
      first = first || found.y;
      if (k === step) now = found.y;
      path.push({ step: k, ...theta, loss: found.loss });
      for (const name of trained[variant]) theta[name] -= lr * found[name];
    }
    return { first, now, path };
  }

  BNLive.register("naive-run", {
    title: "One layer, trained in two ways: what moves, and what does not",
    controls: [
      { id: "variant", label: "Layer", options: variants, value: "center" },
      { id: "lr", label: "Learning rate", min: 0.01, max: 1.05, step: 0.01, value: 0.1 },
      { id: "step", label: "Step", min: 0, max: last, step: 1, value: 60, play: 60 },
    ],
    /** A place in a panel over steps is a step. */
    drag: ({ x }) => (Number.isFinite(x) ? { step: Math.max(0, Math.min(last, Math.round(x))) } : null),
    compute({ variant, lr, step, target = 1 }) {
      const slope = variant === "scale_flat" ? 0.5 : 1.5; // the normalized output has slope 1
      const t = u.map((value, i) => target + slope * value + 0.5 * noise[i]);
      return { u, t, naive: train(t, variant, false, lr, step), right: train(t, variant, true, lr, step) };
    },
    draw({ t, naive, right }, { variant, step }, { Plot, d3, width, narrow, colors, panel }) {
      const wide = Math.floor((width - 12) / 2);
      const moving = trained[variant];
      const limit = moving.includes("beta") ? 5 : 25; // with β the parameters stay small
      const dashes = { a: "8 3", b: null, beta: "3 3", gamma: "1 3" };
      const clamp = (value) => Math.max(-limit, Math.min(limit, value));
      const axis = { labelAnchor: "center", labelArrow: "none" };
      const size = { width: wide, marginLeft: 34, marginBottom: 38, marginTop: 8 };
      const steps = { ...axis, domain: [0, last], label: "step", ticks: [0, 50, 100] };

      function column(name, title, { first, now, path }, color) {
        const points = math.linspace(0, n - 1, n).map((i) => ({ u: u[i], t: t[i], first: first[i], now: now[i] }));
        const done = path.slice(0, step + 1);
        const here = done.at(-1);
        const output = Plot.plot({
          ...size, height: narrow ? 170 : 220,
          x: { ...axis, domain: [-3, 3], label: "input u", ticks: [-2, 0, 2] },
          y: { domain: [-7, 7], label: null, grid: true, ticks: [-5, 0, 5] },
          marks: [
            Plot.dot(points, { x: "u", y: "t", r: 2.5, fill: colors.muted, clip: true }),
            Plot.line(points, { x: "u", y: "first", sort: "u", stroke: colors.theory, strokeWidth: 6, strokeOpacity: 0.35, clip: true }),
            Plot.line(points, { x: "u", y: "now", sort: "u", stroke: color, strokeWidth: 2, clip: true }),
          ],
        });
        // Labels that would cover each other move apart.
        const ends = moving.map((key) => ({ key, y: clamp(here[key]) })).sort((a, b) => a.y - b.y);
        const apart = limit / (narrow ? 4 : 5);
        ends.forEach((end, i) => { if (i) end.y = Math.max(end.y, ends[i - 1].y + apart); });
        const parameters = panel(`${name}-b`, Plot.plot({
          ...size, height: narrow ? 150 : 170, marginRight: 22,
          x: steps,
          y: { domain: [-limit, limit], label: null, grid: true, ticks: [-limit, 0, limit] },
          marks: [
            Plot.ruleY([0]),
            ...moving.map((name) => Plot.line(done, { x: "step", y: name, stroke: color, strokeDasharray: dashes[name], strokeWidth: 2.5, clip: true })),
            Plot.text(ends, { x: () => step, y: "y", text: (d) => names[d.key], dx: 6, dy: -7, fontSize: 14, fill: "currentColor", textAnchor: "start" }),
          ],
        }));
        const loss = panel(`${name}-loss`, Plot.plot({
          ...size, height: narrow ? 110 : 120, marginRight: 22,
          x: steps,
          y: { domain: [0, 8], label: null, grid: true, ticks: [0, 4, 8] },
          marks: [
            Plot.line(done, { x: "step", y: "loss", stroke: color, strokeWidth: 2.5, clip: true }),
            Plot.dot([here], { x: "step", y: "loss", r: 3.5, fill: color, clip: true }),
          ],
        }));
        const box = d3.create("div").style("flex", "1 1 0").style("min-width", 0).node();
        const say = (text, weight) => d3.create("p").style("font-size", "13px").style("font-weight", weight).text(text).node();
        box.append(
          say(title, 600),
          say(narrow ? "Output: start (wide), now" : "Output: at the start (wide), now (thin); targets (dots)", 400), output,
          say(`Learned: ${moving.map((name) => names[name]).join(", ")}`, 400), parameters,
          say("Loss", 400), loss,
        );
        return box;
      }

      const row = d3.create("div").style("display", "flex").style("gap", "12px").node();
      row.append(
        column("naive", "Naive: statistics held constant", naive, colors.plain),
        column("right", "Right: through the statistics", right, colors.normalized),
      );
      return row;
    },
    readout({ naive, right }, { variant, step }) {
      return [["Naive", naive], ["Right", right]].map(([name, { first, now, path }]) => {
        const at = trained[variant].map((key) => `${names[key]} = ${format(path[step][key], 3)}`).join(", ");
        const moved = Math.max(...now.map((value, i) => Math.abs(value - first[i])));
        return `${name}, after ${step} steps: ${at}; loss ${format(path[0].loss, 2)} → ${format(path[step].loss, 2)}; outputs moved by at most ${format(moved, 2)}.`;
      });
    },
  });
})();
