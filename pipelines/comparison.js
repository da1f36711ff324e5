// The page of `tamis compare`: tables and plots from the JSON beside it. Nothing is loaded, nothing is sent.
"use strict";
const found = JSON.parse(document.getElementById("comparison").textContent);
const LOT = found.random;
const names = [...found.choices.map((c) => c.name), LOT];
const colours = new Map(names.map((name, i) => [name, name === LOT ? "var(--lot)" : `var(--c${i % 12})`]));
const symbols = ["circle", "square", "triangle", "diamond", "star", "cross", "wye"];
const hidden = new Set();
const plots = []; // [element, function that draws it again]
function redraw() {
  for (let i = plots.length - 1; i >= 0; i -= 1) if (!plots[i][0].isConnected) plots.splice(i, 1);
  plots.forEach(([, draw]) => draw());
}
const shownNames = () => names.filter((name) => !hidden.has(name));

// ---- elements

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}
const breakable = (name) => name.split(/(?<=_)/).flatMap((part, i) => (i ? [h("wbr"), part] : [part]));
const swatch = (name) => h("span", { class: "swatch", style: `background:${colours.get(name)}`, "aria-hidden": "true" });
const count = new Intl.NumberFormat("en").format;
const percent = (x) => (x === null ? "–" : `${(100 * x).toFixed(Math.abs(x) < 0.0995 ? 1 : 0)}%`);

function said(value, form) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value === "string") return value;
  if (form === "percent") return percent(value);
  if (form === "count") return count(Math.round(value));
  const size = Math.abs(value);
  if (size && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
  return value.toFixed(size < 10 ? 3 : size < 1000 ? 1 : 0);
}

function section(id, title, about, ...children) {
  const heading = h("h2", { id: `${id}-title` }, title);
  const made = h("section", { id, "aria-labelledby": `${id}-title` }, heading, about && h("p", {}, about), ...children);
  document.getElementById("main").append(made);
  return made;
}

// ---- tables

// columns: {title, about, group, value(row), form, best: "higher" | "lower" | null, note(row)}; rows have `name`.
function table(caption, columns, rows, first = "choice") {
  const body = h("tbody");
  const heads = columns.map((column, i) => {
    const button = h("button", { type: "button", title: column.about, onclick: () => sort(i) }, column.title);
    return h("th", { scope: "col", "aria-sort": "none", class: column.form === "text" ? "text" : null }, button);
  });
  const named = h("th", { scope: "col", "aria-sort": "none" },
    h("button", { type: "button", onclick: () => sort(-1) }, first));
  const all = [named, ...heads];
  let order = [...rows], last = null, direction = 1;

  function sort(i) {
    direction = last === i ? -direction : i < 0 ? 1 : -1;
    last = i;
    const key = (row) => (i < 0 ? row.name : columns[i].value(row));
    const empty = (x) => x === null || x === undefined || Number.isNaN(x);
    order.sort((a, b) => {
      const x = key(a), y = key(b);
      if (empty(x) || empty(y)) return empty(x) - empty(y);
      return direction * (typeof x === "string" ? x.localeCompare(y) : x - y);
    });
    all.forEach((head, j) => head.setAttribute("aria-sort", j !== i + 1 ? "none" : direction > 0 ? "ascending" : "descending"));
    fill();
  }

  function fill() {
    body.replaceChildren(...order.map((row) => h("tr", { class: hidden.has(row.name) ? "off" : null, "data-name": row.name },
      h("th", { scope: "row" }, colours.has(row.name) ? [swatch(row.name), " "] : null, breakable(row.name)),
      columns.map((column) => {
        const value = column.value(row), note = column.note && column.note(row);
        const best = column.best && typeof value === "number" && row.name !== LOT && isBest(column, value);
        const kind = [best && "best", typeof value === "string" && "text"].filter(Boolean).join(" ");
        return h("td", { class: kind || null }, said(value, column.form), best && h("span", { class: "star", role: "img", "aria-label": "the best" }, " ★"),
          note && h("small", {}, note));
      }))));
  }
  // The one best value of a column, unless random documents might have it too.
  function isBest(column, value) {
    const values = rows.filter((row) => row.name !== LOT).map((row) => column.value(row)).filter((x) => typeof x === "number");
    const extreme = column.best === "higher" ? Math.max(...values) : Math.min(...values);
    const byChance = column.lot && column.lot.low <= value && value <= column.lot.high;
    return values.length > 1 && value === extreme && values.filter((x) => x === extreme).length === 1 && !byChance;
  }
  fill();
  plots.push([body, fill]);
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    h("table", {}, h("caption", {}, caption), h("thead", {}, groupsOf(columns), h("tr", {}, all)), body));
}

