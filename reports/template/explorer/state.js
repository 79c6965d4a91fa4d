"use strict";
// The page's state is six choices; show() draws all panels from them, in one go.
// Text from the data goes into the page as text, never as HTML.

const data = JSON.parse($("data").textContent);
// A study may sweep settings of training as well: a fifth choice, in words.
const WORDS = { recipe: data.recipes, settings: data.settings };
const KNOBS = ["recipe", "ne", "k", "lc", ...(data.settings.length ? ["settings"] : [])];
// The classes, as the data set names them.
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

/** Whether the value exists with the choices of all earlier controls. */
function offered(knob, value) {
  const before = KNOBS.slice(0, KNOBS.indexOf(knob));
  return data.trials.some((trial) => trial[knob] === value
    && before.every((other) => trial[other] === state[other]));
}

/** Names of the controls; their symbols follow. */
const NAMES = { recipe: "recipe", ne: "experts", k: `chosen per ${data.sample}`, lc: "gate-loss weight", settings: "settings" };

function choose(change) {
  Object.assign(state, change);
  const trial = trialOf(state);
  if (state.seed !== "mean" && !trial.seeds.includes(state.seed)) state.seed = "mean";
  remember();
  show();
}

const cellOf = (trial) => Object.fromEntries(KNOBS.map((knob) => [knob, trial[knob]]));
const nameOf = (trial) => [`${trial.recipe}, ne = ${trial.ne}, k = ${trial.k}, lc = ${trial.lc}`,
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

/** The values that are numbers; the data has null for the others. */
const known = (values) => values.filter((value) => value !== null);
const mean = (values) => known(values).reduce((x, y) => x + y, 0) / known(values).length;
const shown = (value, digits) => (value === null || Number.isNaN(value) ? "–" : value.toFixed(digits));
const defaultTrial = () => data.trials.find((t) => t.recipe === "logits" && t.ne === 8 && t.k === 2 && t.lc === 1)
  || data.trials.reduce((best, t) => (mean(t.accuracy) > mean(best.accuracy) ? t : best));
