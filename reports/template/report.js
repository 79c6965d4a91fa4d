"use strict";
// In a frame, as MLflow shows this page, links within it do not work by themselves.

function target(link) {
  const href = link.getAttribute("href") || "";
  return href.startsWith("#") ? document.getElementById(href.slice(1)) : null;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest && event.target.closest("a");
  const place = link && target(link);
  if (!place) return;
  event.preventDefault();
  place.scrollIntoView();
  try {
    history.replaceState(null, "", link.getAttribute("href"));
  } catch {
    // a frame without an address of its own
  }
});

nameNeighbours(document);

// The contents mark the section that is being read.
const links = new Map([...document.querySelectorAll("#contents a[href^='#']")].map((a) => [target(a), a]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target).setAttribute("aria-current", "true");
  }
}, { rootMargin: "0px 0px -70% 0px" });
for (const heading of links.keys()) if (heading) seen.observe(heading);

// On a phone the panels of a figure stand below each other, each a window onto the same picture.
const phone = matchMedia("(max-width: 40rem)");
const WIDE = 0.6; // of a figure: such a panel is too wide for a phone, and scrolls

function stack(image) {
  const panels = JSON.parse(image.dataset.panels), figure = image.closest("figure");
  if (panels.length < 2 || figure.querySelector(".panels")) return;
  const stacked = document.createElement("div");
  stacked.className = "panels";
  stacked.setAttribute("role", "img");
  stacked.setAttribute("aria-label", image.alt);
  for (const [left, top, right, bottom] of panels) {
    const [width, height] = [right - left, bottom - top], panel = document.createElement("div"), view = new Image();
    panel.className = width > WIDE ? "panel wide" : "panel";
    panel.style.cssText = `aspect-ratio: ${width} / ${height * image.dataset.ratio}; --share: ${width}`;
    view.alt = "";
    view.src = image.src;
    view.style.cssText = `width: ${100 / width}%; left: ${-100 * left / width}%; top: ${-100 * top / height}%`;
    panel.append(view);
    stacked.append(panel);
  }
  image.after(stacked);
  figure.classList.add("is-stacked");
  figure.classList.toggle("fits", !stacked.querySelector(".wide"));
}

function stackAll() {
  if (phone.matches) document.querySelectorAll("img[data-panels]").forEach(stack);
}
phone.addEventListener("change", stackAll);
stackAll();
