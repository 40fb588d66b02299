// Draws the charts and drives the token explorer.
//
// Model and prompt text is untrusted: it reaches the page through textContent alone, and this file never parses markup.
// Row t of a payload predicts one token of an answer; depth d = blocks executed, 0..L.
"use strict";
(() => {
  const LAST_BUCKET = 6; // decided only by the last block; 0..5 split the depths before it evenly
  const MISSING = 65535;
  const PROBABILITY_STEPS = 10000;

  const read = (id) => JSON.parse(document.getElementById(id).textContent);

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // --- charts -------------------------------------------------------------------------------------------------------

  const darkScheme = window.matchMedia("(prefers-color-scheme: dark)");
  const darkStyle = document.getElementById("dark"); // the dark colours, which hold where its media query does
  const isDark = () => window.matchMedia(darkStyle.media).matches;
  const views = new Map(); // place of a chart -> what is drawn there

  // The page's own colours, as the configuration of every chart.
  function chartConfig() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const [ink, muted, accent] = ["--ink", "--muted", "--accent"].map(colour);
    return {
      background: "transparent",
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: null },
      axis: {
        labelColor: ink, titleColor: muted, gridColor: colour("--grid"), domainColor: muted, tickColor: muted,
        labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 150, labelOverlap: "greedy",
      },
      mark: { color: accent },
      line: { strokeWidth: 2.5 },
      bar: { opacity: 0.75 },
      legend: { labelColor: ink, labelFontSize: 12, labelLimit: 220, symbolStrokeWidth: 2.5, symbolType: "stroke" },
      range: {
        heatmap: [6, 5, 4, 3, 2, 1, 0].map((index) => colour(`--d${index}`)),
        category: [0, 1, 2, 3, 4, 5, 6, 7].map((index) => colour(`--c${index}`)),
      },
      style: {
        fill: { color: accent, opacity: 0.18 },
        band: { color: accent, opacity: 0.28 },
        whisker: { color: ink, strokeWidth: 1.5 },
        reference: { color: muted, strokeDash: [5, 4] },
        marked: { color: colour("--mark"), opacity: 1 },
        label: { color: ink, fontSize: 12 },
      },
    };
  }

  async function draw(place, options) {
    views.get(place)?.finalize();
    views.delete(place);
    const spec = read(place.dataset.spec);
    if (!place.dispatchEvent(new CustomEvent("draw", { detail: spec, cancelable: true }))) return;
    const view = await window.vegaEmbed(place, spec, options);
    views.set(place, view);
    place.dispatchEvent(new CustomEvent("drawn", { detail: view.view }));
  }

  async function drawCharts(places) {
    const options = {
      renderer: "svg", actions: false, ast: true, config: chartConfig(), tooltip: { theme: isDark() ? "dark" : "light" },
    };
    for (const place of places) await draw(place, options);
    performance.mark("charts");
    document.documentElement.dataset.charts = "drawn";
  }

  // --- token explorer -----------------------------------------------------------------------------------------------

  function unpack(text, wide) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return wide ? new Uint32Array(bytes.buffer) : new Uint16Array(bytes.buffer);
  }

  function percent(steps) {
    return steps === MISSING ? "n/a" : `${((100 * steps) / PROBABILITY_STEPS).toFixed(1)} %`;
  }

  class Explorer {
    constructor(root) {
      const payload = read(root.dataset.payload);
      this.payload = payload;
      this.numBlocks = payload.num_blocks;
      for (const name of ["target", "final"]) this[name] = unpack(payload[name], payload.wide);
      for (const name of ["decided", "turn"]) this[name] = unpack(payload[name], false);
      this.byDepth = payload.by_depth && {
        top1: unpack(payload.by_depth.top1, payload.wide),
        probability: unpack(payload.by_depth.probability, false),
        first: unpack(payload.by_depth.first, false),
      };
      for (const name of ["category", "sample", "previous", "next", "legend", "conversation", "detail"]) {
        this[name + "Element"] = root.querySelector("." + name);
      }
      this.fillLegend();
      this.fillCategories();
      this.listen();
      this.fillSamples();
    }

    bucket(depth) {
      return depth === this.numBlocks ? LAST_BUCKET : Math.floor((depth * LAST_BUCKET) / this.numBlocks);
    }

    fillLegend() {
      this.legendElement.append(element("span", "", "decided at depth"));
      const spans = new Map();
      for (let depth = 0; depth <= this.numBlocks; depth += 1) {
        const bucket = this.bucket(depth);
        spans.set(bucket, [spans.has(bucket) ? spans.get(bucket)[0] : depth, depth]);
      }
      for (const [bucket, [low, high]] of spans) {
        const range = low === high ? `${low}` : `${low} to ${high}`;
        const text = bucket === LAST_BUCKET ? `${range}: only by the last block` : range;
        this.legendElement.append(element("span", `swatch b${bucket}`, text));
      }
      const other = element("span", "token other", "dotted");
      const meaning = this.payload.on === "text"
        ? "the full model itself predicts another token here"
        : "the parallel pass would have chosen another token here";
      this.legendElement.append(other, element("span", "", meaning));
    }

    fillCategories() {
      const names = [...new Set(this.payload.samples.map((sample) => sample.category))];
      this.categoryElement.append(new Option("all", "-1"), ...names.map((name, index) => new Option(name, `${index}`)));
      this.categories = names;
    }

    fillSamples() {
      const category = this.categories[Number(this.categoryElement.value)];
      const options = [];
      this.payload.samples.forEach((sample, index) => {
        if (category !== undefined && sample.category !== category) return;
        const opening = sample.turns.length ? sample.turns[0].replace(/\s+/g, " ").slice(0, 70) : "";
        options.push(new Option(`${sample.id} (${sample.category}): ${opening}`, `${index}`));
      });
      this.sampleElement.replaceChildren(...options);
      this.showSample();
    }

    listen() {
      this.categoryElement.addEventListener("change", () => this.fillSamples());
      this.sampleElement.addEventListener("change", () => this.showSample());
      this.previousElement.addEventListener("click", () => this.step(-1));
      this.nextElement.addEventListener("click", () => this.step(1));
      const show = (event) => {
        const token = event.target.closest("button.token");
        if (token) this.showToken(token);
      };
      for (const kind of ["mouseover", "focusin", "click"]) this.conversationElement.addEventListener(kind, show);
      this.conversationElement.addEventListener("keydown", (event) => this.move(event));
    }

    step(by) {
      const count = this.sampleElement.options.length;
      if (count === 0) return;
      this.sampleElement.selectedIndex = (this.sampleElement.selectedIndex + by + count) % count;
      this.showSample();
    }

    // Arrow keys walk the tokens; only one of them is a tab stop, so the answer can be passed over with one key.
    move(event) {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by === undefined) return;
      const tokens = [...this.conversationElement.querySelectorAll("button.token")];
      const next = tokens[tokens.indexOf(document.activeElement) + by];
      if (!next) return;
      event.preventDefault();
      next.focus();
    }

    showSample() {
      const sample = this.payload.samples[Number(this.sampleElement.value)];
      if (sample === undefined) return;
      const answers = new Map();
      for (let row = sample.rows[0]; row < sample.rows[1]; row += 1) {
        const turn = this.turn[row];
        if (!answers.has(turn)) answers.set(turn, []);
        answers.get(turn).push(row);
      }
      const parts = [];
      sample.turns.forEach((text, turn) => {
        const prompt = element("div", "prompt");
        prompt.append(element("span", "role", this.payload.on === "text" ? "document" : "prompt"), text);
        parts.push(prompt);
        if (answers.has(turn)) parts.push(this.answer(answers.get(turn)));
      });
      this.conversationElement.replaceChildren(...parts);
      const first = this.conversationElement.querySelector("button.token");
      if (first) this.showToken(first);
    }

    answer(rows) {
      const box = element("div", "answer");
      const role = this.payload.on === "text" ? "tokens scored" : "the model's answer";
      box.append(element("span", "role", role));
      for (const row of rows) {
        const text = this.payload.strings[this.target[row]];
        const own = this.final[row] === this.target[row];
        const token = element("button", `token b${this.bucket(this.decided[row])}${own ? "" : " other"}`, text);
        token.type = "button";
        token.tabIndex = -1;
        token.dataset.row = `${row}`;
        token.setAttribute("aria-label", `${text}, decided at depth ${this.decided[row]} of ${this.numBlocks}`);
        box.append(token);
        if (text.endsWith("\u23ce")) box.append(element("br"));
      }
      return box;
    }

    showToken(token) {
      const before = this.conversationElement.querySelector("[aria-current]");
      if (before === token) return;
      if (before) {
        before.removeAttribute("aria-current");
        before.tabIndex = -1;
      }
      token.setAttribute("aria-current", "true");
      token.tabIndex = 0;
      const panel = this.detailElement;
      panel.replaceChildren(...this.detail(Number(token.dataset.row)));
      // Where the panel is too small for all depths, the decision is what must be seen.
      const decided = panel.querySelector("tr.decided");
      if (!decided) return;
      const line = decided.getBoundingClientRect();
      const frame = panel.getBoundingClientRect();
      panel.scrollTop = Math.max(0, panel.scrollTop + line.bottom - frame.top - 0.8 * panel.clientHeight);
    }

    detail(row) {
      const { numBlocks, payload, byDepth } = this;
      const decided = this.decided[row];
      const spare = numBlocks - decided;
      const chosen = element("p", "chosen");
      chosen.append(this.shown(this.target[row]));
      const found = spare === 0
        ? `Decided only by the last block, depth ${numBlocks}: nothing to skip.`
        : `Decided at depth ${decided} of ${numBlocks}: ${spare} ${spare === 1 ? "block" : "blocks"} to spare.`;
      const parts = [chosen, element("p", "", byDepth ? `${found} First match at depth ${byDepth.first[row]}.` : found)];
      const final = this.final[row];
      if (final !== this.target[row]) {
        const text = payload.on === "text" ? "The full model itself predicts " : "In the parallel pass the full model predicts ";
        const note = element("p", "", text);
        note.append(element("b", "", this.shown(final)), "; depths are about that token.");
        parts.push(note);
      }
      if (byDepth) parts.push(this.depthTable(row));
      return parts;
    }

    depthTable(row) {
      const table = element("table");
      const head = element("tr");
      for (const title of ["depth", "top-1 token", "probability", ""]) head.append(element("th", "", title));
      const body = element("tbody");
      for (let depth = 0; depth <= this.numBlocks; depth += 1) body.append(this.depthRow(row, depth));
      const top = element("thead");
      top.append(head);
      table.append(top, body);
      return table;
    }

    depthRow(row, depth) {
      const cell = row * (this.numBlocks + 1) + depth;
      const line = element("tr");
      line.classList.toggle("settled", depth >= this.decided[row]);
      line.classList.toggle("decided", depth === this.decided[row]);
      const probability = element("td");
      const { top1, probability: probabilities, first } = this.byDepth;
      const steps = probabilities[cell];
      const bar = element("span", "bar");
      bar.style.width = steps === MISSING ? "0" : `${(3.5 * steps) / PROBABILITY_STEPS}em`;
      probability.append(bar, percent(steps));
      const sign = depth === this.decided[row] ? "decided" : depth === first[row] ? "first match" : "";
      const guess = element("td", "guess", this.shown(top1[cell]));
      line.append(element("th", "", `${depth}`), guess, probability, element("td", "sign", sign));
      return line;
    }

    // A token's text with its leading space made visible.
    shown(index) {
      return this.payload.strings[index].replace(/^ /, "\u2423");
    }
  }

  // --- light and dark -----------------------------------------------------------------------------------------------

  // scheme.js applies and remembers it.
  function toggleScheme() {
    document.dispatchEvent(new CustomEvent("scheme", { detail: isDark() ? "light" : "dark" }));
    redraw();
  }

  document.querySelectorAll(".explorer").forEach((root) => new Explorer(root));
  const everywhere = () => document.querySelectorAll(".chart");
  let drawn = drawCharts(everywhere()); // one drawing at a time, however often the scheme changes
  function redraw(event) {
    const places = event?.type === "redraw" ? [event.detail] : everywhere();
    drawn = drawn.then(() => drawCharts(places));
  }
  darkScheme.addEventListener("change", redraw);
  document.getElementById("scheme").addEventListener("click", toggleScheme);
  document.addEventListener("redraw", redraw);
})();
