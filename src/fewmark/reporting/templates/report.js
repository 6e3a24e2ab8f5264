"use strict";
(() => {
  let data = {};
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const touch = window.matchMedia("(pointer: coarse)");
  const symbols = ["circle", "square", "diamond", "triangle-up", "triangle-down", "star", "hexagon", "pentagon"];
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const colours = 8;

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Plotly reads a little HTML, and TeX between dollars, in names and texts: nothing of ours may be taken for it.
  const escape = (text) =>
    String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\$/g, "&#36;").replace(/\s+/g, " ");

  const number = (value) => {
    if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
    if (value !== 0 && Math.abs(value) < 1e-3) return value.toPrecision(3);
    return value.toLocaleString("en", Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 4 });
  };

  const translucent = (colour, alpha) => {
    const part = (i) => parseInt(colour.slice(i, i + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${alpha})`;
  };

  const interval = (series, i) => {
    const low = series.low && series.low[i];
    const high = series.high && series.high[i];
    return typeof low === "number" && typeof high === "number" ? [low, high] : null;
  };

  const hover = (chart, series) =>
    series.x.map((x, i) => {
      const lines = [
        `<b>${escape(series.name)}</b>`,
        `${escape(chart.x.label)}: ${escape(number(x))}`,
        `${escape(chart.y.label)}: ${escape(number(series.y[i]))}`,
      ];
      const ends = interval(series, i);
      if (ends) lines.push(`interval: ${number(ends[0])} to ${number(ends[1])}`);
      if (series.labels && series.labels[i]) lines.push(escape(series.labels[i]));
      return lines.join("<br>");
    });

  const whiskers = (series, colour) => ({
    type: "data",
    symmetric: false,
    array: series.y.map((y, i) => { const ends = interval(series, i); return ends ? ends[1] - y : 0; }),
    arrayminus: series.y.map((y, i) => { const ends = interval(series, i); return ends ? y - ends[0] : 0; }),
    color: translucent(colour, 0.45),
    thickness: 1,
    width: 0,
  });

  const band = (series, look) => {
    const at = series.x.map((_, i) => i).filter((i) => interval(series, i));
    const back = [...at].reverse();
    return {
      x: [...at.map((i) => series.x[i]), ...back.map((i) => series.x[i])],
      y: [...at.map((i) => series.high[i]), ...back.map((i) => series.low[i])],
      mode: "lines",
      fill: "toself",
      fillcolor: translucent(look.colour, 0.13),
      line: { width: 0, color: look.colour },
      hoverinfo: "skip",
      showlegend: false,
      legendgroup: look.group,
    };
  };

  const across = (chart, x) => (chart.x.type === "category" ? x.map(escape) : x);

  const traces = (chart) => {
    const names = [...new Set(chart.series.map((series) => series.name))];
    const labelled = new Set();
    const out = [];
    for (const series of chart.series) {
      const place = names.indexOf(series.name);
      const look = {
        group: `g${place}`,
        colour: style(`--c${place % colours}`),
        symbol: symbols[place % symbols.length],
        dash: dashes[Math.floor(place / colours) % dashes.length],
      };
      const ranged = Boolean(series.low && series.high);
      if (ranged && (series.style === "line" || series.style === "band")) out.push(band(series, look));
      if (series.style === "band") continue;
      const trace = {
        x: across(chart, series.x),
        y: series.y,
        name: escape(series.name),
        legendgroup: look.group,
        showlegend: !labelled.has(series.name),
        text: hover(chart, series),
        hoverinfo: "text",
      };
      labelled.add(series.name);
      if (series.style === "bars") {
        Object.assign(trace, { type: "bar", textposition: "none", marker: { color: look.colour } });
      } else if (series.style === "highlight") {
        const marker = { color: style("--mark"), symbol: "star", size: 18, line: { width: 1.5, color: style("--surface") } };
        Object.assign(trace, { mode: "markers", marker });
      } else if (series.style === "line") {
        Object.assign(trace, { mode: "lines", line: { color: look.colour, width: chart.series.length > 24 ? 1 : 2, dash: look.dash } });
      } else {
        const many = series.x.length > 400;
        Object.assign(trace, {
          mode: "markers",
          marker: {
            color: many ? translucent(look.colour, 0.55) : look.colour,
            symbol: look.symbol,
            size: many ? 6 : 11,
            line: { width: many ? 0 : 1, color: style("--surface") },
          },
        });
      }
      if (ranged && series.style !== "line") trace.error_y = whiskers(series, look.colour);
      out.push(trace);
    }
    if (chart.diagonal) out.push(diagonal(chart));
    return out;
  };

  const diagonal = (chart) => {
    const all = chart.series.flatMap((series) => [...series.x, ...series.y]).filter((v) => typeof v === "number" && v > 0);
    const ends = [all.reduce((a, b) => Math.min(a, b), Infinity), all.reduce((a, b) => Math.max(a, b), 0)];
    return {
      x: ends, y: ends, mode: "lines", name: "equal", hoverinfo: "skip",
      line: { color: style("--soft"), width: 1, dash: "dash" },
    };
  };

  const axis = (spec, ticks) => {
    const out = {
      title: { text: escape(spec.label), standoff: 10 },
      type: spec.type,
      gridcolor: style("--grid"),
      linecolor: style("--soft"),
      zerolinecolor: style("--line"),
      automargin: true,
      fixedrange: touch.matches,
    };
    if (spec.type === "category") {
      const names = [...new Set(spec.values)];
      Object.assign(out, { tickmode: "array", tickvals: names.map(escape), ticktext: names.map((name) => escape(name.length > 40 ? `${name.slice(0, 39)}…` : name)) });
    }
    if (spec.type === "linear") out.rangemode = "tozero";
    if (ticks) Object.assign(out, { tickmode: "array", tickvals: ticks, ticktext: ticks.map(number) });
    else if (spec.type === "log") out.tickformat = "~g";
    return out;
  };

  const fewValues = (chart) => {
    if (chart.x.type !== "log") return null;
    const points = chart.series.filter((series) => series.style === "points");
    for (const among of [chart.series, points]) {
      const values = [...new Set(among.flatMap((series) => series.x))];
      if (values.length > 0 && values.length <= 10) return values.sort((a, b) => a - b);
    }
    return null;
  };

  const decades = (chart, name) => {
    const all = chart.series.flatMap((series) => series[name]).filter((v) => typeof v === "number" && v > 0);
    const low = all.reduce((a, b) => Math.min(a, b), Infinity);
    const high = all.reduce((a, b) => Math.max(a, b), 0);
    return all.length ? Math.log10(high / low) : 0;
  };

  let isPrinting = false;
  const paper = { wide: { width: 660, height: 320 }, square: { width: 500, height: 460 } };
  const layout = (chart) => {
    // labels at every digit overlap where there are several decades
    const spaced = (made, name) => {
      if (made.type !== "log" || made.tickvals) return made;
      const span = decades(chart, name);
      if (span > 2.2) made.dtick = 1;
      else if (span > 0.7) made.dtick = "D2";
      return made;
    };
    const y = spaced(axis(chart.y), "y");
    const x = spaced(axis({ ...chart.x, values: chart.series.flatMap((one) => one.x.map(String)) }, chart.diagonal ? null : fewValues(chart)), "x");
    if (chart.diagonal && y.dtick) x.dtick = y.dtick;
    const legends = new Set(chart.series.map((series) => series.name)).size + (chart.diagonal ? 1 : 0);
    return {
      ...(isPrinting ? paper[chart.diagonal ? "square" : "wide"] : {}),
      xaxis: x,
      yaxis: y,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: style("--ink") },
      margin: { l: 56, r: 12, t: 12, b: 48 },
      showlegend: legends > 1,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
      hovermode: "closest",
      hoverlabel: { bgcolor: style("--surface"), bordercolor: style("--soft"), font: { color: style("--ink") }, align: "left" },
      dragmode: touch.matches ? false : "zoom",
      bargap: 0.35,
    };
  };

  const config = {
    responsive: true,
    displayModeBar: false,
  };

  const cell = (row, kind, content) => {
    const item = document.createElement(kind);
    item.textContent = number(content);
    if (typeof content === "number") item.className = "number";
    if (kind === "th") item.scope = "col";
    row.append(item);
  };

  const table = (chart) => {
    const out = document.createElement("table");
    out.createCaption().textContent = chart.title;
    const ranged = chart.series.some((series) => series.low || series.high);
    const noted = chart.series.some((series) => series.labels);
    const head = out.createTHead().insertRow();
    const names = ["Series", chart.x.label, chart.y.label, ...(ranged ? ["Low", "High"] : []), ...(noted ? ["Note"] : [])];
    for (const name of names) cell(head, "th", name);
    const body = out.createTBody();
    for (const series of chart.series) {
      series.x.forEach((x, i) => {
        const ends = [series.low ? series.low[i] : null, series.high ? series.high[i] : null];
        const note = series.labels ? series.labels[i] : null;
        const row = body.insertRow();
        for (const value of [series.name, x, series.y[i], ...(ranged ? ends : []), ...(noted ? [note] : [])]) cell(row, "td", value);
      });
    }
    return out;
  };

  const drawn = [];
  const start = (figure) => {
    const charts = data[figure.dataset.chart];
    const plot = figure.querySelector(".plot");
    const details = figure.querySelector("details");
    const select = figure.querySelector("select[data-choice]");
    const filter = figure.querySelector("input[type=search]");
    const sort = figure.querySelector("select[data-sort]");
    const pickers = [...figure.querySelectorAll("select[data-pick]")];
    const tabs = [...figure.querySelectorAll("button[data-metric]")];
    const count = figure.querySelector("[data-count]");
    const chosen = () => charts[select && select.value !== "" ? Number(select.value) : 0];
    const measured = (chart) => chart.series.filter((one) => one.style === "points").flatMap((one) => one.y);
    const orders = {
      name: (a, b) => a.title.localeCompare(b.title, "en", { numeric: true }),
      best: (a, b) => Math.max(0, ...measured(b)) - Math.max(0, ...measured(a)),
      most: (a, b) => measured(b).length - measured(a).length,
    };

    const fill = () => {
      if (details.open) details.querySelector("div").replaceChildren(table(chosen()));
    };
    const draw = () => {
      const chart = chosen();
      figure.querySelector("figcaption").textContent = chart.title;
      plot.setAttribute("aria-label", `Chart: ${chart.title}. ${chart.y.label} against ${chart.x.label}. Its values follow as a table.`);
      plot.classList.toggle("square", chart.diagonal);
      Plotly.react(plot, traces(chart), layout(chart), { ...config, responsive: !isPrinting });
      fill();
    };
    // The charts that everything chosen lets through; the one shown stays, or its namesake of another metric.
    const list = (first) => {
      const metric = tabs.find((tab) => tab.getAttribute("aria-pressed") === "true");
      const words = filter ? filter.value.toLowerCase().split(/\s+/) : [];
      const ofMetric = charts.filter((chart) => !metric || (chart.facets || {}).Metric === metric.dataset.metric);
      const found = ofMetric.filter((chart) =>
        pickers.every((one) => !one.value || (chart.facets || {})[one.dataset.pick] === one.value) &&
        words.every((word) => chart.title.toLowerCase().includes(word)));
      if (sort && (sort.value !== "name" || tabs.length)) found.sort(orders[sort.value]);
      const before = first === undefined ? chosen() : charts[first];
      select.replaceChildren(...found.map((chart) => new Option(chart.title, charts.indexOf(chart))));
      const kept = found.find((chart) => chart === before) || found.find((chart) => chart.title === before.title) || found[0];
      if (kept) select.value = charts.indexOf(kept);
      else select.append(new Option("none fits", charts.indexOf(before)));
      count.textContent = `(${found.length} of ${ofMetric.length})`;
      draw();
    };
    const step = (by) => {
      select.selectedIndex = (select.selectedIndex + by + select.length) % select.length;
      draw();
    };

    details.addEventListener("toggle", fill);
    dark.addEventListener("change", draw);
    drawn.push(draw);
    if (!select) { draw(); return; }
    select.addEventListener("change", draw);
    for (const button of figure.querySelectorAll("button[data-step]")) {
      button.addEventListener("click", () => step(Number(button.dataset.step)));
    }
    for (const one of pickers) one.addEventListener("change", () => list());
    if (sort) sort.addEventListener("change", () => list());
    if (filter) filter.addEventListener("input", () => list());
    for (const tab of tabs) {
      tab.addEventListener("click", () => {
        for (const other of tabs) other.setAttribute("aria-pressed", String(other === tab));
        list();
      });
    }
    list(Number(select.dataset.first));
  };

  // On paper the figures are as wide as it is, dark on light.
  window.addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    isPrinting = true;
    for (const draw of drawn) draw();
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    isPrinting = false;
    for (const draw of drawn) draw();
  });

  // One figure a turn, so that the page answers while it draws.
  const queue = [...document.querySelectorAll("figure[data-chart]")];
  const next = () => {
    const figure = queue.shift();
    if (!figure) return;
    start(figure);
    setTimeout(next, 0);
  };
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  };
  const island = document.getElementById("report-data");
  if (island.type === "application/gzip") {
    unpack(island.textContent).then((found) => { data = found; next(); });
  } else {
    data = JSON.parse(island.textContent);
    next();
  }
})();
