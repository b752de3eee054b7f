/* Chapter 1: the unit of one feature decides who is near; scaling takes the unit away. */
(function () {
  "use strict";
  const { math, format } = BNLive;

  // bnlab.data.mixed_scale_table(24, seed=0): has_kids, car_value in dollars
  const HOUSEHOLDS = [
    [0, 37000], [1, 16500], [1, 7100], [1, 6000], [0, 9500], [0, 18700], [0, 5500], [0, 12200],
    [0, 12800], [0, 25800], [0, 18600], [1, 21400], [0, 7800], [1, 13200], [0, 32900], [1, 66800],
    [0, 4300], [0, 68200], [1, 57600], [1, 32800], [1, 19500], [1, 11000], [0, 64500], [0, 100000],
  ];

  const minMax = (x) => x.map((value) => (value - Math.min(...x)) / (Math.max(...x) - Math.min(...x)));
  const standardize = (x) => x.map((value) => (value - math.mean(x)) / math.std(x));
  const scalings = { none: (x) => x, "min-max to [0, 1]": minMax, standardize };

  const dollars = (value) => `$${Math.round(value).toLocaleString("en-US")}`;
  const percent = (share) => (share < 5e-5 ? "less than 0.01" : format(100 * share, share < 0.1 ? 2 : 0)) + "\u00a0%";
  let drawn = []; // where the households stand in the map, to find the one that was clicked
  const words = ([kids, value]) => `${kids ? "kids" : "no kids"}, ${dollars(value)}`;

  BNLive.register("distance-shares", {
    title: "The households as a distance sees them",
    controls: [
      { id: "unit", label: "Unit of car_value", min: 0, max: 5, step: 0.25, value: 0, format: (v) => dollars(10 ** v) },
      { id: "scaling", label: "Scaling", options: Object.keys(scalings), value: "none" },
      { id: "query", label: "Household", min: 1, max: HOUSEHOLDS.length, step: 1, value: 16 },
    ],
    compute({ unit, scaling, query }) {
      const kids = scalings[scaling](HOUSEHOLDS.map((row) => row[0]));
      const car = scalings[scaling](HOUSEHOLDS.map((row) => row[1] / 10 ** unit));
      const variances = [math.variance(kids), math.variance(car)];
      const from = query - 1;
      const distances = kids.map((value, i) => (i === from ? Infinity : (value - kids[from]) ** 2 + (car[i] - car[from]) ** 2));
      return {
        kids,
        car,
        shares: variances.map((value) => value / math.sum(variances)),
        nearest: distances.indexOf(Math.min(...distances)) + 1,
      };
    },
    draw({ kids, car, shares, nearest }, { query }, { Plot, width, narrow, colors, panel }) {
      const names = ["has_kids", "car_value"];
      const parts = [
        { name: names[0], x1: 0, x2: shares[0], fill: colors.third },
        { name: names[1], x1: shares[0], x2: 1, fill: colors.fourth },
      ];
      const bar = Plot.plot({
        width,
        height: 84,
        marginLeft: 24,
        marginRight: 24,
        marginTop: 22,
        style: { fontSize: "13px" },
        x: { domain: [0, 1], tickFormat: "%", ticks: 5, label: null },
        marks: [
          Plot.rectX(parts, { x1: "x1", x2: "x2", y1: 0, y2: 1, fill: "fill" }),
          Plot.text([parts[0]], { x: 0, y: 1, dy: -10, text: () => "has_kids", textAnchor: "start", fill: "currentColor" }),
          Plot.text([parts[1]], { x: 1, y: 1, dy: -10, text: () => "car_value", textAnchor: "end", fill: "currentColor" }),
        ],
        y: { axis: null, domain: [0, 1] },
      });
      // One unit is as long down as it is across, as it is for a distance; the longer side fills the picture.
      const [w, h] = [width - 32, narrow ? 150 : 190];
      const range = (x) => Math.max(...x) - Math.min(...x);
      const pixels = Math.min(w / range(car), h / range(kids));
      const place = (x, size) => x.map((value) => (value - (Math.min(...x) + Math.max(...x)) / 2) * pixels + size / 2);
      const [x, y] = [place(car, w), place(kids, h)];
      const points = x.map((value, i) => ({ x: value, y: y[i], kids: HOUSEHOLDS[i][0] }));
      drawn = points;
      const [a, b] = [points[query - 1], points[nearest - 1]];
      const map = Plot.plot({
        width,
        height: h + 70,
        margin: 16,
        marginTop: 34,
        marginBottom: 36,
        style: { fontSize: "13px" },
        x: { axis: null, domain: [0, w] },
        y: { axis: null, domain: [0, h] },
        marks: [
          Plot.dot(points, { x: "x", y: "y", r: 5, symbol: (d) => (d.kids ? "triangle" : "circle"), stroke: colors.muted, strokeWidth: 2 }),
          Plot.link([0], { x1: a.x, y1: a.y, x2: b.x, y2: b.y, stroke: colors.plain, strokeWidth: 2.5 }),
          Plot.dot([b], { x: "x", y: "y", r: 7, symbol: b.kids ? "triangle" : "circle", fill: colors.plain }),
          Plot.dot([a], { x: "x", y: "y", r: 6, symbol: "star", fill: "currentColor" }),
          Plot.text(["▲ kids   ○ no kids   ★ this household"], { frameAnchor: "top-left", dy: -26, fill: "currentColor" }),
          Plot.text(["car_value →"], { frameAnchor: "bottom-right", dy: 24, fill: "currentColor" }),
        ],
      });
      return [panel("map", map), bar];
    },
    drag({ x, y }) {
      const far = drawn.map((point) => Math.hypot(point.x - x, point.y - y));
      return { query: far.indexOf(Math.min(...far)) + 1 };
    },
    readout: ({ shares, nearest }, { unit, scaling, query }) => [
      `has_kids makes up ${percent(shares[0])} of the squared distance, car_value ${percent(shares[1])}` +
        (scaling === "none" ? ` (unit ${dollars(10 ** unit)}).` : ", whatever the unit."),
      `Nearest to household ${query} (${words(HOUSEHOLDS[query - 1])}) is household ${nearest} (${words(HOUSEHOLDS[nearest - 1])}).`,
    ],
  });
})();
