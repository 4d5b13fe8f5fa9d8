/* The network of a point: what is left of the stream of samples runs down its chain of cuts, and leaves at its exits. */

const TRUNK = 44, CARD = 118, WIDTH = 372, THICK = 26;

/** The chain with the point's stops in it; only the stops where the order of the cuts is not known. */
function chainOf(device, point) {
  const placed = point.stops.map((stop, k) => ({ ...stop, rate: point.rates[k], unused: 0 }));
  const exits = placed.filter((stop) => stop.kind === "exit");
  const home = (cut) => cut.slice(0, cut.lastIndexOf("/") + 1); // the name of one among several networks
  const cuts = device.cuts.filter((cut) => home(cut) === home(placed[0].cut));
  const places = exits.map((stop) => cuts.indexOf(stop.cut));
  const networks = new Set(placed.filter((stop) => stop.kind !== "ask").map((stop) => stop.network));
  const known = networks.size < 2 && places.every((place, k) => place >= 0 && (!k || place >= places[k - 1]));
  if (!known) return placed;
  const chain = [];
  let next = 0;
  for (const stop of placed) {
    const end = stop.kind === "exit" ? cuts.indexOf(stop.cut) : stop.kind === "output" ? cuts.length : next;
    chain.push(...cuts.slice(next, end).map((cut) => ({ cut, kind: "cut" })), stop);
    next = stop.kind === "exit" ? end + 1 : end;
  }
  const last = placed.at(-1);
  if (last.kind === "exit") chain.push(...cuts.slice(next).map((cut) => ({ cut, kind: "off" })), { cut: "output", kind: "off" });
  return folded(chain);
}

/** Long runs of cuts without an exit take one line. */
function folded(chain) {
  const rows = [];
  for (const row of chain) {
    const before = rows.at(-1);
    if ((row.kind === "cut" || row.kind === "off") && before?.kind === row.kind) before.cuts.push(row.cut);
    else rows.push(row.kind === "cut" || row.kind === "off" ? { ...row, cuts: [row.cut] } : row);
  }
  return rows.flatMap((row) => (row.cuts && row.cuts.length <= 2 ? row.cuts.map((cut) => ({ ...row, cuts: [cut] })) : [row]));
}

const fitting = (text, most) => (text.length <= most ? text : text.slice(0, most / 2) + "…" + text.slice(-most / 2 + 1));

function networkPicture(device, point, title) {
  const rows = chainOf(device, point);
  const told = point.stops.map((stop) => `${stop.share} leave at ${stop.name}, ${stop.head}`).join("; ");
  const svg = draw("svg", { class: "network", role: "img", "aria-label": `The network of ${title}: ${told}` });
  const flows = draw("g"), marks = draw("g");
  svg.append(flows, marks);
  let y = 24, left = 1, from = 24, network = null;
  marks.append(draw("text", { x: TRUNK, y: 14, "text-anchor": "middle", class: "soft" }, "input"));
  const trunk = (to, off) => {
    flows.append(draw("line", { x1: TRUNK, x2: TRUNK, y1: from, y2: to, class: off ? "gone" : "flow",
      "stroke-width": off ? 2 : 2 + THICK * left }));
    from = to;
  };
  for (const row of rows) {
    if (row.cuts) { // nothing hangs here
      y += 22;
      trunk(y, row.kind === "off");
      const words = row.cuts.length > 1 ? `${row.cuts.length} cuts without an exit` : fitting(row.cuts[0], 34);
      marks.append(draw("circle", { cx: TRUNK, cy: y, r: 3, class: "tick" }),
        draw("text", { x: CARD, y: y + 4, class: "soft" }, row.kind === "off" ? words.replace(" without an exit", "") + ", not run" : words,
          draw("title", {}, row.cuts.join(", "))));
      continue;
    }
    if (network !== null && row.kind === "exit" && row.network !== network) {
      y += 22;
      marks.append(draw("text", { x: CARD, y: y + 4, class: "soft" }, "another network begins"));
    }
    network = row.kind === "exit" ? row.network : network;
    y += 34;
    trunk(y, false);
    branch(flows, marks, row, y);
    left = Math.max(0, left - row.rate);
    y += 20;
  }
  fill(svg, { viewBox: `0 0 ${WIDTH} ${y + 12}` }, []);
  return svg;
}

/** One stop: the stream that leaves, and a card with its name, head and share. */
function branch(flows, marks, stop, y) {
  const none = stop.rate === 0;
  flows.append(draw("line", { x1: TRUNK, x2: CARD, y1: y, y2: y, class: none ? "gone" : "flow",
    "stroke-width": none ? 2 : 2 + THICK * stop.rate }));
  const name = stop.kind === "ask" ? "last resort" : stop.name;
  marks.append(draw("circle", { cx: TRUNK, cy: y, r: 7, class: "node" }),
    draw("rect", { x: CARD, y: y - 23, width: WIDTH - CARD - 2, height: 46, rx: 6, class: "card" }),
    draw("text", { x: CARD + 10, y: y - 4, class: "strong" }, fitting(name, 20), draw("title", {}, stop.name)),
    draw("text", { x: WIDTH - 12, y: y - 4, "text-anchor": "end", class: "strong" }, stop.share),
    draw("text", { x: CARD + 10, y: y + 14, class: "soft" }, fitting(stop.head, 24), draw("title", {}, stop.head)),
    draw("text", { x: WIDTH - 12, y: y + 14, "text-anchor": "end", class: "soft" }, stop.kind === "ask" ? "handed on" : "leave"));
}
