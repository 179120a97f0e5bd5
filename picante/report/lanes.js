// The picture of the timeline: a row for each depth of each track, drawn on a canvas. What is narrower than a pixel is drawn once for
// each pixel, found by binary search, so that a view of 100,000 runs costs what one of a thousand does.

const ROW = 19, BOX = 16, RULER = 24, CHARACTER = 6.7;
const OUTCOME_HUES = { new: 212, equal: 145, failed: 4, cancelled: 275, no_result: 40, running: 185 };

class Lanes {
  constructor(model) {
    this.model = model;
    this.canvas = $("runs");
    this.lanes = $("lanes");
    this.mini = $("minimap");
    this.colourBy = "query";
    this.highlight = "";
    this.matches = null;
    this.from = 0;
    this.to = model.duration;
    this.pending = false;
    this.layOut();
    this.readTheme();
  }

  // --- Where everything stands -----------------------------------------------------------------------

  layOut() {
    const { runs, nRuns, data } = this.model;
    const stacks = data.tracks.map(() => []);
    const depths = new Uint16Array(nRuns);
    const deepest = data.tracks.map(() => 0);
    for (let i = 0; i < nRuns; i++) {
      const stack = stacks[runs.track[i]];
      while (stack.length && stack[stack.length - 1] <= runs.start[i] + 0.05) stack.pop();
      depths[i] = Math.min(stack.length, 4000);
      deepest[runs.track[i]] = Math.max(deepest[runs.track[i]], depths[i] + 1);
      stack.push(runs.start[i] + runs.duration[i]);
    }
    const head = (this.head = data.tracks.length > 8 ? 13 : 20); // many tracks are tasks, and shown closer together
    let y = RULER, row = 0;
    this.heads = [];
    this.firstRow = [];
    this.rowY = [];
    data.tracks.forEach((name, track) => {
      this.heads.push({ name, y });
      y += head;
      this.firstRow.push(row);
      for (let depth = 0; depth < deepest[track]; depth++, row++, y += ROW) this.rowY.push(y);
      y += head > 15 ? 4 : 1;
    });
    this.height = y + 4;
    this.rowOf = (run) => this.firstRow[runs.track[run]] + depths[run];
    this.rows = grouped(nRuns, row, this.rowOf);
    this.rowRuns = this.rowY.map((_, each) => {
      const found = this.rows.of(each);
      for (let k = 1; k < found.length; k++) {
        if (runs.start[found[k]] < runs.start[found[k - 1]]) return found.sort((a, b) => runs.start[a] - runs.start[b]);
      }
      return found;
    });
    this.changes = [...data.changes.time.keys()]
      .filter((each) => data.change_kinds[data.changes.kind[each]] !== "same")
      .sort((a, b) => data.changes.time[a] - data.changes.time[b]);
    this.density = null;
  }

  end(run) {
    return this.model.runs.start[run] + this.model.runs.duration[run];
  }

  x(at) {
    return ((at - this.from) / (this.to - this.from)) * this.width;
  }

  at(x) {
    return this.from + (x / this.width) * (this.to - this.from);
  }

  resize() {
    const short = this.height <= 544;
    this.lanes.classList.toggle("short", short);
    this.width = Math.max(50, this.lanes.clientWidth);
    this.shown = short ? this.height : Math.max(80, this.lanes.clientHeight);
    this.scale = window.devicePixelRatio || 1;
    for (const [canvas, height] of [[this.canvas, this.shown], [this.mini, 44]]) {
      canvas.width = Math.round(this.width * this.scale);
      canvas.height = Math.round(height * this.scale);
      canvas.style.height = `${height}px`;
    }
    $("spacer").style.height = `${Math.max(0, this.height - this.shown)}px`;
    this.density = null;
    this.redraw();
  }

