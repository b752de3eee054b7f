/* The ledger of claims: buttons that keep one verdict, a field that keeps words, headings that sort. Without it: the whole table. */
(function () {
  "use strict";

  const table = document.querySelector("table.bn-ledger");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const words = { holds: "holds", partly: "holds in part", false: "does not hold here", open: "not settled" };
  const order = Object.keys(words);
  const kinds = new Map(order.map((kind) => [kind, { words: words[kind], count: rows.filter((row) => row.dataset.kind === kind).length }]));

  const make = (tag, settings = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), settings);
    node.append(...children);
    return node;
  };

  const asked = new URLSearchParams(location.hash.slice(1));
  const state = { verdict: kinds.has(asked.get("verdict")) ? asked.get("verdict") : "", words: asked.get("words") || "" };
  const said = make("span", { role: "status" });
  const buttons = [["", `all ${rows.length}`], ...[...kinds].map(([kind, { words, count }]) => [kind, `${words} ${count}`])].map(([kind, text]) =>
    make("button", { type: "button", value: kind, onclick: () => show({ verdict: kind }) }, text),
  );
  const field = make("input", { type: "search", placeholder: "such as gradient", value: state.words, oninput: () => show({ words: field.value }) });
  const tools = make("div", { className: "bn-ledger-tools" }, ...buttons, make("label", {}, "Words: ", field), said);

  function show(change) {
    Object.assign(state, change);
    const typed = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = (state.verdict && row.dataset.kind !== state.verdict) || !typed.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    buttons.forEach((button) => button.setAttribute("aria-pressed", button.value === state.verdict));
    said.textContent = `${shown} of ${rows.length} claims`;
    const kept = new URLSearchParams(Object.entries(state).filter(([, value]) => value));
    history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname + location.search);
  }

  const keys = [(row) => row.cells[0].textContent, (row) => order.indexOf(row.dataset.kind), null, (row) => Number(row.dataset.chapter)];
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (!keys[i]) return;
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = new Map(rows.map((row) => [row, keys[i](row)]));
      const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));
      rows.sort((a, b) => (down ? -1 : 1) * compare(value.get(a), value.get(b)));
      body.append(...rows);
    };
    const arrow = i === 3 ? " (by chapter)" : "";
    head.replaceChildren(make("button", { type: "button", onclick: sort, title: "Sort" }, head.textContent + arrow + " ↕"));
  });

  table.closest(".cell_output").before(tools);
  if (state.verdict || state.words) show({});
  else show({ verdict: "" });
})();
