"use strict";
/* A mixture of experts and its training: hand-written gradients, on lit pixels and chosen experts only.
It is the model of the Python layer `MoE`; a test trains both side by side.

Axes: B batch, D inputs, E experts, K chosen, H hidden units, C classes. Row n of a (B, E) array begins
at n * E. The router and the noise are (D, L), L being E rounded up to whole groups of LANES; H is whole groups.

Nothing here knows of a page: it runs in a worker, in a page and in Node. */

const ADAM = { decay1: 0.9, decay2: 0.999, epsilon: 1e-8 }; // torch.optim.Adam's defaults

/* gates: how they follow from the logits. balance: the gate loss. onlyK: the one k that is allowed.
Equations and sources are those of the Python recipes of the same names. */
const RECIPES = {
  blog: { gates: "top-k softmax", balance: "importance", softmaxExperts: true },
  logits: { gates: "top-k softmax", balance: "importance" },
  switch: { gates: "softmax", balance: "switch" },
  shazeer: { gates: "top-k softmax", balance: "importance and load", noise: true },
  "loss-free": { gates: "sigmoid", selectionBias: true },
  "deepseek-v3": { gates: "normalized sigmoid", selectionBias: true },
  random: { gates: "top-k softmax", balance: "importance", frozenRouter: true },
  "dense-total": { gates: "all", frozenRouter: true, onlyK: 1 },
};

class MixtureOfExperts {
  /** capacity: images in the largest batch. Float: Float64Array to compare with other programs. */
  constructor({ inputs = 784, hidden = 10, classes = 10, experts, topK, recipe, capacity = 128, Float = Float32Array }) {
    this.recipe = RECIPES[recipe];
    if (!this.recipe) throw new RangeError(`recipe ${recipe} is unknown`);
    if (topK > experts || topK !== (this.recipe.onlyK || topK)) throw new RangeError(`${recipe} has no k = ${topK} at ne = ${experts}`);
    const K = this.recipe.gates === "all" ? experts : topK, L = LANES * Math.ceil(experts / LANES);
    Object.assign(this, { D: inputs, H: hidden, C: classes, E: experts, K, L, topK, steps: 0 });
    // One vector of all weights: router, noise if any, then w1 (D, H), b1, w2 (H, C), b2 of each expert.
    this.b1 = this.D * this.H;
    this.w2 = this.b1 + this.H;
    this.b2 = this.w2 + this.H * this.C;
    this.expertSize = this.b2 + this.C;
    this.firstExpert = (this.recipe.noise ? 2 : 1) * this.D * L;
    const size = this.firstExpert + experts * this.expertSize;
    for (const name of ["weights", "gradient", "moment1", "moment2"]) this[name] = new Float(size);
    this.bias = new Float64Array(experts); // added to the scores, only for selection
    this.on = new Uint8Array(experts).fill(1); // 0: switched off, which is never chosen
    this.since = new Int32Array(experts); // the step from which Adam counts an expert's own
    const rows = { logits: experts, noiseLogits: experts, noisy: experts, scores: experts, gates: experts, draws: experts,
      dGates: experts, hidden: K * hidden, answers: K * classes, output: classes, dOutput: classes };
    for (const [name, length] of Object.entries(rows)) this[name] = new Float64Array(capacity * length);
    this.chosen = new Int32Array(capacity * K);
    this.nextBest = new Int32Array(capacity); // the best that is not chosen; -1: there is none
    for (const name of ["importance", "slots", "probs", "load", "pullImportance", "pullProbs", "pullLoad", "dNoisy", "dMargin"]) {
      this[name] = new Float64Array(experts);
    }
    for (const name of ["lanes", "dLogits", "dNoise"]) this[name] = new Float64Array(L);
    this.dHidden = new Float64Array(hidden);
    this.dAnswer = new Float64Array(classes);
  }

  expertAt(e) { return this.firstExpert + e * this.expertSize; }
  get alive() { return this.on.reduce((sum, one) => sum + one, 0); }

  // --- weights by the Python layer's names: router, noise (E, D), w1 (E, D, H), b1 (E, H), w2 (E, H, C), b2 (E, C)