// The row above the heads, where columns belong together.
function groupsOf(columns) {
  if (!columns.some((column) => column.group)) return null;
  const runs = [];
  for (const column of columns) {
    if (runs.length && runs.at(-1).group === column.group) runs.at(-1).n += 1;
    else runs.push({ group: column.group, n: 1 });
  }
  return h("tr", { class: "groups" }, h("td"), runs.map((run) => run.group
    ? h("th", { scope: "colgroup", colspan: run.n }, run.group) : h("td", { colspan: run.n })));
}

// ---- plots

function figure(caption, label, draw, data) {
  const place = h("div");
  const made = h("figure", {}, place, caption && h("figcaption", {}, caption));
  let width = 0;
  function again() {
    width = place.clientWidth;
    if (!width) return;
    const svg = draw(Math.max(260, Math.min(width, 1180)));
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    place.replaceChildren(svg);
  }
  plots.push([place, again]);
  const watch = new ResizeObserver(() => {
    if (!place.isConnected && width) watch.disconnect();
    else if (place.clientWidth !== width) again();
  });
  watch.observe(place);
  made.draw = again; // for those who put it onto the page themselves: the observer comes later
  if (data) made.append(h("details", {}, h("summary", {}, "The same as a table"), data()));
  return made;
}
const style = { background: "none", color: "currentColor", fontFamily: "inherit", fontSize: "12px" };
const symbolOf = (name) => (name === LOT ? "times" : symbols[names.indexOf(name) % symbols.length]);

function chooser(label, options, change) {
  const select = h("select", { onchange: () => change(Number(select.value)) },
    options.map((option, i) => h("option", { value: i }, option)));
  return h("div", { class: "controls" }, h("label", {}, label, select));
}

// A plot whose subject is chosen; `options` are titles, draw(i, width) makes it, data(i) its table.
function choosable(label, options, caption, draw, data) {
  let chosen = 0;
  const place = h("div"), words = h("p", { class: "soft", "aria-live": "polite" });
  function again() {
    words.textContent = caption(chosen);
    const made = figure(null, `${options[chosen]}. ${caption(chosen)}`, (width) => draw(chosen, width),
      data && (() => data(chosen)));
    place.replaceChildren(made);
    made.draw();
  }
  again();
  return h("div", {}, options.length > 1 && chooser(label, options, (i) => { chosen = i; again(); }), words, place);
}

// ---- the parts of the page

function head() {
  const c = found.corpus;
  document.getElementById("title").textContent = `${found.choices.length} choices from ${c.name}, compared`;
  document.getElementById("about").textContent =
    `The corpus has ${count(c.documents)} documents, ${count(c.tokens)} tokens (${c.tokenizer}). Unless said otherwise all ` +
    `numbers are of ${count(found.equal_tokens)} tokens of each choice` +
    (found.measured_tokens === found.equal_tokens ? "" : `, measures of ${count(found.measured_tokens)} of them`) + `. Made ${found.made.replace("T", " ").slice(0, 16)} UTC ` +
    `by tamis ${found.tamis}.`;
  const bar = document.getElementById("series");
  for (const name of names) {
    const button = h("button", { type: "button", "aria-pressed": "true", "data-series": name, onclick: () => {
      if (hidden.has(name)) hidden.delete(name); else hidden.add(name);
      button.setAttribute("aria-pressed", String(!hidden.has(name)));
      redraw();
    } }, swatch(name), name);
    bar.append(button);
  }
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const theme = (name) => { root.dataset.theme = name; button.textContent = name === "dark" ? "Light page" : "Dark page"; };
  theme(dark.matches ? "dark" : "light");
  dark.addEventListener("change", (event) => theme(event.matches ? "dark" : "light"));
  button.addEventListener("click", () => theme(root.dataset.theme === "dark" ? "light" : "dark"));
}

function warnings() {
  const lines = found.choices.flatMap((c) => [
    ...c.alarms.map((a) => `${c.name}: step ${a.step}: ${a.message}`), ...c.warnings.map((w) => `${c.name}: ${w}`)]);
  if (lines.length) section("alarms", "Look at these first", null, h("ul", {}, [...new Set(lines)].map((l) => h("li", {}, l))))
    .classList.add("warnings");
}

