/* Chapter 5: one value in many batches; its normalized value depends on the company. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const most = 64;
  const count = 400;
  const normals = math.random(5).normals(count * (most - 1));
  const width0 = 0.25;

  BNLive.register("batch-company", {
    title: `One value, normalized in ${count} batches`,
    controls: [
      { id: "value", label: "The value, in standard deviations", min: -4, max: 4, step: 0.25, value: 1 },
      { id: "m", label: "Batch size m", min: 2, max: most, step: 1, value: 8 },
      { id: "shift", label: "Mean of the others", min: -3, max: 3, step: 0.25, value: 0 },
      { id: "spread", label: "Spread of the others", min: 0.2, max: 3, step: 0.1, value: 1 },
    ],
    compute({ value, m, shift, spread }) {
      const xHat = Array.from({ length: count }, (_, b) => {
        const others = normals.slice(b * (most - 1), b * (most - 1) + m - 1);
        return math.batchNorm([value, ...others.map((z) => shift + spread * z)]).xHat[0];
      });
      return {
        xHat,
        mean: math.mean(xHat),
        std: math.std(xHat),
        theory: Math.sqrt((1 + value ** 2 / 2) / m),
        bins: math.histogram(xHat, -8, 8, 16 / width0),
      };
    },
    draw({ bins, mean }, { value, m }, { Plot, width, narrow, colors }) {
      const bound = Math.sqrt(m - 1);
      const note = (text, fill, dy) =>
        Plot.text([text], { frameAnchor: "top-right", dy, fill, fontSize: 12 });
      return Plot.plot({
        width,
        height: narrow ? 310 : 330,
        marginTop: 78,
        marginLeft: 44,
        marginBottom: 46,
        x: { domain: [-6, 6], label: "normalized value", ticks: narrow ? 5 : 9 },
        y: { domain: [0, 1], label: "share of the batches", grid: true, ticks: 5 },
        marks: [
          Plot.rectY(bins.filter((bin) => bin.x0 >= -6 && bin.x1 <= 6), {
            x1: "x0", x2: "x1", y: (bin) => bin.count / count, fill: colors.normalized, fillOpacity: 0.75, inset: 0.5,
          }),
          Plot.ruleX([-bound, bound].filter((at) => Math.abs(at) <= 6), { stroke: colors.muted, strokeDasharray: "2 3", strokeWidth: 1.5 }),
          Plot.ruleX([value], { stroke: colors.theory, strokeDasharray: "6 4", strokeWidth: 2 }),
          Plot.ruleX([mean], { stroke: colors.plain, strokeWidth: 2 }),
          note("\u2014 mean over batches", colors.plain, -66),
          note("- - with population statistics", colors.theory, -50),
          note("\u00b7 \u00b7 bounds ±√(m − 1)", colors.muted, -34),
        ],
      });
    },
    readout: ({ mean, std, theory }, { value, m, shift, spread }) => [
      `The value ${format(value, 2)} becomes ${format(mean, 2)} on average and moves by ${format(std, 2)} from batch to batch (one standard deviation).`,
      shift === 0 && spread === 1
        ? `First-order theory for this company and m = ${m}: ${format(theory, 2)}.`
        : "The company now differs from the population, and the value is judged against it.",
    ],
  });
})();
