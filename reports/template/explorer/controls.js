// The controls, and the tour: views that the data suggest.

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
