/* Loaded in the head of every page. */
(function (page) {
  "use strict";

  // The theme's own script comes after the first paint, and a dark page would flash.
  if (page.mode === "auto") {
    page.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }

  // Paper is white.
  addEventListener("beforeprint", () => {
    page.shown = page.theme;
    page.theme = "light";
  });
  addEventListener("afterprint", () => {
    page.theme = page.shown;
  });

  // What scrolls must be reachable with the keyboard; what fits must not stop the Tab key. The theme looks once, before
  // the math is typeset; here the article's size is watched.
  const wide = 'mjx-container[display="true"], .pst-scrollable-table-container, pre, .cell_output > .output';
  const watch = new ResizeObserver(() => {
    for (const element of document.querySelectorAll(wide)) {
      if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
      else element.removeAttribute("tabindex");
    }
  });
  addEventListener("DOMContentLoaded", () => document.querySelectorAll("article").forEach((node) => watch.observe(node)));

  // Save a page's source rather than show it. A local file can only be shown, so there it comes as a script.
  const save = (link) => {
    const name = link.href.split("/").pop();
    link.removeAttribute("target");
    link.download = name;
    if (location.protocol !== "file:") return;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      window.saveSource = (text) => {
        const file = document.createElement("a");
        file.href = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
        file.download = name;
        file.click();
      };
      const script = document.createElement("script");
      script.src = `${link.href}.js`;
      document.head.append(script);
    });
  };
  addEventListener("DOMContentLoaded", () => document.querySelectorAll(".btn-download-source-button").forEach(save));
})(document.documentElement.dataset);
