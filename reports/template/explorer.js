"use strict";
// The page's state is six choices; show() draws all panels from them, in one go.
// Nothing from the data is ever parsed as HTML: text goes in as text.

const data = JSON.parse($("data").textContent);
// A study may sweep settings of training as well: a fifth choice, in words.
const WORDS = { recipe: data.recipes, settings: data.settings };
const KNOBS = ["recipe", "ne", "k", "lc", ...(data.settings.length ? ["settings"] : [])];
// The classes: what they are called, and how many there are, is the data set's to say.
const NAMES_OF = data.classNames, LABELS = [...NAMES_OF.keys()], COUNT = LABELS.length;
const [HEIGHT, WIDTH] = data.imageShape.length ? data.imageShape : [28, 28];
/** As in "a digit", "an item". */
const a = (word) => (/^[aeiou8]/i.test(word) ? `an ${word}` : `a ${word}`);
const state = { recipe: null, ne: null, k: null, lc: null, settings: null, seed: "mean", digit: 0 };

// --- cells

const same = (trial, cell) => KNOBS.every((knob) => trial[knob] === cell[knob]);
const trialOf = (cell) => data.trials.find((trial) => same(trial, cell));
const valuesOf = (knob) => (WORDS[knob] ? WORDS[knob]
  : [...new Set(data.trials.map((trial) => trial[knob]))].sort((x, y) => x - y));

/** The existing trial with this value that is nearest to the current choices, earlier knobs first. */
function nearest(knob, value) {
  const far = (trial) => KNOBS.reduce((sum, other, place) => {
    if (other === knob) return sum;
    const [a, b] = [trial[other], state[other]];
    const gap = typeof a === "number" ? Math.abs(Math.log2(a + 0.01) - Math.log2(b + 0.01)) : 20;
    return sum + (a === b ? 0 : (1 + gap) * 10 ** (3 - place));
  }, 0);
  return data.trials.filter((trial) => trial[knob] === value)
    .reduce((best, trial) => (far(trial) < far(best) ? trial : best));
}

/** Whether the value exists with the choices of all knobs before it. */
function offered(knob, value) {
  const before = KNOBS.slice(0, KNOBS.indexOf(knob));
  return data.trials.some((trial) => trial[knob] === value
    && before.every((other) => trial[other] === state[other]));
}

/** How a knob is called, beside its symbol. */
const NAMES = { recipe: "recipe", ne: "experts", k: "chosen per image", lc: "gate-loss weight", settings: "settings" };

function choose(change) {
  Object.assign(state, change);
  const trial = trialOf(state);
  if (state.seed !== "mean" && !trial.seeds.includes(state.seed)) state.seed = "mean";
  remember();
  show();
}

const cellOf = (trial) => Object.fromEntries(KNOBS.map((knob) => [knob, trial[knob]]));
const told = (trial) => [`${trial.recipe}, ne = ${trial.ne}, k = ${trial.k}, lc = ${trial.lc}`,
  ...(trial.settings ? [trial.settings] : [])].join(", ");

// --- the address

function remember() {
  const pairs = [...KNOBS, "seed", "digit"].map((name) => `${name}=${encodeURIComponent(state[name])}`);
  const fragment = `#${pairs.join("&")}`;
  if (location.hash !== fragment) history.pushState(null, "", fragment);
}

/** Takes the choices from the address; what does not exist falls back to the best trial. */
function recall() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const cell = { recipe: asked.recipe, ne: +asked.ne, k: +asked.k, lc: +asked.lc, settings: asked.settings };
  const trial = trialOf(cell) || defaultTrial();
  for (const knob of KNOBS) state[knob] = trial[knob];
  const seed = asked.seed === undefined || asked.seed === "mean" ? "mean" : +asked.seed;
  state.seed = trial.seeds.includes(seed) ? seed : "mean";
  state.digit = data.digits[+asked.digit] === undefined ? 0 : +asked.digit;
}

