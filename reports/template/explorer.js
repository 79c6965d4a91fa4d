"use strict";
// The page's state is five choices; show() draws all panels from them, in one go.
// Nothing from the data is ever parsed as HTML: text goes in as text.

const data = JSON.parse(document.getElementById("data").textContent);
const KNOBS = ["recipe", "ne", "k", "lc"];
const DIGITS = [...Array(10).keys()];
const $ = (id) => document.getElementById(id);
const state = { recipe: null, ne: null, k: null, lc: null, seed: "mean", digit: 0 };

// --- cells

const same = (trial, cell) => KNOBS.every((knob) => trial[knob] === cell[knob]);
const trialOf = (cell) => data.trials.find((trial) => same(trial, cell));
const valuesOf = (knob) => [...new Set(data.trials.map((trial) => trial[knob]))]
  .sort((a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(b)));

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

function choose(change) {
  Object.assign(state, change);
  const trial = trialOf(state);
  if (state.seed !== "mean" && !trial.seeds.includes(state.seed)) state.seed = "mean";
  remember();
  show();
}

// --- the address

function remember() {
  const pairs = [...KNOBS, "seed"].map((name) => `${name}=${encodeURIComponent(state[name])}`);
  const fragment = `#${pairs.join("&")}`;
  if (location.hash !== fragment) history.pushState(null, "", fragment);
}

/** Takes the choices from the address; what does not exist falls back to the best trial. */
function recall() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const cell = { recipe: asked.recipe, ne: +asked.ne, k: +asked.k, lc: +asked.lc };
  const trial = trialOf(cell) || defaultTrial();
  for (const knob of KNOBS) state[knob] = trial[knob];
  const seed = asked.seed === undefined || asked.seed === "mean" ? "mean" : +asked.seed;
  state.seed = trial.seeds.includes(seed) ? seed : "mean";
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const defaultTrial = () => data.trials.find((t) => t.recipe === "logits" && t.ne === 8 && t.k === 2 && t.lc === 1)
  || data.trials.reduce((best, t) => (mean(t.accuracy) > mean(best.accuracy) ? t : best));

