/* The page: which device is shown, which point is pinned, and where that is remembered. */

const KEEP = "eesearch report";

/** What was left behind by this page before it reloaded itself. */
function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(KEEP)) ?? {};
  } catch {
    return {};
  }
}

class Front {
  /** One device: its plot, sliders, panel and table. */
  constructor(shown, index, hidden, changed) {
    Object.assign(this, { shown, index, hidden, changed, device: shown.devices[index], pinned: null, by: null, lost: null });
    const id = index + 1;
    this.section = byId(`device-${id}`);
    this.place = byId(`plot-${id}`);
    this.readout = byId(`readout-${id}`);
    this.panel = byId(`pin-${id}`);
    this.cursor = null;
    this.rings = null;
    if (this.device.points.length) {
      this.picker = picker(byId(`picker-${id}`), this.device, id, (number, by) => this.pin(number, by));
      this.section.querySelector("table.front").addEventListener("click", (event) => {
        const row = event.target.closest("tr[data-point]");
        if (!row) return;
        this.choose(Number(row.dataset.point));
        this.panel.focus({ preventScroll: true });
        this.panel.scrollIntoView();
      });
    }
  }

  /** Draw the plot once the section is to be seen. */
  async draw() {
    if (this.drawing) return this.drawing;
    this.drawing = drawPlot(this.place, this.device.figure);
    await this.drawing;
    this.rings = { pinned: ring(this.place, "pinned"), cursor: ring(this.place, "cursor") };
    layerSwitches(this.place, byId(`layers-${this.index + 1}`), this.shown.groups, this.hidden);
    this.place.on("plotly_hover", (event) => tell(this.readout, plainLines(event.points[0].hovertext || "")));
    this.place.on("plotly_click", (event) => {
      const own = event.points.find((point) => point.customdata !== undefined);
      const number = own ? own.customdata : nearest(this.place, event.points[0]);
      if (number !== null) this.choose(number);
    });
    this.place.addEventListener("keydown", (event) => this.key(event));
    this.place.addEventListener("blur", () => this.point(null));
    this.mark();
    if (this.device.strategies) await this.drawStrategies(this.device.strategies);
  }

  /** The fronts of the training strategies, if there are several. */
  async drawStrategies(figure) {
    const [place, readout, layers] = ["plot", "readout", "layers"].map((part) => byId(`${part}-strategies-${this.index + 1}`));
    await drawPlot(place, figure);
    layerSwitches(place, layers, { strategies: "Strategies" }, this.hidden);
    place.on("plotly_hover", (event) => tell(readout, plainLines(event.points[0].hovertext || "")));
    this.strategies = place;
  }

  /** A person chose a point of the front. */
  choose(number) {
    this.pin(number, "hand");
    this.picker.tell(`Point ${number} was chosen by hand; moving a slider picks anew.`);
  }

  /** What is pinned where nobody chose anything: the cheapest point without loss, else with little, else the knee. */
  begin() {
    const { start, limit, promised } = this.device;
    if (limit !== null) return this.picker.set({ drop: limit, cost: null }, "drop");
    this.pin(start ?? 0, "start");
    const lost = promised ? "is expected to lose at most 1 point on new samples" : "loses at most 1 point on calibration";
    this.picker.tell(`None that costs less than the backbone ${lost}; point ${this.pinned} is the knee of the front.`);
  }

  /** Choose the point with this key, whatever its number is by now; if it has left the front, begin anew and say so. */
  seek(key) {
    const { points } = this.device;
    if (points[this.pinned]?.key === key) return;
    const number = points.findIndex((point) => point.key === key);
    if (number >= 0) return this.choose(number);
    this.begin();
    this.lost = key;
    this.picker.note("The point that was chosen before is no longer on the front.");
  }

  /** What must outlast a reload; of a lost point too, until a person chooses anew: it stays said, or comes back. */
  kept() {
    const key = this.lost ?? this.device.points[this.pinned]?.key;
    return { device: this.device.name, by: this.lost ? "hand" : this.by, key, at: this.picker?.get() };
  }

  pin(number, by) {
    this.pinned = number ?? null;
    this.by = by;
    this.lost = null;
    for (const row of this.section.querySelectorAll("tr[data-point]")) {
      const own = Number(row.dataset.point) === number;
      row.classList.toggle("pinned", own);
      row.querySelector("button").setAttribute("aria-pressed", own);
    }
    if (this.pinned === null) this.panel.replaceChildren();
    else fillPanel(this.panel, this.shown, this.device, number, this.picker.selection(by, number));
    this.mark();
    this.changed(this);
  }

  mark() {
    this.rings?.pinned(this.pinned === null ? null : this.device.points[this.pinned].drawn);
  }

  /** Move the cursor of the keyboard to a point; null: nowhere. */
  point(number) {
    this.cursor = number;
    this.rings.cursor(number === null ? null : this.device.points[number].drawn);
    this.readout.classList.toggle("keys", number !== null);
    if (number === null) return;
    const point = this.device.points[number];
    tell(this.readout, [`Point ${number}: ${point.made}`, ...point.stops.map((s) => `${s.share} leave at ${s.name}, ${s.head} (${s.rule})`),
      ...point.facts.map(([name, words]) => `${name}: ${words}`)]);
  }

  key(event) {
    const last = this.device.points.length - 1;
    const at = this.cursor ?? this.pinned ?? -1;
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last }[event.key];
    if (last < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    if (next !== undefined) this.point(Math.min(last, Math.max(0, next)));
    else if ((event.key === "Enter" || event.key === " ") && this.cursor !== null) this.choose(this.cursor);
    else if (event.key === "Escape") this.point(null);
    else return;
    event.preventDefault();
  }
}

