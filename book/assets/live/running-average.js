/* Chapter 7: a running mean follows a population whose mean moves: momentum trades lag against noise. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const steps = 150;
  const start = 1; // the population's mean at the first batch; the running mean starts at 0

  BNLive.register("running-average", {
    title: "A running mean behind a population that moves (drag the dashed line)",
    controls: [
      { id: "logMomentum", label: "Momentum, weight of the new batch", min: -2.5, max: 0, step: 0.05, value: -1.5,
        format: (v) => format(10 ** v, 3) },
      { id: "speed", label: "Change of the mean a batch", min: 0, max: 0.03, step: 0.001, value: 0.02 },
      { id: "m", label: "Values in a batch, m", min: 2, max: 64, step: 1, value: 16 },
    ],
    compute({ logMomentum, speed, m }) {
      const momentum = 10 ** logMomentum;
      const random = math.random(3);
      const points = [];
      let running = 0;
      let expected = 0;
      for (let t = 1; t <= steps; t += 1) {
        const truth = start + speed * (t - 1);
        const batch = truth + random.normal() / Math.sqrt(m); // the mean of m values of variance 1
        running = (1 - momentum) * running + momentum * batch;
        expected = (1 - momentum) * expected + momentum * truth;
        points.push({ t, truth, batch, running, expected });
      }
      return {
        momentum,
        points,
        halfLife: momentum < 1 ? Math.log(0.5) / Math.log1p(-momentum) : 0,
        startWeight: (1 - momentum) ** steps,
        lag: (speed * (1 - momentum)) / momentum,
        noise: Math.sqrt(momentum / (2 - momentum) / m),
      };
    },
    // A place in the plot is where the population's mean shall pass.
    drag: ({ x, y }) => {
      if (x < 10) return null;
      return { speed: Math.round(1000 * Math.max(0, Math.min(0.03, (y - start) / (x - 1)))) / 1000 };
    },
    draw({ points }, params, { Plot, width, narrow, colors, panel }) {
      const clip = (value) => Math.max(-1, Math.min(6, value));
      return panel("means", Plot.plot({
        width,
        height: narrow ? 270 : 310,
        marginBottom: 42,
        x: { label: "batches seen", labelOffset: 36, domain: [0, steps], ticks: narrow ? 4 : 8 },
        y: { label: "mean", domain: [-1, 6], grid: true },
        marks: [
          Plot.dot(points, { x: "t", y: (d) => clip(d.batch), r: 1.8, fill: colors.muted }),
          Plot.lineY(points, { x: "t", y: "truth", stroke: "currentColor", strokeDasharray: "5,4", strokeWidth: 1.5 }),
          Plot.lineY(points, { x: "t", y: "expected", stroke: colors.theory, strokeWidth: 1.5 }),
          Plot.lineY(points, { x: "t", y: "running", stroke: colors.normalized, strokeWidth: 2.5 }),
          Plot.text(
            [
              { y: 5.7, text: "- - population", fill: "currentColor" },
              { y: 5.2, text: "• mean of each batch", fill: colors.muted },
              { y: 4.7, text: "— running mean", fill: colors.normalized },
              { y: 4.2, text: "— its expectation", fill: colors.theory },
            ],
            { x: 3, y: "y", text: "text", fill: "fill", textAnchor: "start", fontSize: 13 },
          ),
        ],
      }));
    },
    readout: ({ points, halfLife, startWeight, lag, noise }) => [
      `The past halves in ${format(halfLife, 1)} batches. In the long run the average lags by ${format(lag, 3)} and scatters by ± ${format(noise, 3)}.`,
      `After ${steps} batches the start still weighs ${format(100 * startWeight, 1)} %, and the running mean is off by ${format(points.at(-1).running - points.at(-1).truth, 3)}.`,
    ],
  });
})();
