"use strict";
// Panels: each draws a frame of the trainer. Canvases are drawn in CSS pixels, sharp on any screen.

const DIGITS = [...Array(10).keys()];

/** Sixteen colours of experts: eight hues, each in two strengths. */
const HUES = [255, 50, 150, 345, 85, 300, 195, 25];
function expertColour(e) {
  const [first, second] = dark.matches ? ["72% 0.14", "89% 0.07"] : ["62% 0.15", "40% 0.11"];
  return `oklch(${e < HUES.length ? first : second} ${HUES[e % HUES.length]})`;
}

/** A canvas's context, cleared, its unit a CSS pixel; and its width and height. */
function fresh(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas, ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, DejaVu Sans, sans-serif";
  return { context, width, height };
}

// --- progress

const HISTORY = 600; // points; beyond, every second one goes
const points = []; // of the curves

function record(frame) {
  if (frame.first) points.length = 0;
  const last = points.at(-1);
  if (frame.trainAccuracy === null || (last && last.at === frame.at)) return;
  points.push({ at: frame.at, test: frame.accuracy, train: frame.trainAccuracy, network: frame.networkLoss, gate: frame.gateLoss });
  if (points.length > HISTORY) for (let i = points.length - 2; i > 0; i -= 2) points.splice(i, 1);
}

const short = (value) => (value === null ? "–" : value === 0 ? "0" : Math.abs(value) >= 0.01 && Math.abs(value) < 1000 ? value.toFixed(value < 10 ? 3 : 1) : value.toExponential(1));

function showNumbers(frame) {
  const set = (id, text, value) => {
    $(id).textContent = text;
    if (value !== undefined) $(id).setAttribute("data-value", value);
  };
  set("test-accuracy", percent(frame.accuracy), frame.accuracy);
  set("epoch", String(frame.epoch), frame.epoch);
  set("train-accuracy", frame.trainAccuracy === null ? "–" : percent(frame.trainAccuracy));
  set("network-loss", short(frame.networkLoss));
  set("gate-loss", short(frame.gateLoss));
  set("router-norm", short(frame.routerNorm));
}

function showCharts() {
  chart("accuracy-chart", [["train", "grey", (p) => p.train], ["test", "this", (p) => p.test]], (v) => `${Math.round(100 * v)} %`, 0, 1);
  chart("loss-chart", [["gate loss", "base", (p) => p.gate], ["network loss", "this", (p) => p.network]], (v) => v.toPrecision(2), 0, null);
}

/** Lines over epochs. The legend stands above, in the lines' colours. */
function chart(id, lines, label, low, high) {
  const { context, width, height } = fresh($(id)), [left, right, top, bottom] = [38, 8, 18, 18];
  const finite = points.flatMap((p) => lines.map(([, , of]) => of(p))).filter(Number.isFinite);
  if (high === null) high = Math.max(2.4, ...(finite.length ? [percentile(finite, 0.98)] : [])); // ln 10 is 2.3
  const end = Math.max(2, points.length ? points.at(-1).at : 0);
  const x = (at) => left + (width - left - right) * at / end;
  const y = (v) => height - bottom - (height - top - bottom) * Math.min(1.05, (v - low) / (high - low));
  context.textAlign = "right";
  for (const share of [0, 0.5, 1]) {
    const v = low + (high - low) * share;
    line(context, [[left, y(v)], [width - right, y(v)]], colour("line"), 1);
    context.fillStyle = colour("soft");
    context.fillText(label(v), left - 5, y(v) + 4);
  }
  const step = niceStep(end);
  context.textAlign = "center";
  for (let at = 0; at <= end; at += step) context.fillText(String(at), x(at), height - 4);
  context.textAlign = "left";
  let from = left;
  for (const [name, hue, of] of lines) {
    line(context, points.filter((p) => Number.isFinite(of(p))).map((p) => [x(p.at), y(of(p))]), colour(hue), hue === "this" ? 2.5 : 1.5);
    line(context, [[from, 8], [from + 14, 8]], colour(hue), hue === "this" ? 2.5 : 1.5);
    context.fillStyle = colour("ink");
    context.fillText(name, from + 18, 12);
    from += 34 + context.measureText(name).width;
  }
}

