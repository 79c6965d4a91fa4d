"use strict";
/* The page. Its settings are in the controls and in the address. The trainer is a worker started from the text
of this page, so that it also works in a page opened from a file. */

const data = JSON.parse($("data").textContent);
const CHOICES = {
  recipe: data.recipes.map((recipe) => recipe.name),
  ne: [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16], k: [1, 2, 3, 4, 6, 8], lc: [0, 0.001, 0.01, 0.1, 0.3, 1, 3, 10],
  rate: [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03], batch: [16, 32, 64, 128, 256, 512], seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
};
const START = { recipe: "logits", ne: 8, k: 2, lc: 1, rate: 0.001, batch: 128, seed: 0 };
const BOUNDS = { ne: [1, 16], k: [1, 16], lc: [0, 100], rate: [1e-6, 1], batch: [1, 4000], seed: [0, 2 ** 31] };
const WHOLE = ["ne", "k", "batch", "seed"];
const BIAS_STEP = 0.001; // what lc means to recipes that balance by a bias: the customary step
const SAY_EVERY = 15000; // ms, to screen readers

const state = { ...START };
// until: the epoch at which to stop. latest: the newest frame of this run, null until there is one.
// waiting: it is not drawn yet. training: whether the trainer was at work in the last frame drawn.
let playing = false, until = null, picked = null, asked = null, latest = null, waiting = false, training = false;
let ready = null, run = 0, lastSaid = 0;

// --- the trainer

const trainer = new Worker(URL.createObjectURL(new Blob([$("trainer").textContent], { type: "text/javascript" })));
const tell = (type, more = {}) => trainer.postMessage({ type, ...more });
trainer.onmessage = ({ data: message }) => {
  if (message.type === "ready") {
    ready = message;
    document.querySelector("main").inert = false;
    return reset();
  }
  if (message.run !== run) return undefined; // from before the reset
  latest = message.first ? message : { ...message, first: latest && latest.first && waiting };
  if (waiting) return undefined;
  waiting = true;
  // A window behind others may get no animation frames.
  const late = setTimeout(draw, 300);
  return requestAnimationFrame(() => { clearTimeout(late); draw(); });
};

function draw() {
  if (!waiting) return;
  waiting = false;
  record(latest);
  latest.first = false;
  showNumbers(latest);
  show();
  tell("seen");
  if (until !== null && latest.epoch >= until) play(false);
  if (latest.diverged) {
    play(false);
    setText($("hint"), "Training diverged: a weight is no longer a number. Reset, with a lower learning rate.");
  }
  const stopped = training && !latest.training;
  training = latest.training;
  if (stopped || performance.now() - lastSaid > SAY_EVERY) say();
}

/** Draw all panels from the latest frame. */
function show() {
  if (!latest) return;
  showCharts();
  showExperts(latest, picked);
  showMap(latest, data.places, ready.labels, picked, asked);
  showConfusion(latest);
  showAnswer(latest.answer, asked === null ? null : ready.labels[asked]);
  showActions();
}

function say() {
  lastSaid = performance.now();
  setText($("status"), `Epoch ${latest.epoch}, test accuracy ${percent(latest.accuracy)}${playing ? "" : ", paused"}`);
}

// --- settings

/** Make k fit ne and the recipe. */
function settled(wanted) {
  const recipe = data.recipes.find(({ name }) => name === wanted.recipe);
  return { ...wanted, k: recipe.onlyK || Math.min(wanted.k, wanted.ne) };
}

function recall() {
  const wanted = { ...START };
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (name === "recipe" && CHOICES.recipe.includes(text)) wanted.recipe = text;
    if (!BOUNDS[name] || text.trim() === "") continue;
    const value = Number(text), [least, most] = BOUNDS[name];
    if (value >= least && value <= most && (!WHOLE.includes(name) || Number.isInteger(value))) wanted[name] = value;
  }
  Object.assign(state, settled(wanted));
}

function remember() {
  history.replaceState(null, "", `#${Object.entries(state).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&")}`);
}

function fillControls() {
  for (const [name, choices] of Object.entries(CHOICES)) {
    const all = choices.includes(state[name]) ? choices : [...choices, state[name]].sort((a, b) => a - b);
    $(name).replaceChildren(...all.map((value) => element("option", { value }, String(value))));
    $(name).value = String(state[name]);
  }
  const recipe = data.recipes.find(({ name }) => name === state.recipe);
  for (const option of $("k").options) option.disabled = +option.value > state.ne;
  $("k").disabled = Boolean(recipe.onlyK);
  setText($("about"), `${recipe.gates}.`);
  $("about").title = `s: the router's logits, p: their softmax, g: the gates. Source: ${recipe.source}`;
  $("recipe").style.borderLeftColor = recipe.color;
  setText($("hint"), `Gate loss: ${recipe.gateLoss}. lc: ${recipe.lc}.`);
}