class Report {
  constructor(shown) {
    const kept = remembered();
    this.shown = shown;
    this.hidden = new Map(kept.hidden ?? []);
    this.ready = false;
    this.fronts = shown.devices.map((_, index) => new Front(shown, index, this.hidden, (front) => this.changed(front)));
    this.tabs = [...document.querySelectorAll("[role=tab]")];
    this.tabs.forEach((tab, index) => {
      tab.addEventListener("click", () => this.show(index));
      tab.addEventListener("keydown", (event) => this.key(event, index));
    });
    this.fronts.forEach((front) => this.begin(front, kept.fronts?.find(({ device }) => device === front.device.name)));
    this.follow();
    this.ready = true;
    addEventListener("hashchange", () => this.follow());
  }

  /** What is pinned at first: what a person chose before a reload, else what nobody chose. */
  begin(front, kept) {
    if (!front.device.points.length) return;
    if (!kept?.at) return front.begin();
    const rule = kept.by === "drop" || kept.by === "cost";
    front.picker.set(kept.at, rule ? kept.by : null);
    if (kept.by === "hand") front.seek(kept.key);
    else if (!rule) front.begin();
  }

  /** Go where the address says: `#device=...&point=...&key=...`; the number alone counts where there is no key. */
  follow() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const index = this.fronts.findIndex((front) => front.device.name === wanted.get("device"));
    const number = Number(wanted.get("point") ?? NaN), key = wanted.get("key");
    const front = this.fronts[index];
    const byRule = !this.ready && front?.by !== "hand" && remembered().fronts;
    if (front?.device.points.length && !byRule) {
      if (key !== null) front.seek(key);
      else if (front.device.points[number] && front.pinned !== number) front.choose(number);
    }
    if (!this.ready || index >= 0) this.show(Math.max(0, index), false);
  }

  show(index, remember = true) {
    this.at = index;
    this.fronts.forEach((front, k) => { front.section.hidden = k !== index; });
    this.tabs.forEach((tab, k) => {
      tab.setAttribute("aria-selected", k === index);
      tab.tabIndex = k === index ? 0 : -1;
    });
    const front = this.fronts[index];
    if (!front) return;
    if (front.rings) Plotly.Plots.resize(front.place);
    if (front.strategies) Plotly.Plots.resize(front.strategies);
    this.drawn = front.draw();
    if (remember) this.changed(front);
  }

  key(event, index) {
    const count = this.tabs.length;
    const next = { ArrowRight: index + 1, ArrowLeft: index - 1 + count, Home: 0, End: count - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.show(next % count);
    this.tabs[next % count].focus();
  }

  /** Keep device and point in the address. */
  changed(front) {
    if (!this.ready || front.index !== this.at) return;
    const where = new URLSearchParams({ device: front.device.name });
    if (front.pinned !== null) {
      where.set("point", front.pinned);
      where.set("key", front.device.points[front.pinned].key);
    }
    history.replaceState(null, "", "#" + where);
  }

  /** While the search runs: reload, unless the person did something just now; nothing of theirs is lost. */
  live(seconds) {
    let last = 0;
    for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "scroll", "touchmove", "input"]) {
      addEventListener(kind, () => { last = Date.now(); }, { passive: true, capture: true });
    }
    const began = Date.now();
    setInterval(() => {
      if (Date.now() - Math.max(began, last) < 1000 * seconds) return;
      const fronts = this.fronts.map((front) => front.kept());
      try {
        sessionStorage.setItem(KEEP, JSON.stringify({ fronts, hidden: [...this.hidden], scroll: scrollY }));
      } catch { /* a browser that keeps nothing: then only the address is kept */ }
      location.reload();
    }, 1000);
  }
}

const LONG_AGO = 30 * 60 * 1000; // milliseconds

/** A page that nobody writes anew was left behind by a search that ended otherwise: reloading it is of no use. */
function leftBehind() {
  if (!(Date.now() - Date.parse(document.body.dataset.written) > LONG_AGO)) return;
  delete document.body.dataset.live;
  const live = byId("live");
  live.textContent = `This page was written at ${live.querySelector("time").textContent}; if the search is still running, reload it.`;
}

/** Links within the page leave the address alone: it says what is pinned. */
function stayHere() {
  for (const link of document.querySelectorAll("nav a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const part = link.hash.slice(1); // each device has a part of that name, or there is one of it
      (document.querySelector(`.device:not([hidden]) .${part}`) ?? byId(part)).scrollIntoView();
    });
  }
}

async function start() {
  const [shown, plotly] = await Promise.all([unpack("shown").then(JSON.parse), unpack("plotly")]);
  document.head.append(make("script", {}, plotly));
  loadSheet(shown.examples);
  const report = new Report(shown);
  stayHere();
  leftBehind();
  await report.drawn;
  performance.mark("front drawn");
  const scroll = remembered().scroll;
  if (scroll) scrollTo(0, scroll);
  try { sessionStorage.removeItem(KEEP); } catch { /* as above */ }
  if (shown.volumes) await drawVolumes(shown.volumes, report.hidden);
  if (shown.designs) await drawDesigns(shown.designs, report.hidden);
  if (document.body.dataset.live) report.live(Number(document.body.dataset.live));
  document.body.dataset.ready = "yes";
}

start().catch((error) => {
  const trouble = byId("trouble");
  trouble.hidden = false;
  trouble.textContent = `The plots cannot be drawn here (${error.message}); the tables below are complete. A current browser shows them.`;
});