const byLot = (measure) => measure.by_lot && measure.by_lot.mean;
const valueOf = (measure, name) => (name === LOT ? byLot(measure) : measure.values[name]);
const lotRange = (m) => m.by_lot && m.by_lot.low !== m.by_lot.high
  ? `${said(m.by_lot.low, m.form)} to ${said(m.by_lot.high, m.form)}` : null;

function measureColumn(measure, grouped) {
  return { title: measure.title, about: measure.about, form: measure.form, best: measure.better, lot: measure.by_lot, group: grouped ? measure.target : null,
    value: (row) => valueOf(measure, row.name), note: (row) => (row.name === LOT ? lotRange(measure) : null) };
}

const FACTS = [
  ["by", "The selector, or the kind of the last step, and the targets that it chose by."],
  ["tokens a document", "The mean of the whole choice."],
  ["score and length", "Spearman's rank correlation of the score and the tokens of the documents that had a score."],
  ["effective documents", "Effective sample size: how many documents the weights, exp of score over temperature, lie on."],
];

function glance() {
  const facts = new Map(found.choices.map((c) => [c.name, c]));
  const about = new Map(FACTS);
  const fact = (title, form, value) => ({ title, about: about.get(title) ?? "that were chosen", form, best: null,
    value: (row) => (facts.has(row.name) ? value(facts.get(row.name)) : null) });
  const columns = [
    fact("by", "text", (c) => c.by + (c.targets.length ? ` (${c.targets.join(", ")})` : "")),
    fact("documents", "count", (c) => c.documents),
    fact("tokens", "count", (c) => c.tokens),
    fact("tokens a document", "count", (c) => c.tokens_a_document),
    fact("score and length", null, (c) => {
      const scores = found.scores.find((s) => s.name === c.name);
      return scores ? scores.spearman_length : null;
    }),
    fact("effective documents", "count", (c) => c.effective),
    ...found.measures.filter((m) => m.glance && m.target).map((m) => measureColumn(m, true)),
    ...found.measures.filter((m) => m.glance && !m.target).map((m) => measureColumn(m)),
  ];
  const rows = names.map((name) => ({ name }));
  section("glance", "At a glance", "One row for each choice; a star marks the best of a column, where it is better than chance. " +
    `“${LOT}” is what as many tokens at random would have: the mean of several draws, below it where 95% of others would lie.`,
    table("Choices and what they are worth", columns, rows),
    found.notes.length > 0 && h("ul", { class: "notes soft" }, found.notes.map((note) => h("li", {}, note))));
}

function measures() {
  const list = found.measures;
  if (!list.length) return;
  const titles = list.map((m) => (m.target ? `${m.target}: ${m.title}` : m.title));
  section("measures", "Measures", null, choosable("Measure", titles, (i) => list[i].about, (i, width) => {
    const m = list[i];
    const rows = shownNames().filter((n) => n !== LOT).map((name) => ({ name, value: valueOf(m, name) })).filter((d) => d.value !== null);
    const marks = [Plot.ruleX([0], { stroke: "currentColor", strokeOpacity: 0.2 })];
    if (m.by_lot && !hidden.has(LOT)) {
      marks.push(Plot.rect([m.by_lot], { x1: "low", x2: "high", fill: "var(--lot)", fillOpacity: 0.3 }));
      marks.push(Plot.ruleX([m.by_lot], { x: "mean", stroke: "var(--lot)", strokeDasharray: "4 3", strokeWidth: 1.5 }));
      marks.push(Plot.text([m.by_lot], { x: "mean", text: () => LOT, frameAnchor: "top", dy: -14, fill: "var(--lot)" }));
    }
    marks.push(Plot.link(rows, { x1: m.by_lot ? () => m.by_lot.mean : 0, x2: "value", y1: "name", y2: "name",
      stroke: (d) => colours.get(d.name), strokeWidth: 2, strokeOpacity: 0.5 }));
    marks.push(Plot.dot(rows, { x: "value", y: "name", fill: (d) => colours.get(d.name), r: 6, tip: true,
      title: (d) => `${d.name}\n${m.title}: ${said(d.value, m.form)}` }));
    return Plot.plot({ width, height: 70 + 34 * rows.length, marginLeft: leftMargin(rows.map((d) => d.name), width), marginTop: 30, marginBottom: 42,
      style, x: { label: `${m.title} →`, grid: true, tickFormat: m.form === "percent" ? (x) => percent(x) : undefined, ticks: width < 500 ? 4 : 8 },
      y: { label: null, domain: rows.map((d) => d.name), tickFormat: (n) => short(n, width) }, color: { type: "identity" }, marks });
  }, (i) => table(titles[i], [measureColumn(list[i])], names.map((name) => ({ name })))));
  const groups = [...new Set(list.map((m) => m.target || ""))];
  const rows = names.map((name) => ({ name }));
  document.getElementById("measures").append(h("details", {}, h("summary", {}, "All measures as tables"), groups.map((group) =>
    [h("h3", {}, group ? `Target ${group}` : "Of the choices themselves"),
      table(group ? `Measures against the target ${group}` : "Measures of the choices themselves",
        list.filter((m) => (m.target || "") === group).map((m) => measureColumn(m)), rows)])));
}

