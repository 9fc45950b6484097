// The report's own behaviour: theme, the stages' slider, copy buttons. Charts are in chart.js.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");

  // Theme: the system's, until the reader chooses.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.querySelector("[data-theme-toggle]");
  const remember = (value) => { try { localStorage.setItem("ganwright-theme", value); } catch { /* no storage here */ } };
  const recall = () => { try { return localStorage.getItem("ganwright-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const show = () => {
    toggle.textContent = isDark() ? "Light theme" : "Dark theme";
    document.dispatchEvent(new Event("themechange"));
  };
  const chosen = recall();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    show();
  });
  dark.addEventListener("change", show);
  show();

  // Stages: one at a time, by slider.
  for (const box of document.querySelectorAll("[data-stages]")) {
    const items = [...box.querySelectorAll("[data-list] > li")];
    if (items.length < 2) continue;
    const slider = box.querySelector("[data-slider]");
    const play = box.querySelector("[data-play]");
    const where = box.querySelector("[data-where]");
    let timer = 0;
    const go = (index) => {
      items.forEach((item, i) => { item.hidden = i !== index; });
      slider.value = String(index);
      slider.setAttribute("aria-valuetext", items[index].dataset.caption);
      where.textContent = items[index].dataset.caption;
    };
    const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
    slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
    play.addEventListener("click", () => {
      if (timer) { stop(); return; }
      play.textContent = "Pause";
      if (Number(slider.value) === items.length - 1) go(0);
      timer = setInterval(() => {
        const next = Number(slider.value) + 1;
        if (next >= items.length) stop(); else go(next);
      }, Math.max(150, Math.min(600, 6000 / items.length)));
    });
    box.classList.add("one-at-a-time");
    box.querySelector("[data-controls]").hidden = false;
    go(items.length - 1);
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) break;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.previousElementSibling.textContent);
        button.textContent = "Copied";
      } catch { button.textContent = "Select and copy"; }
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }
})();
