"use strict";
/* The page. Its settings are in the controls and in the address. The trainer is a worker started from the text
of this page, so that it also works in a page opened from a file. */

const data = JSON.parse($("data").textContent);
const upTo = (most) => Array.from({ length: most }, (_, i) => i + 1);
const CHOICES = {
  recipe: data.recipes.map((recipe) => recipe.name),
  ne: upTo(data.mostExperts), k: upTo(data.mostExperts), lc: [0, 0.001, 0.01, 0.1, 0.3, 1, 3, 10],
  speed: ["full", "slow"],
  rate: [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03], batch: [16, 32, 64, 128, 256, 512], seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
};
const START = { recipe: "logits", ne: 8, k: 2, lc: 1, rate: 0.001, batch: 128, seed: 0, speed: "full" };
const BOUNDS = { ne: [1, data.mostExperts], k: [1, data.mostExperts], lc: [0, 1e6], rate: [1e-6, 1], batch: [1, 4000], seed: [0, 2 ** 31] };
const WHOLE = ["ne", "k", "batch", "seed"], WORDS = ["recipe", "speed"];
const AT_ONCE = ["lc", "rate", "speed"]; // what acts without a new start
const BIAS_STEP = 0.001; // what lc means to recipes that balance by a bias: the customary step
const DIVERGED = "Training diverged: a weight is no longer a number. Reset, with a lower learning rate.";
const PICK = $("actions").textContent;
const SAY_EVERY = 15000; // ms, to screen readers

const state = { ...START };
// latest: the newest frame of this run, null until there is one. waiting: it is not drawn yet.
// training: whether the trainer was at work in the last frame drawn.
// end: the epoch at which training stops by itself.
let end = Infinity, playing = false, picked = null, asked = null, latest = null, waiting = false, training = false;
let ready = null, run = 0, lastSaid = 0, firstRouter = null; // the router's weights before training

// --- the trainer

const trainer = new Worker(URL.createObjectURL(new Blob([$("trainer").textContent], { type: "text/javascript" })));
const tell = (type, more = {}) => trainer.postMessage({ type, ...more });
trainer.onerror = ({ message }) => fail(message);
trainer.onmessage = ({ data: message }) => {
  if (message.type === "failed") return fail(message.reason);
  if (message.type === "ready") {
    ready = message;
    document.querySelector("main").inert = false;
    return begin();
  }
  if (message.run !== run) return undefined; // from before the reset
  if (message.type === "answer") return answered(message.answer);
  if (message.first) firstRouter = message.router;
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
  if (playing && (latest.finished || latest.diverged)) {
    end = Infinity;
    play(false);
  }
  if (latest.diverged) setText($("hint"), DIVERGED);
  const stopped = training && !latest.training;
  training = latest.training;
  $("says").setAttribute("aria-live", training ? "off" : "polite"); // it changes with every frame
  if (stopped || performance.now() - lastSaid > SAY_EVERY) say();
}

/** Draw all panels from the latest frame. */
function show() {
  if (!latest) return;
  showCharts();
  showExperts(latest, picked, firstRouter);
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

/** The settings in the address, those that make sense. */
function fromAddress() {
  const given = {};
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (WORDS.includes(name) && CHOICES[name].includes(text)) given[name] = text;
    if (!Object.hasOwn(BOUNDS, name) || text.trim() === "") continue;
    const value = Number(text), [least, most] = BOUNDS[name];
    if (value >= least && value <= most && (!WHOLE.includes(name) || Number.isInteger(value))) given[name] = value;
  }
  return given;
}

function remember() {
  const settings = new URLSearchParams(stopNumber === null ? state : { stop: stopNumber, ...state });
  try {
    history.replaceState(null, "", `#${settings}`);
  } catch { /* A page in a sandbox has no address of its own. */ }
}

/** Take the settings of the address; a link to a stop of the tour begins to train. */
function begin() {
  const given = fromAddress(), number = Number(new URLSearchParams(location.hash.slice(1)).get("stop"));
  if (upTo(STOPS.length).includes(number)) return visit(number, given);
  Object.assign(state, settled({ ...START, ...given }));
  fillControls();
  leaveTour();
  end = Infinity;
  play(false);
  return reset();
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
  setText($("about"), gatesOf(recipe));
  $("about").title = `s: the router's logits, p: their softmax, g: the gates. Source: ${recipe.source}`;
  $("recipe").style.borderLeftColor = recipe.color;
  setText($("hint"), gateLossOf(recipe));
}
const gatesOf = (recipe) => `${recipe.gates}.`;
const gateLossOf = (recipe) => `Gate loss: ${recipe.gateLoss}. lc: ${recipe.lc}.`;

/** Keep as much room for a box as the longest of its contents takes, so that nothing moves when it changes. */
function keepRoom(box, contents) {
  const ruler = element("div", { class: "ruler", "aria-hidden": "true" }, ...contents);
  for (const node of ruler.querySelectorAll("[id]")) node.removeAttribute("id");
  box.parentElement.append(ruler);
}