const leftMargin = (labels, width) => Math.min(width * 0.36, 16 + 7 * Math.max(4, ...labels.map((l) => String(l).length)));
const short = (label, width) => {
  const most = Math.max(6, Math.floor((width * 0.36 - 12) / 7));
  return label.length > most ? label.slice(0, most - 1) + "…" : label;
};

function overlap() {
  const kinds = [
    ["Documents in common, as a share of both (Jaccard)", found.overlap, "jaccard", "percent", (d) => `${count(d.documents)} documents`],
    ["Tokens in common, as a share of both (Jaccard)", found.overlap, "jaccard_tokens", "percent", (d) => `${count(d.tokens)} tokens`],
    ["Documents in common, whole choices", found.overlap_whole, "jaccard", "percent", (d) => `${count(d.documents)} documents`],
    ["Rank correlation of the scores (Spearman)", found.correlations, "spearman", null, (d) => `over ${count(d.documents)} documents`],
  ];
  const place = h("div");
  function show(i) {
    const [title, pairs, key, form, note] = kinds[i];
    const there = found.choices.map((c) => c.name).filter((n) => pairs.some((d) => d.a === n || d.b === n));
    const cell = (a, b) => {
      if (a === b) return h("td", { class: "self" }, "·");
      const d = pairs.find((p) => (p.a === a && p.b === b) || (p.a === b && p.b === a));
      if (!d || d[key] === null) return h("td", {}, "–");
      const heat = Math.round(45 * Math.min(1, Math.abs(d[key])));
      return h("td", { style: `background: rgb(var(--heat) / ${heat}%)`, title: `${a} and ${b}: ${note(d)}` }, said(d[key], form));
    };
    place.replaceChildren(h("div", { class: "scroll", role: "region", "aria-label": title, tabindex: "0" },
      h("table", { class: "heat" }, h("caption", {}, title),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "choice"), there.map((n) => h("th", { scope: "col" }, breakable(n))))),
        h("tbody", {}, there.map((a) => h("tr", { "data-name": a }, h("th", { scope: "row" }, swatch(a), " ", breakable(a)), there.map((b) => cell(a, b))))))));
  }
  if (found.choices.length < 2) return;
  show(0);
  section("overlap", "What they share", "Two random choices of a share s of a corpus have s / (2 − s) of their documents in common.",
    chooser("Show", kinds.map((k) => k[0]), show), place);
}

function composition() {
  const list = found.compositions;
  const of = (value, name) => (name === null ? value.corpus : value.choices[name]);
  section("composition", "What they consist of", null, choosable("Column", list.map((c) => c.title),
    (i) => `Share of the tokens of each whole choice by ${list[i].title.toLowerCase()}; the bars are the corpus.`, (i, width) => {
      const values = list[i].values, order = values.map((v) => v.value);
      const dots = values.flatMap((v) => shownNames().map((name) => ({ value: v.value, name, ...of(v, name) })));
      return Plot.plot({ width, height: 60 + 22 * order.length, marginLeft: leftMargin(order, width), marginBottom: 42, style,
        x: { label: "share of the tokens →", tickFormat: (x) => percent(x), grid: true, ticks: width < 500 ? 4 : 8 },
        y: { label: null, domain: order, tickFormat: (v) => short(v, width) }, color: { type: "identity" }, symbol: { type: "identity" },
        marks: [
          Plot.barX(values, { y: "value", x: (v) => v.corpus.share, fill: "currentColor", fillOpacity: 0.1 }),
          Plot.dot(dots, { y: "value", x: "share", stroke: (d) => colours.get(d.name), symbol: (d) => symbolOf(d.name), r: 4.5,
            strokeWidth: 1.8, tip: true,
            title: (d) => `${d.name}\n${d.value}\n${percent(d.share)} of the tokens: ${count(d.tokens)} in ${count(d.documents)} documents` }),
        ] });
    }, (i) => table(`Share of the tokens by ${list[i].title.toLowerCase()}`, [null, ...names].map((name) => ({
      title: name ?? "the corpus", about: `share of the tokens of ${name ?? "the corpus"}`, form: "percent", best: null, value: (row) => of(row.all, name).share })),
      list[i].values.map((v) => ({ name: v.value, all: v })), list[i].title.toLowerCase())));
}