/** Over what is known: null stands for what is not a number. */
const known = (values) => values.filter((value) => value !== null);
const mean = (values) => known(values).reduce((x, y) => x + y, 0) / known(values).length;
const shown = (value, digits) => (value === null || Number.isNaN(value) ? "–" : value.toFixed(digits));
const defaultTrial = () => data.trials.find((t) => t.recipe === "logits" && t.ne === 8 && t.k === 2 && t.lc === 1)
  || data.trials.reduce((best, t) => (mean(t.accuracy) > mean(best.accuracy) ? t : best));

// --- controls

function buildControls() {
  for (const knob of KNOBS) {
    const symbol = WORDS[knob] ? [] : [" ", element("i", {}, knob)];
    const group = element("fieldset", {}, element("legend", {}, NAMES[knob], ...symbol));
    for (const value of valuesOf(knob)) {
      const input = element("input", { type: "radio", name: knob, value, "aria-label": `${knob} ${value}` });
      input.addEventListener("change", () => {
        choose(cellOf(nearest(knob, value)));
      });
      group.append(element("label", { class: "pill" }, input, element("span", {}, String(value))));
    }
    $("controls").append(group);
  }
  const seeds = element("select", { id: "seed", "aria-label": "seed" });
  seeds.addEventListener("change", () => choose({ seed: seeds.value === "mean" ? "mean" : +seeds.value }));
  $("controls").append(element("fieldset", {}, element("legend", {}, "seed"), seeds));
  $("controls").addEventListener("submit", (event) => event.preventDefault());
}

function showControls(trial) {
  for (const input of document.querySelectorAll("#controls input")) {
    const value = WORDS[input.name] ? input.value : +input.value;
    input.checked = state[input.name] === value;
    input.disabled = !offered(input.name, value);
  }
  const options = ["mean", ...trial.seeds].map((seed) =>
    element("option", { value: seed }, seed === "mean" ? `mean of ${trial.seeds.length}` : String(seed)));
  $("seed").replaceChildren(...options);
  $("seed").value = String(state.seed);
}

/** Views that tell the story, found in the data. */
function buildTour() {
  const base = data.trials.filter((t) => t.ne === 1);
  const stops = [];
  const worst = base.flatMap((t) => t.classes.map((classes, i) => ({ t, seed: t.seeds[i], low: Math.min(...classes) })))
    .sort((a, b) => a.low - b.low)[0];
  if (worst) stops.push([`a base model that gets ${percent(worst.low, 0)} of ${a(data.item)}`, worst.t, worst.seed]);
  const first = (t) => t.seeds[0];
  const largest = (test) => data.trials.filter((t) => t.ne > 1 && test(t))
    .reduce((best, t) => (best && best.ne >= t.ne ? best : t), null);
  // What trains is measured: the largest norm of the router's gradient, over all steps and seeds.
  const still = largest((t) => t.k === 1 && t.gradient.every((norm) => norm === 0));
  if (still) stops.push([`${still.ne} experts, k = 1: a router that never trains`, still, first(still)]);
  const loose = largest((t) => t.k === 2 && t.lc === 0);
  if (loose) {
    const [used] = countUsed(loose);
    stops.push([`no gate loss: ${used} of ${loose.ne} experts do most of the work`, loose, first(loose)]);
  }
  const best = data.trials.reduce((a, t) => (mean(t.accuracy) > mean(a.accuracy) ? t : a));
  stops.push(["the best of all", best, "mean"]);
  for (const [label, trial, seed] of stops) {
    const button = element("button", { type: "button" }, label);
    button.addEventListener("click", () => choose({ ...cellOf(trial), seed }));
    button.isShown = () => same(trial, state) && state.seed === seed;
    $("tour").append(button);
  }
}

/** Of the first seed: how many experts have nine tenths of the work, and how many there are. */
function countUsed(trial) {
  const images = expertsOf(trial, 0).map((e) => e.images).sort((x, y) => y - x);
  const all = images.reduce((x, y) => x + y, 0);
  let sum = 0;
  return [images.findIndex((n) => (sum += n) >= 0.9 * all) + 1, images.length];
}

