// What the sections share: the data with its indices, and what is selected.

class Model {
  constructor(data) {
    this.data = data;
    this.runs = data.runs;
    this.nRuns = data.runs.node.length;
    this.nNodes = data.nodes.label.length;
    this.duration = Math.max(data.duration, 1);
    for (let i = 0; i < this.nRuns; i++) {
      this.duration = Math.max(this.duration, this.runs.start[i] + this.runs.duration[i]);
    }
    this.runsOf = grouped(this.nRuns, this.nNodes, (i) => this.runs.node[i]);
    this.childrenOf = grouped(this.nRuns, this.nRuns, (i) => this.runs.parent[i]);
    this.stepsOf = grouped(data.steps.run.length, this.nRuns, (i) => data.steps.run[i]);
    this.readsOf = grouped(data.edges.reader.length, this.nNodes, (i) => data.edges.reader[i]);
    this.readersOf = grouped(data.edges.dep.length, this.nNodes, (i) => data.edges.dep[i]);
    this.errors = new Map(data.errors);
    this.lowered = null;
    this.selected = -1;
    this.listeners = [];
  }

  label(node) {
    return this.data.nodes.label[node];
  }

  /** The labels in lower case, for searching. */
  get lower() {
    this.lowered ||= this.data.nodes.label.map((each) => each.toLowerCase());
    return this.lowered;
  }

  query(run) {
    return this.data.nodes.query[this.runs.node[run]];
  }

  outcome(run) {
    return this.data.outcomes[this.runs.outcome[run]];
  }

  /** Why a run was necessary, as a phrase. */
  reason(run) {
    const text = this.data.reason_texts[this.runs.reason[run]];
    const cause = this.runs.cause[run];
    if (cause < 0) return text;
    const [before, after] = aroundCause(text);
    return `${before}${this.label(cause)}${after}`;
  }

  /** The last run of a node that began no later than a time, or -1. */
  runBefore(node, at, except) {
    const runs = this.runsOf.of(node);
    for (let k = runs.length - 1; k >= 0; k--) {
      if (runs[k] !== except && this.runs.start[runs[k]] <= at) return runs[k];
    }
    return -1;
  }

  /** The change that gave a node another outcome before a time, or -1: one of the node, of its record, or of its input. */
  changeBefore(node, at) {
    const { changes, change_kinds: kinds, nodes } = this.data;
    const label = this.label(node);
    let found = -1, best = 0;
    for (let i = 0; i < changes.time.length; i++) {
      const other = changes.node[i];
      if (other < 0 || changes.time[i] > at || kinds[changes.kind[i]] === "same") continue;
      if (nodes.query[other] !== nodes.query[node]) continue;
      // The field of a record is read, the record is set; what a list of all records depends on may be any of them.
      const fits = other === node ? 3 : label.startsWith(`${this.label(other)}.`) ? 2 : label.endsWith("(*)") ? 1 : 0;
      if (fits && (fits > best || (fits === best && changes.time[i] >= changes.time[found]))) [found, best] = [i, fits];
    }
    return found;
  }

  /** From a run back to the change that made it necessary: [{run} or {change} or {node}, ...], the run itself first. */
  chain(run) {
    const found = [{ run }];
    const seen = new Set([run]);
    while (found.length < 20) {
      const node = this.runs.cause[run];
      if (node < 0) break;
      const before = this.runBefore(node, this.runs.start[run], run);
      if (before >= 0 && !seen.has(before)) {
        found.push({ run: before });
        seen.add(before);
        run = before;
        continue;
      }
      const change = this.changeBefore(node, this.runs.start[run]);
      found.push(change >= 0 ? { change } : { node });
      break;
    }
    return found;
  }

  /** Selects a run; `from` is the section that did it, which need not move then. */
  select(run, from) {
    this.selected = run;
    for (const listener of this.listeners) listener(run, from);
  }

  onSelect(listener) {
    this.listeners.push(listener);
  }
}
