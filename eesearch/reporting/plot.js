/* Plots in the colours of the page, with switches for their layers and rings around the points that are meant. */

const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = []; // plots that are there, to be coloured anew when the scheme changes
const CONFIG = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", topojsonURL: "-",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

/** The colours of the page, as plotly's layout wants them. */
function theme() {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const look = { "font.color": colour("--ink"), "hoverlabel.bgcolor": colour("--raised"),
    "hoverlabel.bordercolor": colour("--soft"), "hoverlabel.font.color": colour("--ink"),
    "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": colour("--soft"), "modebar.activecolor": colour("--ink") };
  for (const axis of ["xaxis", "yaxis"]) {
    look[axis + ".gridcolor"] = colour("--line");
    look[axis + ".linecolor"] = colour("--line");
  }
  return look;
}

/** The layout with the colours of the page; drawn once, not drawn and then coloured. */
function coloured(layout) {
  const whole = structuredClone(layout);
  for (const [path, value] of Object.entries(theme())) {
    const names = path.split(".");
    const last = names.pop();
    names.reduce((part, name) => (part[name] ??= {}), whole)[last] = value;
  }
  return whole;
}

async function drawPlot(place, figure, config = {}) {
  await Plotly.newPlot(place, figure.data, coloured(figure.layout), { ...CONFIG, ...config });
  drawn.push(place);
}

dark.addEventListener("change", () => drawn.forEach((place) => Plotly.relayout(place, theme())));

const DASHES = { dash: "6 4", dot: "2 3", dashdot: "6 3 2 3", longdash: "9 4", longdashdot: "9 3 2 3" };
const SHAPES = {
  square: "M-4-4H4V4H-4Z", diamond: "M0-5.5 5.5 0 0 5.5-5.5 0Z", "diamond-tall": "M0-6 4 0 0 6-4 0Z",
  "triangle-up": "M0-5 5 4H-5Z", "triangle-down": "M0 5 5-4H-5Z", cross: "M-1.7-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
  x: "M-5-3-3-5 0-2 3-5 5-3 2 0 5 3 3 5 0 2-3 5-5 3-2 0Z", pentagon: "M0-5.5 5.2-1.7 3.2 4.5H-3.2L-5.2-1.7Z",
  hexagon: "M0-5.5 4.8-2.8V2.8L0 5.5-4.8 2.8V-2.8Z", star: "M0-6 1.6-2 6-1.9 2.5.9 3.7 5 0 2.6-3.7 5-2.5.9-6-1.9-1.6-2Z",
};

/** How a trace looks, beside its name. */
function swatch(trace) {
  const picture = draw("svg", { width: 30, height: 16, viewBox: "-15 -8 30 16", "aria-hidden": "true" });
  const colour = trace.marker?.color || trace.line?.color;
  if (trace.mode.includes("lines")) {
    picture.append(draw("line", { x1: -15, x2: 15, stroke: trace.line.color, "stroke-width": 2, "stroke-dasharray": DASHES[trace.line.dash] }));
  }
  if (trace.mode.includes("markers")) {
    const [shape, open] = (trace.marker.symbol || "circle").split("-open");
    const look = open === undefined ? { fill: colour } : { fill: "none", stroke: colour, "stroke-width": 1.6 };
    picture.append(SHAPES[shape] ? draw("path", { d: SHAPES[shape], ...look }) : draw("circle", { r: 4.5, ...look }));
  }
  return picture;
}

/** A box to tick for every trace, by group; what is hidden by hand stays hidden when the page reloads itself. */
function layerSwitches(place, holder, groups, hidden) {
  const traces = place.data.map((trace, index) => ({ trace, index, key: place.id + " " + trace.meta.label }));
  for (const [group, title] of Object.entries(groups)) {
    const own = traces.filter(({ trace }) => trace.meta.group === group);
    if (!own.length) continue;
    const boxes = own.map(({ trace, index, key }) => {
      const box = make("input", { type: "checkbox" });
      const wanted = hidden.get(key) ?? trace.visible !== false;
      box.checked = wanted;
      if (wanted !== (trace.visible !== false)) Plotly.restyle(place, { visible: wanted }, [index]);
      box.addEventListener("change", () => {
        hidden.set(key, box.checked);
        Plotly.restyle(place, { visible: box.checked }, [index]);
      });
      return make("label", {}, box, swatch(trace), make("span", {}, trace.meta.label));
    });
    holder.append(make("fieldset", {}, make("legend", {}, title), ...boxes));
  }
}

/** The number of the front's point within a finger's breadth of a marker that lies on top of it; null if there is none. */
function nearest(place, marker, reach = 14) {
  const { xaxis, yaxis } = place._fullLayout;
  let best = null, least = reach;
  for (const trace of place.data) {
    if (!trace.customdata || trace.visible === false) continue;
    trace.customdata.forEach((number, k) => {
      const off = Math.hypot(xaxis.d2p(trace.x[k]) - xaxis.d2p(marker.x), yaxis.d2p(trace.y[k]) - yaxis.d2p(marker.y));
      if (off < least) [best, least] = [number, off];
    });
  }
  return best;
}

/** A ring around a place in a plot's coordinates, that follows zooming; null: none. */
function ring(place, kind) {
  const element = make("div", { class: "ring " + kind, hidden: true });
  place.append(element);
  let spot = null;
  const put = () => {
    const { xaxis, yaxis } = place._fullLayout;
    const x = spot && xaxis.d2p(spot[0]), y = spot && yaxis.d2p(spot[1]);
    element.hidden = !spot || x < -1 || y < -1 || x > xaxis._length + 1 || y > yaxis._length + 1;
    if (element.hidden) return;
    element.style.left = xaxis._offset + x + "px";
    element.style.top = yaxis._offset + y + "px";
  };
  place.on("plotly_afterplot", put);
  place.on("plotly_relayouting", put);
  return (next) => { spot = next; put(); };
}
