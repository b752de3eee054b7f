/* Chapter 2: who must standardize so that an old decoder still works after the players changed. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const longest = 30;
  const random = math.random(2);
  const chains = Array.from({ length: 50 }, () =>
    Object.fromEntries(
      ["gain", "offset", "gainChange", "offsetChange"].map((name) => [name, random.normals(longest)]),
    ));
  const arms = [
    { standard: "nobody", label: "nobody", color: "plain", dash: "none" },
    { standard: "listener", label: "listener", color: "third", dash: "6 4" },
    { standard: "everyone", label: "everyone", color: "normalized", dash: "none" },
  ];

  /** Gain a, offset b and noise variance v from the first speaker to a listener after each cup. */
  function propagate(gains, offsets, noise, standard) {
    let [a, b, v] = [1, 0, 0];
    return gains.map((gain, k) => {
      if (standard === "everyone") {
        const spread = Math.sqrt(a * a + v);
        [a, b, v] = [a / spread, 0, v / spread ** 2];
      }
      [a, b, v] = [gain * a, gain * b + offsets[k], gain * gain * v + noise * noise];
      const spread = Math.sqrt(a * a + v);
      return standard === "nobody" ? { a, b, v } : { a: a / spread, b: 0, v: v / spread ** 2 };
    });
  }

  BNLive.register("cup-game", {
    title: "The cup game: players change, the listener's decoder does not",
    controls: [
      { id: "cups", label: "Cups to the listener", min: 1, max: longest, step: 1, value: 15 },
      { id: "noise", label: "Noise of each cup", min: 0, max: 0.6, step: 0.02, value: 0.1 },
      { id: "gain", label: "Typical gain of a cup", min: 0.6, max: 1.6, step: 0.05, value: 1 },
      { id: "spread", label: "Differences between cups", min: 0, max: 0.6, step: 0.05, value: 0.3 },
      { id: "change", label: "Change since learning", min: 0, max: 0.4, step: 0.02, value: 0.1 },
    ],
    compute({ noise, gain, spread, change }) {
      const players = chains.map((draws) => {
        const logGains = draws.gain.map((z) => Math.log(gain) + spread * z);
        const offsets = draws.offset.map((z) => spread * z);
        return {
          gains: logGains.map(Math.exp),
          offsets,
          gainsLater: logGains.map((value, k) => Math.exp(value + change * draws.gainChange[k])),
          offsetsLater: offsets.map((value, k) => value + change * draws.offsetChange[k]),
        };
      });
      const lines = arms.flatMap(({ standard }) => {
        const found = players.map((chain) => {
          const then = propagate(chain.gains, chain.offsets, noise, standard);
          const now = propagate(chain.gainsLater, chain.offsetsLater, noise, standard);
          return then.map(({ a, b, v }, k) => {
            const slope = a / (a * a + v);
            const stale =
              (slope * now[k].a - 1) ** 2 + (slope * (now[k].b - b)) ** 2 + slope ** 2 * now[k].v;
            return { correlation: (a * a) / (a * a + v), stale };
          });
        });
        // Errors spread over powers of ten, so their mean is geometric; without noise they may be 0.
        return math.linspace(1, longest, longest).map((cups) => ({
          standard,
          cups,
          correlation: math.mean(found.map((chain) => chain[cups - 1].correlation)),
          stale: Math.exp(math.mean(found.map((chain) => Math.log(Math.max(chain[cups - 1].stale, 1e-30))))),
        }));
      });
      return { players, lines };
    },
    draw({ lines }, { cups }, { Plot, width, narrow, colors }) {
      const shown = (standard) => lines.filter((point) => point.standard === standard);
      return Plot.plot({
        width,
        height: narrow ? 260 : 320,
        marginRight: 12,
        marginBottom: 38,
        x: { domain: [1, longest], label: "cups", ticks: narrow ? 4 : 7 },
        y: { type: "log", domain: [0.001, 100], clamp: true, label: "error of the old decoder", grid: true, ticks: 5, tickFormat: "~g" },
        marks: [
          Plot.ruleY([1], { stroke: colors.theory, strokeDasharray: "2 3" }),
          Plot.text([[longest, 1]], { text: ["knowing nothing"], textAnchor: "end", dy: -8, fill: "currentColor" }),
          Plot.ruleX([cups], { stroke: colors.muted }),
          ...arms.map(({ standard, color, dash }) =>
            Plot.lineY(shown(standard), {
              x: "cups", y: "stale", stroke: colors[color], strokeDasharray: dash, strokeWidth: 2.5,
            })),
          Plot.dot(arms.map(({ standard, color }) => ({ ...shown(standard)[cups - 1], color })), {
            x: "cups", y: "stale", r: 4.5, fill: (d) => colors[d.color],
          }),
          ...arms.map(({ label, color, dash }, i) =>
            Plot.text([`${dash === "none" ? "\u2014" : "- -"} ${label} standardizes`], {
              frameAnchor: "top-left", dx: 8, dy: 4 + 16 * i, fill: colors[color], fontSize: 12,
            })),
        ],
      });
    },
    readout({ lines }, { cups }) {
      const at = Object.fromEntries(
        lines.filter((point) => point.cups === cups).map((point) => [point.standard, point]));
      const errors = arms.map(({ standard, label }) => `${label} ${format(at[standard].stale, 3)}`);
      return [
        `After ${cups} cups, error of the old decoder by who standardizes (geometric mean of ${chains.length} chains): ${errors.join(", ")}.`,
        `A decoder learned anew would have ${format(1 - at.nobody.correlation, 3)} if nobody or the listener standardizes, ` +
          `${format(1 - at.everyone.correlation, 3)} if everyone does.`,
      ];
    },
  });
})();
