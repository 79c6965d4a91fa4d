// The table of experts with their pictures, highlighting, and one test image.

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

/** The chosen seed, or the first one for what cannot be averaged over seeds. */
const shownSeed = (trial) => (state.seed === "mean" ? trial.seeds[0] : state.seed);
const shownExperts = (trial) => expertsOf(trial, trial.seeds.indexOf(shownSeed(trial)));

/** One table: a column an expert, with its pictures above and its share of each digit below. */
function showExperts(trial) {
  const experts = shownExperts(trial), seed = shownSeed(trial);
  const gates = new Map(seed === data.picturedSeed ? gatesOf(trial) : []);
  $("experts-note").textContent = `Seed ${seed}${state.seed === "mean" ? " (experts of different seeds have nothing in common to average)" : ""}. `
    + `Numbers: of each ${data.item}'s test ${data.sample}s, the per cent that the expert sees`
    + (trial.k > 1 ? `; a row sums to ${100 * trial.k}, since each ${data.sample} goes to ${trial.k}.` : ".")
    + ` Sorted by the ${data.item} that an expert takes most of. Point at an expert, or at a ${data.item}.`;
  const head = experts.map(({ id, images }) => {
    const cell = element("th", { scope: "col", tabindex: 0, "data-expert": id }, element("small", {}, "expert "), String(id));
    cell.title = `expert ${id} sees ${images} test ${data.sample}s`;
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
    $("pictures-note").textContent = data.imageShape.length
      ? `Pictures of what routers look for are kept only for seed ${data.picturedSeed}.`
      : "The inputs are no images: there is no picture of what a router looks for.";
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
  $("digits").closest("section").hidden = !data.digitsPicture;
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

/** [expert, gate] of the picked digit in the first seed, the largest gate first. */
function gatesOf(trial) {
  const [, ...list] = trial.gates[state.digit] || [], pairs = [];
  for (let i = 0; i < list.length; i += 2) pairs.push([list[i], list[i + 1]]);
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
