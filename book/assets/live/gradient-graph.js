/* Chapter 6: one step at a time, values flow down the graph and gradients flow back up. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const { sum, mean } = math;
  const spread = (d, x) => x.map(() => d[0] / x.length);
  const each = (a, f) => a.map(f);

  // The graph as data, as in bnlab.graph; a number is a list of one. `back` gives one gradient for each input.
  const operations = (eps) => ({
    mu_B: { inputs: ["x"], rule: "the mean of x", run: (x) => [mean(x)], back: (d, x) => [spread(d, x)] },
    centered: {
      inputs: ["x", "mu_B"], rule: "x minus its mean",
      run: (x, mu) => each(x, (v) => v - mu[0]), back: (d) => [d, [-sum(d)]],
    },
    squared: {
      inputs: ["centered"], rule: "the square of each",
      run: (c) => each(c, (v) => v * v), back: (d, c) => [each(c, (v, i) => 2 * v * d[i])],
    },
    var_B: { inputs: ["squared"], rule: "the mean of the squares", run: (s) => [mean(s)], back: (d, s) => [spread(d, s)] },
    inv_std: {
      inputs: ["var_B"], rule: "one over the standard deviation",
      run: (v) => [(v[0] + eps) ** -0.5], back: (d, v) => [[-0.5 * d[0] * (v[0] + eps) ** -1.5]],
    },
    x_hat: {
      inputs: ["centered", "inv_std"], rule: "the product of the two",
      run: (c, s) => each(c, (v) => v * s[0]), back: (d, c, s) => [each(d, (v) => v * s[0]), [math.dot(d, c)]],
    },
    y: {
      inputs: ["x_hat", "gamma", "beta"], rule: "scaled by γ and shifted by β",
      run: (h, g, b) => each(h, (v) => g[0] * v + b[0]), back: (d, h, g) => [each(d, (v) => g[0] * v), [math.dot(d, h)], [sum(d)]],
    },
  });
  const labels = {
    x: "x", gamma: "γ", beta: "β", mu_B: "μ", centered: "x − μ", squared: "(x − μ)²",
    var_B: "σ²", inv_std: "1/√(σ² + ε)", x_hat: "x̂", y: "y",
  };
  const list = (values) => values.map((value) => format(value)).join(", ");
  const incoming = {
    "the first output alone": () => [1, 0, 0],
    "all outputs equally": () => [1, 1, 1],
    "each output by its x̂": (xHat) => xHat,
  };
  const STEPS = 20; // each of the ten nodes forward, then each backward

  BNLive.register("gradient-graph", {
    title: "Batch Normalization as a graph: values go down, gradients come back up",
    controls: [
      { id: "step", label: "Step", min: 0, max: STEPS, step: 1, value: 13, play: 900 },
      { id: "x1", label: "First x (others: 2, 4)", min: -4, max: 8, step: 0.5, value: 1 },
      { id: "gamma", label: "γ", min: -2, max: 2, step: 0.25, value: 1.5 },
      { id: "logEps", label: "ε", min: -5, max: 1, step: 0.5, value: -5, format: (v) => (v < -3 ? (10 ** v).toExponential(0) : Number((10 ** v).toPrecision(2)) + "") },
      { id: "from", label: "The loss depends on", options: Object.keys(incoming), value: "the first output alone" },
    ],
    compute({ step, x1, gamma, logEps, from }) {
      const ops = operations(10 ** logEps);
      const value = { x: [x1, 2, 4], gamma: [gamma], beta: [0.5] };
      for (const [name, op] of Object.entries(ops)) value[name] = op.run(...op.inputs.map((i) => value[i]));
      const names = Object.keys(value);
      const parts = Object.fromEntries(names.map((name) => [name, []]));
      const gradient = { y: incoming[from](value.x_hat) };
      for (const name of Object.keys(ops).reverse()) {
        const { inputs, back } = ops[name];
        back(gradient[name], ...inputs.map((i) => value[i])).forEach((part, k) => {
          const to = inputs[k];
          parts[to].push({ from: name, gradient: part });
          gradient[to] = part.map((v, i) => v + (gradient[to] ? gradient[to][i] : 0));
        });
      }
      // A node's row is the longest path to it; a leaf stands just above its first use, where there is room.
      const row = {};
      for (const name of names) row[name] = ops[name] ? 1 + Math.max(...ops[name].inputs.map((i) => row[i])) : 0;
      const taken = new Set(Object.keys(ops).map((name) => `${row[name]},${value[name].length > 1}`));
      for (const name of names.filter((n) => !ops[n])) {
        row[name] = Math.min(...Object.keys(ops).filter((n) => ops[n].inputs.includes(name)).map((n) => row[n])) - 1;
        while (taken.has(`${row[name]},${value[name].length > 1}`)) row[name] += 1;
        taken.add(`${row[name]},${value[name].length > 1}`);
      }
      const order = [...names, ...[...Object.keys(ops).reverse(), "beta", "gamma", "x"]];
      const nodes = names.map((name) => ({
        name, row: row[name], inputs: ops[name] ? ops[name].inputs : [], rule: ops[name] ? ops[name].rule : "given",
        value: value[name], gradient: gradient[name], parts: parts[name],
        valueShown: order.indexOf(name) < step, gradientShown: order.lastIndexOf(name) < step,
      }));
      return { nodes, active: step ? order[step - 1] : null, backward: step > names.length };
    },
    draw({ nodes, active, backward }, params, { d3, width, narrow, colors }) {
      const rowHeight = 66, boxHeight = 46, size = narrow ? 12 : 14;
      const rows = 1 + Math.max(...nodes.map((n) => n.row));
      const loop = narrow ? 16 : 34; // room for the arrow that goes around, on the left
      const vectorWidth = Math.min(330, (width - loop - 8) * 0.58), scalarWidth = Math.min(220, (width - loop - 8) * 0.4);
      const place = Object.fromEntries(nodes.map((n) => {
        const vector = n.value.length > 1;
        const w = vector ? vectorWidth : scalarWidth;
        const x = vector ? loop : Math.min(width - scalarWidth - 2, loop + vectorWidth + 60);
        return [n.name, { x, y: n.row * rowHeight + 4, w, cx: x + w / 2 }];
      }));
      /** A path from box a to box b, and at both ends the point and the angle of an arrow head. */
      function route(a, b) {
        const middle = boxHeight / 2;
        if (a.y === b.y) {
          const [from, to] = [[a.x, a.y + middle], [b.x + b.w, b.y + middle]];
          return { d: `M${from}L${to}`, ends: [[from, 0], [to, 180]] };
        }
        if (a.x === b.x && b.y - a.y > 2 * rowHeight) { // around what lies between
          const [from, to] = [[a.x, a.y + middle], [b.x, b.y + middle]];
          const out = a.x - 1.25 * loop;
          return { d: `M${from}C${out},${from[1]} ${out},${to[1]} ${to}`, ends: [[from, 0], [to, 0]] };
        }
        const across = a.x === b.x ? 0 : Math.sign(b.cx - a.cx) * 24;
        const [from, to] = [[a.cx + across, a.y + boxHeight], [b.cx - across, b.y]];
        const angle = (Math.atan2(to[1] - from[1], to[0] - from[0]) * 180) / Math.PI;
        return { d: `M${from}L${to}`, ends: [[from, angle + 180], [to, angle]] };
      }
      const svg = d3.create("svg").attr("width", width).attr("height", rows * rowHeight).style("font-size", `${size}px`);
      for (const target of nodes) {
        for (const source of target.inputs) {
          const a = place[source], b = place[target.name];
          const lit = (backward ? source : target.name) === active;
          const color = lit ? (backward ? colors.plain : colors.normalized) : colors.muted;
          const { d, ends } = route(a, b);
          svg.append("path").attr("d", d).attr("fill", "none").attr("stroke", color).attr("stroke-width", lit ? 3 : 1.25);
          const [[x, y], angle] = ends[backward ? 0 : 1]; // the head shows which way things flow
          svg.append("path").attr("d", "M0,0L-10,-5L-10,5Z").attr("fill", color)
            .attr("transform", `translate(${x},${y})rotate(${angle})`);
        }
      }
      for (const n of nodes) {
        const { x, y, w, cx } = place[n.name];
        const lit = n.name === active;
        svg.append("rect").attr("x", x).attr("y", y).attr("width", w).attr("height", boxHeight).attr("rx", 6)
          .attr("fill", "none").attr("stroke", lit ? (backward ? colors.plain : colors.normalized) : colors.muted)
          .attr("stroke-width", lit ? 3 : 1).attr("stroke-dasharray", n.valueShown ? null : "4 4");
        const write = (text, dy, fill, weight) => svg.append("text").attr("x", cx).attr("y", y + dy)
          .attr("text-anchor", "middle").attr("fill", fill).attr("font-weight", weight).text(text);
        write(labels[n.name] + (n.valueShown ? ` = ${list(n.value)}` : ""), 19, "currentColor", lit && !backward ? 700 : 400);
        if (n.gradientShown) write(`∇ ${list(n.gradient)}`, 38, colors.plain, lit && backward ? 700 : 400);
      }
      return svg.node();
    },
    readout({ nodes, active, backward }, { step }) {
      if (!step) return "Nothing is computed yet. Move the step slider to the right.";
      const node = nodes.find((n) => n.name === active);
      const where = `Step ${step} of ${STEPS}`;
      if (!backward) return `${where}, forward: ${labels[active]} is ${node.rule}, ${list(node.value)}.`;
      const parts = node.parts.map((p) => `(${list(p.gradient)}) from ${labels[p.from]}`).join(" plus ");
      const sums = active === "x" ? ` These sum to ${format(sum(node.gradient))}.` : "";
      return `${where}, backward: the gradient of ${labels[active]} is (${list(node.gradient)})${parts ? `: ${parts}` : ", given by the loss"}.${sums}`;
    },
  });
})();
