/* Live figures: <bn-live figure="NAME" aria-label="what it shows"></bn-live>
 *
 * A figure is a definition passed to BNLive.register in NAME.js beside this file; README.md says how
 * to write one. Classic scripts only: browsers refuse modules and fetch on file:// pages.
 */
(function () {
  "use strict";

  // ---- arithmetic the figures share; tests compare it with bnlab -------------------------------------------

  const sum = (x) => x.reduce((total, value) => total + value, 0);
  const mean = (x) => sum(x) / x.length;
  const dot = (a, b) => a.reduce((total, value, i) => total + value * b[i], 0);

  /** Biased: divides by m, as Batch Normalization does. */
  function variance(x) {
    const mu = mean(x);
    return mean(x.map((value) => (value - mu) ** 2));
  }

  const std = (x) => Math.sqrt(variance(x));

  /** One feature over one mini-batch: Ioffe & Szegedy 2015, Algorithm 1. */
  function batchNorm(x, gamma = 1, beta = 0, eps = 1e-5) {
    const mu = mean(x);
    const varB = variance(x);
    const xHat = x.map((value) => (value - mu) / Math.sqrt(varB + eps));
    return { mean: mu, variance: varB, xHat, y: xHat.map((value) => gamma * value + beta), gamma, eps };
  }

  /** Gradients of batchNorm: takes the loss gradient dy and what batchNorm returned. */
  function batchNormBackward(dy, forward) {
    const { xHat, gamma, variance: varB, eps } = forward;
    const dbeta = sum(dy);
    const dgamma = dot(dy, xHat);
    const m = dy.length;
    const scale = gamma / Math.sqrt(varB + eps) / m;
    return { dx: dy.map((value, i) => scale * (m * value - dbeta - xHat[i] * dgamma)), dgamma, dbeta };
  }

  /** The number at fraction q of the sorted x, with linear interpolation (NumPy's default). */
  function quantile(x, q) {
    const sorted = [...x].sort((a, b) => a - b);
    const at = (sorted.length - 1) * q;
    const low = Math.floor(at);
    const high = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
  }

  const linspace = (start, stop, count) =>
    Array.from({ length: count }, (_, i) => start + ((stop - start) * i) / (count - 1));

  const sigmoid = (x) => 1 / (1 + Math.exp(-x));

  /** Counts of x in `bins` equal bins over [low, high]; what lies outside is not counted. */
  function histogram(x, low, high, bins) {
    const width = (high - low) / bins;
    const counts = Array.from({ length: bins }, (_, i) => ({ x0: low + i * width, x1: low + (i + 1) * width, count: 0 }));
    for (const value of x) {
      if (value >= low && value <= high) counts[Math.min(bins - 1, Math.floor((value - low) / width))].count += 1;
    }
    return counts;
  }

  /** Random numbers that are the same on every machine (mulberry32 and Box-Muller). */
  function random(seed) {
    let state = seed >>> 0;
    function uniform() {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = state;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    }
    function normal() {
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      return radius * Math.cos(2 * Math.PI * uniform());
    }
    return { uniform, normal, normals: (count) => Array.from({ length: count }, normal) };
  }

  const math = {
    sum, mean, dot, variance, std, batchNorm, batchNormBackward, quantile, linspace, sigmoid, histogram, random,
  };

  // ---- text ------------------------------------------------------------------------------------------------

  /** A number as text with a fixed number of digits and a true minus sign; never "-0.00". */
  function format(value, digits = 2) {
    if (!Number.isFinite(value)) return String(value);
    const text = value.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
  }

  const decimals = (step) => (String(step).split(".")[1] || "").length;

  // ---- figures ---------------------------------------------------------------------------------------------

  const figures = Object.create(null);
  let serial = 0;

  const colors = {
    plain: "var(--bn-plain)", // without Batch Normalization
    normalized: "var(--bn-normalized)", // with it
    theory: "var(--bn-theory)", // a prediction beside a measurement
    third: "var(--bn-third)",
    fourth: "var(--bn-fourth)",
    muted: "var(--bn-muted)",
  };

  function optionsOf(control) {
    return control.options.map((option) => (typeof option === "object" ? option : { value: option, label: option }));
  }

  function register(name, definition) {
    if (name in figures) throw new Error(`The live figure "${name}" is registered twice.`);
    for (const key of ["title", "controls", "compute", "draw", "readout"]) {
      if (!(key in definition)) throw new Error(`The live figure "${name}" has no ${key}.`);
    }
    const defaults = Object.fromEntries(definition.controls.map((control) => [control.id, control.value]));
    figures[name] = {
      ...definition,
      defaults,
      compute: (params = {}) => definition.compute({ ...defaults, ...params }),
    };
    document.querySelectorAll(`bn-live[figure="${name}"]`).forEach((element) => element.build());
  }

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  /** A button that moves a slider on, a step every `control.play` milliseconds, until its end or until pressed again. */
  function playButton(input, control, changed) {
    const button = make("button", { type: "button", class: "bn-live-play", "aria-label": `Play: ${control.label}` }, "▶");
    let timer = 0;
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      button.textContent = "▶";
    };
    const advance = () => {
      if (Number(input.value) >= control.max || !input.isConnected) return stop();
      input.stepUp();
      changed();
    };
    button.addEventListener("click", () => {
      if (timer) return stop();
      if (Number(input.value) >= control.max) input.value = control.min;
      button.textContent = "❚❚";
      changed();
      timer = setInterval(advance, control.play);
    });
    return button;
  }

  /** Build one control: { row, get, set, show } around a native input, its label and its value. */
  function buildControl(control, id, changed) {
    if ("options" in control) {
      const options = optionsOf(control);
      const input = make("select", { id },
        ...options.map((option, i) => make("option", { value: i }, String(option.label))));
      input.addEventListener("change", changed);
      return {
        row: make("div", { class: "bn-live-control" }, make("label", { for: id }, control.label), input),
        get: () => options[input.selectedIndex].value,
        set: (value) => { input.selectedIndex = options.findIndex((option) => option.value === value); },
        show: () => {},
      };
    }
    if (typeof control.value === "boolean") {
      const input = make("input", { type: "checkbox", id });
      input.addEventListener("change", changed);
      return {
        row: make("div", { class: "bn-live-control" }, make("label", { for: id }, input, " ", control.label)),
        get: () => input.checked,
        set: (value) => { input.checked = value; },
        show: () => {},
      };
    }
    const { min, max, step, unit = "" } = control;
    const input = make("input", { type: "range", id, min, max, step });
    const output = make("output", { for: id });
    const play = control.play ? playButton(input, control, changed) : "";
    const text = control.format || ((value) => format(value, decimals(step)) + (unit && `\u00a0${unit}`));
    input.addEventListener("input", changed);
    return {
      row: make("div", { class: `bn-live-control${play ? " bn-live-time" : ""}${control.main ? " bn-live-main" : ""}` }, make("label", { for: id }, control.label), play, input, output),
      get: () => Number(input.value),
      set: (value) => { input.value = value; },
      show: () => {
        output.textContent = text(Number(input.value));
        input.setAttribute("aria-valuetext", output.textContent);
      },
    };
  }

  class BNLiveElement extends HTMLElement {
    connectedCallback() {
      this.build();
    }

    disconnectedCallback() {
      this.resizing?.disconnect();
    }

    build() {
      const figure = figures[this.getAttribute("figure")];
      if (!figure || this.classList.contains("bn-live-ready")) return;
      this.figure = figure;
      const prefix = `bn-live-${(serial += 1)}`;
      const update = () => this.update();
      this.controls = figure.controls.map((control) =>
        buildControl(control, `${prefix}-${control.id}`, update));
      this.plot = make("div", { class: "bn-live-plot", role: "img", "aria-label": this.getAttribute("aria-label") || figure.title });
      this.readout = make("p", { class: "bn-live-readout", "aria-live": "polite" });
      const reset = make("button", { type: "button", class: "bn-live-reset" }, "Reset");
      reset.addEventListener("click", () => this.reset());
      const title = make("p", { class: "bn-live-title", id: `${prefix}-title` }, figure.title);
      this.setAttribute("role", "group");
      this.setAttribute("aria-labelledby", title.id);
      this.replaceChildren(
        title,
        this.plot,
        make("div", { class: "bn-live-controls" }, ...this.controls.map((control) => control.row), reset),
        this.readout,
      );
      this.id ||= `live-${this.getAttribute("figure")}`;
      this.classList.add("bn-live-ready");
      this.addEventListener("change", () => this.keep());
      if (figure.drag) this.listen();
      this.reset();
      this.recall();
      this.resizing = new ResizeObserver(() => this.redraw());
      this.resizing.observe(this.plot);
    }

    params() {
      return { ...this.drawn, ...Object.fromEntries(this.figure.controls.map((control, i) => [control.id, this.controls[i].get()])) };
    }

    /** Set some controls; what is no control, such as a curve drawn by hand, is kept and passed on with them. */
    set(params) {
      for (const [key, value] of Object.entries(params)) {
        const i = this.figure.controls.findIndex((control) => control.id === key);
        if (i < 0) this.drawn = { ...this.drawn, [key]: value };
        else this.controls[i].set(value);
      }
      this.update();
    }

    reset() {
      this.drawn = {};
      this.set(this.figure.defaults);
    }

    /** Dragging on the drawing: the figure's `drag` says what a place in one of its plots means. */
    listen() {
      let plot = null;
      const move = (event) => {
        const box = plot.getBoundingClientRect();
        const scale = plot.clientWidth ? plot.viewBox.baseVal.width / plot.clientWidth : 1;
        const at = { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
        const place = { panel: plot.dataset.panel, pixel: at };
        for (const axis of ["x", "y"]) place[axis] = this.scales.get(plot.dataset.panel)?.(axis)?.invert?.(at[axis]);
        const found = this.figure.drag(place, this.params(), event.type);
        if (found) this.set(found);
      };
      this.plot.addEventListener("pointerdown", (event) => {
        plot = event.target.closest("svg[data-panel]");
        if (!plot) return;
        this.plot.setPointerCapture(event.pointerId);
        event.preventDefault();
        move(event);
      });
      this.plot.addEventListener("pointermove", (event) => {
        if (!plot) return;
        plot = this.plot.querySelector(`svg[data-panel="${plot.dataset.panel}"]`) || plot; // drawn anew since
        move(event);
      });
      for (const type of ["pointerup", "pointercancel"]) {
        this.plot.addEventListener(type, () => {
          if (plot) this.keep();
          plot = null;
        });
      }
    }

    /** Keep the controls in the page's address, so that a link shows what the reader sees. */
    keep() {
      const changed = this.figure.controls.filter((control, i) => this.controls[i].get() !== control.value);
      const text = new URLSearchParams(changed.map((control) => [control.id, this.params()[control.id]])).toString();
      history.replaceState(null, "", `#${this.id}${text && `?${text}`}`);
    }

    recall() {
      const [id, text] = decodeURI(location.hash.slice(1)).split("?");
      if (id !== this.id || !text) return;
      const given = new URLSearchParams(text);
      for (const control of this.figure.controls) {
        const value = given.get(control.id);
        if (value === null) continue;
        const known = "options" in control ? optionsOf(control).map((option) => option.value) : null;
        const parsed = known ? known.find((option) => String(option) === value) : typeof control.value === "boolean" ? value === "true" : Number(value);
        if (parsed !== undefined && !Number.isNaN(parsed)) this.set({ [control.id]: parsed });
      }
      this.scrollIntoView();
    }

    update() {
      this.controls.forEach((control) => control.show());
      const params = this.params();
      this.state = [this.figure.compute(params), params];
      this.readout.textContent = [].concat(this.figure.readout(...this.state)).join("\n");
      this.drawnWidth = 0;
      if (this.waiting) return; // one drawing a frame
      this.redraw();
      this.waiting = requestAnimationFrame(() => {
        this.waiting = 0;
        this.redraw();
      });
    }

    redraw() {
      const width = Math.floor(this.plot.clientWidth);
      if (!width || width === this.drawnWidth) return;
      this.drawnWidth = width;
      this.scales = new Map();
      /** Name a plot, so that dragging on it is reported with the values of its scales. */
      const panel = (name, plot) => {
        const svg = plot.tagName === "svg" ? plot : plot.querySelector("svg");
        svg.dataset.panel = name;
        this.scales.set(name, plot.scale);
        return plot;
      };
      const drawing = this.figure.draw(...this.state, { Plot, d3, width, narrow: width < 480, colors, format, panel });
      this.plot.replaceChildren(...[].concat(drawing));
      // The picture has one name, the figure's; Plot's labels on its groups are not valid ARIA.
      this.plot.querySelectorAll("svg [aria-label]").forEach((node) => node.removeAttribute("aria-label"));
    }
  }

  window.BNLive = { register, figures, math, format, colors, data: Object.create(null) };
  customElements.define("bn-live", BNLiveElement);

  document.addEventListener("DOMContentLoaded", () => {
    for (const element of document.querySelectorAll("bn-live:not(.bn-live-ready)")) {
      element.textContent = `The live figure "${element.getAttribute("figure")}" could not be loaded.`;
      console.error(element.textContent);
    }
  });
})();
