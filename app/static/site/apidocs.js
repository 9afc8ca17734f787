"use strict";
// Accessibility fixes for Swagger UI and ReDoc: screen readers and dark mode.

// Swagger UI has a dark scheme but does not follow the system's preference.
const dark = matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followScheme);
followScheme();

// Swagger UI nests the link with an operation's path in the button that opens the operation. The button does the same,
// so the link becomes text. The description of the API gets a landmark, as the operations have.
const forScreenReaders = () => ({
  wrapComponents: {
    InfoContainer: (Original, system) => (props) =>
      system.React.createElement("section", { "aria-label": "About this API" }, system.React.createElement(Original, props)),
    DeepLink: (Original, system) => (props) =>
      props.path?.includes("/")
        ? system.React.createElement("span", null, props.text)
        : system.React.createElement(Original, props),
  },
});

// Give headings levels without gaps, and a name to each select of examples.
const mend = () => {
  for (const select of document.querySelectorAll("select.examples-select-element:not([aria-label])")) select.ariaLabel = "Example";
  let before = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    before = Math.min(Number(heading.tagName[1]), before + 1);
    if (heading.ariaLevel !== String(before)) heading.ariaLevel = before;
  }
};
let waits = false;
new MutationObserver(() => {
  if (waits) return;
  waits = true;
  requestAnimationFrame(() => { waits = false; mend(); });
}).observe(document.documentElement, { childList: true, subtree: true });
