// The timeline as a person moves through it: pointer, wheel, keys, buttons, search.

class Timeline extends Lanes {
  constructor(model) {
    super(model);
    this.tip = $("tip");
    this.drag = null;
    this.connect();
    this.resize();
  }

  // --- Moving ----------------------------------------------------------------------------------------

  view(from, to) {
    const whole = this.model.duration;
    const span = Math.min(whole, Math.max(to - from, 0.5));
    this.from = Math.min(Math.max(0, from), whole - span);
    this.to = this.from + span;
    this.redraw();
  }

  zoom(factor, x) {
    const at = this.at(x ?? this.width / 2);
    this.view(at - (at - this.from) * factor, at + (this.to - at) * factor);
  }

  pan(pixels) {
    const by = (pixels / this.width) * (this.to - this.from);
    this.view(this.from + by, this.to + by);
  }

  /** Brings a run into view; zooms in where it could not be seen. */
  show(run, close) {
    const { start, duration } = this.model.runs;
    const span = this.to - this.from;
    const middle = start[run] + duration[run] / 2;
    if (close) this.view(start[run] - duration[run] * 0.1, this.end(run) + duration[run] * 0.1);
    else if (duration[run] < span / 400) this.view(middle - duration[run] * 8, middle + duration[run] * 8);
    else if (this.end(run) < this.from || start[run] > this.to) this.view(middle - span / 2, middle + span / 2);
    const y = this.rowY[this.rowOf(run)];
    const top = this.lanes.scrollTop;
    if (y < top + RULER + this.head) this.lanes.scrollTop = y - RULER - this.head;
    else if (y > top + this.shown - ROW) this.lanes.scrollTop = y - this.shown + 2 * ROW;
    this.redraw();
  }

  search(text) {
    const wanted = text.trim().toLowerCase();
    this.matches = wanted ? this.model.lower.map((each) => each.includes(wanted)) : null;
    let n = 0;
    if (wanted) for (let i = 0; i < this.model.nRuns; i++) n += this.matches[this.model.runs.node[i]];
    $("highlighted").value = wanted ? counted(n, "run") : "";
    this.redraw();
  }

  // --- Pointer and keys ------------------------------------------------------------------------------

  /** The run at a place of the canvas, a little tolerant of narrow ones; or -1. */
  hit(x, y) {
    const below = y + this.lanes.scrollTop;
    const row = firstWhere(0, this.rowY.length, (each) => this.rowY[each] + ROW > below);
    if (y < RULER || row >= this.rowY.length || this.rowY[row] > below) return -1;
    const list = this.rowRuns[row];
    const k = firstWhere(0, list.length, (each) => this.end(list[each]) >= this.at(x - 2));
    return k < list.length && this.x(this.model.runs.start[list[k]]) <= x + 2 ? list[k] : -1;
  }

  /** What the tip says of a place: of a run, or of a change where the ruler marks one. */
  about(x, y) {
    const { runs, data } = this.model;
    if (y < RULER) {
      const distance = (each) => Math.abs(this.x(data.changes.time[each]) - x);
      const near = this.changesShown().filter((each) => distance(each) < 7);
      if (!near.length) return null;
      const each = near.reduce((a, b) => (distance(b) < distance(a) ? b : a));
      const node = data.changes.node[each];
      const more = near.length > 1 ? `, and ${number(near.length - 1)} more here` : "";
      return [
        node < 0 ? "" : this.model.label(node),
        `${data.change_kinds[data.changes.kind[each]]} at ${time(data.changes.time[each])}, revision ${data.changes.revision[each]}${more}`,
        "",
      ];
    }
    const run = this.hit(x, y);
    if (run < 0) return null;
    return [
      this.model.label(runs.node[run]),
      `${time(runs.duration[run])}, own ${time(runs.own[run])}, ${this.model.outcome(run).replace("_", " ")}`,
      this.model.reason(run),
    ];
  }

  hover(event) {
    const box = this.canvas.getBoundingClientRect();
    const texts = this.about(event.clientX - box.left, event.clientY - box.top);
    this.tip.hidden = !texts;
    if (!texts) return;
    this.tip.replaceChildren(make("strong", {}, texts[0]), texts[1], make("div", { class: "hint" }, texts[2]));
    const x = Math.min(event.clientX + 14, window.innerWidth - this.tip.offsetWidth - 8);
    const y = event.clientY + 18 + this.tip.offsetHeight > window.innerHeight
      ? event.clientY - this.tip.offsetHeight - 10 : event.clientY + 18;
    this.tip.style.left = `${Math.max(4, x)}px`;
    this.tip.style.top = `${Math.max(4, y)}px`;
  }