function showTour() {
  for (const button of document.querySelectorAll("#tour button")) button.setAttribute("aria-pressed", button.isShown());
}

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
/** The room that a drawing has, so that its text is as large on a phone as anywhere. */
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
  $("train").hidden = !data.trainable.includes(trial.recipe);
  $("train").href = `playground.html#${new URLSearchParams(cell)}`;
}

/** All trials on one scale, a row a recipe: where this one stands, and a way to the others. */
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
    shapes.push(titled(dot, `${told(t)}: ${percent(all[i], 2)}`));
  });
  shapes.push(titled(shape("circle", { cx: x(accuracy), cy: row(trial.recipe), r: 9, fill: THIS, stroke: INK, "stroke-width": 2 }),
    `${told(trial)}: ${percent(accuracy, 2)}`));
  draw("strip", width, bottom + 14, `Accuracy ${percent(accuracy, 2)}, place ${place} of ${all.length} trials`, shapes);
}

/** Of the same recipe and settings, and the same lc where there is one. */
function baseOf(trial) {
  const ofRecipe = data.trials.filter((t) => t.recipe === trial.recipe && t.settings === trial.settings && t.ne === 1);
  return ofRecipe.find((t) => t.lc === trial.lc) || ofRecipe[0];
}

/** A name of a class where there is room for a few letters. */
const brief = (d) => (NAMES_OF[d].length > 3 ? `${NAMES_OF[d].slice(0, 2)}.` : NAMES_OF[d]);

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
    shapes.push(shape("text", { x: x + 0.42 * wide, y: 222, "text-anchor": "middle" }, brief(d)));
  }
  draw("bars", width, 226, `Accuracy by ${data.item}, in per cent: ${ours.map((value, d) => `${NAMES_OF[d]}: ${percent(value)}`).join(", ")}`, shapes);
}

const BRIGHTEST_ERROR = 0.1; // of a digit's images, as in the report's figures

function showConfusion(trial) {
  const counts = pick(trial, trial.confusion), shapes = [], worst = { n: 0 };
  const width = room($("confusion")), wide = (width - 22) / COUNT, high = 22 + 22 * COUNT;
  for (const row of LABELS) {
    const total = LABELS.reduce((sum, c) => sum + counts[COUNT * row + c], 0);
    shapes.push(shape("text", { x: 14, y: 35 + 22 * row, "text-anchor": "end" }, brief(row)),
      shape("text", { x: 20 + wide * (row + 0.5), y: 13, "text-anchor": "middle" }, brief(row)));
    for (const column of LABELS) {
      const n = counts[COUNT * row + column], share = Math.min(1, n / (total || 1) / BRIGHTEST_ERROR), right = row === column;
      if (!right && n > worst.n) Object.assign(worst, { n, row, column });
      const cell = shape("rect", { x: 20 + wide * column, y: 20 + 22 * row, width: wide - 1, height: 21,
        fill: right ? "var(--right)" : shade(share), "data-digit": row });
      shapes.push(titled(cell, `${NAMES_OF[row]} taken for ${NAMES_OF[column]}: ${n.toFixed(0)} of ${total.toFixed(0)}`));
      if (n >= 0.5) shapes.push(shape("text", { x: 20 + wide * (column + 0.5), y: 35 + 22 * row, "text-anchor": "middle",
        style: `fill:${right ? INK : onShade(share)};pointer-events:none`, "data-count": `${row},${column}` }, n.toFixed(0)));
    }
  }
  const most = worst.n > 0 ? `Most often ${NAMES_OF[worst.row]} is taken for ${NAMES_OF[worst.column]}` : "No image is taken for another";
  $("confusion-note").textContent = `Test images, a row for each true ${data.item}, a column for each prediction${state.seed === "mean" && trial.seeds.length > 1 ? ", mean over seeds" : ""}. `
    + `The diagonal is right; the brighter, the more errors. ${most}.`;
  draw("confusion", width, high, `Confusion matrix. ${most}, ${worst.n.toFixed(0)} times`, shapes);
}

