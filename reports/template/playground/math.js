"use strict";
// Functions of rows: `size` numbers that begin at `at` in an array.

const NOISE_FLOOR = 0.01; // the least spread of shazeer's noise

/** Softmax of row (size,) at `at` of an array, among those that are on; exact 0 for others. */
function softmax(logits, at, size, into, on = null) {
  let most = -Infinity, sum = 0;
  for (let i = 0; i < size; i++) if (!on || on[i]) most = Math.max(most, logits[at + i]);
  for (let i = 0; i < size; i++) sum += into[at + i] = !on || on[i] ? Math.exp(logits[at + i] - most) : 0;
  for (let i = 0; i < size; i++) into[at + i] /= sum;
}

/** Cross entropy of the softmax of a row against a label; the gradient goes into `gradient`. */
function crossEntropy(logits, at, size, label, gradient) {
  softmax(logits, at, size, gradient);
  let most = -Infinity, sum = 0;
  for (let i = at; i < at + size; i++) most = Math.max(most, logits[i]);
  for (let i = at; i < at + size; i++) sum += Math.exp(logits[i] - most);
  gradient[at + label] -= 1;
  return most + Math.log(sum) - logits[at + label];
}

function argmax(values, at, size) {
  let best = 0;
  for (let i = 1; i < size; i++) if (values[at + i] > values[at + best]) best = i;
  return best;
}

/** Population variance over squared mean, of those that are on; coefficient times its gradient goes into `pull`. */
function cvSquared(x, on, coefficient, pull) {
  let sum = 0, count = 0, value = 0;
  for (let e = 0; e < x.length; e++) if (on[e]) [sum, count] = [sum + x[e], count + 1];
  for (let e = 0; e < x.length; e++) if (on[e]) value += (x[e] * count / sum - 1) ** 2 / count;
  for (let e = 0; e < x.length; e++) if (on[e]) pull[e] = coefficient * 2 / sum * (x[e] * count / sum - 1 - value);
  return value;
}

/** The logarithm of the sigmoid, without overflow. */
const logSigmoid = (x) => Math.min(0, x) - Math.log1p(Math.exp(-Math.abs(x)));

const noiseSpread = (logit) => (logit > 20 ? logit : Math.log1p(Math.exp(logit))) + NOISE_FLOOR;

/** Φ by Marsaglia's series (Evaluating the Normal Distribution, 2004), to 1e-15. */
function normalCdf(x) {
  if (Math.abs(x) > 8) return x > 0 ? 1 : 0;
  let sum = x, last = 0, term = x;
  for (let i = 3; sum !== last; i += 2) [last, sum] = [sum, sum + (term *= x * x / i)];
  return 0.5 + sum * Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
}
