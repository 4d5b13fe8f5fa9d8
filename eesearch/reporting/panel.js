/* What a pinned point is: its network, what happens at each stop, what that costs, who leaves there, how to take it along. */

const MOST_SHOWN = 8, LARGEST = 56;

/** `named`: the selection that picks this point, by the rule that picked it. */
function fillPanel(panel, shown, device, number, named) {
  const point = device.points[number];
  const title = `Point ${number}`;
  const paid = point.stops[0].paid !== undefined;
  panel.replaceChildren(
    make("h3", {}, `${title} on ${device.name}`),
    make("p", { class: "hint" }, point.made),
    make("div", { class: "columns" },
      make("div", {}, make("h4", {}, "The network"), networkPicture(device, point, title)),
      make("div", {},
        make("dl", {}, point.facts.map(([name, words]) => [make("dt", {}, name), make("dd", {}, words)])),
        make("h4", {}, "What happens at each stop, on test"), stopTable(device, point, paid),
        paid ? [make("h4", {}, `What a sample has paid that leaves there (${device.unit})`), costBars(device, point)] : [])),
    ...examplesOf(shown, device, number),
    make("h4", {}, "Take it along"), command(shown, device, number, named));
}

function stopTable(device, point, paid) {
  const heads = ["Stop", "Head", "Leave here if", "Leave here"];
  if (paid) heads.push("Accuracy of those", ...device.units.map((unit) => `Paid, ${unit}`));
  const rows = point.stops.map((stop) => {
    const cells = [stop.name, stop.head, stop.rule, stop.share];
    if (paid) cells.push(stop.accuracy ?? "nobody leaves", ...stop.costs);
    return make("tr", {}, cells.map((cell, k) => make("td", { class: k > 2 && "n" }, cell)));
  });
  const head = make("tr", {}, heads.map((name, k) => make("th", { class: k > 2 && "n" }, name)));
  return make("div", { class: "box", tabindex: 0, role: "region", "aria-label": "Stops of the pinned point" },
    make("table", { class: "stops" }, make("thead", {}, head), make("tbody", {}, rows)));
}

/** A bar per stop: what the stages before it cost, and its own; the dashed line is the backbone. */
function costBars(device, point) {
  const most = 1.04 * Math.max(device.full, ...point.stops.map((stop) => stop.paid));
  const bars = make("div", { class: "bars" });
  let before = 0;
  for (const stop of point.stops) {
    const [early, own, full] = [make("div", { class: "part" }), make("div", { class: "part own" }), make("div", { class: "full" })];
    early.style.width = (100 * before) / most + "%";
    own.style.left = (100 * before) / most + "%";
    own.style.width = (100 * Math.max(0, stop.paid - before)) / most + "%";
    full.style.left = (100 * device.full) / most + "%";
    bars.append(make("span", {}, stop.name), make("div", { class: "track", "aria-hidden": "true" }, early, own, full),
      make("span", { class: "n" }, `${stop.costs[0]} (${(stop.paid / device.full).toFixed(2)} x)`));
    before = stop.paid;
  }
  return [bars, make("p", { class: "hint" }, "Strong: this stage; faint: the stages before it; dashed line: the backbone without exits.")];
}

/** Samples of test by the stop where they leave, from easy to hard; spread evenly where there are many. */
function examplesOf(shown, device, number) {
  const examples = shown.examples;
  const left = examples?.stops[device.name]?.[number];
  if (!left) return [];
  const said = examples.answers[device.name][number];
  const parts = device.points[number].stops.map((stop, k) => {
    const here = left.flatMap((at, i) => (at === k ? [i] : []));
    const count = Math.min(here.length, MOST_SHOWN);
    const chosen = Array.from({ length: count }, (_, n) => here[Math.round((n * (here.length - 1)) / Math.max(1, count - 1))]);
    const words = here.length ? `${here.length} of ${left.length} examples leave at ${stop.name}` : `None of the ${left.length} examples leaves at ${stop.name}`;
    return [make("p", { class: "hint" }, here.length > count ? `${words}; ${count} of them, from easy to hard` : words),
      make("ul", { class: examples.kind === "image" ? "thumbs" : "thumbs words" }, chosen.map((i) => example(shown, i, said[i])))];
  });
  return [make("h4", {}, "Samples of test that leave early and late"), ...parts.flat()];
}

function example(shown, i, answer) {
  const { examples, classes } = shown;
  const name = (label) => classes[label] ?? `class ${label}`;
  const label = examples.label[i];
  const words = answer === label ? make("span", {}, name(label))
    : answer < 0 ? make("span", {}, `handed on (${name(label)})`)
    : make("span", { class: "wrong" }, `✗ ${name(answer)} (is ${name(label)})`);
  if (examples.kind !== "image") return make("li", {}, make("div", { class: "text", title: examples.texts[i] }, examples.texts[i]), words);
  const [height, width] = examples.side;
  const scale = LARGEST / Math.max(height, width);
  const thumb = make("span", { class: "thumb", role: "img", "aria-label": name(label) });
  thumb.style.width = width * scale + "px";
  thumb.style.height = height * scale + "px";
  thumb.style.backgroundSize = examples.columns * width * scale + "px auto";
  thumb.style.backgroundPosition = `${-(i % examples.columns) * width * scale}px ${-Math.floor(i / examples.columns) * height * scale}px`;
  return make("li", {}, thumb, words);
}

/** One copy of the sheet of thumbnails for all of them. */
function loadSheet(examples) {
  if (examples?.sprite) document.head.append(make("style", {}, `.thumb { background-image: url(data:image/png;base64,${examples.sprite}) }`));
}

/** While the search runs, numbers mean other points soon: then by the rule, which stays true, if there is one. */
function command(shown, device, number, named) {
  const byNumber = `point=${number}@${device.name}`;
  const pick = shown.live ? named : byNumber;
  const out = pick === byNumber ? `point-${number}` : "picked";
  const text = `eesearch export ${quoted(shown.run)} --pick ${quoted(pick)} --to torch --out ${out}`;
  const said = make("span", { role: "status" });
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    said.textContent = (await copy(text)) ? "copied" : "select the line and copy it by hand";
  });
  return make("div", { class: "command" }, make("code", {}, text), button, said,
    shown.live && pick === byNumber ? make("span", { class: "hint" }, "Numbers change while the search runs.") : null);
}
