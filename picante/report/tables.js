// The tables: those of queries and inputs stand in the page and are sorted and filtered there, that of all runs is made a
// page at a time.

/** Makes a button of each head cell, and sorts the rows by what the cells say. */
function sortable(table) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = make("button", { type: "button" }, head.textContent);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const now = head.getAttribute("aria-sort");
      const down = now ? now === "ascending" : numeric;
      for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        return (numeric ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
      };
      body.append(...[...body.rows].sort(order));
    });
    head.replaceChildren(button);
  });
}

/** Draws in the cells of some columns which share of the column's largest value they are. */
function shares(table, keys) {
  const heads = [...table.tHead.rows[0].cells];
  for (const key of keys) {
    const column = heads.findIndex((head) => head.dataset.key === key);
    if (column < 0) continue;
    const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
    const most = Math.max(...cells.map((cell) => Number(cell.dataset.value)), 0);
    if (most <= 0) continue;
    for (const cell of cells) {
      cell.classList.add("share");
      cell.style.setProperty("--share", `${Math.max(0, (100 * cell.dataset.value) / most).toFixed(1)}%`);
    }
  }
}

function queryTables(model, choose) {
  for (const id of ["queries", "inputs"]) {
    const table = $(id);
    if (!table) continue;
    shares(table, ["own", "total", "saved"]);
    sortable(table);
    for (const row of table.tBodies[0].rows) {
      const query = Number(row.dataset.query);
      if (id !== "queries") continue;
      const button = make("button", { type: "button", class: "link", title: "show its runs" }, row.cells[0].textContent);
      button.addEventListener("click", () => choose(query));
      row.cells[0].replaceChildren(button);
    }
  }
  const filter = () => {
    const wanted = $("filter-queries").value.trim().toLowerCase();
    let shown = 0, all = 0;
    for (const row of document.querySelectorAll("#queries tbody tr, #inputs tbody tr")) {
      const query = model.data.queries[Number(row.dataset.query)];
      row.hidden = !query.name.toLowerCase().includes(wanted);
      shown += !row.hidden;
      all++;
    }
    $("n-queries").value = wanted ? `${number(shown)} of ${number(all)}` : "";
  };
  $("filter-queries").addEventListener("input", paused(filter));
}

class RunTable {
  static PAGE = 25;

  static COLUMNS = [
    ["query", (m, i) => m.label(m.runs.node[i]), null],
    ["outcome", (m, i) => m.outcome(i).replace("_", " "), null],
    ["reason", (m, i) => m.reason(i), null],
    ["own time", (m, i) => time(m.runs.own[i]), "own"],
    ["total time", (m, i) => time(m.runs.total[i]), "total"],
    ["waiting", (m, i) => time(m.runs.waiting[i]), "waiting"],
    ["duration", (m, i) => time(m.runs.duration[i]), "duration"],
    ["start", (m, i) => time(m.runs.start[i]), "start"],
    ["revision", (m, i) => number(m.runs.revision[i]), "revision"],
  ];

  constructor(model) {
    this.model = model;
    this.column = 3;
    this.down = true;
    this.at = 0;
    this.build();
    const choices = (id, title, names) => {
      $(id).append(new Option(`any ${title}`, "-1"), ...names.map(([value, name]) => new Option(name, value)));
      $(id).addEventListener("change", () => this.filter());
    };
    const { data } = model;
    const names = data.queries.map((each, i) => [i, each.name]);
    const ran = new Set(Array.from({ length: model.nRuns }, (_, i) => model.query(i)));
    choices("runs-query", "query", names.filter(([i]) => ran.has(i)).sort((a, b) => a[1].localeCompare(b[1])));
    choices("runs-outcome", "outcome", data.outcomes.map((each, i) => [i, each.replace("_", " ")]));
    choices("runs-reason", "reason", data.reason_texts.map((each, i) => [i, each]));
    $("filter-runs").addEventListener("input", paused(() => this.filter()));
    const pages = () => Math.max(1, Math.ceil(this.order.length / RunTable.PAGE));
    const to = (id, page) => $(id).addEventListener("click", () => {
      this.at = Math.max(0, Math.min(pages() - 1, page()));
      this.show();
    });
    to("page-first", () => 0);
    to("page-previous", () => this.at - 1);
    to("page-next", () => this.at + 1);
    to("page-last", () => pages() - 1);
    this.pages = pages;
    model.onSelect(() => this.mark());
    this.filter();
  }

