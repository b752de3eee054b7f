/* Questions that a reader answers before reading on. Each <bn-predict> holds a question, choices or the ends of a scale, and a
 * folded answer. The guess is kept in this browser and nowhere else; the page of all questions shows how many were right. */
(function () {
  "use strict";

  const keyOf = (page, id) => `bnlab:${page}#${id}`;
  const here = location.pathname.split("/").pop() || "index.html";

  const remembered = (key) => {
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch {
      return null;
    }
  };
  const remember = (key, value) => {
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, JSON.stringify(value));
    } catch {
      // Without storage the answer is shown all the same, and forgotten.
    }
  };

  const make = (tag, settings = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), settings);
    node.append(...children);
    return node;
  };

  const digits = (value) => (Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(2))));

  function choices(box, list) {
    const name = `${box.id}-choice`;
    const items = [...list.children];
    items.forEach((item, i) => {
      item.setAttribute("role", "none"); // its list is a group of radio buttons
      const label = make("label", {}, make("input", { type: "radio", name, value: String(i) }));
      const text = make("span");
      const inner = item.querySelector(":scope > p") || item;
      text.append(...inner.childNodes);
      label.append(text);
      item.replaceChildren(label);
      item.setAttribute("role", "none"); // the list is a group of buttons, no list any more
    });
    list.setAttribute("role", "radiogroup");
    list.setAttribute("aria-label", "Your guess");
    return {
      field: list,
      read: () => list.querySelector("input:checked")?.value ?? null,
      write: (value) => list.querySelectorAll("input").forEach((input) => (input.checked = input.value === value)),
      right: (value) => items[Number(value)].classList.contains("bn-right"),
      mark: (on) => items.forEach((item) => item.classList.toggle("bn-shown", on && item.classList.contains("bn-right"))),
      lock: (on) => list.querySelectorAll("input").forEach((input) => (input.disabled = on)),
    };
  }

  function number(box, answer) {
    const { low, high, log, unit = "", within } = box.dataset;
    const [from, to] = log ? [Math.log(+low), Math.log(+high)] : [+low, +high];
    const target = Number(answer.querySelector(".pasted-text").textContent.replace(/[,\s]/g, "").replace("−", "-"));
    const input = make("input", { type: "range", min: "0", max: "100", value: "50", id: `${box.id}-number` });
    const shown = make("output", { htmlFor: input.id });
    const value = () => {
      const t = from + ((to - from) * Number(input.value)) / 100;
      return log ? Math.exp(t) : t;
    };
    let touched = false;
    const show = () => (shown.textContent = touched ? `${digits(value())} ${unit}`.trim() : "move the slider");
    const listen = () => {
      touched = true;
      show();
    };
    input.addEventListener("input", listen);
    input.addEventListener("change", listen);
    show();
    return {
      field: make("div", { className: "bn-number" }, make("label", { htmlFor: input.id, textContent: "Your guess" }), input, shown),
      read: () => (touched ? input.value : null),
      write: (kept) => {
        touched = kept !== null;
        input.value = kept ?? "50";
        show();
      },
      right: () => {
        const factor = 1 + Number(within);
        return log ? value() / target < factor && target / value() < factor : Math.abs(value() - target) <= Math.max(Math.abs(target) * within, (to - from) / 50);
      },
      mark: () => {},
      lock: (on) => (input.disabled = on),
    };
  }

  class Predict extends HTMLElement {
    connectedCallback() {
      if (this.querySelector(".bn-commit")) return;
      const answer = this.querySelector("details.bn-answer");
      const list = this.querySelector(".bn-choices");
      const guess = list ? choices(this, list) : number(this, answer);
      if (!list) answer.before(guess.field);
      const verdict = make("p", { className: "bn-said", role: "status" });
      const commit = make("button", { type: "button", className: "bn-commit", textContent: this.dataset.kind === "predict" ? "Commit and see" : "Check" });
      const key = keyOf(here, this.id);
      answer.before(commit, verdict);
      answer.hidden = true;

      const reveal = (value, open) => {
        const right = guess.right(value);
        guess.lock(true);
        guess.mark(true);
        commit.textContent = "Change my answer";
        verdict.textContent = right ? "You had it." : this.dataset.kind === "predict" ? "Not this time. Here is what happens:" : "Not quite:";
        verdict.className = `bn-said ${right ? "bn-hit" : "bn-miss"}`;
        answer.hidden = false;
        answer.open = open;
        return right;
      };
      commit.addEventListener("click", () => {
        if (!answer.hidden) {
          guess.lock(false);
          guess.mark(false);
          guess.write(null);
          remember(key, null);
          answer.hidden = true;
          verdict.textContent = "";
          commit.textContent = this.dataset.kind === "predict" ? "Commit and see" : "Check";
          return;
        }
        const value = guess.read();
        if (value === null) {
          verdict.textContent = "Choose first: a guess costs nothing, and a wrong one teaches most.";
          return;
        }
        remember(key, { value, right: reveal(value, true) });
      });
      const kept = remembered(key);
      if (kept) {
        guess.write(kept.value);
        reveal(kept.value, true);
      }
    }
  }
  customElements.define("bn-predict", Predict);

  // ---- the page of all questions

  addEventListener("DOMContentLoaded", () => {
    for (const page of document.querySelectorAll(".bn-predictions")) {
      const said = { predict: [0, 0, 0], "check-yourself": [0, 0, 0] };
      for (const item of page.querySelectorAll("li[class^='bn-asked-']")) {
        const kind = item.className.replace("bn-asked-", "");
        const link = item.querySelector("a");
        const [file, id] = link.getAttribute("href").split("#");
        const kept = remembered(keyOf(file, id));
        said[kind][0] += 1;
        if (!kept) continue;
        said[kind][1] += 1;
        said[kind][2] += kept.right;
        item.classList.add(kept.right ? "bn-hit" : "bn-miss");
        link.before(make("strong", { textContent: kept.right ? "Right. " : "To look at again. " }));
      }
      const line = ([all, answered, right], what) => (answered ? `You ${what} ${right} of ${answered} rightly (there are ${all}).` : "");
      const text = [line(said.predict, "predicted"), line(said["check-yourself"], "answered")].filter(Boolean).join(" ");
      const forget = make("button", { type: "button", className: "bn-commit", textContent: "Forget my answers" });
      forget.addEventListener("click", () => {
        Object.keys(localStorage).filter((key) => key.startsWith("bnlab:")).forEach((key) => localStorage.removeItem(key));
        location.reload();
      });
      page.prepend(make("p", { className: "bn-sum", textContent: text || "You have answered none yet." }), ...(text ? [forget] : []));
    }
  });
})();
