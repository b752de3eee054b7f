/* Chapter 2: messages go from cup to cup; the players have changed, and the listener's decoder has not. */
(function () {
  "use strict";
  const { math, format } = BNLive;
  const longest = 30;
  const random = math.random(2);
  const chains = Array.from({ length: 50 }, () =>
    Object.fromEntries(
      ["gain", "offset", "gainChange", "offsetChange"].map((name) => [name, random.normals(longest)]),
    ));
  const typical = 25; // the chain that is drawn: its errors are near the mean ones
  const messages = [-2, -1, 0, 1, 2];
  const arms = ["nobody", "listener", "everyone"];
  const looks = { nobody: "plain", listener: "third", everyone: "normalized" };

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

  /** What each chain does to messages, when the decoder was learned and now. */
  function listen(chain, noise, standard) {
    const then = propagate(chain.gains, chain.offsets, noise, standard);
    const now = propagate(chain.gainsLater, chain.offsetsLater, noise, standard);
    return then.map(({ a, b, v }, k) => {
      const slope = a / (a * a + v); // of the best line from the sound back to the message
      const heard = { gain: slope * now[k].a, offset: slope * (now[k].b - b), noise: slope * Math.sqrt(now[k].v) };
      const stale = (heard.gain - 1) ** 2 + heard.offset ** 2 + heard.noise ** 2;
      return { correlation: (a * a) / (a * a + v), stale, heard };
    });
  }

  BNLive.register("cup-game", {
    title: "The cup game: the players changed, the listener's decoder did not",
    controls: [
      { id: "standard", label: "Who standardizes", options: arms, value: "nobody" },
      { id: "cups", label: "Cups to the listener", min: 1, max: longest, step: 1, value: 20, play: 160 },
      { id: "noise", label: "Noise of each cup", min: 0, max: 0.6, step: 0.02, value: 0.1 },
    ],
    compute({ standard, noise, gain = 1, spread = 0.3, change = 0.1 }) {
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
      const lines = arms.flatMap((name) => {
        const found = players.map((chain) => listen(chain, noise, name));
        // Errors spread over powers of ten, so their mean is geometric; without noise they may be 0.
        return math.linspace(1, longest, longest).map((cups) => ({
          standard: name,
          cups,
          correlation: math.mean(found.map((chain) => chain[cups - 1].correlation)),
          stale: Math.exp(math.mean(found.map((chain) => Math.log(Math.max(chain[cups - 1].stale, 1e-30))))),
        }));
      });
      return { players, lines, typical, shown: listen(players[typical], noise, standard) };
    },
    draw({ shown }, { cups, standard }, { Plot, width, narrow, colors, panel }) {
      const color = colors[looks[standard]];
      const start = messages.map((message) => ({ cups: 0, message, value: message, low: message, high: message }));
      const heard = [...start, ...shown.flatMap(({ heard: { gain, offset, noise } }, k) =>
        messages.map((message) => {
          const value = gain * message + offset;
          return { cups: k + 1, message, value, low: value - noise, high: value + noise };
        }))];
      const now = heard.filter((point) => point.cups === cups);
      const named = (value) => (value > 0 ? `+${value}` : format(value, 0));
      return panel("chain", Plot.plot({
        width,
        height: narrow ? 300 : 340,
        marginLeft: 34,
        marginRight: narrow ? 20 : 76,
        marginTop: 26,
        marginBottom: 38,
        style: { fontSize: "13px" },
        x: { domain: [0, longest], label: "cups on the way", ticks: narrow ? 4 : 7 },
        y: { domain: [-5, 5], label: null, ticks: 5, tickFormat: "+d" },
        marks: [
          Plot.text(["what the old decoder makes of the messages −2, −1, 0, 1 and 2"], { frameAnchor: "top-left", dy: -22, fill: "currentColor", lineWidth: narrow ? 26 : 80 }),
          Plot.ruleY(messages, { stroke: colors.theory, strokeDasharray: "4 4", strokeOpacity: 0.7 }),
          Plot.areaY(heard, { x: "cups", y1: "low", y2: "high", z: "message", fill: color, fillOpacity: 0.12, clip: true }),
          Plot.lineY(heard, { x: "cups", y: "value", z: "message", stroke: color, strokeWidth: 1.5, strokeOpacity: 0.5, clip: true }),
          Plot.ruleX([cups], { stroke: "currentColor" }),
          Plot.link(now, { x1: "cups", x2: "cups", y1: "low", y2: "high", stroke: color, strokeWidth: 6, strokeOpacity: 0.35, clip: true }),
          Plot.dot(now, { x: "cups", y: "value", r: 5, fill: color, clip: true }),
          ...(narrow ? [] : [Plot.text(messages, { x: longest, y: (d) => d, text: (d) => `said ${named(d)}`, textAnchor: "start", dx: 6, fill: "currentColor" })]),
        ],
      }));
    },
    drag: ({ x }) => ({ cups: Math.max(1, Math.min(longest, Math.round(x))) }),
    readout({ lines, shown }, { cups }) {
      const at = Object.fromEntries(
        lines.filter((point) => point.cups === cups).map((point) => [point.standard, point]));
      const errors = arms.map((name) => `${name} ${format(at[name].stale, 3)}`);
      return [
        `The old decoder's mean squared error after ${cups} cups: ${format(shown[cups - 1].stale, 3)} for this chain (1 is guessing).`,
        `Geometric mean of ${chains.length} chains, by who standardizes: ${errors.join(", ")}.`,
      ];
    },
  });
})();
