// Accuracy, accuracy by class, and confusion.

// --- drawing

// Colours of common.css, which follow light and dark by themselves
const BASE = "var(--base)", THIS = "var(--this)", INK = "var(--ink)", LINE = "var(--line)", GREY = "var(--grey)";
const SVG = "http://www.w3.org/2000/svg";
function shape(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}
function titled(node, text) { node.append(shape("title", {}, text)); return node; }
function draw(id, width, height, label, shapes) {
  const svg = typeof id === "string" ? $(id) : id;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", label);
  svg.replaceChildren(...shapes);
}
/** The width of a drawing in pixels, so that its text has the same size on any screen. */
const room = (node) => Math.max(260, node.parentElement.clientWidth - 2 * parseFloat(getComputedStyle(node.parentElement).paddingLeft));

/** Students' t at 97.5 % for few seeds, else the normal's. */
const T = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
  2.131, 2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042];
function halfWidth(values) {
  const m = mean(values), n = known(values).length;
  if (n < 2) return 0;
  const sd = Math.sqrt(known(values).reduce((sum, v) => sum + (v - m) ** 2, 0) / (n - 1));
  return (T[n - 1] || 1.99) * sd / Math.sqrt(n);
}

/** The chosen seed's entry of a list over seeds, or the mean over seeds of each number. */
function pick(trial, lists) {
  if (state.seed !== "mean") return lists[trial.seeds.indexOf(state.seed)];
  if (!Array.isArray(lists[0])) return mean(lists);
  return lists[0].map((_, i) => mean(lists.map((list) => list[i])));
}

function showAccuracy(trial) {
  const accuracy = pick(trial, trial.accuracy);
  $("accuracy").textContent = percent(accuracy, 2);
  $("interval").textContent = state.seed === "mean" && trial.seeds.length > 1
    ? `± ${(100 * halfWidth(trial.accuracy)).toFixed(2)} points, 95 % over ${trial.seeds.length} seeds`
    : `seed ${state.seed === "mean" ? trial.seeds[0] : state.seed}`;
  $("network-loss").textContent = shown(pick(trial, trial.networkLoss), 3);
  $("gate-loss").textContent = shown(pick(trial, trial.gateLoss), 3);
  const all = data.trials.map((t) => mean(t.accuracy));
  const place = all.filter((a) => a > mean(trial.accuracy)).length + 1;
  $("rank").textContent = `Place ${place} of ${all.length}`;
  showStrip(trial, all, accuracy, place);
  showTrainLink(trial);
}

/** A trial that the playground has opens there, with the chosen seed. */
function showTrainLink(trial) {
  const cell = [...KNOBS.slice(0, 4).map((knob) => [knob, trial[knob]]), ["seed", shownSeed(trial)]];
  $("train").hidden = !HAS_NEIGHBOURS || !data.trainable.includes(trial.recipe) || trial.ne > data.mostTrainable;
  $("train").href = `playground.html#${new URLSearchParams(cell)}`;
}

/** All trials on one scale, a row a recipe: the chosen one is marked, the others can be clicked. */
function showStrip(trial, all, accuracy, place) {
  const recipes = valuesOf("recipe"), width = room($("strip"));
  const low = Math.min(...all, accuracy), high = Math.max(...all, accuracy);
  const x = (a) => 68 + (width - 92) * (a - low) / (high - low || 1);
  const row = (name) => 20 + 26 * recipes.indexOf(name), bottom = 20 + 26 * recipes.length;
  const step = [0.005, 0.01, 0.02, 0.05, 0.1].find((s) => (high - low) / s <= width / 80) || 0.2;
  const shapes = [];
  for (let tick = Math.ceil(low / step); tick * step <= high; tick++) {
    const at = x(tick * step);
    shapes.push(shape("line", { x1: at, x2: at, y1: 6, y2: bottom - 8, stroke: LINE }),
      shape("text", { x: at, y: bottom + 8, "text-anchor": "middle" }, `${+(100 * tick * step).toFixed(1)} %`));
  }
  for (const name of recipes) shapes.push(shape("text", { x: 52, y: row(name) + 4, "text-anchor": "end" }, name));
  data.trials.forEach((t, i) => {
    if (same(t, trial)) return;
    const dot = shape("circle", { cx: x(all[i]), cy: row(t.recipe), r: 5, fill: GREY, "fill-opacity": 0.5, class: "trial" });
    dot.addEventListener("click", () => choose(cellOf(t)));
    shapes.push(titled(dot, `${nameOf(t)}: ${percent(all[i], 2)}`));
  });
  shapes.push(titled(shape("circle", { cx: x(accuracy), cy: row(trial.recipe), r: 9, fill: THIS, stroke: INK, "stroke-width": 2 }),
    `${nameOf(trial)}: ${percent(accuracy, 2)}`));
  draw("strip", width, bottom + 14, `Accuracy ${percent(accuracy, 2)}, place ${place} of ${all.length} trials`, shapes);
}

/** Of the same recipe and settings, and the same lc where there is one. */
function baseOf(trial) {
  const ofRecipe = data.trials.filter((t) => t.recipe === trial.recipe && t.settings === trial.settings && t.ne === 1);
  return ofRecipe.find((t) => t.lc === trial.lc) || ofRecipe[0];
}

/** A class name of a few letters. */
const LETTER = 7; // pixels, about
const LONGEST_NAME = 11; // letters before a row

