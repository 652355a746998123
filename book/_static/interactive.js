// A line plot with one slider, from JSON embedded in the page (see snnrepro.figures.interactive). Axes take the colour of the
// text and lines that of their role in book.css, so the plot follows dark mode.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const DASHES = ["", "7 4", "2 3", "9 3 2 3"];

  function make(parent, tag, attributes, text) {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return parent.appendChild(node);
  }

  function element(parent, tag, attributes, text) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return parent.appendChild(node);
  }

  const short = (value) => String(Number(value.toPrecision(4)));

  // Smallest and largest value; the limits of an axis are these, widened to whole ticks.
  function range(values) {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return low === high ? [low - 0.5, high + 0.5] : [low, high];
  }

  function ticks(low, high, wanted) {
    const raw = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
    const first = Math.floor(low / step + 1e-9);
    const last = Math.ceil(high / step - 1e-9);
    return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }

  // Draws axes once and returns a function that draws the lines for slider position k.
  function panel(box, title, series, data, yLabel) {
    const [width, height] = [420, 280];
    const [left, right, top, bottom] = [58, width - 12, title ? 30 : 12, height - 46];
    const svg = make(box, "svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", class: "snn-plot" });
    const xTicks = ticks(...range(series.flatMap((s) => s.x)), 6);
    const yTicks = ticks(...range(series.flatMap((s) => s.y.flat())), 5);
    const [x0, x1] = [xTicks[0], xTicks.at(-1)];
    const [y0, y1] = [yTicks[0], yTicks.at(-1)];
    const px = (x) => left + ((x - x0) / (x1 - x0)) * (right - left);
    const py = (y) => bottom - ((y - y0) / (y1 - y0)) * (bottom - top);
    make(svg, "path", { d: `M${left},${top}V${bottom}H${right}`, class: "snn-axis" });
    for (const x of xTicks) {
      make(svg, "path", { d: `M${px(x)},${bottom}v5`, class: "snn-axis" });
      make(svg, "text", { x: px(x), y: bottom + 18, "text-anchor": "middle" }, short(x));
    }
    for (const y of yTicks) {
      make(svg, "path", { d: `M${left},${py(y)}h-5`, class: "snn-axis" });
      make(svg, "text", { x: left - 9, y: py(y) + 4, "text-anchor": "end" }, short(y));
    }
    make(svg, "text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle", class: "snn-label" }, data.x_label);
    const middle = (top + bottom) / 2;
    const turned = { x: 14, y: middle, "text-anchor": "middle", class: "snn-label", transform: `rotate(-90 14 ${middle})` };
    make(svg, "text", turned, yLabel);
    if (title) make(svg, "text", { x: left, y: 18, class: "snn-title" }, title);
    const lines = series.map((one, i) =>
      make(svg, "path", { class: `snn-line snn-role-${one.role}`, "stroke-dasharray": DASHES[i % DASHES.length] })
    );
    return (k) =>
      series.forEach((one, i) => {
        const points = one.x.map((x, j) => `${px(x).toFixed(2)},${py(one.y[k][j]).toFixed(2)}`);
        lines[i].setAttribute("d", `M${points.join("L")}`);
      });
  }

  function legend(box, panels) {
    const list = element(box, "ul", { class: "snn-legend" });
    const seen = new Set();
    for (const one of panels) {
      one.series.forEach((series, i) => {
        if (seen.has(series.name)) return;
        seen.add(series.name);
        const item = element(list, "li", {});
        const key = make(item, "svg", { viewBox: "0 0 34 10", width: 34, height: 10, "aria-hidden": "true" });
        const dash = DASHES[i % DASHES.length];
        make(key, "path", { d: "M1,5H33", class: `snn-line snn-role-${series.role}`, "stroke-dasharray": dash });
        item.append(series.name);
      });
    }
  }

  document.querySelectorAll(".snn-interactive").forEach((hook, number) => {
    const data = JSON.parse(hook.querySelector('script[type="application/json"]').textContent);
    const panels = data.panels ?? [{ series: data.series }];
    const plots = document.createElement("div");
    plots.className = "snn-plots";
    const draw = panels.map((one) => panel(plots, one.title, one.series, data, one.y_label ?? data.y_label));

    const controls = document.createElement("div");
    controls.className = "snn-controls";
    const id = `snn-slider-${number}`;
    element(controls, "label", { for: id }, data.slider_label);
    const last = data.slider_values.length - 1;
    const start = data.start ?? Math.floor(last / 2);
    const slider = element(controls, "input", { id, type: "range", min: 0, max: last, step: 1, value: start });
    const shown = element(controls, "output", { for: id });

    function update() {
      const k = Number(slider.value);
      const value = short(data.slider_values[k]);
      draw.forEach((one) => one(k));
      shown.textContent = value;
      slider.setAttribute("aria-valuetext", `${data.slider_label} ${value}`);
    }

    slider.addEventListener("input", update);
    hook.querySelector(".snn-fallback")?.remove();
    hook.append(controls, plots);
    legend(hook, panels);
    update();
  });
})();