  set(weights) {
    this.setRows(0, weights.router);
    if (weights.noise) this.setRows(this.D * this.L, weights.noise);
    for (let e = 0; e < this.E; e++) this.setExpert(e, weights);
  }

  setRows(offset, rows) {
    for (let e = 0; e < this.E; e++) for (let d = 0; d < this.D; d++) this.weights[offset + d * this.L + e] = rows[e * this.D + d];
  }

  /** Switch an expert on or off. Off, its weights stay: not even Adam's momentum moves them. */
  turn(e, on) {
    this.on[e] = +on;
    if (on) return;
    this.moment1.fill(0, this.expertAt(e), this.expertAt(e + 1));
    for (let at = e; at < this.firstExpert; at += this.L) this.moment1[at] = 0; // its router and noise weights
  }

  /** Give an expert the weights of a set, and reset Adam for them. */
  setExpert(e, weights) {
    let at = this.expertAt(e);
    this.since[e] = this.steps;
    for (const moment of [this.moment1, this.moment2]) moment.fill(0, at, at + this.expertSize);
    for (const part of [weights.w1, weights.b1, weights.w2, weights.b2]) {
      const size = part.length / this.E;
      for (let i = 0; i < size; i++) this.weights[at++] = part[e * size + i];
    }
  }

  get() {
    const parts = { w1: [0, this.b1], b1: [this.b1, this.w2], w2: [this.w2, this.b2], b2: [this.b2, this.expertSize] };
    const all = { router: this.rows(0) };
    if (this.recipe.noise) all.noise = this.rows(this.D * this.L);
    for (const [name, [from, to]] of Object.entries(parts)) {
      all[name] = new Float64Array(this.E * (to - from));
      for (let e = 0; e < this.E; e++) {
        all[name].set(this.weights.subarray(this.expertAt(e) + from, this.expertAt(e) + to), e * (to - from));
      }
    }
    return all;
  }

  /** The router's (or at another offset the noise's) weights, a row (D,) for each expert. */
  rows(offset = 0) {
    const rows = new this.weights.constructor(this.E * this.D);
    for (let e = 0; e < this.E; e++) for (let d = 0; d < this.D; d++) rows[e * this.D + d] = this.weights[offset + d * this.L + e];
    return rows;
  }

  // --- forward, one image into row n

  forward(images, image, n, draws) {
    this.project(images, image, n, 0, this.logits);
    if (this.recipe.noise) {
      this.project(images, image, n, this.D * this.L, this.noiseLogits);
      for (let e = 0, at = n * this.E; e < this.E; e++, at++) {
        this.draws[at] = draws ? draws[at] : 0;
        this.noisy[at] = this.logits[at] + this.draws[at] * noiseSpread(this.noiseLogits[at]);
      }
    }
    this.route(n);
    const out = n * this.C;
    for (let c = 0; c < this.C; c++) this.output[out + c] = 0;
    for (let j = n * this.K; j < (n + 1) * this.K; j++) {
      const gate = this.gates[n * this.E + this.chosen[j]];
      this.ask(images, image, this.chosen[j], j);
      for (let c = 0; c < this.C; c++) this.output[out + c] += gate * this.answers[j * this.C + c];
    }
  }

  /** x · W of a router matrix into row n. */
  project(images, image, n, offset, into) {
    this.lanes.fill(0);
    gather(images, image, this.weights, offset, this.L, this.lanes, 0);
    for (let e = 0; e < this.E; e++) into[n * this.E + e] = this.lanes[e];
  }

  /** The hidden units of slot j, from expert e, and its answer (C,). */
  ask(images, image, e, j) {
    const { weights, hidden, answers, H, C } = this, first = this.expertAt(e), h0 = j * H, c0 = j * C;
    for (let h = 0; h < H; h++) hidden[h0 + h] = weights[first + this.b1 + h];
    gather(images, image, weights, first, H, hidden, h0);
    for (let c = 0; c < C; c++) answers[c0 + c] = weights[first + this.b2 + c];
    for (let h = 0; h < H; h++) {
      const active = hidden[h0 + h] = Math.max(0, hidden[h0 + h]), at = first + this.w2 + h * C;
      if (active > 0) for (let c = 0; c < C; c++) answers[c0 + c] += active * weights[at + c];
    }
    if (this.recipe.softmaxExperts) softmax(answers, c0, C, answers);
  }