function change(name, value) {
  if (value === state[name]) return;
  const before = balancesByBias(state.recipe);
  const wanted = settled({ ...state, [name]: value });
  if (name === "recipe" && balancesByBias(value) !== before) wanted.lc = before ? START.lc : BIAS_STEP;
  const again = ["recipe", "ne", "k", "batch", "seed"].some((key) => wanted[key] !== state[key]);
  Object.assign(state, wanted);
  fillControls();
  remember();
  until = null;
  leaveTour();
  if (again) reset();
  else tell("change", { lc: state.lc, rate: state.rate });
}
const balancesByBias = (name) => Boolean(data.recipes.find((recipe) => recipe.name === name).bias);

function reset() {
  picked = null;
  buildExperts(state.ne, pick);
  buildVotes(state.ne);
  // The newest frame has the old number of experts: nothing is drawn until the next one.
  [latest, waiting, training] = [null, false, false];
  if (!ready) return;
  tell("reset", { run: ++run, settings: { recipe: state.recipe, ne: state.ne, k: state.k, lc: state.lc, rate: state.rate, batchSize: state.batch, seed: state.seed } });
}

function play(on) {
  playing = on;
  $("play").setAttribute("aria-pressed", on);
  $("play").children[0].textContent = on ? "❚❚" : "▶";
  $("play").children[1].textContent = on ? "Pause" : "Train";
  tell("play", { playing: on });
  if (!on) until = null;
}

/** Set the controls and train, to stop after some epochs. */
function go(settings, epochs) {
  Object.assign(state, settled({ ...START, ...settings }));
  fillControls();
  remember();
  reset();
  play(true);
  until = epochs;
}

// --- experts

function pick(expert) {
  picked = picked === expert ? null : expert;
  show();
}

function showActions() {
  const box = $("actions");
  if (box.dataset.for === `${picked} ${latest.on}`) return;
  box.dataset.for = `${picked} ${latest.on}`;
  if (picked === null) return box.replaceChildren("Pick an expert by its number to follow it, switch it off, or wipe it.");
  const on = latest.on[picked], alive = latest.on.reduce((sum, one) => sum + one, 0);
  const off = element("button", { type: "button", id: "switch" }, on ? "Switch off" : "Switch on");
  off.disabled = Boolean(on) && alive <= state.k;
  off.addEventListener("click", () => tell("switch", { expert: picked, on: !on }));
  const wipe = element("button", { type: "button", id: "wipe", title: "back to its first weights" }, "Wipe");
  wipe.addEventListener("click", () => tell("wipe", { expert: picked }));
  return box.replaceChildren(`Expert ${picked}:`, off, wipe);
}

// --- what is asked

const pad = buildPad((grey) => {
  asked = null;
  tell("draw", { grey });
});

function askImage(n) {
  pad.show(ready.pictures.slice(784 * n, 784 * (n + 1)));
  asked = n;
}

// --- begin

recall();
fillControls();
buildTour(data.facts, go);
for (const name of Object.keys(CHOICES)) {
  for (const event of ["input", "change"]) {
    $(name).addEventListener(event, () => change(name, name === "recipe" ? $(name).value : Number($(name).value)));
  }
}
$("speed").addEventListener("change", () => tell("pace", { slow: $("speed").value === "slow" }));
$("controls").addEventListener("submit", (event) => event.preventDefault());
$("play").addEventListener("click", () => play(!playing));
$("step").addEventListener("click", () => { play(false); tell("advance", { steps: 1 }); });
$("advance").addEventListener("click", () => { play(false); tell("advance", { steps: "epoch" }); });
$("reset").addEventListener("click", () => { play(false); fillControls(); reset(); });
$("map").addEventListener("click", ({ offsetX, offsetY }) => {
  const n = imageAt(data.places, offsetX, offsetY);
  if (n !== null) askImage(n);
});
$("map").addEventListener("keydown", ({ key }) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
  if (step) askImage(((asked === null ? -1 : asked) + step + ready.labels.length) % ready.labels.length);
});
$("share").addEventListener("click", async () => {
  remember();
  const done = await navigator.clipboard.writeText(location.href).then(() => true, () => false);
  setText($("share"), done ? "Copied" : "It is in the address bar");
  setTimeout(() => setText($("share"), "Copy link"), 2500);
});
document.addEventListener("visibilitychange", () => tell("hidden", { hidden: document.hidden }));
window.addEventListener("hashchange", () => { recall(); fillControls(); play(false); reset(); });
window.addEventListener("resize", () => requestAnimationFrame(show));
dark.addEventListener("change", () => { if (ready) { buildExperts(state.ne, pick); buildVotes(state.ne); show(); } });
const calm = matchMedia("(prefers-reduced-motion: reduce)");
calm.addEventListener("change", () => tell("calm", { calm: calm.matches }));
tell("calm", { calm: calm.matches });
tell("data", { packed: data.packed, labels: [...data.labels].map(Number), trainCount: data.trainCount });
