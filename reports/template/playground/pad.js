"use strict";
// Drawing a digit: strokes become a 28 × 28 image as MNIST's were made, and the model answers.

const BOX = 20, PEN = 2.3; // of 28 pixels: what the digit fits into, and how thick the pen is
const FINE = 4; // the strokes are drawn so many times as fine, then averaged

/* Strokes to try, on a square of 100 × 100. */
const PRESETS = [
  [arc(50, 50, 26, 36, -90, 270)],
  [[[55, 14], [50, 50], [45, 86]]],
  [[...arc(50, 34, 22, 20, -170, 20), [30, 84], [76, 84]]],
  [[...arc(46, 32, 20, 18, -150, 80), ...arc(46, 67, 24, 18, -80, 150)]],
  [[[36, 16], [28, 54], [74, 54]], [[64, 20], [60, 88]]],
  [[[70, 16], [38, 16], [34, 46], ...arc(48, 62, 23, 22, -75, 140)]],
  [[[62, 14], [40, 40], ...arc(50, 66, 20, 20, 200, 560)]],
  [[[26, 18], [74, 18], [46, 88]]],
  [[...arc(50, 31, 17, 17, 90, 450), ...arc(50, 68, 21, 19, -90, 270)]],
  [[...arc(50, 34, 18, 20, 10, 370), [66, 60], [58, 88]]],
];

function arc(x, y, rx, ry, from, to) {
  const points = [];
  for (let a = from; a <= to; a += 10) points.push([x + rx * Math.cos(a * Math.PI / 180), y + ry * Math.sin(a * Math.PI / 180)]);
  return points;
}

/** Grey values (784,) of strokes: the longer side of their box is BOX pixels, and their centre of mass in the middle. */
function asMnist(strokes) {
  const all = strokes.flat(), [xs, ys] = [all.map((p) => p[0]), all.map((p) => p[1])];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = (BOX - PEN) / Math.max(right - left, bottom - top, 1e-9), single = right - left + bottom - top < 1e-6;
  const shift = (dx, dy) => strokes.map((stroke) => stroke.map(([x, y]) =>
    [dx + (single ? 0 : scale * (x - (left + right) / 2)), dy + (single ? 0 : scale * (y - (top + bottom) / 2))]));
  const first = raster(shift(14, 14));
  let [mass, x, y] = [0, 0, 0];
  first.forEach((grey, i) => { mass += grey; x += grey * (i % 28 + 0.5); y += grey * (Math.floor(i / 28) + 0.5); });
  return raster(shift(28 - x / mass, 28 - y / mass));
}

/** Strokes in units of the 28 × 28 pixels, drawn with the pen. */
function raster(strokes) {
  const canvas = element("canvas", { width: 28 * FINE, height: 28 * FINE }), context = canvas.getContext("2d", { willReadFrequently: true });
  context.scale(FINE, FINE);
  pen(context, strokes, "#fff", PEN);
  const fine = context.getImageData(0, 0, 28 * FINE, 28 * FINE).data, grey = new Uint8Array(784);
  for (let i = 0; i < 784; i++) {
    let sum = 0;
    for (let dy = 0; dy < FINE; dy++) for (let dx = 0; dx < FINE; dx++) {
      sum += fine[4 * ((Math.floor(i / 28) * FINE + dy) * 28 * FINE + (i % 28) * FINE + dx) + 3];
    }
    grey[i] = Math.round(sum / FINE ** 2);
  }
  return grey;
}

function pen(context, strokes, colour, width) {
  Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth: width, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) {
    context.beginPath();
    for (const [x, y] of stroke) context.lineTo(x, y);
    if (stroke.length === 1) context.arc(...stroke[0], width / 2, 0, 2 * Math.PI);
    if (stroke.length === 1) context.fill();
    else context.stroke();
  }
}

