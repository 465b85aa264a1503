// Values beside the pointer, and by arrow keys. Without script, each mark's <title> still says them.
"use strict";
(() => {
  const tip = document.getElementById("tip");
  const REACH_PX = 28;
  let shown = null;

  const hide = () => {
    if (shown) shown.classList.remove("near");
    shown = null;
    tip.hidden = true;
  };
  const show = (mark) => {
    if (mark === shown) return;
    hide();
    shown = mark;
    mark.classList.add("near");
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const at = mark.getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const left = Math.min(Math.max(8, at.left + at.width / 2 - tip.offsetWidth / 2), wide - tip.offsetWidth - 8);
    const above = at.top - tip.offsetHeight - 8;
    tip.style.left = `${left + window.scrollX}px`;
    tip.style.top = `${(above < 4 ? at.bottom + 8 : above) + window.scrollY}px`;
  };

  for (const chart of document.querySelectorAll(".chart")) {
    const marks = [...chart.querySelectorAll(".mark")].filter((m) => m.querySelector("title"));
    if (!marks.length) continue;
    for (const mark of marks) {
      const title = mark.querySelector("title");
      mark.dataset.tip = title.textContent;
      title.remove();
    }
    const centre = (m) => {
      const r = m.getBoundingClientRect();
      return [r.left + r.width / 2, r.top + r.height / 2];
    };
    const nearest = (x, y) => {
      let best = null, least = REACH_PX;
      for (const m of marks) {
        const [mx, my] = centre(m);
        const far = Math.hypot(mx - x, my - y);
        if (far <= least) [best, least] = [m, far];
      }
      return best;
    };
    const seen = (e) => {
      const mark = nearest(e.clientX, e.clientY);
      if (mark) show(mark); else hide();
    };
    chart.addEventListener("pointermove", seen);
    chart.addEventListener("pointerdown", seen);
    chart.addEventListener("pointerleave", (e) => { if (e.pointerType === "mouse") hide(); });
    const svg = chart.querySelector("svg");
    chart.tabIndex = 0;
    chart.setAttribute("role", "group");
    chart.setAttribute("aria-label", `${svg.getAttribute("aria-label")} Arrow keys read the values.`);
    let at = -1;
    chart.addEventListener("keydown", (e) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
      if (e.key === "Escape") hide();
      if (!step) return;
      e.preventDefault();
      at = (at + step + marks.length) % marks.length;
      show(marks[at]);
    });
    chart.addEventListener("blur", hide);
  }
})();
