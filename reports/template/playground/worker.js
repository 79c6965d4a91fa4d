"use strict";
/* The trainer, in a worker thread. The page sends commands; the worker sends frames with all that the
panels show, as often as the page can draw them, at most 30 a second. */

const FRAME_MS = 33, LONGEST_FRAME_MS = 100, CALM_FRAME_MS = 500; // calm: for prefers-reduced-motion
const SLICE_MS = 8; // of training, before the next look at the messages
const LOOK_SHARE = 0.2; // of the time, at most, goes into looking at the test set
const SLOW_STEPS = 1; // steps to a frame, at slow speed
const RAMP_STEPS = 15; // after so many steps a frame holds twice as many as the first
const NO_EXPERT = 255; // in `favourite`: all gates are equal

let train, test, settings, run, model, start, noise, draws, order;
let playing = false, seen = true, slow = false, calm = false, hidden = false, diverged = false, ticking = false;
// epoch, taken: epochs done, and steps of the next one; until: the epoch at which to stop; left: steps asked for
// while it pauses; quota: steps until the next frame; shown: the model's steps at the last frame, and whether it
// was training then; stepMs: how long a step takes, lately.
let epoch = 0, taken = 0, until = Infinity, left = 0, quota = 0, shown = {}, stepMs = 0, nextFrame = 0, drawn = null, recent = [];

const commands = {
  async data({ packed, labels, trainCount }) {
    const bytes = await inflate(packed), all = Uint8Array.from(labels);
    const cut = trainCount * 784;
    train = new Images(bytes.subarray(0, cut), all.subarray(0, trainCount));
    test = new Images(bytes.subarray(cut), all.subarray(trainCount));
    const pictures = bytes.slice(cut);
    postMessage({ type: "ready", pictures, labels: all.slice(trainCount) }, [pictures.buffer]);
  },
  reset(message) {
    ({ settings, run } = message);
    const { recipe, ne, k, batchSize, seed } = settings;
    model = new MixtureOfExperts({ experts: ne, topK: k, recipe, capacity: batchSize });
    start = initialWeights(seed, ne);
    model.set(start);
    noise = new Noise(seed);
    draws = model.recipe.noise ? new Float64Array(batchSize * ne) : null;
    [epoch, taken, until, left, recent, diverged] = [0, 0, Infinity, 0, [], false];
    sendFrame({ first: true });
  },
  change({ lc, rate }) {
    Object.assign(settings, { lc, rate });
    until = Infinity;
  },
  play(message) {
    [playing, until, left] = [message.playing, message.until, 0];
    if (playing && diverged) sendFrame(); // which says so again
  },
  advance({ steps }) {
    const size = stepsPerEpoch();
    left += steps === "epoch" ? size - (taken + left) % size : steps;
  },
  pace(message) { slow = message.slow; },
  calm(message) { calm = message.calm; },
  hidden(message) { hidden = message.hidden; },
  switch({ expert, on }) { model.turn(expert, on); sendFrame(); },
  reinitialize({ expert }) { model.setExpert(expert, start); sendFrame(); },
  draw({ grey }) {
    drawn = grey && new Images(grey, Uint8Array.of(0));
    if (model) postMessage({ type: "answer", run, answer: drawn && answer(model, drawn) });
  },
  seen() { seen = true; },
};

onmessage = async ({ data }) => {
  await commands[data.type](data);
  if (!ticking) tick();
};
onunhandledrejection = ({ reason }) => postMessage({ type: "failed", reason: String(reason) });

const stepsPerEpoch = () => Math.floor(train.count / settings.batchSize);
const busy = () => model && !hidden && !diverged && ((playing && epoch < until) || left > 0);
const soon = new MessageChannel(); // unlike setTimeout, it does not wait
soon.port1.onmessage = tick;

/** Train a little, then let messages in. Goes to sleep when there is nothing to do. */
function tick() {
  ticking = Boolean(busy());
  if (!ticking) return model && (shown.training || model.steps !== shown.steps) && sendFrame();
  const begun = performance.now(), before = model.steps;
  while (quota > 0 && busy() && performance.now() < begun + SLICE_MS) step();
  if (model.steps > before) stepMs += 0.1 * ((performance.now() - begun) / (model.steps - before) - stepMs);
  if (seen && performance.now() >= nextFrame) sendFrame();
  return quota > 0 ? soon.port2.postMessage(null) : setTimeout(tick, 3);
}

