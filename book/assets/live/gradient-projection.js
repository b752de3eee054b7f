/* Chapter 6: what Batch Normalization lets through of a gradient, in the three dimensions of a batch of three. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const { dot, mean } = math;
  const scale = (v, s) => v.map((value) => value * s);
  const add = (...vectors) => vectors[0].map((_, i) => math.sum(vectors.map((v) => v[i])));
  const ones = [1, 1, 1];
  const e1 = [1, -1, 0].map((v) => v / Math.sqrt(2));
  const e2 = [1, 1, -2].map((v) => v / Math.sqrt(6));
  const radians = (degrees) => (degrees * Math.PI) / 180;

  /** Orthographic view: turn by the azimuth around the third axis, then tilt by the elevation. */
  function project([x, y, z], azimuth, elevation) {
    const [a, e] = [radians(azimuth), radians(elevation)];
    return [-Math.sin(a) * x + Math.cos(a) * y, -Math.sin(e) * (Math.cos(a) * x + Math.sin(a) * y) + Math.cos(e) * z];
  }

  let held = null; // where a drag began, and the view it began with

  BNLive.register("gradient-projection", {
    title: "A batch of three: what is left of the incoming gradient. Drag to turn it",
    controls: [
      { id: "azimuth", label: "Turn the view", min: -180, max: 180, step: 1, value: -20, unit: "°" },
      { id: "elevation", label: "Tilt the view", min: -90, max: 90, step: 1, value: 15, unit: "°" },
      { id: "angle", label: "Direction of x̂ in the plane", min: 0, max: 360, step: 5, value: 100, unit: "°" },
      { id: "level", label: "Mean of the incoming gradient", min: -1, max: 1, step: 0.1, value: 0.7 },
      { id: "ratio", label: "ε, relative to σ²", min: 0, max: 2, step: 0.1, value: 0 },
    ],
    compute({ azimuth, elevation, angle, level, ratio }) {
      const a = radians(angle);
      const x = scale(add(scale(e1, Math.cos(a)), scale(e2, Math.sin(a))), Math.sqrt(3)); // mean 0, variance 1
      const dy = add(scale(ones, level), scale(e1, 1.5), scale(e2, -0.6));
      const forward = math.batchNorm(x, 1, 0, ratio);
      const xHat = forward.xHat;
      const alongOnes = scale(ones, mean(dy));
      const alongXHat = scale(xHat, dot(dy, xHat) / 3);
      const rest = add(dy, scale(alongOnes, -1), scale(alongXHat, -1));
      const { dx } = math.batchNormBackward(dy, forward);
      const see = (v) => project(v, azimuth, elevation);
      const circle = math.linspace(0, 360, 73).map((t) =>
        see(scale(add(scale(e1, Math.cos(radians(t))), scale(e2, Math.sin(radians(t)))), Math.sqrt(3))));
      const corner = add(alongOnes, alongXHat);
      return {
        ones, xHat, dy, alongOnes, alongXHat, rest, dx, circle,
        seen: { origin: see([0, 0, 0]), ones: see(ones), xHat: see(xHat), dy: see(dy), dx: see(dx), alongOnes: see(alongOnes), corner: see(corner) },
        sumDx: math.sum(dx), dxDotXHat: dot(dx, xHat),
      };
    },
    /** The side that faces the reader follows the pointer: half a degree a pixel. */
    drag({ pixel }, { azimuth, elevation }, type) {
      if (type === "pointerdown") held = { pixel, azimuth, elevation };
      const turned = held.azimuth - (pixel.x - held.pixel.x) / 2;
      const tilted = held.elevation + (pixel.y - held.pixel.y) / 2;
      return { azimuth: turned - 360 * Math.round(turned / 360), elevation: Math.max(-90, Math.min(90, tilted)) };
    },
    draw({ circle, seen }, params, { Plot, width, narrow, colors, panel }) {
      const height = narrow ? Math.round(width * 0.95) : 420;
      const half = 2.3;
      const arrow = (to, stroke, strokeWidth) =>
        Plot.arrow([[seen.origin, to]], {
          x1: (d) => d[0][0], y1: (d) => d[0][1], x2: (d) => d[1][0], y2: (d) => d[1][1], stroke, strokeWidth, headLength: strokeWidth > 2 ? 5 : 8, insetEnd: 0,
        });
      const path = (from, to, stroke) =>
        Plot.line([from, to], { x: (d) => d[0], y: (d) => d[1], stroke, strokeWidth: 2.5, strokeDasharray: "5 4" });
      const label = (at, text, fill) =>
        Plot.text([at], {
          x: (d) => d[0] * 1.08, y: (d) => d[1] * 1.08, text: () => text, fill, fontSize: 15, fontWeight: 600, dy: at[1] < 0 ? 12 : -12,
          stroke: "var(--pst-color-background)", strokeWidth: 4,
        });
      return panel("view", Plot.plot({
        width, height, margin: 4,
        x: { axis: null, domain: [(-half * width) / height, (half * width) / height] },
        y: { axis: null, domain: [-half, half] },
        marks: [
          Plot.line(circle, { x: (d) => d[0], y: (d) => d[1], stroke: colors.muted, fill: colors.muted, fillOpacity: 0.12 }),
          path(seen.origin, seen.alongOnes, colors.third),
          path(seen.alongOnes, seen.corner, colors.fourth),
          path(seen.corner, seen.dy, colors.normalized),
          arrow(seen.ones, colors.third, 1.5),
          arrow(seen.xHat, colors.fourth, 1.5),
          arrow(seen.dy, colors.plain, 3),
          arrow(seen.dx, colors.normalized, 3),
          label(seen.ones, "1", colors.third),
          label(seen.xHat, "x̂", colors.fourth),
          label(seen.dy, "dy", colors.plain),
          label(seen.dx, "dx", colors.normalized),
        ],
      }));
    },
    readout({ dy, dx, sumDx, dxDotXHat }) {
      const length = (v) => format(Math.sqrt(dot(v, v)));
      return [
        `Length of dy ${length(dy)}, of dx ${length(dx)}.`,
        `dx · 1 = ${format(sumDx)}, dx · x̂ = ${format(dxDotXHat)}.`,
      ];
    },
  });
})();
