/* Loaded in the head: the theme's own script comes after the first paint, and a dark page would flash. */
(function (page) {
  "use strict";
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
})(document.documentElement.dataset);
