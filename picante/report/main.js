// Starts everything, and connects the sections.

let around;

function themes(onChange) {
  const names = ["system", "light", "dark"];
  let theme = "system";
  try {
    theme = localStorage.getItem("picante-theme") || "system"; // a file has no storage in some browsers
  } catch { /* then nothing is remembered */ }
  const apply = () => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    $("theme").textContent = `Theme: ${theme}`;
    onChange();
  };
  $("theme").addEventListener("click", () => {
    theme = names[(names.indexOf(theme) + 1) % 3];
    try {
      localStorage.setItem("picante-theme", theme);
    } catch { /* as above */ }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange);
  if (!names.includes(theme)) theme = "system";
  apply();
}

async function main() {
  document.documentElement.classList.add("scripts");
  let timeline = null;
  themes(() => {
    if (!timeline) return;
    timeline.readTheme();
    timeline.legend();
    timeline.redraw();
  });
  const model = new Model(await loadData());
  around = new Around(model);
  new Details(model);
  const table = new RunTable(model);
  const choose = (query) => {
    table.choose(query);
    for (const row of document.querySelectorAll("#queries tbody tr")) {
      row.classList.toggle("selected", Number(row.dataset.query) === query);
    }
    for (const box of document.querySelectorAll("#overview .box")) {
      box.classList.toggle("chosen", Number(box.dataset.query) === query);
    }
  };
  queryTables(model, (query) => {
    choose(query);
    $("run-table").scrollIntoView();
    $("runs-query").focus({ preventScroll: true });
  });
  for (const code of document.querySelectorAll(".advice code[data-query]")) {
    const query = Number(code.dataset.query);
    code.replaceChildren(make("button", { type: "button", class: "link", title: "show its runs" }, code.textContent));
    code.firstChild.addEventListener("click", () => {
      choose(query);
      $("run-table").scrollIntoView();
    });
  }
  for (const box of document.querySelectorAll("#overview .box")) {
    const act = () => {
      choose(Number(box.dataset.query));
      const node = model.data.nodes.query.indexOf(Number(box.dataset.query));
      if (node >= 0) around.show(node);
    };
    box.setAttribute("tabindex", "0");
    box.setAttribute("role", "button");
    box.addEventListener("click", act);
    box.addEventListener("keydown", (event) => pressed(event, act));
  }
  timeline = new Timeline(model);
  document.documentElement.dataset.ready = "true";
  window.picanteReport = { model, timeline, table }; // for whoever opens the console
}

main().catch((error) => {
  $("broken").textContent = `The page could not be set up: ${error.message}. What can be read without scripts is below.`;
  $("broken").hidden = false;
  throw error;
});
