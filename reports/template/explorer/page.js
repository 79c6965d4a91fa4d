// Curves over epochs; drawing the whole page, and its start.

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

// --- the whole page

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

/** Insert the data set's own words. */
function nameItems() {
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = node.dataset.word.replace("{item}", data.item);
}

function start() {
  nameItems();
  nameNeighbours(document.querySelector("header"));
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
