"use strict";
// What the explorer and the playground share. Text goes into pages as text, never as HTML.

const $ = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const colours = new Map();
dark.addEventListener("change", () => colours.clear());

/** The present value of a colour of common.css. */
function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return colours.get(name);
}

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

// cividis, in nine steps
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#fee838"];

/** A colour of cividis for a share from 0 to 1. */
function shade(share) {
  const at = Math.min(1, Math.max(0, share)) * (CIVIDIS.length - 1);
  const [low, high] = [Math.floor(at), Math.ceil(at)].map((i) => CIVIDIS[i].match(/\w\w/g).map((h) => parseInt(h, 16)));
  return `rgb(${low.map((c, i) => Math.round(c + (high[i] - c) * (at - Math.floor(at)))).join(",")})`;
}

/** What can be read on a shade. */
const onShade = (share) => (share > 0.52 ? "#000" : "#fff");

const channels = (name) => {
  const hex = colour(name).replace("#", "");
  return [0, 1, 2].map((i) => parseInt(hex.length === 3 ? hex[i] + hex[i] : hex.slice(2 * i, 2 * i + 2), 16));
};

/** Paint numbers, one for each pixel of a canvas: ink, 0 … 1, or signed, −1 … 1, blue below 0 and red above. */
function paint(canvas, values, signed) {
  const [paper, ink, less, more] = [signed ? "paper" : "wash", "ink", "less", "more"].map(channels), context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < values.length; i++) {
    const value = values[i], full = !signed ? ink : value > 0 ? more : less;
    const share = Math.min(1, Math.abs(value));
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = paper[c] + (full[c] - paper[c]) * share;
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}
