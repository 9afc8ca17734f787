"use strict";
// Keeps the live part of a page up to date. While the page is visible, the script fetches that part every few seconds,
// and keeps the focus, checked boxes, open details and scroll positions. Without the script, the pages still work.
(() => {
  const live = document.getElementById("live");
  if (!live) return;
  const pause = document.getElementById("pause");
  const updates = document.getElementById("updates");
  const every = Number(live.dataset.every) * 1000;
  let timer, shown, fresh = new Date(), busy = false, paused = false;

  // As the server writes it: 09:00:00 +09:00. The browser has "09:00:00 GMT+0900 (…)".
  const clock = (at) => at.toTimeString().replace(/^(\S+) GMT(...)(..).*$/, "$1 $2:$3");
  const say = (text) => { if (updates.textContent !== text) updates.textContent = text; };
  const name = (element) => element.id ? `#${CSS.escape(element.id)}`
    : element.name ? `[name="${element.name}"][value="${CSS.escape(element.value)}"]`
    : element.getAttribute("href") ? `a[href="${CSS.escape(element.getAttribute("href"))}"]` : null;
  const selecting = () => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && live.contains(selection.anchorNode);
  };

  function replace(html) {
    const focused = live.contains(document.activeElement) ? name(document.activeElement) : null;
    const ticked = [...live.querySelectorAll("input[type=checkbox]:checked")].map(name);
    const details = new Map([...live.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
    const scrolled = [...live.querySelectorAll(".ops-scroll[id]")].map((one) => [one.id, one.scrollLeft, one.scrollTop]);
    const template = document.createElement("template");
    template.innerHTML = html;
    live.replaceChildren(template.content);
    for (const selector of ticked) { const box = live.querySelector(selector); if (box) box.checked = true; }
    for (const [id, open] of details) { const one = document.getElementById(id); if (one) one.open = open; }
    for (const [id, left, top] of scrolled) { const one = document.getElementById(id); if (one) { one.scrollLeft = left; one.scrollTop = top; } }
    if (focused) live.querySelector(focused)?.focus({ preventScroll: true });
    count();
  }

  async function update() {
    clearTimeout(timer);
    if (busy || paused || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Fragment": "1" }, redirect: "manual", signal: AbortSignal.timeout(20000) });
      if (answer.type === "opaqueredirect" || answer.status === 403) { say("Not up to date: sign in again."); return; }
      if (!answer.ok) throw new Error(answer.status);
      const html = await answer.text();
      if (!paused && !selecting() && html !== shown) { shown = html; replace(html); }
      fresh = new Date();
      say("");
    } catch {
      say(`Not up to date since ${clock(fresh)}: no answer from the server.`);
    } finally {
      busy = false;
      timer = setTimeout(update, every);
    }
  }

  function count() {
    const boxes = [...live.querySelectorAll("input[name=run]")];
    const ticked = boxes.filter((box) => box.checked).length;
    const output = document.getElementById("selected");
    if (output) output.textContent = `${ticked} selected`;
    const all = document.getElementById("select-all");
    if (all) { all.checked = ticked > 0 && ticked === boxes.length; all.indeterminate = ticked > 0 && ticked < boxes.length; }
  }

  live.addEventListener("change", (event) => {
    if (event.target.id === "select-all") for (const box of live.querySelectorAll("input[name=run]")) box.checked = event.target.checked;
    count();
  });
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    say("");
    if (!paused) update();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });
  count();
  timer = setTimeout(update, every);
})();
