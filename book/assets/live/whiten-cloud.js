/* Chapter 4: standardizing sets two numbers of a cloud's ellipse, whitening all three. */
(function () {
  "use strict";
  const { math, format } = BNLive;

  // A 2 by 2 covariance [[a, b], [b, c]]: its eigenvalues, largest first, and the first's direction.
  function eigen({ a, b, c }) {
    const half = (a - c) / 2, center = (a + c) / 2, radius = Math.hypot(half, b);
    const angle = 0.5 * Math.atan2(b, half);
    return { large: center + radius, small: center - radius, angle };
  }

  function covariance(points) {
    const x = points.map((p) => p.x), y = points.map((p) => p.y), mx = math.mean(x), my = math.mean(y);
    return { a: math.variance(x), c: math.variance(y), b: math.mean(points.map((p) => (p.x - mx) * (p.y - my))) };
  }

  // Exactly white points: drawn, centered, and whitened once.
  function white(n) {
    const random = math.random(4), x = random.normals(n), y = random.normals(n);
    const mx = math.mean(x), my = math.mean(y);
    return zca(x.map((v, i) => ({ x: v - mx, y: y[i] - my })));
  }

  function turned(points, angle) {
    const cos = Math.cos(angle), sin = Math.sin(angle);
    return points.map((p) => ({ x: cos * p.x - sin * p.y, y: sin * p.x + cos * p.y }));
  }

  function pca(points) {
    const { large, small, angle } = eigen(covariance(points));
    // Signs are free: like bnlab.scaling, the largest entry of each direction is positive.
    const cos = Math.cos(angle), sin = Math.sin(angle);
    const first = Math.abs(cos) >= Math.abs(sin) ? Math.sign(cos) : Math.sign(sin);
    const second = Math.abs(cos) >= Math.abs(sin) ? Math.sign(cos) : Math.sign(-sin);
    return turned(points, -angle).map((p) => ({
      x: (first * p.x) / Math.sqrt(large), y: (second * p.y) / Math.sqrt(small),
    }));
  }

  function zca(points) {
    const { large, small, angle } = eigen(covariance(points));
    const scaled = turned(points, -angle).map((p) => ({ x: p.x / Math.sqrt(large), y: p.y / Math.sqrt(small) }));
    return turned(scaled, angle);
  }

  function described(name, points) {
    const s = covariance(points), { large, small, angle } = eigen(s);
    const ellipse = math.linspace(0, 2 * Math.PI, 73).map((t) => ({ x: 2 * Math.sqrt(large) * Math.cos(t), y: 2 * Math.sqrt(small) * Math.sin(t) }));
    return { name, points, covariance: s, condition: large / small, ellipse: turned(ellipse, angle) };
  }

  BNLive.register("whiten-cloud", {
    title: "One cloud, three ways to normalize it",
    controls: [
      { id: "correlation", label: "Correlation", min: -0.95, max: 0.95, step: 0.05, value: 0.8 },
      { id: "spread", label: "Spread of feature 1", min: -1, max: 1, step: 0.05, value: 0.5, format: (v) => format(2 ** v, 2) },
      { id: "method", label: "Whiten by", options: ["ZCA", "PCA"], value: "ZCA" },
    ],
    compute({ correlation, spread, method }) {
      const scale = 2 ** spread, rest = Math.sqrt(1 - correlation ** 2);
      const raw = white(160).map((p) => ({ x: scale * p.x, y: correlation * p.x + rest * p.y }));
      const standardized = raw.map((p) => ({ x: p.x / scale, y: p.y }));
      return {
        panels: [
          described("raw", raw),
          described("each feature", standardized),
          described(method, method === "ZCA" ? zca(raw) : pca(raw)),
        ],
      };
    },
    draw({ panels }, params, { Plot, width, narrow, colors }) {
      const size = Math.floor(width / (narrow ? 2 : 3)) - 1;
      const row = document.createElement("div");
      row.style.cssText = "display: flex; flex-wrap: wrap";
      row.append(...panels.map(({ name, points, ellipse }, i) =>
        Plot.plot({
          width: size, height: size, marginLeft: 24, marginRight: 6, marginTop: 22, marginBottom: 22,
          style: "margin: 0; flex: none; max-width: none",
          x: { domain: [-5, 5], label: null, ticks: 5 },
          y: { domain: [-5, 5], label: null, ticks: 5, grid: true },
          marks: [
            Plot.dot(points, { x: "x", y: "y", r: 1.6, fill: [colors.plain, colors.normalized, colors.third][i], clip: true }),
            Plot.dot(points.slice(0, 1), { x: "x", y: "y", r: 5, fill: colors.theory }),
            Plot.line(ellipse, { x: "x", y: "y", stroke: "currentColor", strokeWidth: 1.5, clip: true }),
            Plot.text([name], { frameAnchor: "top", dy: -16, text: (d) => d, fontSize: 14, fill: "currentColor" }),
          ],
        }),
      ));
      return row;
    },
    readout: ({ panels }, { method }) =>
      `Largest over smallest variance of any direction: raw ${format(panels[0].condition, 2)}, each feature ` +
      `normalized ${format(panels[1].condition, 2)}, whitened by ${method} ${format(panels[2].condition, 2)}.`,
  });
})();