  /** Choose the experts of row n and their gates. */
  route(n) {
    const { E, K, scores, gates } = this, row = n * E, kind = this.recipe.gates;
    const logits = this.recipe.noise ? this.noisy : this.logits;
    if (kind === "softmax") softmax(logits, row, E, scores, this.on);
    for (let e = 0; e < E; e++) {
      if (kind.endsWith("sigmoid")) scores[row + e] = 1 / (1 + Math.exp(-logits[row + e]));
      if (kind === "top-k softmax") scores[row + e] = logits[row + e];
      gates[row + e] = 0;
    }
    if (kind === "all") {
      for (let e = 0; e < E; e++) gates[row + (this.chosen[n * K + e] = e)] = this.on[e];
      return;
    }
    this.choose(n, kind === "softmax" ? logits : scores, kind.endsWith("sigmoid") ? this.bias : null);
    const first = n * K;
    for (let j = first; j < first + K; j++) {
      const at = row + this.chosen[j];
      if (kind === "top-k softmax") gates[at] = logits[at];
      // A sigmoid over the sum of sigmoids is a softmax of their logarithms: finite where each rounds to 0.
      else if (kind === "normalized sigmoid") gates[at] = logSigmoid(logits[at]);
      else gates[at] = scores[at];
    }
    if (kind === "top-k softmax" || kind === "normalized sigmoid") this.softmaxOfChosen(n);
  }

  /** Softmax of row n of the gates among the chosen. */
  softmaxOfChosen(n) {
    const { E, K, gates, chosen } = this, row = n * E;
    let most = -Infinity, sum = 0;
    for (let j = n * K; j < (n + 1) * K; j++) most = Math.max(most, gates[row + chosen[j]]);
    for (let j = n * K; j < (n + 1) * K; j++) sum += gates[row + chosen[j]] = Math.exp(gates[row + chosen[j]] - most);
    for (let j = n * K; j < (n + 1) * K; j++) gates[row + chosen[j]] /= sum;
  }

  /** The K best in falling order (ties: the lower index first), and the next best. */
  choose(n, scores, bias) {
    const { E, K, chosen } = this, row = n * E, first = n * K;
    for (let j = 0; j <= K; j++) {
      let best = -1, most = 0;
      for (let e = 0; e < E; e++) {
        const score = scores[row + e] + (bias ? bias[e] : 0);
        if (!this.on[e] || (best >= 0 && !(score > most))) continue;
        let taken = false;
        for (let i = first; i < first + j; i++) taken = taken || chosen[i] === e;
        if (!taken) [best, most] = [e, score];
      }
      if (j < K) chosen[first + j] = best;
      else this.nextBest[n] = best;
    }
  }

  // --- the gate loss, from the sums over a batch that `tally` makes

  clearTally() {
    for (const sum of [this.importance, this.slots, this.probs, this.load]) sum.fill(0);
  }

  tally(n) {
    const row = n * this.E;
    for (let j = n * this.K; j < (n + 1) * this.K; j++) {
      this.importance[this.chosen[j]] += this.gates[row + this.chosen[j]];
      this.slots[this.chosen[j]] += this.on[this.chosen[j]];
    }
    if (this.recipe.balance === "switch") for (let e = 0; e < this.E; e++) this.probs[e] += this.scores[row + e];
    if (this.recipe.noise) for (let e = 0; e < this.E; e++) this.load[e] += this.on[e] && normalCdf(this.margin(n, e));
  }

  /** How far an expert's logit is above its rivals' best, in spreads of its noise (Shazeer eq. 9). */
  margin(n, e) {
    const rival = this.rival(n, e), at = n * this.E + e;
    return rival < 0 ? Infinity : (this.logits[at] - this.noisy[n * this.E + rival]) / noiseSpread(this.noiseLogits[at]);
  }

