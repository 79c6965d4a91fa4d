"use strict";
// MLflow shows a page as a blob in a frame, where links to neighbouring files do not work.

const HAS_NEIGHBOURS = ["file:", "http:", "https:"].includes(location.protocol);

/** Where links to other pages do not work, say what they are called. */
function nameNeighbours(node) {
  if (HAS_NEIGHBOURS) return;
  for (const link of node.querySelectorAll("a[href]:not([href^='#'])")) {
    const hint = document.createElement("span");
    hint.className = "elsewhere";
    hint.textContent = `${link.textContent} (${link.getAttribute("href")}, among the artifacts of this run)`;
    link.replaceWith(hint);
  }
}