function scores() {
  if (!found.scores.length) return;
  const bars = h("div", { class: "grid" }), lines = h("div", { class: "grid" });
  for (const s of found.scores) {
    const colour = colours.get(s.name);
    const shares = (counts) => { const total = Math.max(1, counts.reduce((a, b) => a + b, 0)); return counts.map((n) => n / total); };
    const all = shares(s.all), chosen = shares(s.chosen);
    const cells = s.all.map((n, i) => ({ low: s.edges[i], high: s.edges[i + 1], all: all[i], chosen: chosen[i], n, kept: s.chosen[i] }));
    const label = `${s.name}: distribution of ${count(s.documents)} scores, and of the chosen ones`;
    bars.append(h("div", { "data-name": s.name }, h("h3", {}, swatch(s.name), " ", s.name), figure(null, label, (width) => Plot.plot({
      width, height: 200, style, marginLeft: 42, marginBottom: 42, x: { label: "score →", ticks: 5 },
      y: { label: "↑ share of the documents", tickFormat: (y) => percent(y), ticks: 4 }, color: { type: "identity" },
      marks: [
        Plot.rectY(cells, { x1: "low", x2: "high", y: "all", fill: "currentColor", fillOpacity: 0.18 }),
        Plot.rectY(cells, { x1: "low", x2: "high", y: "chosen", fill: colour, fillOpacity: 0.6, tip: true,
          title: (d) => `score ${said(d.low)} to ${said(d.high)}\nall: ${count(d.n)}\nchosen: ${count(d.kept)}` }),
        Plot.ruleY([0], { strokeOpacity: 0.3 }),
      ] }))));
    const points = s.points.map(([tokens, score, kept]) => ({ tokens: Math.max(1, tokens), score, kept }));
    const bins = s.lengths.map((b) => ({ ...b, tokens: Math.max(1, b.tokens) }));
    const rho = `Spearman ${said(s.spearman_length)}`;
    lines.append(h("div", { "data-name": s.name }, h("h3", {}, swatch(s.name), ` ${s.name}: ${rho}`), figure(null,
      `${s.name}: score by length in tokens, ${rho}`, (width) => Plot.plot({ width, height: 220, style, marginLeft: 46, marginBottom: 42,
        x: { type: "log", label: "tokens →", ticks: 4, tickFormat: "~s" }, y: { label: "↑ score", ticks: 5, domain: [s.edges[0], s.edges.at(-1)], clamp: true },
        color: { type: "identity" }, marks: [
          Plot.dot(points, { x: "tokens", y: "score", r: 1.8, fill: (d) => (d.kept ? colour : "currentColor"), fillOpacity: (d) => (d.kept ? 0.7 : 0.2) }),
          Plot.areaY(bins, { x: "tokens", y1: "lower", y2: "upper", fill: colour, fillOpacity: 0.2 }),
          Plot.lineY(bins, { x: "tokens", y: "median", stroke: colour, strokeWidth: 2.5, tip: true,
            title: (d) => `about ${count(Math.round(d.tokens))} tokens\nmedian score ${said(d.median)}\nquartiles ${said(d.lower)} to ${said(d.upper)}` }),
        ] }))));
  }
  section("scores", "Scores", "How the scores are distributed: grey all documents that the step saw, in colour those that it chose.", bars,
    h("h3", {}, "By length"),
    h("p", {}, "A choice that goes by length rather than content shows here: median and quartiles of the score from short to long documents; dots are documents, the chosen ones in colour."),
    lines);
  plots.push([bars, () => [...bars.children, ...lines.children].forEach((e) => { e.hidden = hidden.has(e.dataset.name); })]);
}

