// The document beside the list, opened at the hit.

import { ask, Latest } from "./api.js";
import { button, byId, element, marked } from "./dom.js";
import { placeOf } from "./hits.js";

const FIRST = 5; // passages around the hit
const MOST = 50; // that one answer has

export class Reader {
  #latest = new Latest();
  #pane = byId("document");
  #actions;
  #shown = {};

  /** What `actions` has: close(), step(by), similar(id), neighbours() as {before, after}, fail(error). */
  constructor(actions) {
    this.#actions = actions;
  }

  get id() {
    return this.#shown.id;
  }

  /** Open a passage; `hit`, if there is one, says what of it to mark. */
  open(index, id, hit) {
    if (this.#shown.id === id && this.#shown.index === index) {
      this.#shown.hit = hit ?? this.#shown.hit;
      this.#steps();
      return;
    }
    this.#shown = { index, id, hit };
    this.#pane.setAttribute("aria-busy", "true");
    this.#read(id, FIRST, () => {
      byId("passage").scrollIntoView({ block: "center" });
      this.#pane.querySelector(".text").focus({ preventScroll: true });
    });
  }

  close() {
    this.#latest.stop();
    this.#shown = {};
    this.#pane.hidden = true;
    this.#pane.replaceChildren();
  }

  #read(id, context, then) {
    const { index } = this.#shown;
    this.#latest.run(
      (signal) => ask("/api/document", { id, index, context }, signal),
      (answer) => {
        this.#show(answer.document, context);
        then();
      },
      (error) => this.#fail(error),
    );
  }

  #fail(error) {
    this.#pane.hidden = false;
    this.#pane.removeAttribute("aria-busy");
    const told = error.status === 404 ? "This passage is no longer in the index. Search again to find what took its place." : error.message;
    this.#pane.replaceChildren(
      element("header", {}, element("h2", {}, "Not to be had"), element("div", { class: "steps" }, this.#closing())),
      element("p", { class: "wrong", role: "alert" }, told),
    );
  }

  #closing() {
    return button("Close", () => this.#actions.close(), { "aria-keyshortcuts": "Escape", class: "close" });
  }

  #show(found, context) {
    const { hit } = this.#shown;
    const name = element("h2", {}, found.title || found.path);
    const where = element(
      "p",
      { class: "where" },
      element("span", { class: "path" }, placeOf(found)),
      found.heading ? element("span", { class: "heading" }, found.heading) : null,
      found.stale ? element("span", { class: "stale" }, "changed since it was indexed") : null,
    );
    const passage = element("div", { id: "passage", role: "group", "aria-label": "The hit" }, ...highlighted(found.text, hit));
    this.#pane.hidden = false;
    this.#pane.removeAttribute("aria-busy");
    this.#pane.replaceChildren(
      element("header", {}, name, where, element("div", { class: "steps", role: "group", "aria-label": "Hits" })),
      element(
        "div",
        { class: "text", tabindex: 0, role: "region", "aria-label": "Text" },
        found.previous ? button("Earlier in this document", () => this.#more(found.previous, context, "top")) : null,
        element("div", {}, found.before.trimEnd()),
        passage,
        element("div", {}, found.after.replace(/^\s*\n/, "")),
        found.next ? button("Later in this document", () => this.#more(found.next, context, "bottom")) : null,
      ),
    );
    this.#steps();
  }

  #steps() {
    const steps = this.#pane.querySelector(".steps");
    if (!steps) return;
    const { before, after } = this.#actions.neighbours();
    steps.replaceChildren(
      button("Previous hit", () => this.#actions.step(-1), { disabled: !before, "aria-keyshortcuts": "p" }),
      button("Next hit", () => this.#actions.step(1), { disabled: !after, "aria-keyshortcuts": "n" }),
      button("More like this", () => this.#actions.similar(this.#shown.id), { "aria-keyshortcuts": "s" }),
      this.#closing(),
    );
  }

  /** Read on: first with more around the hit, then at what follows. What is in sight stays where it is. */
  #more(following, context, edge) {
    if (context >= MOST) {
      this.#shown.hit = undefined;
      this.#read(following, MOST, () => byId("passage").scrollIntoView({ block: "start" }));
      return;
    }
    const text = this.#pane.querySelector(".text");
    const before = byId("passage").getBoundingClientRect().top;
    this.#read(this.#shown.id, Math.min(MOST, 3 * context), () => {
      const scrolled = this.#pane.querySelector(".text");
      scrolled.scrollTop += byId("passage").getBoundingClientRect().top - before;
      if (edge === "top" && text.scrollTop === 0) scrolled.scrollTop -= 40; // so that one sees that there is more
    });
  }
}

/** A passage, with what the hit's snippet marks of it. */
function highlighted(text, hit) {
  const at = hit ? text.indexOf(hit.snippet) : -1;
  if (at < 0) return [text];
  return [text.slice(0, at), ...marked(hit.snippet, hit.matches), text.slice(at + hit.snippet.length)];
}