  build() {
    const heads = RunTable.COLUMNS.map(([title, , key], column) => {
      const head = make("th", { scope: "col", class: key ? "number" : null });
      head.append(make("button", { type: "button", onclick: () => {
        this.down = this.column === column ? !this.down : Boolean(key);
        this.column = column;
        this.sort();
      } }, title));
      return head;
    });
    this.heads = heads;
    this.body = make("tbody", {});
    this.caption = make("caption", {});
    const table = make("table", { id: "longest" }, this.caption, make("thead", {}, make("tr", {}, ...heads)), this.body);
    const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs" }, table);
    if (this.model.nRuns) $("all-runs").replaceChildren(scroll);
  }

  filter() {
    const { model } = this;
    const wanted = $("filter-runs").value.trim().toLowerCase();
    const [query, outcome, reason] = ["runs-query", "runs-outcome", "runs-reason"].map((id) => Number($(id).value));
    const fits = wanted ? model.lower.map((each) => each.includes(wanted)) : null;
    const found = [];
    for (let i = 0; i < model.nRuns; i++) {
      if (fits && !fits[model.runs.node[i]]) continue;
      if (query >= 0 && model.query(i) !== query) continue;
      if (outcome >= 0 && model.runs.outcome[i] !== outcome) continue;
      if (reason >= 0 && model.runs.reason[i] !== reason) continue;
      found.push(i);
    }
    this.order = Uint32Array.from(found);
    this.summarize();
    this.sort();
  }

  /** Why the runs that are listed were necessary, taken together. */
  summarize() {
    const { model } = this;
    const { runs, data } = model;
    const counts = new Map();
    for (const i of this.order) {
      const cause = runs.cause[i] < 0 ? -1 : data.nodes.query[runs.cause[i]];
      const key = runs.reason[i] * (data.queries.length + 1) + cause + 1;
      counts.set(key, (counts.get(key) || 0) + 1);
    }
    const most = [...counts].sort((a, b) => b[1] - a[1]);
    const items = most.slice(0, 6).map(([key, n]) => {
      const cause = (key % (data.queries.length + 1)) - 1;
      const text = data.reason_texts[Math.floor(key / (data.queries.length + 1))];
      const [before, after] = cause < 0 ? [text, ""] : aroundCause(text);
      const short = cause < 0 ? null : make("span", { class: "mono" }, data.queries[cause].short);
      return make("li", {}, make("strong", {}, number(n)), ` because ${before}`, short, after);
    });
    const rest = most.slice(6).reduce((sum, [, n]) => sum + n, 0);
    if (rest) items.push(make("li", {}, make("strong", {}, number(rest)), " for other reasons"));
    $("why").replaceChildren(...items);
  }

  sort() {
    const { model } = this;
    const [, text, key] = RunTable.COLUMNS[this.column];
    const sign = this.down ? -1 : 1;
    if (key) {
      const values = model.runs[key];
      this.order.sort((a, b) => (values[a] - values[b]) * sign || a - b);
    } else {
      const texts = new Map();
      for (const i of this.order) texts.set(i, text(model, i));
      const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
      this.order.sort((a, b) => compare(texts.get(a), texts.get(b)) * sign || a - b);
    }
    this.heads.forEach((head, column) => {
      if (column === this.column) head.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.at = 0;
    this.show();
  }

  show() {
    const { model } = this;
    const first = this.at * RunTable.PAGE;
    const shown = this.order.subarray(first, first + RunTable.PAGE);
    this.body.replaceChildren(...Array.from(shown, (run) => {
      const row = make("tr", { "data-run": run });
      RunTable.COLUMNS.forEach(([title, text, key], column) => {
        if (column === 0) {
          const button = make("button", { type: "button", class: "link" }, text(model, run));
          button.addEventListener("click", () => model.select(run, "table"));
          row.append(make("th", { scope: "row" }, button));
        } else {
          row.append(make("td", { class: key ? "number" : title }, text(model, run)));
        }
      });
      return row;
    }));
    const n = this.order.length;
    this.caption.textContent = n < model.nRuns ? `${number(n)} of ${counted(model.nRuns, "run")}` : n > 1 ? `All ${number(n)} runs` : "The only run";
    $("page").value = n ? `${number(first + 1)} to ${number(first + shown.length)} of ${number(n)}` : "none";
    for (const id of ["page-first", "page-previous"]) $(id).disabled = this.at === 0;
    for (const id of ["page-next", "page-last"]) $(id).disabled = this.at >= this.pages() - 1;
    this.mark();
  }

  mark() {
    for (const row of this.body.rows) row.classList.toggle("selected", Number(row.dataset.run) === this.model.selected);
  }

  /** Shows the runs of one query. */
  choose(query) {
    $("runs-query").value = String(query);
    $("filter-runs").value = "";
    this.filter();
  }
}