  rival(n, e) {
    if (this.nextBest[n] < 0) return -1;
    for (let j = n * this.K; j < (n + 1) * this.K; j++) if (this.chosen[j] === e) return this.nextBest[n];
    return this.chosen[(n + 1) * this.K - 1];
  }

  /** The gate loss of `count` images; its gradient by importance, probs and load, times lossCoef, is kept. */
  balance(count, lossCoef) {
    const kind = this.recipe.balance;
    let loss = 0;
    for (const pull of [this.pullImportance, this.pullProbs, this.pullLoad]) pull.fill(0);
    if (kind === "switch") {
      const alive = this.alive;
      for (let e = 0; e < this.E; e++) {
        const share = this.slots[e] / (count * this.K);
        loss += alive * share * this.probs[e] / count;
        this.pullProbs[e] = lossCoef * alive * share / count;
      }
    }
    if (kind && kind.startsWith("importance")) loss += cvSquared(this.importance, this.on, lossCoef, this.pullImportance);
    if (kind && kind.endsWith("load")) loss += cvSquared(this.load, this.on, lossCoef, this.pullLoad);
    return loss;
  }

  // --- training

  /** One step of Adam on a batch of image numbers. draws (B, E): standard normal, for shazeer only.
  Returns the network loss, the gate loss, how many answers were right, and the norm of the router's gradient. */
  step(images, batch, { lossCoef, learningRate, draws = null }) {
    const B = batch.length;
    let networkLoss = 0, right = 0;
    this.clearTally();
    for (let n = 0; n < B; n++) {
      this.forward(images, batch[n], n, draws);
      this.tally(n);
      const label = images.labels[batch[n]], row = n * this.C;
      networkLoss += crossEntropy(this.output, row, this.C, label, this.dOutput) / B;
      right += argmax(this.output, row, this.C) === label;
      for (let c = row; c < row + this.C; c++) this.dOutput[c] /= B;
    }
    const gateLoss = this.balance(B, lossCoef);
    for (let n = 0; n < B; n++) this.backward(images, batch[n], n);
    const routerNorm = Math.sqrt(this.gradient.subarray(0, this.D * this.L).reduce((sum, g) => sum + g * g, 0));
    this.adam(learningRate);
    if (this.recipe.selectionBias) this.moveBias(lossCoef);
    return { networkLoss, gateLoss, right, routerNorm };
  }

  backward(images, image, n) {
    const { E, K, C, H, weights, gradient, dAnswer, dHidden } = this, row = n * E;
    for (let j = n * K; j < (n + 1) * K; j++) {
      const e = this.chosen[j], gate = this.gates[row + e], first = this.expertAt(e);
      let along = 0;
      for (let c = 0; c < C; c++) along += this.dOutput[n * C + c] * this.answers[j * C + c];
      this.dGates[row + e] = along;
      for (let c = 0; c < C; c++) dAnswer[c] = gate * this.dOutput[n * C + c];
      if (this.recipe.softmaxExperts) for (let c = 0; c < C; c++) dAnswer[c] = this.answers[j * C + c] * (dAnswer[c] - gate * along);
      for (let c = 0; c < C; c++) gradient[first + this.b2 + c] += dAnswer[c];
      for (let h = 0; h < H; h++) {
        const active = this.hidden[j * H + h], at = first + this.w2 + h * C;
        dHidden[h] = 0;
        if (active <= 0) continue;
        for (let c = 0; c < C; c++) {
          dHidden[h] += weights[at + c] * dAnswer[c];
          gradient[at + c] += active * dAnswer[c];
        }
        gradient[first + this.b1 + h] += dHidden[h];
      }
      scatter(images, image, dHidden, gradient, first, H);
    }
    if (this.recipe.frozenRouter) return;
    this.backwardGates(n);
    scatter(images, image, this.dLogits, gradient, 0, this.L);
    if (this.recipe.noise) scatter(images, image, this.dNoise, gradient, this.D * this.L, this.L);
  }

