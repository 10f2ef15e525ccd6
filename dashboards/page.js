"use strict";
// Dresses a figure for the reader's screen: light or dark, and one panel per row where it is narrow.
// Used by the exported file and by the live app alike; it changes how a figure looks, not what it says.
window.radsweep = (() => {
  const NARROW = 700;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function stacked(layout) {
    const { panels, panel_height: height, gap } = layout.meta;
    const inner = panels * height + (panels - 1) * gap;
    for (let i = 0; i < panels; i++) {
      const number = i === 0 ? "" : String(i + 1);
      const top = 1 - (i * (height + gap)) / inner;
      layout["xaxis" + number].domain = [0, 1];
      layout["yaxis" + number].domain = [Math.max(top - height / inner, 0), top];
      Object.assign(layout.annotations[i], { x: 0, y: top });
    }
    const top = 124;
    layout.height = inner + top + 58;
    layout.margin = { l: 48, r: 8, t: top, b: 58 };
  }

  function dress(figure, width, templates, isDark) {
    const dressed = JSON.parse(JSON.stringify(figure));
    const layout = dressed.layout;
    layout.template = templates[isDark ? "dark" : "light"];
    layout.autosize = true;
    if (width < NARROW && layout.meta && layout.meta.panels) stacked(layout);
    return dressed;
  }

  // The exported file only: tabs, and charts drawn when first seen.
  function boot() {
    const { figures, templates, config } = JSON.parse(document.getElementById("figures").textContent);
    const sections = [...document.querySelectorAll("main > section")];
    const links = [...document.querySelectorAll("nav a")];

    function draw(section, isDark) {
      for (const node of section.querySelectorAll(".plot")) {
        const figure = dress(figures[node.dataset.figure], node.clientWidth, templates, isDark);
        const bar = node.clientWidth < NARROW ? { displayModeBar: false } : {};
        Plotly.react(node, figure.data, figure.layout, { ...config, ...bar });
      }
    }
    function open(name) {
      const chosen = sections.find((s) => s.dataset.page === name) || sections[0];
      for (const section of sections) section.hidden = section !== chosen;
      for (const link of links) {
        const isOpen = link.dataset.page === chosen.dataset.page;
        link.classList.toggle("is-open", isOpen);
        if (isOpen) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
      draw(chosen, dark.matches);
    }
    const here = () => open(decodeURIComponent(location.hash.slice(1)));
    links.forEach((link) => link.addEventListener("click", (event) => {
      event.preventDefault();
      history.replaceState(null, "", "#" + link.dataset.page);
      here();
      window.scrollTo(0, 0);
    }));
    window.addEventListener("hashchange", here);
    dark.addEventListener("change", here);
    let wide = window.innerWidth >= NARROW;
    window.addEventListener("resize", () => {
      if (window.innerWidth >= NARROW !== wide) { wide = !wide; here(); }
    });
    window.addEventListener("beforeprint", () => {
      for (const section of sections) { section.hidden = false; draw(section, false); }
    });
    window.addEventListener("afterprint", here);
    here();
  }
  return { boot, dress, dark };
})();
