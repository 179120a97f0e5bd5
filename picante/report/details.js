// What is selected: why a run ran, what it read and asked for; and the neighbourhood of a node in the graph.

const MOST = 12;

class Details {
  constructor(model) {
    this.model = model;
    this.panel = $("details");
    this.opener = null;
    this.show(-1);
    model.onSelect((run, from) => {
      const held = this.panel.contains(document.activeElement);
      // A table is far away: go where the answer stands, and know the way back.
      if (from === "table") this.opener = document.activeElement;
      else if (!held) this.opener = null;
      this.show(run);
      if (run >= 0) around.show(model.runs.node[run]);
      if (held) this.panel.querySelector("button:not(:disabled)")?.focus();
      else if (from === "table") {
        this.panel.focus({ preventScroll: true });
        this.panel.scrollIntoView({ block: "nearest" });
      }
    });
  }

  /** A button that selects a run. */
  run(run, text) {
    const label = text ?? this.model.label(this.model.runs.node[run]);
    return make("button", { type: "button", class: "link", onclick: () => this.model.select(run, "details") }, label);
  }

  /** A button for a node: selects its last run that began before a time, if there is one. */
  node(node, before) {
    const run = this.model.runBefore(node, before, this.model.selected);
    return run >= 0 ? this.run(run) : make("span", { class: "mono" }, this.model.label(node));
  }

  list(title, items, more, tag = "ul", name = null) {
    if (!items.length) return null;
    if (more > 0) items.push(make("li", {}, `and ${number(more)} more`));
    return make("div", {}, make("h4", {}, title), make(tag, { class: name }, ...items));
  }

  show(run) {
    if (run < 0) {
      const text = this.model.nRuns ? "Select a run to see why it ran." : "No query ran while the profiler was at work.";
      this.panel.replaceChildren(make("p", { class: "empty" }, text));
      return;
    }
    const { model } = this;
    const { runs, data } = model;
    const node = runs.node[run];
    const same = model.runsOf.of(node);
    const place = same.indexOf(run);
    const facts = [
      ["outcome", model.outcome(run).replace("_", " ")],
      ["revision", number(runs.revision[run])],
      ["began at", time(runs.start[run])],
      ["duration", time(runs.duration[run])],
      ["own time", time(runs.own[run])],
      ["total time", time(runs.total[run])],
      ["waiting", time(runs.waiting[run])],
      ["run of this node", `${number(place + 1)} of ${number(same.length)}`],
    ];
    const error = model.errors.get(run);
    const buttons = make("p", { class: "bar" });
    const button = (title, other) => buttons.append(make("button", {
      type: "button", disabled: other === undefined || other < 0 ? "" : null,
      onclick: () => model.select(other, "details"),
    }, title));
    button("who asked", runs.parent[run]);
    button("previous run", same[place - 1]);
    button("next run", same[place + 1]);
    if (this.opener) {
      buttons.append(make("button", { type: "button", onclick: () => {
        (this.opener?.isConnected ? this.opener : $("filter-runs")).focus();
      } }, "back to the table"));
    }
    const children = model.childrenOf.of(run);
    const edges = model.readsOf.of(node), readers = model.readersOf.of(node);
    const end = runs.start[run] + runs.duration[run];
    this.panel.replaceChildren(
      make("h3", {}, model.label(node)),
      make("dl", { class: "facts" }, ...facts.map(([title, text]) => make("div", {}, make("dt", {}, title), make("dd", {}, text)))),
      error ? make("p", { class: "warning" }, error) : "",
      buttons,
      make("div", { class: "columns" },
        this.list("Why it ran", model.chain(run).map((each, i, all) => this.link(each, all[i + 1], i)), 0, "ol", "chain"),
        this.list(`It asked for ${counted(children.length, "run")}`,
          Array.from(children.subarray(0, MOST), (each) => make("li", {}, this.run(each), ` ${time(runs.duration[each])}`)),
          children.length - MOST),
        this.list(`It read ${counted(edges.length, "record")}`,
          Array.from(edges.subarray(0, MOST), (each) => make("li", {}, this.node(data.edges.dep[each], end))),
          edges.length - MOST),
        this.list(`Read by ${counted(readers.length, "record")}`,
          Array.from(readers.subarray(0, MOST), (each) => make("li", {}, this.node(data.edges.reader[each], model.duration))),
          readers.length - MOST)),
    );
  }

  /** One step on the way back to what was changed. */
  link(step, next, place) {
    const { model } = this;
    if (step.run !== undefined) {
      const name = place ? this.run(step.run) : make("strong", {}, "this run");
      const why = next ? model.data.reason_texts[model.runs.reason[step.run]] : model.reason(step.run);
      const gave = place ? ` gave ${model.outcome(step.run).replace("_", " ")}` : "";
      return make("li", {}, name, `${gave}: ${why}`);
    }
    if (step.change !== undefined) {
      const { changes, change_kinds: kinds } = model.data;
      const text = `${kinds[changes.kind[step.change]]} at ${time(changes.time[step.change])}, revision ${changes.revision[step.change]}`;
      return make("li", {}, make("span", { class: "mono" }, model.label(changes.node[step.change])), ` ${text}`);
    }
    return make("li", {}, make("span", { class: "mono" }, model.label(step.node)));
  }
}