// --- controls

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function buildControls() {
  for (const knob of KNOBS) {
    const group = element("fieldset", {}, element("legend", {}, knob));
    for (const value of valuesOf(knob)) {
      const input = element("input", { type: "radio", name: knob, value, "aria-label": `${knob} ${value}` });
      input.addEventListener("change", () => {
        const trial = nearest(knob, value);
        choose(Object.fromEntries(KNOBS.map((name) => [name, trial[name]])));
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
    const value = input.name === "recipe" ? input.value : +input.value;
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
  if (worst) stops.push([`a base model that gets ${percent(worst.low, 0)} of a digit`, worst.t, worst.seed]);
  const many = Math.max(...data.trials.map((t) => t.ne));
  const find = (test) => data.trials.find((t) => t.ne === many && test(t));
  const still = find((t) => t.k === 1 && t.recipe !== "switch");
  if (still) stops.push([`${many} experts, k = 1: a router that never trains`, still, 0]);
  const loose = find((t) => t.k === 2 && t.lc === 0);
  if (loose) stops.push(["no gate loss: who is idle?", loose, 0]);
  const best = data.trials.reduce((a, t) => (mean(t.accuracy) > mean(a.accuracy) ? t : a));
  stops.push(["the best of all", best, "mean"]);
  for (const [label, trial, seed] of stops) {
    const button = element("button", { type: "button" }, label);
    button.addEventListener("click", () =>
      choose({ recipe: trial.recipe, ne: trial.ne, k: trial.k, lc: trial.lc, seed }));
    $("tour").append(button);
  }
}

// --- drawing

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
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

// cividis, in nine steps
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#fee838"];
function shade(share) {
  const at = Math.min(1, Math.max(0, share)) * (CIVIDIS.length - 1);
  const [low, high] = [Math.floor(at), Math.ceil(at)].map((i) => CIVIDIS[i].match(/\w\w/g).map((h) => parseInt(h, 16)));
  return `rgb(${low.map((c, i) => Math.round(c + (high[i] - c) * (at - Math.floor(at)))).join(",")})`;
}

/** Students' t at 97.5 % for few seeds, else the normal's. */
const T = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
  2.131, 2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042];
function halfWidth(values) {
  const m = mean(values), n = values.length;
  const sd = Math.sqrt(values.reduce((sum, v) => sum + (v - m) ** 2, 0) / (n - 1));
  return (T[n - 1] || 1.99) * sd / Math.sqrt(n);
}

/** The chosen seed's entry of a list over seeds, or the mean over seeds of each number. */
function pick(trial, lists) {
  if (state.seed !== "mean") return lists[trial.seeds.indexOf(state.seed)];
  if (typeof lists[0] === "number") return mean(lists);
  return lists[0].map((_, i) => mean(lists.map((list) => list[i])));
}

function showAccuracy(trial) {
  const accuracy = pick(trial, trial.accuracy);
  $("accuracy").textContent = percent(accuracy, 2);
  $("interval").textContent = state.seed === "mean" && trial.seeds.length > 1
    ? `± ${(100 * halfWidth(trial.accuracy)).toFixed(2)} points, 95 % over ${trial.seeds.length} seeds`
    : `seed ${state.seed === "mean" ? trial.seeds[0] : state.seed}`;
  const all = data.trials.map((t) => mean(t.accuracy));
  const place = all.filter((a) => a > mean(trial.accuracy)).length + 1;
  $("rank").textContent = `Place ${place} of ${all.length} trials, by mean accuracy. `
    + `Network loss ${pick(trial, trial.networkLoss).toFixed(3)}, gate loss ${pick(trial, trial.gateLoss).toFixed(3)}.`;
  const recipes = valuesOf("recipe"), [low, high] = [Math.min(...all), Math.max(...all)];
  const x = (a) => 80 + 680 * (a - low) / (high - low || 1);
  const shapes = recipes.map((name, i) => shape("text", { x: 74, y: 22 + 20 * i, "text-anchor": "end" }, name));
  data.trials.forEach((t, i) => {
    const y = 18 + 20 * recipes.indexOf(t.recipe);
    const dot = shape("circle", { cx: x(all[i]), cy: y, r: t === trial ? 7 : 3,
      fill: t === trial ? "#d55e00" : "#8b9199", "fill-opacity": t === trial ? 1 : 0.55 });
    titled(dot, `${t.recipe}, ne ${t.ne}, k ${t.k}, lc ${t.lc}: ${percent(all[i], 2)}`);
    dot.style.cursor = "pointer";
    dot.addEventListener("click", () => choose({ recipe: t.recipe, ne: t.ne, k: t.k, lc: t.lc }));
    if (t === trial) shapes.push(dot); else shapes.splice(recipes.length, 0, dot);
  });
  const bottom = 24 + 20 * recipes.length;
  for (let i = 0; i <= 4; i++) {
    const a = low + (high - low) * i / 4;
    shapes.push(shape("text", { x: x(a), y: bottom + 8, "text-anchor": "middle" }, percent(a, 1)));
  }
  draw("strip", 800, bottom + 14, `Accuracy ${percent(accuracy, 2)}, place ${place} of ${all.length}`, shapes);
}

function showBars(trial) {
  const base = data.trials.find((t) => t.recipe === trial.recipe && t.ne === 1 && t.lc === trial.lc)
    || data.trials.find((t) => t.recipe === trial.recipe && t.ne === 1);
  const ours = pick(trial, trial.classes);
  const theirs = base ? DIGITS.map((d) => mean(base.classes.map((c) => c[d]))) : null;
  const low = Math.floor(10 * Math.min(...ours, ...(theirs || [1]))) / 10 - 0.001;
  const height = (a) => Math.max(0, 190 * (a - low) / (1 - low));
  const shapes = [];
  for (let i = 0; i <= 4; i++) {
    const a = low + (1 - low) * i / 4, y = 200 - height(a);
    shapes.push(shape("line", { x1: 34, x2: 470, y1: y, y2: y, stroke: "#dfe2e6" }),
      shape("text", { x: 30, y: y + 4, "text-anchor": "end" }, `${(100 * a).toFixed(0)}`));
  }
  for (const d of DIGITS) {
    const x = 40 + 43 * d;
    if (theirs) shapes.push(titled(shape("rect", { x, y: 200 - height(theirs[d]), width: 17, height: height(theirs[d]), fill: "#0072b2" }),
      `base, digit ${d}: ${percent(theirs[d])}`));
    shapes.push(titled(shape("rect", { x: x + 18, y: 200 - height(ours[d]), width: 17, height: height(ours[d]), fill: "#d55e00", "data-digit": d }),
      `digit ${d}: ${percent(ours[d])}`));
    shapes.push(shape("text", { x: x + 17, y: 215, "text-anchor": "middle" }, d));
  }
  draw("bars", 480, 220, `Accuracy by digit, in per cent: ${ours.map((a, d) => `${d}: ${percent(a)}`).join(", ")}`, shapes);
}

function showConfusion(trial) {
  const counts = pick(trial, trial.confusion), shapes = [];
  $("confusion-note").textContent = "Rows: true digit. Columns: prediction. Images of the test set"
    + (state.seed === "mean" ? ", mean over seeds." : ".");
  for (const row of DIGITS) {
    const total = DIGITS.reduce((sum, c) => sum + counts[10 * row + c], 0);
    shapes.push(shape("text", { x: 16, y: 37 + 24 * row, "text-anchor": "end" }, row),
      shape("text", { x: 42 + 44 * row, y: 12, "text-anchor": "middle" }, row));
    for (const column of DIGITS) {
      const n = counts[10 * row + column], share = n / total;
      const cell = shape("rect", { x: 21 + 44 * column, y: 20 + 24 * row, width: 43, height: 23, fill: shade(share), "data-digit": row });
      shapes.push(titled(cell, `${row} taken for ${column}: ${n.toFixed(0)} of ${total.toFixed(0)}`));
      if (n >= 0.5) shapes.push(shape("text", { x: 42 + 44 * column, y: 36 + 24 * row, "text-anchor": "middle",
        style: `fill:${share > 0.55 ? "#1d1f21" : "#fff"};pointer-events:none`, "data-count": `${row},${column}` }, n.toFixed(0)));
    }
  }
  draw("confusion", 466, 264, "Confusion matrix", shapes);
}

/** Experts of a seed with their (10) shares of each digit, sorted by the digit they take most of. */
function expertsOf(trial, place) {
  const slots = trial.slots[place];
  const total = DIGITS.map((d) => [...Array(trial.ne).keys()].reduce((sum, e) => sum + slots[10 * e + d], 0) / trial.k);
  const experts = [...Array(trial.ne).keys()].map((id) => ({ id, shares: DIGITS.map((d) => slots[10 * id + d] / total[d]) }));
  const top = (e) => Math.max(...e.shares), best = (e) => e.shares.indexOf(top(e));
  return experts.sort((a, b) => best(a) - best(b) || top(b) - top(a));
}

function showSlots(trial) {
  const place = state.seed === "mean" ? 0 : trial.seeds.indexOf(state.seed);
  const experts = expertsOf(trial, place), shapes = [], width = Math.max(26, Math.min(70, 760 / trial.ne));
  $("slots-note").textContent = `The share of a digit's test images that an expert sees, seed ${trial.seeds[place]}`
    + (state.seed === "mean" ? " (experts of different seeds have nothing in common to average)" : "")
    + ". Sorted by the digit that an expert takes most of.";
  experts.forEach((expert, i) => {
    const name = shape("text", { x: 24 + width * (i + 0.5), y: 12, "text-anchor": "middle", "data-expert": expert.id }, expert.id);
    shapes.push(name);
    for (const d of DIGITS) {
      const cell = shape("rect", { x: 24 + width * i, y: 18 + 20 * d, width: width - 1, height: 19,
        fill: shade(expert.shares[d]), "data-expert": expert.id, "data-digit": d });
      titled(cell, `expert ${expert.id} sees ${percent(expert.shares[d])} of the ${d}s`);
      cell.addEventListener("pointerenter", () => light(expert.id, d));
      cell.addEventListener("pointerleave", unlight);
      shapes.push(cell);
    }
  });
  for (const d of DIGITS) shapes.push(shape("text", { x: 18, y: 32 + 20 * d, "text-anchor": "end", "data-row": d }, d));
  draw("slots", 28 + width * trial.ne, 222, `Digit by expert, ${trial.ne} experts`, shapes);
  $("slots").style.maxWidth = `${1.3 * (28 + width * trial.ne)}px`;
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

/** A 28 × 28 tile of a sprite as a canvas; signed: 128 is 0, blue below, red above. */
function tile(context, column, row, label, signed) {
  const canvas = element("canvas", { width: 28, height: 28, role: "img", "aria-label": label });
  const pixels = context.getImageData(28 * column, 28 * row, 28, 28);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const grey = pixels.data[i], v = signed ? (grey - 128) / 127 : 0;
    const full = v > 0 ? [178, 24, 43] : [33, 102, 172], share = Math.min(1, 1.6 * Math.abs(v));
    const color = signed ? full.map((c) => 255 + (c - 255) * share) : [255 - grey, 255 - grey, 255 - grey];
    pixels.data.set([...color, 255], i);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

function showPictures(trial) {
  const experts = expertsOf(trial, 0);
  if (!trial.picture) return $("pictures").replaceChildren("No pictures of this trial.");
  return sprite(trial.picture, (context) => {
    if (trialOf(state) !== trial) return;
    $("pictures").replaceChildren(...experts.map(({ id, shares }) => {
      const most = DIGITS.filter((d) => shares[d] >= 0.5);
      const node = element("figure", { tabindex: 0, "data-expert": id },
        tile(context, id, 0, `router weights of expert ${id}`, true),
        tile(context, id, 1, `mean image that expert ${id} sees`, false),
        element("figcaption", {}, `expert ${id}`));
      node.title = most.length ? `sees most of the ${most.join(", ")}s` : "sees no digit's most";
      for (const enter of ["pointerenter", "focus"]) node.addEventListener(enter, () => light(id));
      for (const leave of ["pointerleave", "blur"]) node.addEventListener(leave, unlight);
      return node;
    }));
  });
}

/** Lights up an expert with its digits, or a digit with its experts. */
function light(expert, digit) {
  const { shares } = expertsOf(trialOf(state), 0).find((e) => e.id === expert);
  const digits = digit === undefined ? DIGITS.filter((d) => shares[d] >= 0.3) : [digit];
  for (const node of document.querySelectorAll("#pictures figure")) node.classList.toggle("lit", +node.dataset.expert === expert);
  for (const node of document.querySelectorAll("#slots rect")) {
    node.classList.toggle("dim", +node.dataset.expert !== expert && !(digit !== undefined && +node.dataset.digit === digit));
  }
  for (const node of document.querySelectorAll("#bars rect[data-digit]")) node.classList.toggle("dim", !digits.includes(+node.dataset.digit));
}
function unlight() {
  for (const node of document.querySelectorAll(".lit, .dim")) node.classList.remove("lit", "dim");
}

// --- one digit

function buildDigits() {
  if (!data.digitsPicture) return;
  sprite(data.digitsPicture, (context) => {
    $("digits").replaceChildren(...data.digits.map((digit, i) => {
      const button = element("button", { type: "button", "aria-label": `test image ${i + 1}, a ${digit}` },
        tile(context, i, 0, `a handwritten ${digit}`, false));
      button.addEventListener("click", () => { state.digit = i; showDigit(trialOf(state)); });
      return button;
    }));
    showDigit(trialOf(state));
  });
}

function showDigit(trial) {
  [...$("digits").children].forEach((button, i) => button.setAttribute("aria-pressed", i === state.digit));
  const told = trial.gates[state.digit];
  if (!told) return $("picked").replaceChildren("Seed 0 is not in this trial.");
  const digit = data.digits[state.digit];
  const lines = [element("strong", { id: "prediction" }, `A ${digit}, taken for a ${told[0]}`)];
  for (let i = 1; i < told.length; i += 2) {
    const bar = element("i");
    bar.style.width = `${100 * Math.min(1, told[i + 1])}%`;
    lines.push(element("div", { class: "gate" }, element("span", {}, `expert ${told[i]}`), element("span", {}, bar),
      element("span", {}, told[i + 1].toFixed(3))));
  }
  return $("picked").replaceChildren(...lines);
}

// --- curves

const CURVES = { network_loss: "network loss", gate_loss: "gate loss", test_accuracy: "test accuracy" };
function showCurves(trial) {
  const charts = Object.entries(CURVES).map(([name, title]) => {
    const lists = trial.curves[name], all = lists.flat();
    const [low, high] = [Math.min(...all), Math.max(...all)], n = lists[0].length;
    const x = (i) => 42 + 250 * (n > 1 ? i / (n - 1) : 0.5);
    const y = (v) => 150 - 125 * (v - low) / (high - low || 1);
    const line = (values, attributes) => shape("polyline", { fill: "none", points: values.map((v, i) => `${x(i)},${y(v)}`).join(" "), ...attributes });
    const shapes = [shape("text", { x: 42, y: 14, "font-weight": "bold" }, title),
      shape("text", { x: 38, y: y(high) + 4, "text-anchor": "end" }, high.toPrecision(3)),
      shape("text", { x: 38, y: y(low) + 4, "text-anchor": "end" }, low.toPrecision(3)),
      shape("text", { x: x(0), y: 168, "text-anchor": "middle" }, "1"),
      shape("text", { x: x(n - 1), y: 168, "text-anchor": "middle" }, `${n}`),
      shape("text", { x: 167, y: 168, "text-anchor": "middle" }, "epoch"),
      ...lists.map((values) => line(values, { stroke: "#8b9199", "stroke-opacity": 0.5 })),
      line(pick(trial, lists), { stroke: "#d55e00", "stroke-width": 2.5 })];
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("role", "img");
    draw(svg, 300, 174, `${title} over ${n} epochs, at the end ${pick(trial, lists).at(-1).toPrecision(4)}`, shapes);
    return svg;
  });
  $("curves").replaceChildren(...charts);
}

// --- all of it

function show() {
  const trial = trialOf(state);
  showControls(trial);
  showAccuracy(trial);
  showBars(trial);
  showConfusion(trial);
  showSlots(trial);
  showPictures(trial);
  showDigit(trial);
  showCurves(trial);
}

recall();
buildControls();
buildTour();
buildDigits();
show();
window.addEventListener("popstate", () => { recall(); show(); });
window.addEventListener("hashchange", () => { recall(); show(); });
