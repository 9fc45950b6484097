// The one chart component: turns <figure data-chart> with a JSON spec (charts.py) into an interactive uPlot chart.
window.GanwrightCharts = (() => {
  "use strict";
  const mounted = new Set();
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function format(value) {
    if (value == null || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e7 || size < 1e-3)) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
    return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 6 : 4 });
  }

  // Marks, reference lines and whiskers, drawn over the curves.
  function overlays(spec) {
    return (u) => {
      const { ctx, bbox } = u;
      const px = devicePixelRatio;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      ctx.lineWidth = px;
      ctx.strokeStyle = css("--muted");
      const line = (x0, y0, x1, y1, dash) => {
        ctx.setLineDash(dash.map((d) => d * px));
        ctx.beginPath(); ctx.moveTo(x0, y0); ctx.lineTo(x1, y1); ctx.stroke();
      };
      for (const [y] of spec.lines) {
        const at = u.valToPos(y, "y", true);
        line(bbox.left, at, bbox.left + bbox.width, at, [6, 4]);
      }
      for (const [x] of spec.marks) {
        const at = u.valToPos(x, "x", true);
        line(at, bbox.top, at, bbox.top + bbox.height, [2, 3]);
      }
      spec.series.forEach((s, i) => {
        if (!s.points || !s.low || !u.series[1 + 3 * i].show) return;
        ctx.strokeStyle = css(`--c${s.colour}`);
        ctx.lineWidth = 1.5 * px;
        spec.x.forEach((x, j) => {
          if (s.low[j] == null || s.high[j] == null) return;
          const at = u.valToPos(x, "x", true);
          const [a, b] = [u.valToPos(s.low[j], "y", true), u.valToPos(s.high[j], "y", true)];
          line(at, a, at, b, []);
          line(at - 4 * px, a, at + 4 * px, a, []);
          line(at - 4 * px, b, at + 4 * px, b, []);
        });
      });
      ctx.restore();
    };
  }

  function options(spec, state, width, onCursor) {
    const series = [{}], bands = [], data = [spec.x];
    const none = spec.x.map(() => null);
    const usable = (values) => (state.log ? values.map((v) => (v != null && v > 0 ? v : null)) : values);
    spec.series.forEach((s, i) => {
      const colour = css(`--c${s.colour}`);
      const lone = s.y.filter((v) => v != null).length === 1;
      const show = !state.off.has(i);
      series.push({ label: s.label, stroke: colour, width: 2, show, points: { show: s.points || lone, size: 7, fill: colour } });
      for (const edge of ["high", "low"]) series.push({ show, stroke: "transparent", width: 0, points: { show: false } });
      data.push(usable(s.y), s.high ? usable(s.high) : none, s.low ? usable(s.low) : none);
      if (s.low) bands.push({ series: [2 + 3 * i, 3 + 3 * i], fill: css(`--b${s.colour}`) });
    });
    const whole = () => spec.x.length < 2 || !state.zoomed;
    const yRange = (u, low, high) => {
      if (spec.fixed) return spec.limits;
      if (low == null) return spec.limits;
      if (state.log) return uPlot.rangeLog(low, high, 10, false);
      return whole() && state.off.size === 0 ? spec.limits : uPlot.rangeNum(low, high, 0.08, false);
    };
    const first = spec.x[0], last = spec.x[spec.x.length - 1];
    const pad = (last - first) * 0.015 || 1;
    const axis = {
      stroke: css("--muted"), font: "12px system-ui, sans-serif",
      grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1, size: 4 },
    };
    const opts = {
      width, height: width < 420 ? 220 : 260, padding: [10, 20, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "ganwright-step", setSeries: false, scales: ["x", null] }, drag: { x: true, y: false, dist: 6 }, points: { size: 7 } },
      scales: {
        x: { time: false, range: (u, low, high) => (low === first && high === last ? [first - pad, last + pad] : [low, high]) },
        y: { distr: state.log ? 3 : 1, range: yRange },
      },
      axes: [
        { ...axis, size: 34, space: 64, values: (u, ticks) => ticks.map((v) => (v == null || !Number.isInteger(v) ? "" : format(v))) },
        { ...axis, size: 58, space: 34, values: (u, ticks) => ticks.map((v) => (v == null ? "" : format(v))) },
      ],
      series, bands,
      hooks: {
        draw: [overlays(spec)], setCursor: [onCursor],
        setScale: [(u, key) => {
          if (key !== "x") return;
          const { min, max } = u.scales.x;
          state.zoomed = min > first || max < last;
          state.reset.disabled = !state.zoomed;
        }],
      },
    };
    return [opts, data];
  }

  function button(text, onClick) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", onClick);
    return made;
  }

  function mount(figure) {
    const spec = JSON.parse(figure.querySelector("[data-spec]").textContent);
    if (!spec.x.length) return;
    const plot = figure.querySelector("[data-plot]"), legend = figure.querySelector("[data-legend]");
    const state = { log: spec.log, off: new Set(), zoomed: false, reset: null };
    const status = document.createElement("p");
    status.className = "visually-hidden";
    status.setAttribute("role", "status");
    const values = [];
    let chart = null, index = null;

    const read = () => {
      const at = index == null ? null : spec.x[index];
      where.textContent = at == null ? "" : `${spec.x_label} ${format(at)}`;
      spec.series.forEach((s, i) => {
        const y = at == null ? null : s.y[index];
        let text = y == null ? (at == null ? "" : "–") : format(y);
        if (y != null && s.points && s.low && s.low[index] != null) text += ` [${format(s.low[index])}, ${format(s.high[index])}]`;
        values[i].textContent = text;
      });
    };
    const onCursor = (u) => { index = u.cursor.idx ?? null; read(); };
    const draw = () => {
      const width = Math.floor(plot.clientWidth);
      if (width < 50) return;
      const kept = chart && state.zoomed ? { min: chart.scales.x.min, max: chart.scales.x.max } : null;
      if (chart) chart.destroy();
      plot.replaceChildren();
      chart = new uPlot(...options(spec, state, width, onCursor), plot);
      if (kept) chart.setScale("x", kept);
    };
    const zoom = (min, max) => { if (chart && max > min) chart.setScale("x", { min, max }); };
    const reset = () => { state.zoomed = false; zoom(spec.x[0], spec.x[spec.x.length - 1]); };

    // Legend: a button per curve, with its value under the cursor.
    [...legend.children].slice(0, spec.series.length).forEach((item, i) => {
      const toggle = button("", () => {
        if (state.off.has(i)) state.off.delete(i); else state.off.add(i);
        toggle.setAttribute("aria-pressed", String(!state.off.has(i)));
        draw();
      });
      toggle.append(...item.childNodes);
      toggle.setAttribute("aria-pressed", "true");
      toggle.title = "Show or hide this curve";
      values[i] = document.createElement("span");
      values[i].className = "value";
      item.append(toggle, values[i]);
    });
    const where = document.createElement("li");
    where.className = "where";
    legend.append(where);

    const tools = document.createElement("div");
    tools.className = "tools";
    state.reset = button("Zoom out", () => mounted.forEach((other) => other.reset()));
    state.reset.disabled = true;
    if (spec.can_log) {
      const log = button("Log scale", () => {
        state.log = !state.log;
        log.setAttribute("aria-pressed", String(state.log));
        draw();
      });
      log.setAttribute("aria-pressed", String(state.log));
      tools.append(log);
    }
    tools.append(state.reset);
    plot.before(tools);
    plot.after(status);

    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", `Chart: ${spec.title}. Arrow keys read it; plus and minus zoom.`);
    plot.addEventListener("keydown", (event) => {
      if (!chart || event.ctrlKey || event.metaKey || event.altKey) return;
      const last = spec.x.length - 1;
      const { min, max } = chart.scales.x;
      const centre = index == null ? (min + max) / 2 : spec.x[index];
      const jump = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
      if (jump || event.key === "Home" || event.key === "End") {
        const from = index ?? (jump > 0 ? -1 : last + 1);
        const to = event.key === "Home" ? 0 : event.key === "End" ? last : Math.max(0, Math.min(last, from + jump));
        chart.setCursor({ left: chart.valToPos(spec.x[to], "x"), top: chart.bbox.height / devicePixelRatio / 2 });
        index = to;
        read();
        status.textContent = [where.textContent, ...spec.series.map((s, i) => `${s.label} ${values[i].textContent}`)].join(", ");
      } else if (event.key === "+" || event.key === "=") {
        zoom(centre - (max - min) / 4, centre + (max - min) / 4);
      } else if (event.key === "-") {
        zoom(Math.max(spec.x[0], centre - (max - min)), Math.min(spec.x[last], centre + (max - min)));
      } else if (event.key === "Escape") {
        reset();
      } else return;
      event.preventDefault();
    });

    let width = 0;
    new ResizeObserver(() => {
      if (Math.floor(plot.clientWidth) !== width) { width = Math.floor(plot.clientWidth); draw(); }
    }).observe(plot);
    mounted.add({ draw, reset });
  }

  document.addEventListener("themechange", () => mounted.forEach((chart) => chart.draw()));
  for (const figure of document.querySelectorAll("[data-chart]")) mount(figure);
  return { mount };
})();