/** The neighbourhood of a node: who read it on the left, what it read on the right. */
class Around {
  static MOST = 14;

  constructor(model) {
    this.model = model;
    this.place = $("around");
    $("find-node").addEventListener("input", paused(() => this.suggest()));
    $("find-node").addEventListener("change", () => this.find($("find-node").value));
  }

  suggest() {
    const wanted = $("find-node").value.trim().toLowerCase();
    const found = [];
    for (let i = 0; wanted && i < this.model.nNodes && found.length < 20; i++) {
      if (this.model.lower[i].includes(wanted)) found.push(i);
    }
    $("node-list").replaceChildren(...found.map((each) => make("option", { value: this.model.label(each) })));
  }

  find(text) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return;
    let found = this.model.lower.indexOf(wanted);
    if (found < 0) found = this.model.lower.findIndex((each) => each.includes(wanted));
    if (found >= 0) this.show(found);
    else this.place.replaceChildren(make("p", { class: "empty" }, "No node is called so."));
  }

  show(node) {
    const { model } = this;
    const { edges } = model.data;
    const causes = new Set(Array.from(model.runsOf.of(node), (run) => model.runs.cause[run]));
    const caused = (reader) => model.runsOf.of(reader).some((run) => model.runs.cause[run] === node);
    const order = (list, important) => [...new Set(list)].sort((a, b) => important(b) - important(a));
    const readers = order(Array.from(model.readersOf.of(node), (each) => edges.reader[each]), (each) => Number(caused(each)));
    const deps = order(Array.from(model.readsOf.of(node), (each) => edges.dep[each]), (each) => Number(causes.has(each)));
    const rows = Math.max(1, Math.min(Around.MOST, readers.length), Math.min(Around.MOST, deps.length));
    const width = 250, gap = 110, height = 44, all = Math.max(readers.length, deps.length);
    const more = all > Around.MOST ? 24 : 0;
    const middle = (rows * height) / 2 + 4;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("width", 3 * width + 2 * gap + 8);
    svg.setAttribute("height", rows * height + 8 + more);
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", `${model.label(node)}: ${readers.length} readers, ${deps.length} dependencies`);
    const boxes = [], lines = [];
    const column = (list, x, strong, toEdge) => {
      const shown = list.slice(0, Around.MOST);
      shown.forEach((each, i) => {
        const y = middle + (i - (shown.length - 1) / 2) * height;
        boxes.push(this.box(each, x, y, width, false));
        lines.push(toEdge(y, strong(each), each));
      });
      if (list.length > shown.length) {
        boxes.push(make("text", { svg: true, class: "note", x: x + 8, y: rows * height + 20 }, `and ${number(list.length - shown.length)} more`));
      }
    };
    const left = 4, centre = left + width + gap, right = centre + width + gap;
    column(readers, left, caused, (y, strong, each) => this.edge(left + width, y, centre, middle, strong, each, node));
    column(deps, right, (each) => causes.has(each), (y, strong, each) => this.edge(centre + width, middle, right, y, strong, node, each));
    svg.append(...lines, this.box(node, centre, middle, width, true), ...boxes);
    this.place.replaceChildren(svg);
  }

  edge(x0, y0, x1, y1, strong, reader, dep) {
    const half = (x1 - x0) / 2;
    const d = `M${x0} ${y0} C${x0 + half} ${y0} ${x1 - half} ${y1} ${x1} ${y1}`;
    const title = `${this.model.label(reader)} read ${this.model.label(dep)}${strong ? ", and a change of it made a run necessary" : ""}`;
    return make("g", { svg: true, class: `edge${strong ? " caused weight-3" : ""}` },
      make("title", { svg: true }, title),
      make("path", { svg: true, class: "line", d, "marker-end": "url(#arrow)" }),
      make("path", { svg: true, class: "hit", d }));
  }

  box(node, x, y, width, chosen) {
    const { model } = this;
    const query = model.data.queries[model.data.nodes.query[node]];
    const runs = model.runsOf.of(node);
    const last = runs.length ? runs[runs.length - 1] : -1;
    const room = 32, label = model.label(node);
    const text = label.length <= room ? label : `${label.slice(0, 19)}…${label.slice(-(room - 20))}`;
    const note = last < 0 ? (query.kind === "query" ? "did not run" : query.kind)
      : `${counted(runs.length, "run")}; last ${model.outcome(last).replace("_", " ")}: ${model.data.reason_texts[model.runs.reason[last]]}`;
    const short = note.length <= 38 ? note : `${note.slice(0, 37)}…`;
    const act = () => (last >= 0 && model.selected !== last && !chosen ? model.select(last, "graph") : this.show(node));
    const box = make("g", {
      svg: true, class: `box ${query.kind}${chosen ? " chosen" : ""}`, tabindex: "0", role: "button", "aria-label": `${label}, ${note}`,
      onclick: act, onkeydown: (event) => pressed(event, act),
    },
    make("title", { svg: true }, `${label}\n${note}`),
    make("rect", { svg: true, x, y: y - 19, width, height: 38, rx: query.kind === "query" ? 12 : 3 }),
    make("text", { svg: true, x: x + 10, y: y - 3 }, text),
    make("text", { svg: true, class: "note", x: x + 10, y: y + 12 }, short));
    return box;
  }
}

/** Enter and the space bar press what is no button of its own. */
function pressed(event, act) {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  act();
}
