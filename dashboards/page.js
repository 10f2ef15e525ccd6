"use strict";
// Dresses a figure for the reader's screen (light or dark, stacked where it is narrow, filtered to some
// panels) and saves figures and tables. Used by the exported file and by the live app alike; it changes
// how a figure looks, not what it says, and nothing leaves the page.
window.radsweep = (() => {
  const NARROW = 700;
  // What a sheet on its side, A4 or Letter, holds between its margins at the zoom that page.css prints with.
  const PAPER = { width: 1150, height: 760 };
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  // By name: the figures as they were made; the templates and Plotly's options.
  const module = { figures: {}, templates: null, config: {} };

  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : system.matches;
  }

  const suffix = (i) => (i === 0 ? "" : String(i + 1));

  // Panels keep their height; they stand in rows of `columns`.
  function place(layout, shown, columns) {
    const { panel_height: height, gap } = layout.meta;
    const rows = Math.max(1, Math.ceil(shown.length / columns));
    const inner = rows * height + (rows - 1) * gap;
    const between = columns < 4 ? 0.07 : 0.05;
    const wide = (1 - between * (columns - 1)) / columns;
    shown.forEach((panel, i) => {
      const left = (i % columns) * (wide + between);
      const top = 1 - (Math.floor(i / columns) * (height + gap)) / inner;
      layout["xaxis" + suffix(panel)].domain = [left, Math.min(left + wide, 1)];
      layout["yaxis" + suffix(panel)].domain = [Math.max(top - height / inner, 0), top];
      Object.assign(layout.annotations[panel], { x: left, y: top });
    });
    return inner;
  }

  // Takes the panels whose title holds every word of the query, in any order.
  function filtered(figure, query) {
    const { layout } = figure;
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const title = (i) => layout.annotations[i].text.replace(/<[^>]*>/g, " ").toLowerCase();
    const all = [...Array(layout.meta.panels).keys()];
    const shown = all.filter((i) => words.every((word) => title(i).includes(word)));
    if (shown.length === all.length) return all;
    const axes = new Set(shown.map((i) => "x" + suffix(i)));
    const isLegend = (trace) => trace.x && trace.x.length === 1 && trace.x[0] === null;
    // A paradigm has one entry in the legend, at its first panel: the first that is left takes it over.
    const entries = new Set(figure.data.filter((t) => t.name && t.showlegend !== false).map((t) => t.name));
    figure.data = figure.data.filter((trace) => isLegend(trace) || axes.has(trace.xaxis || "x"));
    for (const trace of figure.data) {
      if (entries.delete(trace.name)) trace.showlegend = true;
    }
    layout.shapes = (layout.shapes || []).filter((shape) => axes.has(shape.xref.split(" ")[0]));
    layout.annotations = layout.annotations.map((note, i) =>
      i < all.length && !shown.includes(i) ? { ...note, visible: false } : note);
    // Axes of one range follow the first of them: where it is hidden, another leads.
    const leads = {};
    for (const i of all) {
      const axis = layout["yaxis" + suffix(i)];
      if (!shown.includes(i)) {
        layout["xaxis" + suffix(i)].visible = axis.visible = false;
        delete axis.matches;
        layout["xaxis" + suffix(i)].domain = axis.domain = [0, 0.001];
        continue;
      }
      const leader = axis.matches || "y" + suffix(i);
      if (leads[leader] === undefined) {
        leads[leader] = "y" + suffix(i);
        delete axis.matches;
      } else axis.matches = leads[leader];
    }
    return shown;
  }

  function dress(figure, width, templates, dark, query) {
    const dressed = JSON.parse(JSON.stringify(figure));
    const layout = dressed.layout;
    layout.template = templates[dark ? "dark" : "light"];
    layout.autosize = true;
    if (!layout.meta || !layout.meta.panels) return dressed;
    const all = layout.meta.panels;
    const shown = query ? filtered(dressed, query) : [...Array(all).keys()];
    const isNarrow = width < NARROW;
    if (!isNarrow && shown.length === all) return dressed;
    const inner = place(layout, shown, isNarrow ? 1 : Math.min(layout.meta.columns, shown.length || 1));
    const top = isNarrow ? 124 : layout.meta.top;
    const below = (isNarrow ? 58 : layout.meta.bottom) + (isNarrow && layout.sliders ? 90 : 0);
    layout.height = inner + top + below;
    if (isNarrow) layout.margin = { l: 48, r: 8, t: top, b: below };
    return dressed;
  }

  // What the reader typed over a picture of many panels: the live app may lay the picture out anew.
  const typed = {};
  function query(picture) {
    const room = picture.querySelector(".filter"), name = picture.dataset.figure;
    if (!room) return "";
    if (!room.firstChild) {
      const box = document.createElement("input"), words = room.dataset.words;
      Object.assign(box, { type: "search", placeholder: words, ariaLabel: words, value: typed[name] || "" });
      box.addEventListener("input", () => {
        typed[name] = box.value;
        draw(picture);
      });
      room.append(box);
    }
    return typed[name] || "";
  }
  // The picture's figure, as it should look now: on this screen, or on paper.
  function drawn(picture, onPaper) {
    const figure = module.figures[picture.dataset.figure];
    const width = onPaper ? PAPER.width : window.innerWidth;
    const dressed = dress(figure, width, module.templates, !onPaper && isDark(), query(picture));
    if (onPaper) Object.assign(dressed.layout, { autosize: false, width });
    picture.classList.toggle("is-tall", dressed.layout.height > PAPER.height);
    return dressed;
  }
  function draw(picture, onPaper = false) {
    const node = picture.querySelector(".js-plotly-plot") || picture.querySelector(".plot");
    const figure = drawn(picture, onPaper);
    const config = { ...module.config, responsive: !onPaper };
    if (window.innerWidth < NARROW) config.displayModeBar = false;
    return Plotly.react(node, figure.data, figure.layout, config);
  }
  function redraw(onPaper = false) {
    for (const picture of document.querySelectorAll(".picture")) {
      if (picture.querySelector(".js-plotly-plot")) draw(picture, onPaper);
    }
  }

  // The live app only: remembers a figure and gives it dressed.
  function keep(name, figure) {
    module.figures[name] = figure;
    return drawn(document.querySelector(`.picture[data-figure="${name}"]`), false);
  }

  // The exported file only: tabs, and charts drawn when first seen.
  function boot() {
    Object.assign(module, JSON.parse(document.getElementById("figures").textContent));
    const sections = [...document.querySelectorAll("main > section")];
    const links = [...document.querySelectorAll("nav a")];

    function open(name) {
      const chosen = sections.find((s) => s.dataset.page === name) || sections[0];
      for (const section of sections) section.hidden = section !== chosen;
      for (const link of links) {
        const isOpen = link.dataset.page === chosen.dataset.page;
        link.classList.toggle("is-open", isOpen);
        if (isOpen) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
      for (const picture of chosen.querySelectorAll(".picture")) draw(picture);
    }
    const here = () => open(decodeURIComponent(location.hash.slice(1)));
    links.forEach((link) => link.addEventListener("click", (event) => {
      event.preventDefault();
      history.replaceState(null, "", "#" + link.dataset.page);
      here();
      window.scrollTo(0, 0);
    }));
    window.addEventListener("hashchange", here);
    window.addEventListener("beforeprint", () => {
      if (document.body.classList.contains("prints-one")) return;
      for (const section of sections) {
        section.hidden = false;
        for (const picture of section.querySelectorAll(".picture")) draw(picture, true);
      }
    });
    window.addEventListener("afterprint", here);
    here();
  }

  system.addEventListener("change", () => redraw());
  let isWide = window.innerWidth >= NARROW;
  window.addEventListener("resize", () => {
    if (window.innerWidth >= NARROW !== isWide) { isWide = !isWide; redraw(); }
  });
  window.addEventListener("beforeprint", () => redraw(true));
  window.addEventListener("afterprint", () => {
    document.body.classList.remove("prints-one");
    for (const picture of document.querySelectorAll(".is-printed")) picture.classList.remove("is-printed");
    redraw();
  });

  // Saving: a chart as SVG or PNG (light, on white, for paper) or by the printer's PDF; a table as CSV or LaTeX.
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
  function savePicture(picture, kind) {
    if (kind === "pdf") {
      document.body.classList.add("prints-one");
      picture.classList.add("is-printed");
      window.print();
      return;
    }
    const node = picture.querySelector(".js-plotly-plot");
    const layout = { ...node.layout, template: module.templates.light, paper_bgcolor: "#fff", plot_bgcolor: "#fff" };
    const size = { width: node.clientWidth, height: node.layout.height };
    const name = picture.dataset.figure;
    Plotly.downloadImage({ data: node.data, layout }, { format: kind, filename: name, scale: kind === "png" ? 3 : 1, ...size });
  }
  document.addEventListener("click", (event) => {
    if (event.target.closest("button.theme")) {
      document.documentElement.dataset.theme = isDark() ? "light" : "dark";
      redraw();
      return;
    }
    const button = event.target.closest("button[data-save]");
    if (!button) return;
    const kind = button.dataset.save, picture = button.closest(".picture");
    if (picture) { savePicture(picture, kind); return; }
    const rows = rowsOf(button.closest(".table").querySelector("table"));
    const name = button.dataset.name;
    if (kind === "csv") save(name + ".csv", "text/csv", csv(rows));
    else save(name + ".tex", "application/x-tex", latex(rows, button.dataset.caption));
  });
  return Object.assign(module, { boot, keep, dress, csv, latex });
})();