/** The name of a class, cut to a width in pixels. */
function brief(d, width) {
  const most = Math.max(2, Math.floor(width / LETTER));
  return NAMES_OF[d].length > most ? `${NAMES_OF[d].slice(0, most - 1)}.` : NAMES_OF[d];
}

function showBars(trial) {
  const base = baseOf(trial), ours = pick(trial, trial.classes);
  const theirs = base ? LABELS.map((d) => mean(base.classes.map((c) => c[d]))) : null;
  $("bars-note").textContent = (base ? `Left, blue: the base, one expert of the same recipe (mean of ${base.seeds.length}). Right, hatched: this trial`
    : "This trial; its recipe has no base")
    + (state.seed === "mean" && trial.seeds.length > 1 ? ", with 95 % intervals." : ".");
  const width = room($("bars")), wide = (width - 44) / COUNT;
  const low = Math.min(0.9, Math.floor(10 * Math.min(...ours, ...(theirs || [1])) - 0.3) / 10);
  const y = (a) => 206 - 190 * Math.max(0, a - low) / (1 - low);
  const hatch = shape("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  hatch.append(shape("rect", { width: 5, height: 5, fill: THIS }), shape("rect", { width: 1, height: 5, fill: "var(--paper)" }));
  const shapes = [hatch];
  for (let i = 0; i <= 4; i++) {
    const a = low + (1 - low) * i / 4;
    shapes.push(shape("line", { x1: 36, x2: width, y1: y(a), y2: y(a), stroke: LINE }),
      shape("text", { x: 30, y: y(a) + 4, "text-anchor": "end" }, `${+(100 * a).toFixed(1)}`));
  }
  const bar = (x, value, attributes, text) => titled(shape("rect",
    { x, y: y(value), width: 0.4 * wide, height: 206 - y(value), ...attributes }), text);
  const whisker = (x, values) => {
    const half = halfWidth(values), at = mean(values);
    return shape("line", { x1: x, x2: x, y1: y(Math.min(1, at + half)), y2: y(at - half), stroke: INK, "pointer-events": "none" });
  };
  for (const d of LABELS) {
    const x = 40 + wide * d, middle = x + 0.63 * wide;
    if (theirs) shapes.push(bar(x, theirs[d], { fill: BASE, "data-digit": d }, `base, ${data.item} ${NAMES_OF[d]}: ${percent(theirs[d])}`),
      whisker(x + 0.2 * wide, base.classes.map((c) => c[d])));
    shapes.push(bar(x + 0.43 * wide, ours[d], { fill: "url(#hatch)", "data-digit": d, "data-accuracy": ours[d] }, `${data.item} ${NAMES_OF[d]}: ${percent(ours[d])}`));
    if (state.seed === "mean" && trial.seeds.length > 1) shapes.push(whisker(middle, trial.classes.map((c) => c[d])));
    shapes.push(shape("text", { x: x + 0.42 * wide, y: 222, "text-anchor": "middle" }, brief(d, wide)));
  }
  draw("bars", width, 226, `Accuracy by ${data.item}, in per cent: ${ours.map((value, d) => `${NAMES_OF[d]}: ${percent(value)}`).join(", ")}`, shapes);
}

const BRIGHTEST_ERROR = 0.1; // of a digit's images, as in the report's figures

function showConfusion(trial) {
  const counts = pick(trial, trial.confusion), shapes = [], worst = { n: 0 };
  const left = Math.max(20, 6 + LETTER * Math.min(LONGEST_NAME, Math.max(...NAMES_OF.map((name) => name.length))));
  const width = room($("confusion")), wide = (width - left - 2) / COUNT, high = 22 + 22 * COUNT;
  for (const row of LABELS) {
    const total = LABELS.reduce((sum, c) => sum + counts[COUNT * row + c], 0);
    shapes.push(shape("text", { x: left - 6, y: 35 + 22 * row, "text-anchor": "end" }, brief(row, left)),
      shape("text", { x: left + wide * (row + 0.5), y: 13, "text-anchor": "middle" }, brief(row, wide)));
    for (const column of LABELS) {
      const n = counts[COUNT * row + column], share = Math.min(1, n / (total || 1) / BRIGHTEST_ERROR), right = row === column;
      if (!right && n > worst.n) Object.assign(worst, { n, row, column });
      const cell = shape("rect", { x: left + wide * column, y: 20 + 22 * row, width: wide - 1, height: 21,
        fill: right ? "var(--right)" : shade(share), "data-digit": row });
      shapes.push(titled(cell, `${NAMES_OF[row]} taken for ${NAMES_OF[column]}: ${n.toFixed(0)} of ${total.toFixed(0)}`));
      if (n >= 0.5) shapes.push(shape("text", { x: left + wide * (column + 0.5), y: 35 + 22 * row, "text-anchor": "middle",
        style: `fill:${right ? INK : onShade(share)};pointer-events:none`, "data-count": `${row},${column}` }, n.toFixed(0)));
    }
  }
  const most = worst.n > 0 ? `Most often ${NAMES_OF[worst.row]} is taken for ${NAMES_OF[worst.column]}` : `No ${data.sample} is taken for another`;
  $("confusion-note").textContent = `Test ${data.sample}s, a row for each true ${data.item}, a column for each prediction${state.seed === "mean" && trial.seeds.length > 1 ? ", mean over seeds" : ""}. `
    + `The diagonal is right; the brighter, the more errors. ${most}.`;
  draw("confusion", width, high, `Confusion matrix. ${most}, ${worst.n.toFixed(0)} times`, shapes);
}