  readTheme() {
    const style = getComputedStyle(document.documentElement);
    this.theme = {};
    for (const name of ["lane", "grid", "text", "soft", "label", "focus", "card", "accent", "line", "bar", "page"]) {
      this.theme[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.dark = style.colorScheme === "dark";
    this.cache = new Map();
  }

  // --- Colours ---------------------------------------------------------------------------------------

  group(run) {
    if (this.colourBy === "query") return this.model.query(run);
    return this.model.runs[this.colourBy][run];
  }

  hue(group) {
    if (this.colourBy === "outcome") return OUTCOME_HUES[this.model.data.outcomes[group]] ?? 320;
    return (205 + group * 137.508) % 360;
  }

  /** A colour for what ran, a pale one for what was suspended. */
  colours(group) {
    let found = this.cache.get(group);
    if (!found) {
      const hue = this.hue(group).toFixed(0);
      found = this.dark
        ? [`hsl(${hue} 45% 38%)`, `hsl(${hue} 28% 24%)`]
        : [`hsl(${hue} 62% 72%)`, `hsl(${hue} 48% 88%)`];
      this.cache.set(group, found);
    }
    return found;
  }

  legend() {
    const { runs, nRuns, data } = this.model;
    const own = new Map();
    for (let i = 0; i < nRuns; i++) own.set(this.group(i), (own.get(this.group(i)) || 0) + runs.own[i]);
    const groups = [...own.keys()].sort((a, b) => own.get(b) - own.get(a)).slice(0, 12);
    const names = this.colourBy === "query" ? data.queries.map((each) => each.short)
      : this.colourBy === "outcome" ? data.outcomes : data.reason_texts;
    $("legend").replaceChildren(...groups.map((group) => {
      const patch = make("i", { "aria-hidden": "true" });
      patch.style.background = this.colours(group)[0];
      return make("li", {}, patch, `${names[group]} (${time(own.get(group))})`);
    }));
  }

  // --- Drawing ---------------------------------------------------------------------------------------

  redraw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.draw();
      this.drawMini();
    });
  }

  draw() {
    const pen = this.canvas.getContext("2d", { alpha: false });
    pen.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    pen.fillStyle = this.theme.lane;
    pen.fillRect(0, 0, this.width, this.shown);
    const top = this.lanes.scrollTop;
    this.drawGrid(pen);
    pen.textBaseline = "middle";
    for (let row = 0; row < this.rowY.length; row++) {
      const y = this.rowY[row] - top;
      if (y > this.shown) break;
      if (y > RULER - ROW) this.drawRow(pen, row, y);
    }
    pen.font = `600 ${this.head > 15 ? 11 : 9}px system-ui, sans-serif`;
    pen.fillStyle = this.theme.soft;
    for (const { name, y } of this.heads) {
      if (y - top > 0 && y - top < this.shown) pen.fillText(name, 6, y - top + this.head / 2 + 1);
    }
    this.drawRuler(pen);
    this.drawSelected(pen, top);
  }

  /** Round times on the scale, about 110 pixels apart. */
  *ticks() {
    const wanted = ((this.to - this.from) * 110) / this.width;
    const power = 10 ** Math.floor(Math.log10(wanted));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= wanted);
    for (let at = Math.ceil(this.from / step) * step; at <= this.to; at += step) yield [at, step];
  }

  drawGrid(pen) {
    pen.fillStyle = this.theme.grid;
    for (const [at] of this.ticks()) pen.fillRect(Math.round(this.x(at)), RULER, 1, this.shown);
    const shown = this.changesShown();
    const { time: when } = this.model.data.changes;
    if (shown.length > this.width / 12) return; // they would hide what they should explain
    pen.fillStyle = this.theme.accent;
    pen.globalAlpha = 0.35;
    for (const each of shown) pen.fillRect(Math.round(this.x(when[each])), RULER, 1, this.shown);
    pen.globalAlpha = 1;
  }

  /** What was changed within the view, in order. */
  changesShown() {
    const at = (each) => this.model.data.changes.time[this.changes[each]];
    const first = firstWhere(0, this.changes.length, (each) => at(each) >= this.from);
    const end = firstWhere(first, this.changes.length, (each) => at(each) > this.to);
    return this.changes.slice(first, end);
  }

  drawRuler(pen) {
    pen.fillStyle = this.theme.card;
    pen.fillRect(0, 0, this.width, RULER - 2);
    pen.fillStyle = this.theme.line;
    pen.fillRect(0, RULER - 3, this.width, 1);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.fillStyle = this.theme.soft;
    for (const [at, step] of this.ticks()) {
      const scale = step >= 1e5 ? [1e6, "s"] : step >= 100 ? [1e3, "ms"] : [1, "µs"];
      const digits = Math.max(0, -Math.floor(Math.log10(step / scale[0]) + 1e-9));
      pen.fillText(`${(at / scale[0]).toFixed(digits)} ${scale[1]}`, this.x(at) + 4, 11);
      pen.fillRect(Math.round(this.x(at)), 4, 1, RULER - 7);
    }
    pen.fillStyle = this.theme.accent;
    let last = -9;
    for (const each of this.changesShown()) {
      const x = this.x(this.model.data.changes.time[each]);
      if (x < last + 7) continue;
      last = x;
      pen.beginPath();
      pen.moveTo(x - 4, RULER - 9);
      pen.lineTo(x + 4, RULER - 9);
      pen.lineTo(x, RULER - 2);
      pen.fill();
    }
  }

  drawRow(pen, row, y) {
    const { start, duration } = this.model.runs;
    const list = this.rowRuns[row];
    pen.font = "11px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
    let k = firstWhere(0, list.length, (each) => this.end(list[each]) >= this.from);
    while (k < list.length && start[list[k]] <= this.to) {
      const run = list[k];
      const x0 = Math.max(-1, this.x(start[run]));
      const x1 = Math.min(this.width + 1, this.x(start[run] + duration[run]));
      const dim = this.matches && !this.matches[this.model.runs.node[run]];
      const [ran, paused] = this.colours(this.group(run));
      if (x1 - x0 < 1) {
        const pixel = Math.floor(x0);
        pen.globalAlpha = dim ? 0.15 : 1;
        pen.fillStyle = ran;
        pen.fillRect(pixel, y, 1, BOX);
        const next = this.at(pixel + 1);
        // What begins and ends within this pixel would be drawn over it.
        k = firstWhere(k + 1, list.length, (each) => this.end(list[each]) >= next);
        continue;
      }
      pen.globalAlpha = dim ? 0.15 : 1;
      this.drawRun(pen, run, x0, x1, y, ran, paused);
      k++;
    }
    pen.globalAlpha = 1;
  }

  drawRun(pen, run, x0, x1, y, ran, paused) {
    const width = Math.max(1, x1 - x0 - (x1 - x0 > 3 ? 0.6 : 0));
    const steps = this.model.stepsOf.of(run);
    if (width > 6 && steps.length > 0) {
      const { start, duration } = this.model.data.steps;
      pen.fillStyle = paused;
      pen.fillRect(x0, y, width, BOX);
      pen.fillStyle = ran;
      let last = -2;
      let k = firstWhere(0, steps.length, (each) => start[steps[each]] + duration[steps[each]] >= this.from);
      for (; k < steps.length && start[steps[k]] <= this.to; k++) {
        const left = Math.max(x0, this.x(start[steps[k]]));
        const right = Math.min(x0 + width, this.x(start[steps[k]] + duration[steps[k]]));
        if (right < last + 0.5) continue;
        pen.fillRect(left, y, Math.max(0.7, right - left), BOX);
        last = Math.max(left + 0.7, right);
      }
    } else {
      pen.fillStyle = ran;
      pen.fillRect(x0, y, width, BOX);
    }
    const outcome = this.model.outcome(run);
    if (outcome === "failed" && width > 2) {
      pen.fillStyle = this.theme.accent;
      pen.fillRect(x0, y + BOX - 3, width, 3);
    }
    const room = Math.floor((width - 8) / CHARACTER);
    if (room >= 3) {
      const label = this.model.label(this.model.runs.node[run]);
      pen.fillStyle = this.theme.label;
      pen.fillText(label.length <= room ? label : `${label.slice(0, room - 1)}…`, x0 + 4, y + BOX / 2 + 0.5);
    }
  }

  drawSelected(pen, top) {
    const run = this.model.selected;
    if (run < 0) return;
    const y = this.rowY[this.rowOf(run)] - top;
    const x0 = this.x(this.model.runs.start[run]), x1 = this.x(this.end(run));
    if (y < RULER - ROW || y > this.shown || x1 < 0 || x0 > this.width) return;
    pen.strokeStyle = this.theme.focus;
    pen.lineWidth = 2.5;
    const left = Math.max(-4, x0 - 1), right = Math.min(this.width + 4, Math.max(x1, x0 + 2) + 1);
    pen.strokeRect(left, y - 1, right - left, BOX + 2);
  }

  drawMini() {
    const pen = this.mini.getContext("2d");
    pen.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    pen.clearRect(0, 0, this.width, 44);
    const n = Math.max(1, Math.floor(this.width / 2));
    this.density ||= this.busy(n);
    const most = Math.max(...this.density, 1e-9);
    pen.fillStyle = this.theme.soft;
    this.density.forEach((busy, i) => {
      const height = busy ? Math.max(1, (busy / most) * 38) : 0;
      pen.fillRect((i * this.width) / n, 42 - height, this.width / n - 0.4, height);
    });
    const whole = this.model.duration;
    const x0 = (this.from / whole) * this.width, x1 = (this.to / whole) * this.width;
    pen.fillStyle = this.theme.focus;
    pen.globalAlpha = 0.16;
    pen.fillRect(x0, 0, Math.max(2, x1 - x0), 44);
    pen.globalAlpha = 1;
    pen.fillRect(x0, 0, 1.5, 44);
    pen.fillRect(Math.max(x0, x1 - 1.5), 0, 1.5, 44);
  }

  /** How much ran in each of n equal parts of the whole, all tracks together. */
  busy(n) {
    const { duration: whole } = this.model;
    const found = new Float64Array(n);
    this.spans ||= this.running();
    for (const [start, end] of this.spans) {
      const first = Math.min(n - 1, Math.floor((start / whole) * n));
      const last = Math.min(n - 1, Math.floor((end / whole) * n));
      for (let i = first; i <= last; i++) {
        found[i] += Math.max(0, Math.min(end, ((i + 1) * whole) / n) - Math.max(start, (i * whole) / n));
      }
    }
    return found;
  }

  /** When something ran on each track: a step lies within that of whoever awaits it, and must not count twice. */
  running() {
    const { runs, nRuns, data } = this.model;
    const { run, start, duration } = data.steps;
    const tracks = grouped(run.length, data.tracks.length, (i) => runs.track[run[i]]);
    const spans = [];
    for (let track = 0; track < data.tracks.length; track++) {
      let end = -1;
      for (const i of tracks.of(track).sort((a, b) => start[a] - start[b])) {
        const stop = start[i] + duration[i];
        if (stop > end) spans.push([Math.max(start[i], end), stop]);
        end = Math.max(end, stop);
      }
    }
    if (!run.length) {
      for (let i = 0; i < nRuns; i++) if (runs.parent[i] < 0) spans.push([runs.start[i], this.end(i)]);
    }
    return spans;
  }
}