function step() {
  if (taken === 0) order = epochOrder(settings.seed, epoch, train.count);
  const batch = order.subarray(taken * settings.batchSize, (taken + 1) * settings.batchSize);
  if (draws) noise.fill(draws);
  const result = model.step(train, batch, { lossCoef: settings.lc, learningRate: settings.rate, draws });
  recent.push(result);
  if (recent.length > stepsPerEpoch()) recent.shift();
  if (++taken === stepsPerEpoch()) [epoch, taken] = [epoch + 1, 0];
  quota--;
  if (!playing) left--;
  diverged = !Number.isFinite(result.networkLoss + result.gateLoss);
}

/** Steps until the next frame, which is so many ms away: few at first, so that the beginning can be followed. */
function stepsWithin(ms) {
  if (!playing) return left;
  if (slow) return SLOW_STEPS;
  const steps = Math.ceil((1 + model.steps / RAMP_STEPS) * ms / FRAME_MS);
  return calm || steps >= stepsPerEpoch() ? Infinity : steps;
}

function sendFrame(more = {}) {
  if (!model) return;
  const begun = performance.now();
  const mean = (name) => (recent.length ? recent.reduce((sum, one) => sum + one[name], 0) / recent.length : null);
  const frame = { type: "frame", run, ...more, epoch, at: epoch + taken / stepsPerEpoch(), training: Boolean(busy()), finished: epoch >= until, diverged,
    // Means over the last epoch's steps
    trainAccuracy: recent.length ? mean("right") / settings.batchSize : null,
    networkLoss: mean("networkLoss"), gateLoss: mean("gateLoss"), routerNorm: mean("routerNorm"),
    ...look(model, test), router: model.rows(), on: model.on.slice(), answer: drawn && answer(model, drawn) };
  // At full speed a frame for each epoch: drawing more would only take time from training.
  const epochMs = quota === Infinity ? Math.min(LONGEST_FRAME_MS, stepMs * stepsPerEpoch()) : 0;
  const interval = Math.max(calm ? CALM_FRAME_MS : FRAME_MS, epochMs, (performance.now() - begun) / LOOK_SHARE);
  nextFrame = begun + interval;
  [shown, seen, quota] = [{ steps: model.steps, training: frame.training }, false, stepsWithin(interval)];
  postMessage(frame, [frame.router, frame.received, frame.favourite].map((array) => array.buffer));
}

/** All of a set of images through the model, as in evaluation.

confusion (C, C): by label and answer; slots (E, C): images of a class that an expert sees; received (E, D):
mean image that it sees; favourite (N,): the expert with the largest gate. */
function look(model, images) {
  const { E, C, D, K } = model, seenBy = new Float64Array(E);
  const found = { confusion: new Int32Array(C * C), slots: new Int32Array(E * C), received: new Float32Array(E * D),
    favourite: new Uint8Array(images.count), right: 0 };
  for (let n = 0; n < images.count; n++) {
    model.forward(images, n, 0, null);
    const label = images.labels[n], predicted = argmax(model.output, 0, C);
    found.confusion[label * C + predicted]++;
    found.right += predicted === label;
    found.favourite[n] = model.recipe.gates === "all" ? NO_EXPERT : argmax(model.gates, 0, E);
    for (let j = 0; j < K; j++) {
      const e = model.chosen[j];
      if (!model.on[e]) continue;
      seenBy[e]++;
      found.slots[e * C + label]++;
      for (let i = images.starts[n]; i < images.starts[n + 1]; i++) found.received[e * D + images.pixels[i]] += images.values[i];
    }
  }
  for (let e = 0; e < E; e++) for (let d = e * D; d < (e + 1) * D; d++) found.received[d] /= seenBy[e] || 1;
  return { ...found, accuracy: found.right / images.count };
}

/** One image: gates (E,), each expert's probabilities (E, C) as if it were asked, and the mixture's (C,). */
function answer(model, images) {
  const { E, C } = model, votes = new Float64Array(E * C), result = new Float64Array(C);
  model.forward(images, 0, 0, null);
  const gates = model.gates.slice(0, E);
  if (model.recipe.softmaxExperts) result.set(model.output.subarray(0, C));
  else softmax(model.output, 0, C, result);
  for (let e = 0; e < E; e++) {
    model.ask(images, 0, e, 0);
    if (!model.recipe.softmaxExperts) softmax(model.answers, 0, C, model.answers);
    votes.set(model.answers.subarray(0, C), e * C);
  }
  return { gates, votes, result };
}

/** base64 of zlib's format, to bytes. Not through a Blob, whose bytes WebKit cannot read in a page opened from a file. */
async function inflate(packed) {
  const stream = new DecompressionStream("deflate"), writer = stream.writable.getWriter();
  writer.write(Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0)));
  writer.close();
  return new Uint8Array(await new Response(stream.readable).arrayBuffer());
}
