/* How the search went: hypervolume by trial or by time, and the designs side by side. */

async function drawVolumes(figure, hidden) {
  const place = byId("plot-volumes"), holder = byId("volume-by");
  await drawPlot(place, figure);
  layerSwitches(place, byId("layers-volumes"), { devices: "Devices" }, hidden);
  for (const [by, words] of [["trial", "by trial"], ["time", "over time"]]) {
    const input = make("input", { type: "radio", name: "volume-by", value: by });
    input.checked = by === "trial";
    input.addEventListener("change", () => {
      const all = figure.data.map((_, k) => k);
      const { x, title, step } = figure.by[by];
      Plotly.update(place, { x: all.map(() => x) }, { "xaxis.title.text": title, "xaxis.dtick": step, "xaxis.autorange": true }, all);
    });
    holder.append(make("label", {}, input, words));
  }
}

async function drawDesigns(figure, hidden) {
  const place = byId("plot-designs"), readout = byId("readout-designs"), holder = byId("design-choice");
  place.style.minWidth = 98 * figure.layout.shapes.length + "px"; // narrower, the names of its axes run into each other
  await drawPlot(place, figure, { displayModeBar: false });
  layerSwitches(place, byId("layers-designs"), { designs: "Strategies" }, hidden);
  const select = make("select", { id: "design" }, figure.trials.map((trial, k) =>
    make("option", { value: k }, `trial ${trial.number}${k === figure.best ? ", the highest value" : ""}`)));
  let at = -1;
  const mark = (k) => {
    if (k === at) return;
    at = k;
    const { y, hover, colour } = figure.trials[k];
    Plotly.restyle(place, { x: [y.map((_, x) => x)], y: [y], "line.color": colour }, [figure.data.length - 1]);
    tell(readout, plainLines(hover));
    readout.classList.add("keys");
    select.value = k;
  };
  select.addEventListener("change", () => mark(Number(select.value)));
  place.on("plotly_click", (event) => mark(event.points[0].customdata));
  holder.append(make("label", { for: "design" }, "Trial"), select);
  mark(figure.best);
}