function change(name, value) {
  if (value === state[name]) return;
  const before = balancesByBias(state.recipe);
  const wanted = settled({ ...state, [name]: value });
  if (name === "recipe" && balancesByBias(value) !== before) wanted.lc = before ? START.lc : BIAS_STEP;
  const again = Object.keys(state).some((key) => !AT_ONCE.includes(key) && wanted[key] !== state[key]);
  Object.assign(state, wanted);
  fillControls();
  if (name !== "speed") {
    leaveTour();
    end = Infinity;
  }
  remember();
  if (again) reset();
  else if (name === "speed") tell("pace", { slow: state.speed === "slow" });
  else tell("change", { lc: state.lc, rate: state.rate });
}
const balancesByBias = (name) => Boolean(data.recipes.find((recipe) => recipe.name === name).bias);

function build() {
  buildExperts(state.ne, pick, show);
  buildVotes(state.ne);
}

function reset() {
  picked = null;
  build();
  // The newest frame has the old number of experts: nothing is drawn until the next one.
  [latest, waiting, training] = [null, false, false];
  if (!ready) return;
  tell("pace", { slow: state.speed === "slow" });
  tell("reset", { run: ++run, settings: { recipe: state.recipe, ne: state.ne, k: state.k, lc: state.lc, rate: state.rate, batchSize: state.batch, seed: state.seed } });
}

/** Train or pause. */
function play(on) {
  playing = on;
  if (on && latest && latest.epoch >= end) end = Infinity; // one epoch after another led past it
  $("play").dataset.playing = on;
  $("play").children[0].textContent = on ? "❚❚" : "▶";
  $("play").children[1].textContent = on ? "Pause" : "Train";
  tell("play", { playing: on, until: end });
}

/** Set the controls and train, to stop after some epochs. */
function go(settings, epochs) {
  Object.assign(state, settled({ ...START, speed: state.speed, ...settings }));
  fillControls();
  remember();
  reset();
  end = epochs;
  play(true);
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
  if (picked === null) return box.replaceChildren(PICK);
  const on = latest.on[picked], alive = latest.on.reduce((sum, one) => sum + one, 0);
  const off = element("button", { type: "button", id: "switch" }, on ? "Switch off" : "Switch on"), focused = document.activeElement?.id;
  off.disabled = Boolean(on) && alive <= state.k;
  off.addEventListener("click", () => tell("switch", { expert: picked, on: !on }));
  const again = element("button", { type: "button", id: "reinitialize", title: "give it its first weights again" }, "Reinitialize");
  again.addEventListener("click", () => tell("reinitialize", { expert: picked }));
  box.replaceChildren(`Expert ${picked}:`, off, again);
  return focused === "switch" && off.focus();
}

// --- what is asked

const pad = buildPad((grey) => {
  const before = asked;
  asked = null;
  tell("draw", { grey });
  if (before !== null) show(); // without its ring on the map
});

function answered(answer) {
  if (!latest) return;
  latest.answer = answer;
  showAnswer(answer, asked === null ? null : ready.labels[asked]);
}

function askImage(n) {
  pad.show(ready.pictures.slice(784 * n, 784 * (n + 1)));
  asked = n;
  show();
}

// --- begin

nameNeighbours(document.querySelector("header"));
const visit = buildTour(data.facts, go);
Object.assign(state, settled({ ...START, ...fromAddress() }));
fillControls();
build();
keepRoom($("about"), data.recipes.map((recipe) => element("p", { class: "note" }, gatesOf(recipe))));
keepRoom($("hint"), [...data.recipes.map(gateLossOf), DIVERGED].map((text) => element("p", { class: "note" }, text)));
for (const name of Object.keys(CHOICES)) {
  for (const event of ["input", "change"]) {
    $(name).addEventListener(event, () => {
      const { value } = $(name);
      if (value !== "") change(name, WORDS.includes(name) ? value : Number(value));
    });
  }
}
$("controls").addEventListener("submit", (event) => event.preventDefault());
$("play").addEventListener("click", () => play(!playing));
for (const [id, steps] of [["step", 1], ["advance", "epoch"]]) {
  $(id).addEventListener("click", () => {
    if (playing) play(false);
    tell("advance", { steps });
  });
}
$("reset").addEventListener("click", () => {
  end = stopNumber === null ? Infinity : STOPS[stopNumber - 1].epochs;
  play(false);
  fillControls();
  reset();
});
$("map").addEventListener("click", ({ offsetX, offsetY }) => {
  const n = imageAt(data.places, offsetX, offsetY);
  if (n !== null) askImage(n);
});
$("map").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault(); // the page does not scroll
  askImage(((asked === null ? -1 : asked) + step + ready.labels.length) % ready.labels.length);
});
$("share").addEventListener("click", async () => {
  remember();
  try {
    await navigator.clipboard.writeText(location.href);
    setText($("share"), "Copied");
  } catch { // not allowed, or none there
    setText($("share"), "See the address");
  }
  setTimeout(() => setText($("share"), "Copy link"), 2500);
});
document.addEventListener("visibilitychange", () => tell("hidden", { hidden: document.hidden }));
window.addEventListener("hashchange", () => { if (ready) begin(); });
window.addEventListener("resize", () => requestAnimationFrame(show));
dark.addEventListener("change", () => { build(); show(); });
const calm = matchMedia("(prefers-reduced-motion: reduce)");
calm.addEventListener("change", () => tell("calm", { calm: calm.matches }));
tell("calm", { calm: calm.matches });
tell("hidden", { hidden: document.hidden });
tell("data", { packed: data.packed, labels: [...data.labels].map(Number), trainCount: data.trainCount });
document.body.classList.remove("loading");