/** The pad: onDraw(grey values (784,), or null when it is empty). Returns how to show an image on it. */
function buildPad(onDraw) {
  const canvas = $("pad"), context = canvas.getContext("2d"), side = canvas.width;
  let strokes = [], stroke = null, shown = null;
  const redraw = () => {
    context.clearRect(0, 0, side, side);
    if (!shown) return pen(context, strokes, colour("ink"), side * 0.08);
    const picture = element("canvas", { width: 28, height: 28 });
    paint(picture, Float32Array.from(shown, (grey) => grey / 255), false);
    context.imageSmoothingEnabled = false;
    return context.drawImage(picture, 0, 0, side, side);
  };
  const change = () => {
    redraw();
    onDraw(strokes.length ? asMnist(strokes) : null);
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * side, (event.clientY - box.top) / box.height * side];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return; // one finger, or the left button
    if (shown) [shown, strokes] = [null, []];
    canvas.setPointerCapture(event.pointerId);
    strokes.push(stroke = [at(event)]);
    change();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke || !event.isPrimary) return;
    stroke.push(...(event.getCoalescedEvents ? event.getCoalescedEvents() : []).concat(event).map(at));
    change();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { stroke = null; });
  const clear = () => {
    [strokes, shown] = [[], null];
    change();
  };
  PRESETS.forEach((preset, digit) => {
    const button = element("button", { type: "button", "aria-label": `draw a ${digit}` }, String(digit));
    button.addEventListener("click", () => {
      [shown, strokes] = [null, preset.map((points) => points.map(([x, y]) => [x * side / 100, y * side / 100]))];
      change();
    });
    $("presets").append(button);
  });
  const button = element("button", { type: "button", class: "clear" }, "Clear");
  button.addEventListener("click", clear);
  $("presets").append(button);
  dark.addEventListener("change", redraw);
  return {
    clear,
    show(grey) {
      [strokes, shown] = [[], grey];
      redraw();
      onDraw(grey);
    },
  };
}

// --- the answer

/** experts: how many there are. */
function buildVotes(experts) {
  $("votes").replaceChildren(...[...Array(experts).keys()].map((e) => element("div",
    { class: "vote", role: "listitem", style: `--expert:${expertColour(e)}` }, element("i", { "aria-hidden": "true" }, String(e)), element("b"), element("small"))));
}

function showAnswer(answer, label) {
  const { context, width, height } = fresh($("probabilities"));
  const best = answer ? DIGITS.reduce((most, d) => (answer.result[d] > answer.result[most] ? d : most)) : null;
  setText($("says"), !answer ? "What will it say?"
    : `It says ${best}, ${percent(answer.result[best], 0)} sure${label === null ? "." : label === best ? ", and is right." : `; it is a ${label}.`}`);
  $("says").dataset.answer = best === null ? "" : best;
  Object.assign(context, { textAlign: "center" });
  const wide = width / 10;
  for (const d of DIGITS) {
    const share = answer ? answer.result[d] : 0;
    context.fillStyle = d === best ? colour("this") : colour("grey");
    context.fillRect(wide * d + 3, (height - 15) * (1 - share), wide - 6, (height - 15) * share);
    context.fillStyle = colour("line");
    context.fillRect(wide * d + 3, height - 15, wide - 6, 1);
    context.fillStyle = colour("ink");
    context.fillText(d, wide * (d + 0.5), height - 3);
  }
  $("probabilities").setAttribute("aria-label", answer ? `Probabilities: ${DIGITS.map((d) => `${d}: ${percent(answer.result[d], 0)}`).join(", ")}` : "No answer yet");
  [...$("votes").children].forEach((vote, e) => {
    const [, digit, gate] = vote.children, given = answer && answer.gates[e] > 0;
    const says = answer ? DIGITS.reduce((most, d) => (answer.votes[10 * e + d] > answer.votes[10 * e + most] ? d : most)) : "";
    vote.classList.toggle("asks", Boolean(given));
    setText(digit, String(says));
    setText(gate, given ? answer.gates[e].toFixed(2) : "");
    if (!answer) vote.removeAttribute("aria-label");
    else vote.setAttribute("aria-label", `expert ${e} says ${says}, ${given ? `gate ${answer.gates[e].toFixed(2)}` : "not asked"}`);
  });
}
