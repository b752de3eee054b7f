/* Chapter 4: a covariance of d features needs far more than d rows before it can be trusted. */
(function () {
  "use strict";
  const { math, format } = BNLive;

  // Eigenvalues of a symmetric matrix, smallest first, by Jacobi's rotations.
  function eigenvalues(matrix) {
    const a = matrix.map((row) => row.slice()), n = a.length;
    for (let sweep = 0; sweep < 12; sweep += 1) {
      let off = 0;
      for (let p = 0; p < n; p += 1) {
        for (let q = p + 1; q < n; q += 1) {
          off += a[p][q] ** 2;
          if (Math.abs(a[p][q]) < 1e-300) continue;
          const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
          const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
          const c = 1 / Math.hypot(t, 1), s = t * c;
          for (let k = 0; k < n; k += 1) {
            const kp = a[k][p], kq = a[k][q];
            a[k][p] = c * kp - s * kq;
            a[k][q] = s * kp + c * kq;
          }
          for (let k = 0; k < n; k += 1) {
            const pk = a[p][k], qk = a[q][k];
            a[p][k] = c * pk - s * qk;
            a[q][k] = s * pk + c * qk;
          }
        }
      }
      if (off < 1e-22 * n) break;
    }
    return a.map((row, i) => row[i]).sort((x, y) => x - y);
  }

  function batchCovariance(m, d, seed) {
    const random = math.random(seed);
    const columns = Array.from({ length: d }, () => {
      const x = random.normals(m), mean = math.mean(x);
      return x.map((v) => v - mean);
    });
    return columns.map((x, k) => columns.map((y, l) => (l < k ? 0 : math.dot(x, y) / m)))
      .map((row, k, rows) => row.map((v, l) => (l < k ? rows[l][k] : v)));
  }

  BNLive.register("batch-spectrum", {
    title: "What one batch says about features that are white in truth",
    controls: [
      { id: "features", label: "Features d", min: 2, max: 32, step: 1, value: 16 },
      { id: "perFeature", label: "Rows per feature", min: 0.1, max: 5, step: 0.1, value: 1, format: (v) => format(2 ** v, 2) },
      { id: "seed", label: "Batch number", min: 1, max: 20, step: 1, value: 1 },
    ],
    compute({ features, perFeature, seed }) {
      const m = Math.max(features + 2, Math.round(features * 2 ** perFeature));
      const s = batchCovariance(m, features, seed), values = eigenvalues(s);
      const ratio = Math.sqrt(features / m);
      const rms = (list) => Math.sqrt(math.mean(list.map((v) => (1 / Math.sqrt(v) - 1) ** 2)));
      return {
        m, values,
        low: (1 - ratio) ** 2, high: (1 + ratio) ** 2,
        full: rms(values), perFeature: rms(s.map((row, k) => row[k])),
        variances: s.map((row, k) => row[k]),
      };
    },
    draw({ values, variances, low, high }, params, { Plot, width, narrow, colors }) {
      const rows = [
        ...values.map((v) => ({ v, kind: "directions" })),
        ...variances.map((v) => ({ v, kind: "features" })),
      ];
      return Plot.plot({
        width, height: narrow ? 220 : 230, marginLeft: 84, marginBottom: 42,
        x: { domain: [0, 4], label: "variance that the batch shows", ticks: narrow ? 4 : 8, grid: true },
        y: { domain: ["directions", "features"], label: null },
        marks: [
          Plot.barX([{ low, high, kind: "directions" }], { x1: "low", x2: "high", y: "kind", fill: colors.muted, fillOpacity: 0.25 }),
          Plot.ruleX([1], { stroke: colors.theory, strokeDasharray: "4 4", strokeWidth: 2 }),
          Plot.tickX(rows, { x: "v", y: "kind", stroke: (d) => (d.kind === "features" ? colors.normalized : colors.third), strokeWidth: 2, clip: true }),
          Plot.text(["the truth"], { x: 1, frameAnchor: "top", dy: -12, text: (d) => d, fill: "currentColor", fontSize: 12 }),
        ],
      });
    },
    readout: ({ m, values, full, perFeature }, { features }) =>
      `${features} features, ${m} rows: the directions' variances run from ${format(values[0], 3)} to ` +
      `${format(values.at(-1), 2)}. Error of the scale: ${format(full, 2)} with full whitening, ` +
      `${format(perFeature, 2)} with each feature on its own.`,
  });
})();
