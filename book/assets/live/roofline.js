/* Chapter 14: the roof over a layer: memory on the left, arithmetic on the right. */
(function () {
  "use strict";
  const { format } = BNLive;
  const BYTES = { float64: 8, float32: 4, float16: 2 };
  const WORK = 14; // flop for each value of x, forward and backward, as the chapter counts them

  BNLive.register("roofline", {
    title: "Under which roof is a layer?",
    controls: [
      { id: "layer", label: "Layer", options: ["batch normalization", "linear"], value: "batch normalization" },
      { id: "type", label: "Numbers", options: ["float64", "float32", "float16"], value: "float32" },
      { id: "rows", label: "N, rows", min: 0, max: 16, step: 1, value: 12, format: (v) => String(2 ** v) },
      { id: "features", label: "C, features", min: 4, max: 13, step: 1, value: 10, format: (v) => String(2 ** v) },
      { id: "bandwidth", label: "Memory bandwidth", min: 5, max: 400, step: 5, value: 20, unit: "GB/s" },
    ],
    compute({ layer, type, rows, features, bandwidth }) {
      const n = 2 ** rows, c = 2 ** features, bytes = BYTES[type], peak = 200e9;
      const linear = layer === "linear";
      const flops = linear ? 2 * n * c * c : WORK * n * c;
      const moved = bytes * (linear ? 2 * n * c + c * c : 5 * n * c);
      const intensity = flops / moved, ridge = peak / (bandwidth * 1e9);
      const speed = Math.min(peak, bandwidth * 1e9 * intensity);
      return { flops, moved, intensity, ridge, speed, peak, seconds: flops / speed, memoryBound: intensity < ridge };
    },
    draw({ intensity, speed, ridge, peak }, { bandwidth }, { Plot, width, narrow, colors }) {
      const roof = [0.05, ridge, 5000].map((x) => ({ x, y: Math.min(peak, bandwidth * 1e9 * x) / 1e9 }));
      return Plot.plot({
        width,
        height: narrow ? 240 : 300,
        marginLeft: 50,
        x: { type: "log", domain: [0.05, 5000], label: "flop per byte", ticks: narrow ? 3 : 5, tickFormat: "~g" },
        y: { type: "log", domain: [0.2, 400], label: "Gflop/s at most", ticks: 4, grid: true, tickFormat: "~g" },
        marks: [
          Plot.line(roof, { x: "x", y: "y", stroke: colors.theory, strokeWidth: 2 }),
          Plot.ruleX([ridge], { stroke: colors.muted, strokeDasharray: "3,3" }),
          Plot.dot([{ x: intensity, y: speed / 1e9 }], { x: "x", y: "y", fill: colors.normalized, r: 7 }),
          Plot.text([{ x: intensity, y: speed / 1e9 }], {
            x: "x", y: "y", text: ["the layer"], dy: 16, dx: 4, textAnchor: "start", fill: "currentColor", fontSize: 13,
          }),
        ],
      });
    },
    readout({ intensity, ridge, seconds, memoryBound }) {
      const bound = memoryBound ? "memory decides" : "arithmetic decides";
      return `${format(intensity, 2)} flop per byte against ${format(ridge, 1)} of the machine: ${bound}. ` +
        `At least ${format(seconds * 1e3, 3)} ms.`;
    },
  });
})();
