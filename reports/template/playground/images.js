"use strict";
/* Images as lists of their lit pixels, a fifth of all, and the two sums over them that take most of the
time. Both work on LANES numbers at a time, in variables of their own: twice as fast as in an array. */

const LANES = 5;

/** Images as lists of lit pixels: those of image n are at starts[n] … starts[n + 1] - 1. */
class Images {
  /** bytes (N, D): grey values 0 … 255, which become 0 … 1. labels (N,). */
  constructor(bytes, labels, Float = Float32Array) {
    const inputs = bytes.length / labels.length;
    const lit = bytes.reduce((sum, grey) => sum + (grey > 0), 0);
    Object.assign(this, { count: labels.length, labels, starts: new Int32Array(labels.length + 1) });
    this.pixels = new Uint16Array(lit);
    this.values = new Float(lit);
    for (let n = 0, at = 0; n < this.count; n++) {
      for (let d = 0; d < inputs; d++) {
        const grey = bytes[n * inputs + d];
        if (grey === 0) continue;
        this.pixels[at] = d;
        this.values[at++] = grey / 255;
      }
      this.starts[n + 1] = at;
    }
  }
}

/** into[at + w] += Σ x[p] · matrix[first + p · width + w] over the lit pixels p of an image, w < width. */
function gather({ starts, pixels, values }, image, matrix, first, width, into, at) {
  const begin = starts[image], end = starts[image + 1];
  for (let lane = 0; lane < width; lane += LANES) {
    let a = 0, b = 0, c = 0, d = 0, e = 0;
    for (let i = begin; i < end; i++) {
      const value = values[i], from = first + pixels[i] * width + lane;
      a += value * matrix[from];
      b += value * matrix[from + 1];
      c += value * matrix[from + 2];
      d += value * matrix[from + 3];
      e += value * matrix[from + 4];
    }
    into[at + lane] += a;
    into[at + lane + 1] += b;
    into[at + lane + 2] += c;
    into[at + lane + 3] += d;
    into[at + lane + 4] += e;
  }
}

/** matrix[first + p · width + w] += x[p] · row[w]: the gradient of `gather`. */
function scatter({ starts, pixels, values }, image, row, matrix, first, width) {
  const begin = starts[image], end = starts[image + 1];
  for (let lane = 0; lane < width; lane += LANES) {
    const a = row[lane], b = row[lane + 1], c = row[lane + 2], d = row[lane + 3], e = row[lane + 4];
    if (a === 0 && b === 0 && c === 0 && d === 0 && e === 0) continue;
    for (let i = begin; i < end; i++) {
      const value = values[i], to = first + pixels[i] * width + lane;
      matrix[to] += value * a;
      matrix[to + 1] += value * b;
      matrix[to + 2] += value * c;
      matrix[to + 3] += value * d;
      matrix[to + 4] += value * e;
    }
  }
}
