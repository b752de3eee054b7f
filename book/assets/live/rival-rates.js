/* Chapter 11: the loss after 100 steps at each learning rate, of a net that keeps one part of Batch Normalization. */
(function () {
  "use strict";
  const { format } = BNLive;
  const { limit, arms } = BNLive.data["rival-rates"]; // by arm: rates, loss, low and high (thousandths), largest stable
  const [least, most] = [-5, 4];

  const RIVALS = {
    "centred pixels": "plain, centred",
    "frozen statistics": "frozen",
    "running statistics": "running",
    "batch statistics, no gradient through them": "detached",
    "BN whose rows keep their length": "BN, rows held",
  };

  const curve = (name) => {
    const { rates, loss, low, high, stable } = arms[name];
    const points = rates.map((rate, k) => ({ rate, loss: loss[k] / 1000, low: low[k] / 1000, high: high[k] / 1000 }));
    return { name, stable, points };
  };

  BNLive.register("rival-rates", {
    title: "Choose a rival and turn up the learning rate. Drag across the plot",
    controls: [
      { id: "rival", label: "Rival", options: Object.keys(RIVALS), value: "centred pixels" },
      { id: "power", label: "Learning rate", min: least, max: most, step: 0.5, value: -1, play: 500, format: (v) => Number((2 ** v).toPrecision(2)) + "" },
    ],
    compute({ rival, power }) {
      const rate = 2 ** power;
      return {
        rate,
        curves: ["plain", "BN", RIVALS[rival]].map((name) => {
          const found = curve(name);
          const now = found.points.find((point) => Math.abs(Math.log2(point.rate) - power) < 0.01) || null;
          return { ...found, now };
        }),
      };
    },
    drag({ x }) {
      return { power: Math.max(least, Math.min(most, Math.round(2 * Math.log2(x)) / 2)) };
    },
    draw({ rate, curves }, params, { Plot, width, narrow, colors, panel }) {
      const looks = [["plain", colors.plain, "plain"], ["BN", colors.normalized, "BN"], [params.rival, colors.third, "rival"]];
      const ticks = narrow ? [0.03, 0.1, 0.5, 2, 8] : [0.03, 0.06, 0.12, 0.25, 0.5, 1, 2, 4, 8, 16];
      return panel("rates", Plot.plot({
        width,
        height: narrow ? 290 : 340,
        marginLeft: 44, marginBottom: 46, marginTop: 28,
        x: { type: "log", base: 2, domain: [2 ** -5.2, 2 ** 4.2], ticks, tickFormat: (t) => `${t}`, label: "learning rate (logarithmic)" },
        y: { type: "log", domain: [0.04, 3], label: "training loss after 100 steps (logarithmic)", grid: true, ticks: 4, tickFormat: (t) => `${t}`, clamp: true },
        marks: [
          Plot.ruleX([rate], { stroke: "currentColor", strokeDasharray: "2 3", strokeWidth: 1.5 }),
          Plot.ruleY([limit], { stroke: colors.theory, strokeDasharray: "6 4", strokeWidth: 1.5 }),
          Plot.text([[2 ** 4.1, limit]], { text: () => "stable below", textAnchor: "end", dy: -8, fontSize: 12, fill: colors.theory }),
          curves.map(({ points, now }, i) => {
            const [, stroke, label] = looks[i];
            const shown = points.filter((p, k) => k === 0 || points[k - 1].loss < limit);
            const best = shown.reduce((a, b) => (b.loss < a.loss ? b : a));
            return [
              Plot.areaY(shown, { x: "rate", y1: "low", y2: "high", fill: stroke, fillOpacity: 0.18, clip: true }),
              Plot.lineY(shown, { x: "rate", y: "loss", stroke, strokeWidth: 2.5, clip: true }),
              Plot.dot(shown, { x: "rate", y: "loss", fill: stroke, r: 3, symbol: ["circle", "square", "triangle"][i], clip: true }),
              Plot.dot(now ? [now] : [], { x: "rate", y: "loss", stroke: "currentColor", fill: stroke, r: 6, strokeWidth: 1.5 }),
              Plot.text([best], { x: "rate", y: "loss", text: () => label, fill: stroke, dy: 14, fontSize: 13, fontWeight: 600 }),
            ];
          }),
        ],
      }));
    },
    readout({ rate, curves }, { rival }) {
      const shown = Number(rate.toPrecision(2));
      const say = ({ now, stable }, name) => {
        const here = now ? (now.loss < limit ? `loss ${format(now.loss, 2)}` : "broken") : "not measured here";
        return `${name}: ${here}; stable up to ${format(stable, 2)}.`;
      };
      return [`Rate ${shown}.`, ...curves.map((c, i) => say(c, ["Plain", "BN", rival[0].toUpperCase() + rival.slice(1)][i]))];
    },
  });
})();
