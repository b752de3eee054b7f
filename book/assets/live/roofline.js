/* Chapter 14: one roof, two layers: normalization waits for memory, the linear layer before it does not. */
(function () {
  "use strict";
  const { format } = BNLive;
  const BYTES = 4; // float32
  const WORK = 14; // flop for each value of x, forward and backward, as the chapter counts them
  const PEAK = 200e9;

  const places = { x: [0.05, 5000], y: [0.2, 600] };
  const nearest = (value, { min, max, step }) => Math.min(max, Math.max(min, Math.round(value / step) * step));
  const power = (v) => (2 ** v).toLocaleString("en-US");

  const controls = [
    { id: "rows", label: "N, rows", min: 0, max: 16, step: 1, value: 12, format: power },
    { id: "features", label: "C, features", min: 4, max: 13, step: 1, value: 10, format: power },
    { id: "bandwidth", label: "Bandwidth", min: 5, max: 400, step: 5, value: 40, unit: "GB/s" },
  ];

  const corner = ({ bandwidth }) => ({ id: "bandwidth", x: PEAK / 1e9 / bandwidth, y: PEAK / 1e9 });
  const apart = (a, b) => Math.hypot(Math.log(a.x / b.x), Math.log(a.y / b.y));
  let held = null; // what is dragged: the slider of the corner of the roof, or that of the linear layer

  BNLive.register("roofline", {
    title: "Which layer waits for memory?",
    controls,
    compute({ rows, features, bandwidth }) {
      const n = 2 ** rows, c = 2 ** features, speedOfMemory = bandwidth * 1e9, ridge = PEAK / speedOfMemory;
      const place = (name, flops, moved) => {
        const intensity = flops / moved;
        const speed = Math.min(PEAK, speedOfMemory * intensity);
        return { name, flops, moved, intensity, speed, seconds: flops / speed, memoryBound: intensity < ridge };
      };
      // Both passes: three products of the linear layer, each of which touches two arrays of N by C and one of C by C.
      const layers = [
        place("normalization", WORK * n * c, BYTES * 5 * n * c),
        place("linear layer", 6 * n * c * c, BYTES * (6 * n * c + 3 * c * c)),
      ];
      return { layers, ridge, peak: PEAK, share: layers[0].seconds / (layers[0].seconds + layers[1].seconds) };
    },
    /** Drag the corner of the roof, which is the machine's memory, or the linear layer, which is its batch. */
    drag(place, params, type) {
      if (type === "pointerdown") {
        const { intensity, speed } = this.compute(params).layers[1];
        const grips = [corner(params), { id: "rows", x: intensity, y: speed / 1e9 }];
        held = grips.sort((a, b) => apart(a, place) - apart(b, place))[0].id;
      }
      const c = 2 ** params.features, x = place.x;
      const value = held === "bandwidth" ? PEAK / 1e9 / x : Math.log2(4 * x < c ? (2 * x * c) / (c - 4 * x) : 2 ** 16);
      return { [held]: nearest(value, controls.find((control) => control.id === held)) };
    },
    draw({ layers, ridge, peak }, params, { Plot, width, narrow, colors, panel }) {
      const bend = corner(params);
      const roof = [{ x: places.x[0], y: places.x[0] * params.bandwidth }, bend, { x: places.x[1], y: peak / 1e9 }];
      const dots = layers.map((layer, i) => ({
        x: layer.intensity, y: layer.speed / 1e9, name: layer.name, fill: [colors.normalized, colors.third][i],
      }));
      const size = narrow ? 12 : 13;
      const text = { fill: "currentColor", fontSize: size };
      return panel("roof", Plot.plot({
        width,
        height: narrow ? 280 : 340,
        marginLeft: 46,
        marginTop: 28,
        marginRight: 12,
        marginBottom: 36,
        x: { type: "log", domain: places.x, label: "flop for each byte moved", labelAnchor: "center", ticks: narrow ? 3 : 5, tickFormat: "~g" },
        y: { type: "log", domain: places.y, label: "Gflop/s at most", ticks: 4, grid: true, tickFormat: "~g" },
        marks: [
          Plot.areaY([{ x: places.x[0], y: places.y[1] }, { x: ridge, y: places.y[1] }], { x: "x", y1: places.y[0], y2: "y", fill: colors.muted, fillOpacity: 0.1 }),
          Plot.text(["memory decides"], { x: Math.sqrt(places.x[0] * ridge), y: 400, text: (d) => d, ...text, fill: colors.muted }),
          Plot.text(["arithmetic decides"], { x: Math.sqrt(places.x[1] * ridge), y: 400, text: (d) => d, ...text, fill: colors.muted }),
          Plot.ruleX([ridge], { stroke: colors.muted, strokeDasharray: "3,3" }),
          Plot.line(roof, { x: "x", y: "y", stroke: colors.theory, strokeWidth: 2.5 }),
          Plot.dot([bend], { x: "x", y: "y", r: 9, fill: "var(--bn-card)", stroke: colors.theory, strokeWidth: 2 }),
          Plot.text([bend], { x: "x", y: "y", text: ["↔"], ...text }),
          Plot.dot(dots, { x: "x", y: "y", fill: "fill", r: 8 }),
          Plot.text([dots[0]], { x: "x", y: "y", text: "name", dy: 22, dx: 0, textAnchor: "start", ...text }),
          Plot.text([dots[1]], { x: "x", y: "y", text: "name", dy: 22, textAnchor: dots[1].x > 300 ? "end" : dots[1].x < 0.3 ? "start" : "middle", ...text }),
        ],
      }));
    },
    readout({ layers: [norm, linear], share, peak }) {
      const says = ({ name, intensity, memoryBound, speed }) =>
        `The ${name} does ${format(intensity, intensity < 10 ? 2 : 0)} flop for each byte and ` +
        (memoryBound ? `waits for memory, at ${format((100 * speed) / peak, 0)}% of the peak.` : "runs at the peak.");
      return [says(norm), says(linear), `Of the time of both, at best, normalization takes ${format(100 * share, share < 0.1 ? 1 : 0)}%.`];
    },
  });
})();