const percentile = (values, share) => [...values].sort((a, b) => a - b)[Math.floor(share * (values.length - 1))];
const niceStep = (end) => [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((step) => end / step <= 8) || 10000;

function line(context, points, stroke, width) {
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  Object.assign(context, { strokeStyle: stroke, lineWidth: width, lineJoin: "round" });
  context.stroke();
}

// --- who gets what

let cells = null; // of the table of experts, by what they show
let learned = false; // whether the pictures of the router show only what training added

/** The table for a number of experts; onPick(expert) when one is chosen, redraw() when the pictures change. */
function buildExperts(experts, onPick, redraw) {
  const all = [...Array(experts).keys()], table = $("experts");
  const row = (title, make, attributes = {}) => {
    const made = all.map(make);
    return [made, element("tr", attributes, element("th", { scope: "row" }, ...title), ...made.map((node) => (node.tagName === "TD" ? node : element("td", {}, node))))];
  };
  const heads = all.map((e) => element("button", { type: "button", "aria-pressed": "false", "aria-label": `expert ${e}`, style: `--expert:${expertColour(e)}` }, String(e)));
  heads.forEach((button, e) => button.addEventListener("click", () => onPick(e)));
  const picture = (what) => (e) => element("canvas", { width: 28, height: 28, role: "img", "aria-label": `${what} expert ${e}` });
  const [loads, loadRow] = row(["load"], (e) => element("td", { style: `--expert:${expertColour(e)}` },
    element("div", { class: "bar" }), element("div", { class: "even" }), element("span")), { class: "load" });
  const change = element("button", { type: "button", id: "learned", title: "what training has added to the first, random weights" }, "learned");
  change.addEventListener("click", () => { learned = !learned; redraw(); });
  const [looks, looksRow] = row(["looks for ", change], picture("router weights of"), { class: "pictures" });
  const [gets, getsRow] = row(["gets"], picture("mean image that goes to"), { class: "pictures" });
  const digits = DIGITS.map((d) => row([element("b", {}, String(d))], () => element("td"), { class: "digits" }));
  table.replaceChildren(element("colgroup", {}, element("col"), ...all.map(() => element("col"))),
    element("thead", {}, element("tr", {}, element("td"), ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, loadRow, looksRow, getsRow, ...digits.map(([, rows]) => rows)));
  table.style.setProperty("--experts", experts);
  cells = { heads, loads, looks, gets, digits: digits.map(([made]) => made) };
}

/** Loads are shares of all slots; the dashed line is the even share of the experts that are on. */
function showExperts(frame, picked, firstRouter) {
  const total = frame.slots.reduce((sum, n) => sum + n, 0) || 1;
  const loads = cells.heads.map((_, e) => DIGITS.reduce((sum, d) => sum + frame.slots[10 * e + d], 0) / total);
  const even = 1 / frame.on.reduce((sum, on) => sum + on, 0), top = Math.max(2.5 * even, ...loads);
  const router = learned ? frame.router.map((w, i) => w - firstRouter[i]) : frame.router;
  const most = router.reduce((high, w) => Math.max(high, Math.abs(w)), 1e-9);
  $("learned").setAttribute("aria-pressed", learned);
  const ofClass = DIGITS.map((d) => DIGITS.reduce((sum, c) => sum + frame.confusion[10 * d + c], 0));
  cells.heads.forEach((head, e) => {
    const [bar, dash, word] = cells.loads[e].children, off = !frame.on[e];
    head.setAttribute("aria-pressed", picked === e);
    bar.style.transform = `scaleY(${loads[e] / top})`;
    dash.style.transform = `translateY(${-100 * even / top}%)`;
    setText(word, off ? "off" : loads[e] === 0 ? "dead" : "");
    cells.loads[e].title = `expert ${e} has ${percent(loads[e])} of the load; the even share is ${percent(even)}`;
    paint(cells.looks[e], router.subarray(784 * e, 784 * (e + 1)).map((w) => 1.2 * w / most), true);
    paint(cells.gets[e], frame.received.subarray(784 * e, 784 * (e + 1)), false);
    for (const column of [cells.looks[e], cells.gets[e]]) column.classList.toggle("isoff", off);
    DIGITS.forEach((d) => {
      const share = frame.slots[10 * e + d] / ofClass[d], cell = cells.digits[d][e], text = share >= 0.005 ? (100 * share).toFixed(0) : "";
      setText(cell, text);
      if (cell.dataset.shade === text) return;
      cell.dataset.shade = text;
      cell.style.background = shade(share);
      cell.style.color = onShade(share);
    });
  });
}

const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

// --- where images go

const MARGIN = 8;
const NO_EXPERT = 255; // in `favourite`: all gates are equal
const placeOn = (width, height) => ([x, y]) => [MARGIN + x / 1000 * (width - 2 * MARGIN), height - MARGIN - y / 1000 * (height - 2 * MARGIN)];

/** Each test image as its digit. picked: an expert whose images stand out, or null. */
function showMap(frame, places, labels, picked, asked) {
  const { context, width, height } = fresh($("map")), place = placeOn(width, height);
  Object.assign(context, { font: "600 10px system-ui, DejaVu Sans, sans-serif", textAlign: "center", textBaseline: "middle" });
  for (const expert of [...frame.on.keys(), NO_EXPERT]) {
    context.globalAlpha = picked === null || picked === expert || expert === NO_EXPERT ? 1 : 0.12;
    context.fillStyle = expert === NO_EXPERT ? colour("soft") : expertColour(expert);
    for (let n = 0; n < labels.length; n++) if (frame.favourite[n] === expert) context.fillText(labels[n], ...place(places[n]));
  }
  context.globalAlpha = 1;
  if (asked !== null) ring(context, ...place(places[asked]), 9, colour("ink"), 2.5);
}

function ring(context, x, y, radius, stroke, width) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  Object.assign(context, { strokeStyle: stroke, lineWidth: width });
  context.stroke();
}

/** The test image nearest to a point of the map, within 12 pixels, or null. */
function imageAt(places, x, y) {
  const place = placeOn($("map").clientWidth, $("map").clientHeight);
  let [best, nearest] = [null, 12];
  places.forEach((spot, n) => {
    const [a, b] = place(spot), far = Math.hypot(a - x, b - y);
    if (far < nearest) [best, nearest] = [n, far];
  });
  return best;
}

// --- confusion

const BRIGHTEST_ERROR = 0.2; // of a digit's images

function showConfusion(frame) {
  const { context, width, height } = fresh($("confusion")), worst = { n: 0 };
  const place = (row, column) => [16 + (width - 16) / 10 * column, 15 + (height - 15) / 10 * row, (width - 16) / 10, (height - 15) / 10];
  Object.assign(context, { textAlign: "center", textBaseline: "middle" });
  const write = (text, [x, y, wide, high], ink) => {
    context.fillStyle = ink;
    context.fillText(text, x + wide / 2, y + high / 2);
  };
  for (const row of DIGITS) {
    const total = DIGITS.reduce((sum, c) => sum + frame.confusion[10 * row + c], 0);
    write(row, [0, ...place(row, 0).slice(1, 2), 12, place(0, 0)[3]], colour("soft"));
    write(row, [place(0, row)[0], 0, place(0, row)[2], 13], colour("soft"));
    for (const column of DIGITS) {
      const n = frame.confusion[10 * row + column], share = n / total / BRIGHTEST_ERROR, right = row === column;
      if (!right && n > worst.n) Object.assign(worst, { n, row, column });
      const [x, y, wide, high] = place(row, column);
      context.fillStyle = right ? colour("right") : shade(share);
      context.fillRect(x, y, wide - 1, high - 1);
      if (n) write(n, [x, y, wide, high], right ? colour("ink") : onShade(share));
    }
  }
  setText($("confusion-note"), worst.n ? `Most often a ${worst.row} is taken for a ${worst.column}, ${worst.n} times of 100.` : "No errors.");
  $("confusion").setAttribute("aria-label", `Confusion matrix. ${$("confusion-note").textContent}`);
}
