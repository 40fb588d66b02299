// Fills the charts of cells with the rows that their choices ask for, sorts and narrows their table, and tells of a number
// what made it.
//
// Runs before page.js, which draws the charts and tells here of each one before and after. Labels are untrusted: they reach the
// page through textContent and as data of charts alone.
"use strict";
(() => {
  const place = document.getElementById("study-data");
  const data = place ? JSON.parse(place.textContent) : null;
  const views = new Map(); // id of a specification -> the view drawn from it
  const choices = new Map(); // name -> the element that holds a choice
  const leftOut = new Set(); // cells that the reader has filtered out

  const chosen = (name) => Number(choices.get(name)?.value ?? 0);
  const chosenName = (name) => choices.get(name)?.value ?? "";

  // Model and figure of a cell or list, in the form they travel in.
  const named = (list, name) => list.find(([found]) => found === name);
  const left = () => data.cells.filter((cell) => !leftOut.has(cell));
  const inContext = () => left().filter((cell) => cell.context === chosen("context"));
  const group = (cell) => data.groups[chosenName("group")][cell.model] ?? "not known";
  const checkpoints = (model) => inContext()
    .filter((cell) => cell.model === model && cell.place !== null)
    .sort((a, b) => a.place - b.place);
  const spoken = (cell) => cell.when.join(", ");
  const levels = () => {
    const found = new Set(data.cells.map(group));
    return [...found].sort(new Intl.Collator("en", { numeric: true }).compare);
  };

  // All groups, and those that a chart of these rows names.
  function groupsOf(rows, all = levels()) {
    const present = new Set(rows.map((row) => row.group));
    return { levels: all, drawn: all.filter((level) => present.has(level)) };
  }

  // Pixels of the longest of some names, and how many columns of a legend fit beside what stands left of the plot.
  const longest = (names) => 7 * Math.max(...names.map((name) => name.length));
  function layout(rows, drawn, width, named) {
    const room = Math.floor(named ? 0.4 * width : width - 90);
    const left = named ? Math.min(room, longest(rows.map((row) => row.name))) : 50;
    return { room, columns: Math.max(1, Math.floor((width - left) / (30 + Math.min(room, longest(drawn))))) };
  }

  // A value with its interval, at the cell's level. What is missing lies on the value, since scales without data would
  // complain; the words of the tooltip tell.
  function figureOf([value, low, high], level = "") {
    const known = low !== null && high !== null;
    const interval = known ? `[${low.toFixed(3)}, ${high.toFixed(3)}] ${level}` : "none";
    return { value, low: known ? low : value, high: known ? high : value, interval };
  }

  // The mean of untrained models of a cell's shape in words.
  function nullOf({ name, null: [value, low, high] }) {
    const range = low === null ? "" : `, range [${low.toFixed(3)}, ${high.toFixed(3)}]`;
    return `untrained models like ${name}: mean ${value.toFixed(3)}${range}`;
  }

  // --- rows of each chart, with its signals and its title -----------------------------------------------------------

  function heat() {
    const [name, title, meaning, logarithmic] = named(data.by_depth, chosenName("figure"));
    const rows = [];
    for (const cell of checkpoints(chosen("model"))) {
      (cell.by_depth[name] ?? []).forEach((value, depth) => {
        if (value === null) return;
        const x = cell.when.join("|").replace(/^step | tokens$/g, "");
        const where = `at depth ${depth}`;
        rows.push({ cell: cell.index, figure: name, where, x, label: spoken(cell), depth, value, colour: value });
      });
    }
    const scaled = logarithmic && rows.every((row) => row.value > 0);
    if (scaled) for (const row of rows) row.colour = Math.log10(row.value);
    const said = `${title} of ${data.models[chosen("model")]}, by training and depth`;
    return { rows, signals: { logarithmic: scaled }, title: said, note: meaning + (scaled ? "; colours on a log scale" : "") };
  }

  function pairs() {
    const [name, title, meaning] = named(data.by_pair, chosenName("pair"));
    const cells = checkpoints(chosen("model")).filter((cell) => cell.by_pair[name]);
    const all = cells.flatMap((cell) => cell.by_pair[name].values).filter((value) => value !== null);
    const slider = choices.get("checkpoint");
    slider.max = Math.max(0, cells.length - 1);
    slider.disabled = cells.length < 2;
    const cell = cells[Number(slider.value)];
    const when = cell ? spoken(cell) : "none";
    document.getElementById("checkpoint-shown").textContent = when;
    slider.setAttribute("aria-valuetext", when);
    const rows = [];
    if (cell) {
      const { depths, values } = cell.by_pair[name];
      let index = 0;
      depths.forEach((high, row) => {
        depths.slice(0, row + 1).forEach((low) => {
          const value = values[index];
          index += 1;
          if (value === null) return;
          const common = { cell: cell.index, figure: name, where: `of depths ${low} and ${high}`, value };
          rows.push({ ...common, a: low, b: high });
          if (low !== high) rows.push({ ...common, a: high, b: low });
        });
      });
    }
    const signals = { least: Math.min(...all), most: Math.max(...all) };
    return {
      rows, signals: all.length ? signals : {}, note: meaning,
      title: `${title} of ${data.models[chosen("model")]}, at ${when}`,
    };
  }

  // EES of every checkpoint against `across` (a number of a cell, or null).
  function against(across, title) {
    const rows = [];
    for (const cell of inContext()) {
      const ees = cell.plain.ees;
      if (!ees || cell.place === null) continue;
      const mine = cell.model === chosen("model");
      const common = { cell: cell.index, figure: "ees", name: data.models[cell.model], group: group(cell), chosen: mine };
      const x = across(cell);
      if (x === null || x === undefined) continue;
      rows.push({ ...common, ...figureOf(ees, cell.level), what: "checkpoint", order: cell.place, x, label: spoken(cell) });
    }
    const nulls = checkpoints(chosen("model")).filter((cell) => cell.null);
    if (rows.length) {
      const told = nulls.length > 0 ? nullOf(nulls.at(-1)) : "";
      const { value, low, high } = told ? figureOf(nulls.at(-1).null) : rows[0];
      rows.push({ what: "null", value, low, high, told });
    }
    const last = checkpoints(chosen("model")).filter((cell) => cell.plain.ees);
    if (last.length < 2) return { rows, title };
    const [first, end] = [last[0], last[last.length - 1]];
    const change = `${first.plain.ees[0].toFixed(3)} at ${first.when[0]}, ${end.plain.ees[0].toFixed(3)} at ${end.when[0]}`;
    return { rows, title: `${title}; ${data.models[chosen("model")]}: ${change}` };
  }

  const ended = () => inContext().filter((cell) => cell.ended);

  function decided() {
    const rows = ended().flatMap((cell) => (cell.by_depth.decided ?? []).map((value, depth) => ({
      cell: cell.index, figure: "decided", where: `at depth ${depth}`, name: cell.name, group: group(cell), depth,
      x: depth / cell.blocks, value,
    }))).filter((row) => row.value !== null);
    return { rows, title: "Decided curves, each model at its last checkpoint" };
  }

  function models() {
    const found = named(data.plain, chosenName("plain"));
    if (!found) return { rows: [], title: "No figure" };
    const [name, title] = found;
    const rows = ended().filter((cell) => cell.plain[name]).map((cell) => {
      const figure = figureOf(cell.plain[name], cell.level);
      const null_ = name === "ees" && cell.null ? cell.null[0] : null;
      const common = { cell: cell.index, figure: name, name: cell.name, group: group(cell) };
      return { ...common, ...figure, n: cell.n, null: null_ ?? figure.value, told: null_ === null ? "" : nullOf(cell) };
    }).sort((a, b) => b.value - a.value);
    const said = rows.length > 1
      ? `${title}: from ${rows[0].value.toFixed(3)} (${rows[0].name}) to ${rows.at(-1).value.toFixed(3)} (${rows.at(-1).name})`
      : title;
    return { rows, title: said };
  }

  function across() {
    const axis = chosenName("across");
    const found = named(data.plain, chosenName("across-figure"));
    const rows = ended().filter((cell) => cell.plain[found[0]] && axis in cell.across).map((cell) => {
      const place = cell.across[axis];
      const x = axis === "release_month" ? Date.parse(place) : place;
      const common = { cell: cell.index, figure: found[0], model: cell.model, name: cell.name, group: group(cell) };
      return { ...common, x, place: typeof place === "number" ? place.toLocaleString("en") : place, ...figureOf(cell.plain[found[0]], cell.level) };
    });
    return { rows, title: `${found[1]} over ${choices.get("across").selectedOptions[0].text}, ${new Set(rows.map((row) => row.model)).size} models` };
  }

  function batch() {
    const rows = ended().flatMap((cell) => cell.batch.filter(([, value]) => value !== null).map(([x, value]) => ({
      cell: cell.index, figure: "batch", where: `with ${x} rows`, name: cell.name, group: group(cell), x, value,
    })));
    return { rows, title: "What is left to skip in batches" };
  }

  // A colour a policy; a line for each of its choices of probes.
  function policies() {
    const list = choices.get("ended");
    const cells = ended().filter((cell) => cell.held.length);
    const before = list.value;
    list.replaceChildren(...cells.map((cell) => new Option(cell.name, `${cell.index}`)));
    if (cells.some((cell) => `${cell.index}` === before)) list.value = before;
    const cell = data.cells[Number(list.value)];
    if (cells.length === 0) return { rows: [], title: "No policy" };
    const saving = chosen("saving");
    const saved_ = choices.get("saving").selectedOptions[0].text;
    const rows = cell.held.map(([policy, target, x, ...saved]) => ({
      cell: cell.index, figure: data.policies[policy], where: `held to ${data.targets[target]}, ${saved_}`,
      name: data.policies[policy], target: data.targets[target], group: data.policies[policy].split(" ")[0], x,
      value: saved[saving],
    })).filter((row) => row.x !== null && row.value !== null);
    const names = [...new Set(data.policies.map((name) => name.split(" ")[0]))];
    return { rows, signals: groupsOf(rows, names), title: `What policies save and change on ${cell.name}` };
  }

  const fillers = {
    "study-heat": heat,
    "study-pairs": pairs,
    "study-progress": () => against((cell) => cell.at, "EES in training"),
    "study-characters": () => against((cell) => cell.plain.bits_per_character?.[0], "EES against bits per character"),
    "study-loss": () => against((cell) => cell.loss, "EES against loss"),
    "study-decided": decided,
    "study-models": models,
    "study-across": across,
    "study-batch": batch,
    "study-policies": policies,
  };

  // --- choices ------------------------------------------------------------------------------------------------------

  // Rows and signals of a chart now, its words already on the page.
  function filled(id) {
    const { rows, signals = groupsOf(rows), title, note } = fillers[id]();
    const figure = document.getElementById(id).closest("figure");
    figure.querySelector("h3").textContent = title;
    figure.classList.toggle("empty", rows.length === 0);
    const { clientWidth } = figure.querySelector(".chart");
    if (signals.drawn) Object.assign(signals, layout(rows, signals.drawn, clientWidth, id === "study-models"));
    if (note) figure.querySelector(".meaning").textContent = `${note[0].toUpperCase()}${note.slice(1)}.`;
    return { rows, signals };
  }

  const redraw = (id) => {
    const place = document.querySelector(`.chart[data-spec="${id}"]`);
    document.dispatchEvent(new CustomEvent("redraw", { detail: place }));
  };

  function refill(id) {
    const { rows, signals } = filled(id);
    if (rows.length === 0) return; // its chart is hidden
    const view = views.get(id);
    if (!view) {
      redraw(id);
      return;
    }
    for (const [name, value] of Object.entries(signals)) view.signal(name, value);
    view.data("rows", rows).runAsync();
  }

  const drawnHere = () => [...document.querySelectorAll(".chart[data-spec^='study-']")];

  // Of a choice only what the filters leave is offered; one that is gone gives way to the first that is there.
  function offer(name, values) {
    const list = choices.get(name);
    if (!list || values.size === 0) return;
    for (const option of list.options) option.hidden = option.disabled = !values.has(Number(option.value));
    if (list.selectedOptions[0].disabled) list.value = [...list.options].find((option) => !option.disabled).value;
  }

  function refillAll() {
    offer("context", new Set(left().map((cell) => cell.context)));
    offer("model", new Set(inContext().filter((cell) => cell.place !== null).map((cell) => cell.model)));
    drawnHere().forEach((chart) => refill(chart.dataset.spec));
  }

  function listen() {
    for (const element of document.querySelectorAll("[data-choice]")) {
      choices.set(element.dataset.choice, element);
      const moved = element.type === "range" ? "input" : "change";
      const { fills } = element.dataset;
      const change = fills ? () => ("redraws" in element.dataset ? redraw : refill)(fills) : refillAll;
      element.addEventListener(moved, change);
    }
    for (const chart of drawnHere()) {
      chart.addEventListener("draw", (event) => {
        const id = chart.dataset.spec;
        views.delete(id);
        const { rows, signals } = filled(id);
        if (rows.length === 0) event.preventDefault(); // scales without data would complain
        event.detail.datasets = { rows };
        for (const param of event.detail.params ?? []) param.value = signals[param.name] ?? param.value;
        if (id === "study-across") for (const layer of event.detail.layer) layer.encoding.x = data.axes[chosenName("across")];
      });
      chart.addEventListener("drawn", (event) => {
        views.set(chart.dataset.spec, event.detail);
        event.detail.addEventListener("click", (_, item) => {
          const { cell, figure, where, value } = item?.datum ?? {};
          if (cell === undefined || !tells(chart, item)) return;
          tell(data.cells[cell], figure, `${[titles.get(figure) ?? figure.replaceAll("_", " "), where].filter(Boolean).join(" ")}:`, value);
        });
      });
    }
  }

  // --- what made a number -------------------------------------------------------------------------------------------

  const titles = new Map([...(data?.by_depth ?? []), ...(data?.plain ?? [])].map(([name, title]) => [name, title]));

  // Whether a mark stands for one number: not a line, which has the data of its first point, and not the tick of a null.
  const tells = (chart, { mark }) => mark.marktype === "symbol" || mark.marktype === "rule"
    || (mark.marktype === "rect" && ["study-heat", "study-pairs"].includes(chart.dataset.spec));

  // `name`: of the figure or policy; `figure`: the same in words; `more`: further lines, each a term and a text.
  function tell(cell, name, figure, value, more = []) {
    const { names, texts, cells, others } = data.origins;
    const places = others[cell.index]?.[name] ?? cells[cell.index];
    const dialog = document.getElementById("made");
    dialog.querySelector("h2").textContent = `${figure} ${value} of ${[cell.name, ...cell.when].join(", ")}`;
    const made = names.map((term, index) => [term, texts[places[index]]]);
    const lines = [...more, ...made].filter(([, text]) => text).flatMap(([noun, text]) => {
      const [term, told] = ["dt", "dd"].map((tag) => document.createElement(tag));
      term.textContent = noun;
      told.textContent = text;
      if (noun === "command") told.className = "command";
      return [term, told];
    });
    dialog.querySelector("dl").replaceChildren(...lines);
    dialog.showModal();
  }

  const cellOf = (element) => data.cells[Number(element.closest("[data-cell]").dataset.cell)];

  document.querySelector("#made .close").addEventListener("click", () => document.getElementById("made").close());
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.made");
    if (!button) return;
    const shown = (button.closest("td") ?? button).textContent.trim().replace(/\s+/g, " ");
    tell(cellOf(button), button.dataset.name, button.dataset.figure, shown, [["note", button.title]]);
  });
  for (const chart of document.querySelectorAll("[data-cell] .chart")) {
    chart.addEventListener("drawn", ({ detail }) => detail.addEventListener("click", (_, item) => {
      const { value } = item?.datum ?? {};
      const title = chart.closest("figure").querySelector("h3").textContent;
      if (value !== undefined) tell(cellOf(chart), undefined, "A point, ", value, [["chart", title]]);
    }));
  }

  // --- filters ------------------------------------------------------------------------------------------------------

  // Every filter narrows the table and the charts alike.
  function narrow() {
    const wanted = [...document.querySelectorAll("[data-filter]")].filter((filter) => filter.value !== "");
    const rows = [...document.querySelectorAll(".cells tbody tr")];
    leftOut.clear();
    for (const row of rows) {
      row.hidden = !wanted.every((filter) => row.dataset[filter.dataset.filter] === filter.value);
      if (row.hidden) leftOut.add(cellOf(row));
    }
    document.getElementById("cells-shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
    refillAll();
  }

  for (const filter of document.querySelectorAll("[data-filter]")) filter.addEventListener("change", narrow);

  // --- table --------------------------------------------------------------------------------------------------------

  // Missing values stay last in both directions.
  function sortBy(heading) {
    const table = heading.closest("table");
    const column = [...heading.parentElement.children].indexOf(heading);
    const down = heading.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    const order = (a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === "" || right === "") return (left === "") - (right === "");
      const numbers = [Number(left), Number(right)];
      const by = numbers.some(Number.isNaN) ? compare(left, right) : numbers[0] - numbers[1];
      return down ? -by : by;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(order));
  }

  for (const button of document.querySelectorAll("th button.sort")) {
    button.addEventListener("click", () => sortBy(button.parentElement));
  }
  data?.cells.forEach((cell, index) => {
    cell.index = index;
  });
  if (data) listen();
})();