/** Experts of a seed with their shares of each class, sorted by the class they take most of. */
function expertsOf(trial, place) {
  const slots = trial.slots[place];
  const total = LABELS.map((d) => [...Array(trial.ne).keys()].reduce((sum, e) => sum + slots[COUNT * e + d], 0) / trial.k);
  const experts = [...Array(trial.ne).keys()].map((id) => ({ id,
    images: LABELS.reduce((sum, d) => sum + slots[COUNT * id + d], 0),
    shares: LABELS.map((d) => slots[COUNT * id + d] / (total[d] || 1)) }));
  const top = (e) => Math.max(...e.shares), best = (e) => e.shares.indexOf(top(e));
  return experts.sort((a, b) => best(a) - best(b) || top(b) - top(a));
}

/** What cannot be averaged over seeds is of the first seed, or of the chosen one. */
const shownSeed = (trial) => (state.seed === "mean" ? trial.seeds[0] : state.seed);
const shownExperts = (trial) => expertsOf(trial, trial.seeds.indexOf(shownSeed(trial)));

/** One table: a column an expert, with its pictures above and its share of each digit below. */
function showExperts(trial) {
  const experts = shownExperts(trial), seed = shownSeed(trial);
  const gates = new Map(seed === data.picturedSeed ? gatesOf(trial) : []);
  $("experts-note").textContent = `Seed ${seed}${state.seed === "mean" ? " (experts of different seeds have nothing in common to average)" : ""}. `
    + `Numbers: of each ${data.item}'s test images, the per cent that the expert sees`
    + (trial.k > 1 ? `; a row sums to ${100 * trial.k}, since each image goes to ${trial.k}.` : ".")
    + ` Sorted by the ${data.item} that an expert takes most of. Point at an expert, or at a ${data.item}.`;
  const head = experts.map(({ id, images }) => {
    const cell = element("th", { scope: "col", tabindex: 0, "data-expert": id }, element("small", {}, "expert "), String(id));
    cell.title = `expert ${id} sees ${images} test images`;
    if (gates.has(id)) cell.classList.add("asked");
    return cell;
  });
  const rows = LABELS.map((d) => element("tr", {}, element("th", { scope: "row", tabindex: 0, "data-digit": d }, NAMES_OF[d]),
    ...experts.map(({ id, shares }) => {
      const cell = element("td", { "data-expert": id, "data-digit": d }, shares[d] >= 0.005 ? (100 * shares[d]).toFixed(0) : "");
      cell.style.background = shade(shares[d]);
      cell.style.color = onShade(shares[d]);
      cell.title = `expert ${id} sees ${percent(shares[d])} of ${data.item} ${NAMES_OF[d]}`;
      return cell;
    })));
  const pictures = ["looks for", "gets"].map((name) => element("tr", { class: "pictures" }, element("th", { scope: "row" }, name),
    ...experts.map(({ id }) => element("td", { "data-expert": id }))));
  const body = element("tbody", {}, ...(seed === data.picturedSeed && trial.picture ? pictures : []), ...rows);
  $("experts").replaceChildren(element("thead", {}, element("tr", {}, element("td"), ...head)), body);
  if (!trial.picture || seed !== data.picturedSeed) {
    $("pictures-note").textContent = `Pictures of what routers look for are kept for seed ${data.picturedSeed} alone.`;
    return;
  }
  $("pictures-note").textContent = "Above: the router's weights, red where ink speaks for the expert, blue against; and the mean of the test images that it gets.";
  sprite(trial.picture, (context) => {
    if (trialOf(state) !== trial || shownSeed(trial) !== data.picturedSeed) return;
    experts.forEach(({ id, images }, i) => {
      pictures[0].children[i + 1].replaceChildren(tile(context, id, 0, `router weights of expert ${id}`, true));
      pictures[1].children[i + 1].replaceChildren(images ? tile(context, id, 1, `mean image that expert ${id} sees`, false) : "none");
    });
  });
}

// --- pictures