  connect() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.drag = { x: event.clientX, y: event.clientY, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.drag) return this.hover(event);
      if (!this.drag.moved && Math.abs(event.clientX - this.drag.x) + Math.abs(event.clientY - this.drag.y) < 4) return;
      this.drag.moved = true;
      this.tip.hidden = true;
      this.pan(this.drag.x - event.clientX);
      if (event.pointerType === "mouse") this.lanes.scrollTop += this.drag.y - event.clientY;
      this.drag.x = event.clientX;
      this.drag.y = event.clientY;
    });
    canvas.addEventListener("pointerup", (event) => {
      const clicked = this.drag && !this.drag.moved;
      this.drag = null;
      if (!clicked) return;
      const box = canvas.getBoundingClientRect();
      this.model.select(this.hit(event.clientX - box.left, event.clientY - box.top), "timeline");
    });
    canvas.addEventListener("pointercancel", () => { this.drag = null; });
    canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    canvas.addEventListener("dblclick", () => this.model.selected >= 0 && this.show(this.model.selected, true));
    canvas.addEventListener("wheel", (event) => {
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        this.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), event.clientX - canvas.getBoundingClientRect().left);
      } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
        event.preventDefault();
        this.pan(sideways);
      }
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.lanes.addEventListener("scroll", () => this.redraw());
    new ResizeObserver(() => this.resize()).observe(this.lanes);
    const brush = (event) => {
      const box = this.mini.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * this.model.duration;
      const half = (this.to - this.from) / 2;
      this.view(at - half, at + half);
    };
    this.mini.addEventListener("pointerdown", (event) => {
      this.mini.setPointerCapture(event.pointerId);
      brush(event);
    });
    this.mini.addEventListener("pointermove", (event) => event.buttons & 1 && brush(event));
    $("zoom-in").addEventListener("click", () => this.zoom(0.5));
    $("zoom-out").addEventListener("click", () => this.zoom(2));
    $("zoom-all").addEventListener("click", () => this.view(0, this.model.duration));
    $("zoom-run").addEventListener("click", () => this.model.selected >= 0 && this.show(this.model.selected, true));
    $("colour").addEventListener("change", (event) => {
      this.colourBy = event.target.value;
      this.cache.clear();
      this.legend();
      this.redraw();
    });
    $("highlight").addEventListener("input", paused(() => this.search($("highlight").value)));
    this.model.onSelect((run, from) => {
      if (run >= 0 && from !== "timeline") this.show(run, false);
      this.redraw();
    });
    this.legend();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const selected = this.model.selected;
    const act = {
      ArrowLeft: () => (event.shiftKey ? this.pan(-this.width / 8) : this.step(-1)),
      ArrowRight: () => (event.shiftKey ? this.pan(this.width / 8) : this.step(1)),
      ArrowUp: () => this.choose(selected >= 0 ? this.model.runs.parent[selected] : this.nearest()),
      ArrowDown: () => this.choose(selected >= 0 ? this.model.childrenOf.of(selected)[0] : this.nearest()),
      Home: () => this.view(0, this.to - this.from),
      End: () => this.view(this.model.duration - (this.to - this.from), this.model.duration),
      Enter: () => (selected >= 0 ? $("details").querySelector("button:not(:disabled)")?.focus() : this.choose(this.nearest())),
      Escape: () => this.model.select(-1, "timeline"),
      "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
      0: () => this.view(0, this.model.duration),
      z: () => selected >= 0 && this.show(selected, true),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** The first run that the view shows. */
  nearest() {
    for (const list of this.rowRuns) {
      const k = firstWhere(0, list.length, (each) => this.end(list[each]) >= this.from);
      if (k < list.length && this.model.runs.start[list[k]] <= this.to) return list[k];
    }
    return this.model.nRuns ? 0 : undefined;
  }

  step(by) {
    const selected = this.model.selected;
    if (selected < 0) return this.choose(this.nearest());
    const list = this.rowRuns[this.rowOf(selected)];
    const place = firstWhere(0, list.length, (each) => this.model.runs.start[list[each]] >= this.model.runs.start[selected]);
    this.choose(list[list.indexOf(selected, place) + by]);
  }

  choose(run) {
    if (run === undefined || run < 0) return;
    this.model.select(run, "keys");
    const { runs } = this.model;
    $("said").textContent =
      `${this.model.label(runs.node[run])}, ${this.model.outcome(run)}, ${time(runs.duration[run])}, ${this.model.reason(run)}`;
  }
}
