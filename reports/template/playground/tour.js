"use strict";
/* The guided tour. A stop sets the controls, trains for some epochs, and says in two sentences what to watch;
its last line is of the study itself, from its tables (facts), and is left out where the study has no such cells. */

const STOPS = [
  {
    title: "No gate loss: experts die", epochs: 40, section: "beyond",
    set: { recipe: "logits", ne: 12, k: 2, lc: 0, seed: 0 },
    says: "Nothing asks the router to share, so an expert that starts badly gets no images, learns nothing, and dies. Watch the bars: a few experts do the work of all.",
    study: ({ deadWithout }) => deadWithout && `In the study, ${deadWithout.mean.toFixed(1)} of 12 experts were dead at the end, mean of ${deadWithout.runs} seeds`,
  },
  {
    title: "With it, they share", epochs: 40, section: "lc",
    set: { recipe: "logits", ne: 12, k: 2, lc: 1, seed: 0 },
    says: "The gate loss grows when few experts get most of the weight, so the router learns to spread the images. Watch the bars settle around the dashed line, the even share.",
    study: ({ deadWith }) => deadWith && `In the study, ${deadWith.mean.toFixed(2)} of 12 experts were dead at the end, mean of ${deadWith.runs} seeds`,
  },
  {
    title: "k = 1: the router never moves", epochs: 40, section: "k",
    set: { recipe: "logits", ne: 8, k: 1, lc: 1, seed: 0 },
    says: "With one expert per image its gate is always 1, so the router's gradient is exactly 0: bars and map stay as the first weights happened to draw them. The recipe switch multiplies by the probability itself, and the router learns.",
    then: { label: "now Switch", set: { recipe: "switch" } },
    study: (of) => of.logits && of.switch && `In the study, at ne = 8 and k = 1, test accuracy is ${percent(of.logits.mean)} under logits and ${percent(of.switch.mean)} under switch, mean of ${of.logits.runs} seeds`,
  },
  {
    title: "The double softmax gives up a digit", epochs: 60, section: "fingerprint",
    set: { recipe: "blog", ne: 1, k: 1, lc: 1, seed: 0 },
    says: "The network ends in a softmax and the loss applies another, so a digit it has given up gets almost no push back. Watch the row of the 9 in the confusion matrix: not one is recognised, and they go to 4 and 7.",
    then: { label: "now without it", set: { recipe: "logits" } },
    study: (of) => of.droppedByBlog && of.droppedByLogits && `In the study, ${percent(of.droppedByBlog.mean, 0)} of ${of.droppedByBlog.runs} such networks get less than half of some digit right; without the second softmax, ${percent(of.droppedByLogits.mean, 0)} of ${of.droppedByLogits.runs}`,
  },
  {
    title: "More experts, finer specialists", epochs: 40, section: "experts",
    set: { recipe: "logits", ne: 4, k: 2, lc: 1, seed: 0 },
    says: "With four experts, each has to know most digits. With sixteen, each sees fewer of them: watch the columns of the table thin out, and the map break into small regions.",
    then: { label: "now 16 experts", set: { ne: 16 } },
    study: (of) => of.classesOfFew && of.classesOfMany && `In the study, an expert of 4 sees ${of.classesOfFew.mean.toFixed(1)} digits and one of 16 sees ${of.classesOfMany.mean.toFixed(1)}, as the exponential of an entropy, mean of ${Math.min(of.classesOfFew.runs, of.classesOfMany.runs)} seeds`,
  },
];

const FREE = "Take the five stops, or your own way: press Train, change a control, draw a digit. A seed gives the same first weights here as in the study.";
let stopNumber = null; // of the tour, from 1; null: the reader's own way

/** The tour's buttons. go(settings, epochs) sets the controls and trains. Returns how to visit a stop. */
function buildTour(facts, go) {
  const buttons = STOPS.map((stop, i) => {
    const button = element("button", { type: "button", "aria-pressed": "false" }, element("b", {}, String(i + 1)), stop.title);
    button.addEventListener("click", () => visit(i + 1));
    return button;
  });
  const textOf = (stop) => {
    const study = stop.study(facts), text = element("p", {}, `${stop.says} `);
    if (stop.then) {
      const button = element("button", { type: "button", id: "then" }, stop.then.label);
      button.addEventListener("click", () => go({ ...stop.set, ...stop.then.set }, stop.epochs));
      text.append(button, " ");
    }
    if (study) text.append(element("a", { href: `index.html#${stop.section}` }, study));
    nameNeighbours(text);
    return text;
  };
  /** number: from 1. settings: those of a shared link, where they differ from the stop's. */
  const visit = (number, settings = {}) => {
    const stop = STOPS[number - 1];
    stopNumber = number;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", i + 1 === number));
    $("stop-text").replaceChildren(textOf(stop));
    go({ ...stop.set, ...settings }, stop.epochs);
  };
  $("stops").append(...buttons.map((button) => element("li", {}, button)));
  keepRoom($("stop-text"), STOPS.map(textOf));
  leaveTour();
  return visit;
}

function leaveTour() {
  stopNumber = null;
  for (const button of document.querySelectorAll("#stops button")) button.setAttribute("aria-pressed", "false");
  $("stop-text").replaceChildren(element("p", { class: "note" }, FREE));
}
