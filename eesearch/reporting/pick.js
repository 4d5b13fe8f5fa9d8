/* Two limits that move the pick. They are on what is expected of new samples, and never on test. */

const STEPS = 200;

/** Points lost: fine steps near nothing, where it matters; the last one is no limit. */
function dropSteps(device) {
  const most = Math.max(...device.points.map((point) => 100 * point.lost));
  const steps = [];
  for (const [end, step] of [[2, 0.05], [5, 0.25], [10, 0.5], [100, 1]]) {
    while (steps.length === 0 || steps.at(-1) < Math.min(end, most) - 1e-9) {
      steps.push(steps.length === 0 ? 0 : Math.round(100 * (steps.at(-1) + step)) / 100);
    }
  }
  return [...steps, Infinity];
}

/** Rounded up to four digits: a limit that is shown must let the point in that it was made for. */
function roundedUp(cost) {
  const near = Number(cost.toPrecision(4));
  return near >= cost ? near : Number((near + 10 ** (Math.floor(Math.log10(cost)) - 3)).toPrecision(4));
}

/** Costs from below the cheapest point to the dearest; the last one is no limit. */
function costSteps(device) {
  const costs = device.points.map((point) => point.cost);
  const low = 0.95 * Math.min(...costs), high = Math.max(...costs);
  const steps = Array.from({ length: STEPS + 1 }, (_, k) => roundedUp(low + ((high - low) * k) / STEPS));
  return [...new Set(steps), Infinity];
}

const finite = (limit) => (limit === Infinity ? null : limit);

/** The point that the limits leave: by `drop` the cheapest, by `cost` the most accurate; undefined: none. */
function choose(device, limits, by) {
  const kept = device.points.map((point, number) => ({ ...point, number }))
    .filter((point) => point.lost <= limits.drop * 0.01 + 1e-12 && point.cost <= limits.cost);
  const better = by === "drop" ? (a, b) => b.cost < a.cost : (a, b) => b.lost < a.lost;
  return kept.reduce((best, point) => (best === undefined || better(best, point) ? point : best), undefined)?.number;
}

/** What one would type to pick the same. */
function selection(device, limits, by, number) {
  if (by === "drop" && limits.drop < Infinity) return `max-drop=${limits.drop}%@${device.name}`;
  if (by === "cost" && limits.cost < Infinity && device.axis === "latency_ms") return `budget-ms=${limits.cost}@${device.name}`;
  return `point=${number}@${device.name}`;
}

/** The two sliders of a device. `moved(number)` hears the pick; returns what else one can do to it. */
function picker(holder, device, id, moved) {
  const steps = { drop: dropSteps(device), cost: costSteps(device) };
  const titles = { drop: `At most this many points of accuracy ${device.promised ? "expected to be " : ""}lost`, cost: `At most this cost on average (${device.unit})` };
  const rules = {
    drop: device.promised ? "Picks the cheapest point that is expected to lose no more than this to the backbone on new samples."
      : "Picks the cheapest point that loses no more than this to the backbone, on calibration.",
    cost: device.promised ? "Picks the point that is expected to lose least, of those that need no more than this on average on calibration."
      : "Picks the most accurate point that needs no more than this on average, on calibration.",
  };
  const words = {
    drop: (limit) => (limit === Infinity ? "any loss" : `${limit.toFixed(2)} points`),
    cost: (limit) => (limit === Infinity ? "any cost" : `${limit.toLocaleString("en", { maximumSignificantDigits: 4 })} ${device.unit}`),
  };
  const said = make("p", { class: "picked", role: "status" });
  const inputs = {};
  const limit = (by) => steps[by][Number(inputs[by].value)];
  const asked = {}; // limits that a person set on another front, whose steps were others
  const limits = () => ({ drop: limit("drop"), cost: limit("cost") });
  const show = (by) => {
    inputs[by].setAttribute("aria-valuetext", words[by](limit(by)));
    byId(`${by}-out-${id}`).textContent = words[by](limit(by));
  };
  const apply = (by) => {
    const number = choose(device, limits(), by);
    said.classList.toggle("none", number === undefined);
    if (number === undefined) {
      said.textContent = `No point ${device.promised ? "is expected to lose" : "loses"} at most ${words.drop(limit("drop"))} at ${words.cost(limit("cost"))}: allow more of one.`;
    } else {
      const how = by === "drop" ? "the cheapest" : "the most accurate";
      said.replaceChildren(`Point ${number} is ${how} within both limits. The same by name: `,
        make("code", {}, `--pick ${quoted(selection(device, limits(), by, number))}`));
    }
    moved(number, by);
  };
  holder.append(...["drop", "cost"].map((by) => {
    inputs[by] = make("input", { type: "range", id: `${by}-${id}`, min: 0, max: steps[by].length - 1, step: 1, value: steps[by].length - 1 });
    inputs[by].addEventListener("input", () => { delete asked[by]; show(by); apply(by); });
    return make("div", { class: "limit" }, make("label", { for: `${by}-${id}` }, titles[by]),
      make("output", { id: `${by}-out-${id}`, for: `${by}-${id}` }), inputs[by], make("span", { class: "rule" }, rules[by]));
  }), said);
  ["drop", "cost"].forEach(show);
  return {
    tell: (words) => { said.classList.remove("none"); said.textContent = words; },
    note: (words) => said.prepend(words + " "),
    selection: (by, number) => selection(device, limits(), by, number),
    /** The limits in the units of the sliders, null: none; as they were asked for, lest they creep up with every front. */
    get: () => {
      const now = limits();
      return { drop: finite(now.drop), cost: finite(now.cost), ...asked };
    },
    /** Each at its first step that is no less; `by`: pick by this one, if by any. */
    set: (values, by) => {
      for (const name of ["drop", "cost"]) {
        asked[name] = values[name];
        inputs[name].value = steps[name].findIndex((step) => step >= (values[name] ?? Infinity) - 1e-9);
        show(name);
      }
      if (by) apply(by);
    },
  };
}