function proxy() {
  const p = found.proxy;
  if (!p) return;
  section("proxy", "A small model trained on each", p.about, choosable("Loss on", p.losses.map((l) => l.title), (i) => p.losses[i].about, (i, width) => {
    const rows = p.losses[i].curves.filter((c) => !hidden.has(c.name)).flatMap((c) => c.points.filter((d) => d.tokens > 0).map((d) => ({ ...d, name: c.name })));
    return Plot.plot({ width, height: 350, style, marginLeft: 46, marginBottom: 42, x: { type: "log", label: "tokens →", tickFormat: "~s", ticks: 5 },
      y: { label: "↑ loss (nats a token)", grid: true }, color: { type: "identity" }, marks: [
        Plot.areaY(rows, { x: "tokens", y1: "low", y2: "high", z: "name", fill: (d) => colours.get(d.name), fillOpacity: 0.15 }),
        Plot.lineY(rows, { x: "tokens", y: "mean", z: "name", stroke: (d) => colours.get(d.name), strokeWidth: 2,
          strokeDasharray: (d) => (d.name === LOT ? "4 3" : null) }),
        Plot.dot(rows, { x: "tokens", y: "mean", fill: (d) => colours.get(d.name), r: 3, tip: true,
          title: (d) => `${d.name}\n${count(d.tokens)} tokens\nloss ${said(d.mean)} (${said(d.low)} to ${said(d.high)})` }),
      ] });
  }, (i) => table(p.losses[i].title, p.losses[i].columns.map((c) => ({ title: c.title, about: c.about, form: c.form, best: c.better,
    value: (row) => c.values[row.name] ?? null, note: (row) => (c.notes || {})[row.name] })), p.losses[i].curves.map((c) => ({ name: c.name })))));
}

// The text with its marked passages; offsets count code points.
function marked(sample) {
  const letters = Array.from(sample.text), made = [];
  const most = Math.max(...sample.marks.map(([, , weight]) => Math.abs(weight)));
  let at = 0;
  for (const [start, end, weight] of sample.marks) {
    if (start < at || end > letters.length) continue;
    made.push(letters.slice(at, start).join(""));
    made.push(h("mark", { class: weight < 0 ? "minus" : null, style: `--share: ${(30 + 70 * Math.abs(weight) / most).toFixed(0)}%`, title: `${weight > 0 ? "+" : ""}${said(weight)}` }, letters.slice(start, end).join("")));
    at = end;
  }
  return [...made, letters.slice(at).join("")];
}

function samples() {
  if (!found.samples.length) return;
  section("samples", "What only one of them chose", "Documents drawn at random from those that no other choice has. Marked is what raised the score, the stronger the more, and in red what lowered it.",
    found.samples.map((group) => h("details", { "data-name": group.name }, h("summary", {}, swatch(group.name), " ",
      `${group.name}: ${count(group.documents)} documents (${count(group.tokens)} tokens) that no other has`),
      group.shown.map((s) => h("article", { class: "sample" },
        h("strong", { dir: "auto" }, s.doc_id), " ",
        h("span", { class: "where", dir: "auto" }, `${s.source ?? ""} · ${s.file}${s.line === null ? "" : ` line ${count(s.line)}`} · ${count(s.tokens)} tokens` +
          (s.score === null ? "" : ` · score ${said(s.score)}, higher than ${said(s.percentile)}% of the scored`)),
        h("pre", { tabindex: "0", role: "group", "aria-label": `Text of ${s.doc_id}`, dir: "auto" }, s.cut_before ? "… " : "", marked(s), s.cut_after ? " …" : ""),
        s.about && h("div", { class: "where" }, s.about),
        s.parts.length > 0 && h("ul", {}, s.parts.map((p) => h("li", {}, p.weight === null ? p.text : `${p.text} ${p.weight > 0 ? "+" : ""}${said(p.weight)}`))),
        h("div", { class: "where" }, s.others.map((o) => `${o.name}: ${o.said}`).join(" · ")))))));
}

function how() {
  const seen = new Map(found.measures.map((m) => [m.title, m.how]));
  section("how", "How it was measured", null, h("dl", { class: "how" }, found.how.map(([title, words]) => [h("dt", {}, title), h("dd", {}, words)]),
    FACTS.map(([title, about]) => [h("dt", {}, title), h("dd", {}, about)]),
    [...seen].map(([title, words]) => words && [h("dt", {}, title), h("dd", {}, words)])),
  h("p", { class: "soft" }, "Runs: ", found.choices.map((c) => `${c.name} = ${c.run}`).join(", "),
    ". Plots: Observable Plot and D3 (ISC licence), in this file."));
}

head();
for (const part of [warnings, glance, measures, overlap, composition, scores, proxy, samples, how]) part();