  /** From the gates' gradient, and the gate loss's, to the logits' (and the noise's), for one image. */
  backwardGates(n) {
    const { E, K, gates, scores, dGates, dLogits, chosen } = this, row = n * E, kind = this.recipe.gates;
    dLogits.fill(0);
    let mean = 0;
    for (let j = n * K; j < (n + 1) * K; j++) {
      const e = chosen[j];
      dGates[row + e] += this.pullImportance[e] + this.pullProbs[e];
      mean += gates[row + e] * dGates[row + e];
    }
    if (kind === "softmax") { // the gate loss pulls at the probabilities of all experts
      mean = 0;
      for (let e = 0; e < E; e++) {
        if (gates[row + e] === 0) dGates[row + e] = this.pullProbs[e];
        mean += scores[row + e] * dGates[row + e];
      }
      for (let e = 0; e < E; e++) dLogits[e] = scores[row + e] * (dGates[row + e] - mean);
    } else {
      for (let j = n * K; j < (n + 1) * K; j++) {
        const e = chosen[j], at = row + e;
        if (kind === "top-k softmax") dLogits[e] = gates[at] * (dGates[at] - mean);
        else if (kind === "sigmoid") dLogits[e] = dGates[at] * scores[at] * (1 - scores[at]);
        else dLogits[e] = gates[at] * (dGates[at] - mean) * (1 - scores[at]);
      }
    }
    if (this.recipe.noise) this.backwardNoise(n);
  }

  /** Shazeer: from the noisy logits' gradient, and the smooth load's, to logits and spreads. */
  backwardNoise(n) {
    const { E, dLogits, dNoise, dNoisy, dMargin } = this, row = n * E;
    for (let e = 0; e < E; e++) dNoisy[e] = dLogits[e];
    for (let e = 0; e < E; e++) {
      const rival = this.on[e] ? this.rival(n, e) : -1, margin = this.margin(n, e);
      dMargin[e] = rival < 0 ? 0 : this.pullLoad[e] * Math.exp(-margin * margin / 2) / Math.sqrt(2 * Math.PI);
      dNoise[e] = rival < 0 ? 0 : -dMargin[e] * margin / noiseSpread(this.noiseLogits[row + e]);
      dMargin[e] /= noiseSpread(this.noiseLogits[row + e]);
      if (rival >= 0) dNoisy[rival] -= dMargin[e];
    }
    for (let e = 0; e < E; e++) {
      dLogits[e] = dNoisy[e] + dMargin[e];
      dNoise[e] = (dNoise[e] + dNoisy[e] * this.draws[row + e]) / (1 + Math.exp(-this.noiseLogits[row + e]));
    }
  }

  /** torch.optim.Adam at its defaults; the gradient is 0 afterwards. */
  adam(learningRate) {
    this.steps++;
    this.update(0, this.firstExpert, this.steps, learningRate);
    for (let e = 0; e < this.E; e++) this.update(this.expertAt(e), this.expertAt(e + 1), this.steps - this.since[e], learningRate);
  }

  /** Adam's step number `steps` for the weights from … to - 1. */
  update(from, to, steps, learningRate) {
    const { weights, gradient, moment1, moment2 } = this, { decay1, decay2, epsilon } = ADAM;
    const rate = learningRate / (1 - decay1 ** steps), root = Math.sqrt(1 - decay2 ** steps);
    for (let i = from; i < to; i++) {
      const g = gradient[i];
      if (g === 0 && moment1[i] === 0) continue; // a pixel that is never lit
      const m = moment1[i] += (1 - decay1) * (g - moment1[i]);
      const v = moment2[i] = decay2 * moment2[i] + (1 - decay2) * g * g;
      weights[i] -= rate * m / (Math.sqrt(v) / root + epsilon);
      gradient[i] = 0;
    }
  }

  /** Wang et al. 2024, algorithm 1: up for an expert with fewer images than the mean, down with more. */
  moveBias(rate) {
    const mean = this.slots.reduce((sum, count) => sum + count, 0) / this.alive;
    for (let e = 0; e < this.E; e++) if (this.on[e]) this.bias[e] += rate * Math.sign(mean - this.slots[e]);
  }
}
