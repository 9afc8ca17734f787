"use strict";
// What Swagger UI and ReDoc leave undone for screen readers and for dark screens.

// The reader's scheme of colours, for Swagger UI, which knows a dark one but does not ask.
const dark = matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followScheme);
followScheme();

// An operation's path is a link within the button that opens it. The button does the same: the link becomes text.
// And what is said of the whole stands in a landmark, as the operations do.
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

// Headings without gaps in their levels, and a name for each choice.
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
