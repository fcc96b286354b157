// The list of hits.

import { button, element, marked } from "./dom.js";

const PARTS = {
  cosine: "Meaning: query and passage",
  moved_cosine: "Meaning: query moved towards the first hit",
  document_cosine: "Meaning: query and whole document",
  bm25: "Words: BM25",
  lexical: "Words: what they add to the score",
  rerank: "Reranker",
};

/** Where a hit stands, as one cites it. */
export function placeOf({ path, place, line_start: first, line_end: last }) {
  return `${path}${place ? `, ${place}` : first === last ? `:${first}` : `:${first}-${last}`}`;
}

/** What `actions` has: address(id) to open a hit, open(id), similar(id). */
export function hitItem(hit, actions) {
  const title = element("a", { href: actions.address(hit.id), class: "title", "data-id": hit.id }, hit.title || hit.path);
  title.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return; // a tab of its own
    event.preventDefault();
    actions.open(hit.id);
  });
  return element(
    "li",
    { "data-id": hit.id },
    element("h2", {}, title),
    element(
      "p",
      { class: "where" },
      element("span", { class: "path" }, placeOf(hit)),
      hit.heading ? element("span", { class: "heading" }, hit.heading) : null,
      hit.stale ? element("span", { class: "stale" }, "changed since it was indexed") : null,
    ),
    element("p", { class: "snippet" }, ...marked(hit.snippet, hit.matches)),
    element(
      "div",
      { class: "about" },
      scoreOf(hit),
      button("More like this", () => actions.similar(hit.id), { "aria-label": `More like ${hit.title || hit.path}` }),
    ),
  );
}

function scoreOf({ score, parts, rank }) {
  const rows = Object.entries(parts).map(([name, value]) => [
    element("dt", {}, PARTS[name] ?? name),
    element(
      "dd",
      {},
      value.toFixed(3),
      name === "bm25" ? null : element("meter", { min: 0, max: 1, value, "aria-hidden": "true" }),
    ),
  ]);
  return element(
    "details",
    { class: "score" },
    element("summary", { title: "What it is made of" }, `Score ${score.toFixed(3)}`),
    element("dl", {}, element("dt", {}, "Rank"), element("dd", {}, `${rank}`), ...rows.flat()),
  );
}