const loaded = new Map();
function sprite(uri, then) {
  if (loaded.has(uri)) return then(loaded.get(uri));
  const image = new Image();
  image.onload = () => {
    const canvas = element("canvas", { width: image.width, height: image.height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    loaded.set(uri, context);
    then(context);
  };
  image.src = uri;
}

/** A tile of a sprite, as large as an image of the data set, as a canvas; signed: 128 is 0, blue below, red above. */
function tile(context, column, row, label, signed) {
  const canvas = element("canvas", { width: WIDTH, height: HEIGHT, role: "img", "aria-label": label });
  const { data: rgba } = context.getImageData(WIDTH * column, HEIGHT * row, WIDTH, HEIGHT);
  paint(canvas, Array.from({ length: WIDTH * HEIGHT }, (_, i) => (signed ? 1.6 * (rgba[4 * i] - 128) / 127 : rgba[4 * i] / 255)), signed);
  return canvas;
}

// --- lighting up

const MUCH = 0.3; // of a class's images: what counts as one of an expert's classes

/** Lights up an expert with its digits, or a digit with its experts, or one cell's both. */
function light(expert, digit) {
  const experts = shownExperts(trialOf(state));
  const digits = digit !== undefined ? [digit] : LABELS.filter((d) => experts.find((e) => e.id === expert).shares[d] >= MUCH);
  const ids = expert !== undefined ? [expert] : experts.filter((e) => e.shares[digit] >= MUCH).map((e) => e.id);
  for (const node of document.querySelectorAll("#experts [data-expert], #experts [data-digit]")) {
    const mine = node.dataset.expert !== undefined && ids.includes(+node.dataset.expert);
    const its = node.dataset.digit !== undefined && digits.includes(+node.dataset.digit);
    const isCell = node.dataset.expert !== undefined && node.dataset.digit !== undefined;
    const on = isCell ? (expert === undefined ? its : mine) : mine || its;
    node.classList.toggle("dim", !on);
    node.classList.toggle("lit", on && node.tagName === "TH");
  }
  for (const node of document.querySelectorAll("svg rect[data-digit]")) node.classList.toggle("dim", !digits.includes(+node.dataset.digit));
}
function unlight() {
  for (const node of document.querySelectorAll(".lit, .dim")) node.classList.remove("lit", "dim");
}
function lightFrom(event) {
  const node = event.target.closest && event.target.closest("[data-expert], [data-digit]");
  unlight();
  if (!node) return;
  const [expert, digit] = [node.dataset.expert, node.dataset.digit].map((text) => (text === undefined ? undefined : +text));
  light(expert, digit);
}

// --- one digit

function buildDigits() {
  if (!data.digitsPicture) return;
  sprite(data.digitsPicture, (context) => {
    $("digits").replaceChildren(...data.digits.map((digit, i) => {
      const button = element("button", { type: "button", "aria-label": `test image ${i + 1}, ${data.item} ${NAMES_OF[digit]}` },
        tile(context, i, 0, `${data.item} ${NAMES_OF[digit]}`, false));
      button.addEventListener("click", () => choose({ digit: i }));
      return button;
    }));
    showDigit(trialOf(state));
  });
}

/** Pairs of expert and gate of the picked digit, the largest first; of the first seed. */
function gatesOf(trial) {
  const told = trial.gates[state.digit] || [], pairs = [];
  for (let i = 1; i < told.length; i += 2) pairs.push([told[i], told[i + 1]]);
  return pairs.sort((a, b) => b[1] - a[1]);
}

function showDigit(trial) {
  [...$("digits").children].forEach((button, i) => button.setAttribute("aria-pressed", i === state.digit));
  if (!trial.gates[state.digit]) return $("picked").replaceChildren(`Seed ${data.picturedSeed} is not in this trial.`);
  const digit = data.digits[state.digit], predicted = trial.gates[state.digit][0];
  const lines = [element("strong", { id: "prediction" }, `${NAMES_OF[digit]}, taken for ${NAMES_OF[predicted]}`)];
  for (const [id, gate] of gatesOf(trial)) {
    const bar = element("i");
    bar.style.width = `${100 * Math.min(1, gate)}%`;
    lines.push(element("div", { class: "gate" }, element("span", {}, `expert ${id}`), element("span", {}, bar),
      element("span", {}, gate.toFixed(3))));
  }
  const shown = element("div", { class: "gates" }, ...lines);
  $("picked").classList.toggle("wrong", digit !== predicted);
  if (!data.digitsPicture) return $("picked").replaceChildren(shown);
  return sprite(data.digitsPicture, (context) =>
    $("picked").replaceChildren(tile(context, state.digit, 0, `the picked image, ${data.item} ${NAMES_OF[digit]}`, false), shown));
}

// --- curves

const CURVES = { network_loss: "network loss, nats", gate_loss: "gate loss", test_accuracy: "test accuracy, %" };
function showCurves(trial) {
  const narrow = matchMedia("(max-width: 44rem)").matches;
  const width = narrow ? room($("curves")) : (room($("curves")) - 32) / 3;
  const charts = Object.entries(CURVES).map(([name, title]) => {
    const lists = trial.curves[name], all = known(lists.flat()), scale = name === "test_accuracy" ? 100 : 1;
    const [low, high] = [Math.min(...all), Math.max(...all)], n = lists[0].length;
    const x = (i) => 48 + (width - 64) * (n > 1 ? i / (n - 1) : 0.5);
    const y = (v) => 150 - 122 * (v - low) / (high - low || 1);
    const line = (values, attributes) => shape("polyline", { fill: "none", points: values.map((v, i) => (v === null ? "" : `${x(i)},${y(v)}`)).join(" "), ...attributes });
    const shapes = [shape("text", { x: 48, y: 14, "font-weight": "bold" }, title)];
    for (let i = 0; i <= 2; i++) {
      const v = low + (high - low) * i / 2;
      shapes.push(shape("line", { x1: 48, x2: width - 16, y1: y(v), y2: y(v), stroke: LINE }),
        shape("text", { x: 42, y: y(v) + 4, "text-anchor": "end" }, (scale * v).toPrecision(3)));
      if (high === low) break;
    }
    for (let i = 0; i < n; i += Math.ceil(n / 8)) shapes.push(shape("text", { x: x(i), y: 168, "text-anchor": "middle" }, `${i + 1}`));
    shapes.push(shape("text", { x: (48 + width - 16) / 2, y: 184, "text-anchor": "middle" }, "epoch"),
      ...lists.map((values) => line(values, { stroke: GREY, "stroke-opacity": 0.5 })),
      line(pick(trial, lists), { stroke: INK, "stroke-width": 5 }), line(pick(trial, lists), { stroke: THIS, "stroke-width": 3 }));
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("role", "img");
    draw(svg, width, 190, `${title} over ${n} epochs, at the end ${pick(trial, lists).at(-1).toPrecision(4)}`, shapes);
    return svg;
  });
  $("curves").replaceChildren(...charts);
}

// --- all of it

function show() {
  const trial = trialOf(state);
  showControls(trial);
  showTour();
  showAccuracy(trial);
  showBars(trial);
  showConfusion(trial);
  showExperts(trial);
  showDigit(trial);
  showCurves(trial);
}

/** Words of the page that the data set has its own for. */
function nameItems() {
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = node.dataset.word.replace("{item}", data.item);
}

function start() {
  nameItems();
  recall();
  buildControls();
  buildTour();
  buildDigits();
  show();
  for (const name of ["pointerover", "focusin"]) document.addEventListener(name, lightFrom);
  for (const name of ["pointerleave", "focusout"]) document.addEventListener(name, unlight);
  let resizing;
  window.addEventListener("resize", () => { cancelAnimationFrame(resizing); resizing = requestAnimationFrame(show); });
  dark.addEventListener("change", () => { buildDigits(); show(); });
  window.addEventListener("popstate", () => { recall(); show(); });
  window.addEventListener("hashchange", () => { recall(); show(); });
}

if (data.trials.length) start();
else document.querySelector("main").replaceChildren("This study has no trial to show: all its runs diverged.");
