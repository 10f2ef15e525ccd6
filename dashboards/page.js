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
    const below = layout.sliders ? 148 : 58;
    layout.height = inner + top + below;
    layout.margin = { l: 48, r: 8, t: top, b: below };
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
    module.templates = templates;
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
  // Saving: a chart as SVG or PNG (light, on white, for paper), a table as CSV or LaTeX. Nothing leaves the page.
  function save(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  const rowsOf = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
  function csv(rows) {
    // A leading = or @ would be run as a formula by a spreadsheet.
    const cell = (text) => '"' + text.replace(/^([=@])/, "'$1").replace(/"/g, '""') + '"';
    return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  }
  function latex(rows, caption) {
    const marks = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
    const plain = (text) => text.replace(/[\\~^&%$#_{}]/g, (c) => marks[c] || "\\" + c).replace(/\s*\n\s*/g, " ");
    const line = (row) => "  " + row.map(plain).join(" & ") + " \\\\";
    const [head, ...body] = rows;
    return ["\\begin{table}", "\\caption{" + plain(caption) + "}", "\\begin{tabular}{" + "l".repeat(head.length) + "}",
      "\\hline", line(head), "\\hline", ...body.map(line), "\\hline", "\\end{tabular}", "\\end{table}", ""].join("\n");
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-save]");
    if (!button) return;
    const kind = button.dataset.save, name = button.dataset.name;
    if (kind === "svg" || kind === "png") {
      const node = button.closest(".picture").querySelector(".js-plotly-plot");
      const layout = { ...node.layout, template: module.templates.light, paper_bgcolor: "#fff", plot_bgcolor: "#fff" };
      const size = { width: node.clientWidth, height: node.layout.height };
      Plotly.downloadImage({ data: node.data, layout }, { format: kind, filename: name, scale: kind === "png" ? 3 : 1, ...size });
      return;
    }
    const table = button.closest(".table").querySelector("table");
    const rows = rowsOf(table);
    if (kind === "csv") save(name + ".csv", "text/csv", csv(rows));
    else save(name + ".tex", "application/x-tex", latex(rows, button.dataset.caption));
  });
  const module = { boot, dress, dark, csv, latex };
  return module;
})();
