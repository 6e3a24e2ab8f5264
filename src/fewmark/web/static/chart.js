"use strict";
// Draws what the server sends as JSON with uPlot: points, curves, bands, and a tip that says where a number comes from.
(() => {
  const plots = new Map();
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (index) => style(`--c${index % 8}`);

  const shown = (value) => {
    if (typeof value !== "number") return "–";
    if (value !== 0 && Math.abs(value) < 1e-3) return value.toPrecision(3);
    return value.toLocaleString("en", Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 4 });
  };

  const translucent = (hex, alpha) => {
    const part = (at) => parseInt(hex.slice(at, at + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${alpha})`;
  };

  // Each series becomes four columns over the x of all: low, value, high, and measured.
  const columns = (data) => {
    const all = [...new Set(data.series.flatMap((one) => [...one.line.x, ...one.points.x]))]
      .filter((x) => typeof x === "number" && x > 0).sort((a, b) => a - b);
    const place = new Map(all.map((x, at) => [x, at]));
    const spread = (x, y) => { // what is not positive has no place on a logarithmic axis
      const out = new Array(all.length).fill(null);
      x.forEach((one, at) => { if (place.has(one)) out[place.get(one)] = y[at] > 0 || (y[at] === 0 && !data.y.log) ? y[at] : null; });
      return out;
    };
    const out = [all];
    for (const one of data.series) {
      for (const name of ["low", "value", "high"]) out.push(spread(one.line.x, one.line[name]));
      out.push(spread(one.points.x, one.points.y));
    }
    return out;
  };

  const series = (data) => {
    const out = [{}];
    data.series.forEach((one, index) => {
      const ink = colour(index);
      const edge = { stroke: "transparent", width: 0, points: { show: false }, spanGaps: true };
      out.push({ ...edge, label: `${one.name} low` });
      out.push({ label: one.name, stroke: ink, width: 2, points: { show: false }, spanGaps: true });
      out.push({ ...edge, label: `${one.name} high` });
      out.push({ label: `${one.name} measured`, stroke: ink, width: 0, paths: () => null, points: { show: true, size: 9, fill: ink, stroke: style("--surface"), width: 1.5 } });
    });
    return out;
  };

  const bands = (data) => data.series.map((_, index) => ({ series: [4 * index + 3, 4 * index + 1], fill: translucent(colour(index), 0.16) }));

  // Marks of a logarithmic axis: decades, and 2 and 5 between where there is room.
  const marks = (u, axis, low, high) => {
    const steps = Math.log10(high / low) > 3 ? [1] : Math.log10(high / low) > 1.2 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
    const out = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const step of steps) {
        const at = step * 10 ** power;
        if (at >= low * 0.999 && at <= high * 1.001) out.push(Number(at.toPrecision(6)));
      }
    }
    return out;
  };

  const axis = (spec, size) => ({
    label: spec.label, labelSize: 22, size, stroke: style("--soft"), font: "12px system-ui", labelFont: "600 13px system-ui",
    grid: { stroke: style("--grid"), width: 1 }, ticks: { stroke: style("--line"), width: 1 },
    ...(spec.log ? { splits: marks, filter: (u, splits) => splits } : {}),
    ...(spec.whole ? { incrs: [1, 2, 5, 10, 20, 50, 100] } : {}),
    values: (u, splits, at) => (at === 0 ? roomy(u, splits) : splits.map(shown)),
  });

  // Labels of the x axis that do not run into one another; what has no room keeps its grid line.
  const roomy = (u, splits) => {
    let end = -Infinity;
    return splits.map((value) => {
      const [text, at] = [shown(value), u.valToPos(value, "x")];
      const half = 4 * text.length;
      if (at - half < end + 6) return "";
      end = at + half;
      return text;
    });
  };

  const wide = (u, low, high) => {
    if (!(low > 0) || !(high > 0)) return [1, 10];
    const room = high / low < 1.5 ? 1.4 : (high / low) ** 0.05;
    return [low / room, high * room];
  };

  // The nearest point or curve to the pointer, in words.
  const nearest = (u, data) => {
    const { left, top } = u.cursor;
    let best = null;
    const look = (series, kind, xs, ys) => xs.forEach((x, at) => {
      if (typeof x !== "number" || typeof ys[at] !== "number") return;
      const [dx, dy] = [u.valToPos(x, "x") - left, u.valToPos(ys[at], "y") - top];
      const distance = Math.hypot(dx, dy) - (kind === "points" ? 6 : 0);
      if (best === null || distance < best.distance) best = { distance, series, kind, at, x: dx + left, y: dy + top };
    });
    for (const one of data.series) {
      look(one, "points", one.points.x, one.points.y);
      look(one, "line", one.line.x, one.line.value);
    }
    return best && best.distance < 40 ? best : null;
  };

  const words = (data, found) => {
    const { series: one, kind, at } = found;
    const from = one[kind];
    const y = kind === "points" ? from.y[at] : from.value[at];
    const out = [one.name, `${data.y.label}: ${shown(y)}`];
    if (kind === "line" && typeof from.low[at] === "number") {
      out.push(`${Math.round(100 * data.level)}% between ${shown(from.low[at])} and ${shown(from.high[at])}`);
    }
    const repeats = kind === "points" && from.n_rows && from.n_rows[at] > 1 ? `, median of ${from.n_rows[at]} rows` : "";
    out.push(`${from.load[at] || shown(from.x[at])} · ${from.provenance[at]}${repeats}`);
    return out;
  };

  const tips = (data) => {
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    return {
      hooks: {
        init: (u) => u.over.append(tip),
        setCursor: (u) => {
          const found = u.cursor.left >= 0 ? nearest(u, data) : null;
          tip.hidden = found === null;
          if (found === null) return;
          tip.replaceChildren(...words(data, found).map((line) => {
            const part = document.createElement("p");
            part.textContent = line;
            return part;
          }));
          const right = found.x > u.over.clientWidth / 2;
          tip.style.left = right ? "" : `${found.x + 12}px`;
          tip.style.right = right ? `${u.over.clientWidth - found.x + 12}px` : "";
          tip.style.top = `${Math.max(0, Math.min(found.y - 20, u.over.clientHeight - tip.offsetHeight))}px`;
        },
      },
    };
  };

  const limits = (data) => ({
    hooks: {
      draw: (u) => {
        for (const line of data.limits || []) {
          const at = Math.round(u.valToPos(line.value, line.axis, true));
          u.ctx.save();
          u.ctx.strokeStyle = style("--bad");
          u.ctx.setLineDash([6, 4]);
          u.ctx.lineWidth = 1.5;
          u.ctx.beginPath();
          const { left, top, width, height } = u.bbox;
          if (line.axis === "y") { u.ctx.moveTo(left, at); u.ctx.lineTo(left + width, at); }
          else { u.ctx.moveTo(at, top); u.ctx.lineTo(at, top + height); }
          u.ctx.stroke();
          u.ctx.restore();
        }
      },
    },
  });

  const legend = (place, data) => {
    const list = document.querySelector(`[data-legend="${place.dataset.chart}"]`);
    if (!list) return;
    list.replaceChildren(...data.series.map((one, index) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = `swatch s${index % 8}`;
      const name = document.createElement("span");
      name.textContent = one.name;
      item.append(swatch, name);
      return item;
    }));
  };

  const draw = (place) => {
    const source = document.getElementById(place.dataset.chart);
    if (!source) return;
    const data = JSON.parse(source.textContent);
    if (plots.has(place)) plots.get(place).destroy();
    place.replaceChildren();
    legend(place, data);
    if (!data.series.length) return;
    const height = Math.max(280, Math.min(520, Math.round(window.innerHeight * 0.55)));
    const scale = (spec) => (spec.log ? { distr: 3, range: wide } : spec.zero ? { range: (u, low, high) => [0, high > 0 ? high * 1.08 : 1] } : {});
    plots.set(place, new uPlot({
      width: place.clientWidth, height, legend: { show: false },
      cursor: { points: { show: false }, drag: { x: true, y: true, uni: 20 } },
      scales: { x: { time: false, ...scale(data.x) }, y: scale(data.y) },
      axes: [axis(data.x, 46), axis(data.y, 62)],
      series: series(data), bands: bands(data), plugins: [tips(data), limits(data)],
    }, columns(data), place));
  };

  const all = (root) => (root || document).querySelectorAll(".plot[data-chart]").forEach(draw);
  const again = () => {
    for (const [place, plot] of plots) if (!place.isConnected) { plot.destroy(); plots.delete(place); }
    all(document);
  };

  let waiting = 0;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(again, 120); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  for (const [event, isPrinting] of [["beforeprint", true], ["afterprint", false]]) {
    window.addEventListener(event, () => { document.documentElement.classList.toggle("printing", isPrinting); again(); });
  }
  document.addEventListener("htmx:afterSettle", again);
  document.addEventListener("DOMContentLoaded", () => all(document));
  if (document.readyState !== "loading") all(document);
})();
