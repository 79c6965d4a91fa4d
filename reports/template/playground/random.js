"use strict";
/* The random numbers of numpy, so that a seed means in this page what it means in the study: PCG64
(O'Neill 2014, XSL-RR 128/64), seeded as numpy.random.default_rng seeds it from a list of integers. */

const MASK_64 = (1n << 64n) - 1n, MASK_128 = (1n << 128n) - 1n;
const MULTIPLIER = (2549297995355413924n << 64n) | 4865540595714422341n;

/** numpy's SeedSequence: `count` 32-bit words from integers, each below 2³². */
function seedWords(integers, count) {
  let constant = 0x43b0d7e5;
  const hash = (value) => {
    value = Math.imul(value ^ constant, constant = Math.imul(constant, 0x931e8875));
    return value ^ (value >>> 16);
  };
  const mix = (x, y) => {
    const result = Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y);
    return result ^ (result >>> 16);
  };
  const pool = [0, 1, 2, 3].map((i) => hash(integers[i] || 0));
  for (let from = 0; from < 4; from++) for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
  for (const more of integers.slice(4)) for (let to = 0; to < 4; to++) pool[to] = mix(pool[to], hash(more));
  constant = 0x8b51f9dd;
  return Array.from({ length: count }, (_, i) => {
    const value = Math.imul(pool[i % 4] ^ constant, constant = Math.imul(constant, 0x58f38ded));
    return (value ^ (value >>> 16)) >>> 0;
  });
}

/** numpy.random.default_rng(integers). */
class Random {
  constructor(integers) {
    const words = seedWords(integers, 8).map(BigInt);
    const [high, low, incHigh, incLow] = [0, 2, 4, 6].map((i) => words[i] | (words[i + 1] << 32n));
    this.increment = (((incHigh << 64n) | incLow) << 1n | 1n) & MASK_128;
    this.state = this.increment;
    this.state = (this.state + ((high << 64n) | low)) & MASK_128;
    this.advance();
    this.spare = null; // the upper half of a number whose lower half was taken
  }

  advance() { this.state = (this.state * MULTIPLIER + this.increment) & MASK_128; }

  word64() {
    this.advance();
    const value = (this.state >> 64n) ^ (this.state & MASK_64), turn = this.state >> 122n;
    return ((value >> turn) | (value << (64n - turn))) & MASK_64;
  }

  word32() {
    if (this.spare !== null) {
      const value = this.spare;
      this.spare = null;
      return value;
    }
    const value = this.word64();
    this.spare = Number(value >> 32n);
    return Number(value & 0xffffffffn);
  }

  /** Uniform in [0, 1). */
  double() { return Number(this.word64() >> 11n) / 2 ** 53; }

  /** A whole number 0 … last, by masked rejection. */
  upTo(last) {
    const mask = 2 ** (32 - Math.clz32(last)) - 1;
    for (;;) {
      const value = (this.word32() & mask) >>> 0;
      if (value <= last) return value;
    }
  }

  permutation(size) {
    const order = Int32Array.from({ length: size }, (_, i) => i);
    for (let i = size - 1; i > 0; i--) {
      const j = this.upTo(i);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}

/** The Python layer's initial weights: expert i's depend only on (seed, i). */
function initialWeights(seed, experts, { inputs = 784, hidden = 10, classes = 10 } = {}) {
  const shapes = { router: [inputs, inputs], w1: [inputs * hidden, inputs], b1: [hidden, inputs], w2: [hidden * classes, hidden], b2: [classes, hidden] };
  const weights = Object.fromEntries(Object.entries(shapes).map(([name, [size]]) => [name, new Float32Array(experts * size)]));
  for (let e = 0; e < experts; e++) {
    const random = new Random([seed, e]);
    for (const [name, [size, fanIn]] of Object.entries(shapes)) {
      for (let i = 0; i < size; i++) weights[name][e * size + i] = (-1 + 2 * random.double()) / Math.sqrt(fanIn);
    }
  }
  return weights;
}

/** An epoch's order of images, which depends only on (seed, epoch); batches are taken from its start. */
const epochOrder = (seed, epoch, images) => new Random([seed, epoch, images]).permutation(images);

/** Standard normal numbers for shazeer's noise (Box and Muller 1958), from a quick generator (mulberry32):
the one thing that is not as in numpy. */
class Noise {
  constructor(seed) { this.state = seed; }

  uniform() {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let x = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  }

  fill(array) {
    for (let i = 0; i < array.length; i++) {
      array[i] = Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
    }
  }
}
