// What the page shows, as its address has it.

export const NOTHING = {
  q: "", // the query
  mode: "hybrid",
  index: "", // empty where only one is served
  folder: "", // "docs/"
  type: "", // "md"
  date: "", // "2026", "2026-03" or "2026-03-31"
  filter: "", // a condition in the filter language
  similar: "", // the passage that the hits are like
  view: "list", // or "map"
  open: "", // the passage that is read
};

export function stateOf(address) {
  const parameters = new URLSearchParams(address);
  return Object.fromEntries(Object.entries(NOTHING).map(([name, usual]) => [name, parameters.get(name) ?? usual]));
}

export function addressOf(state) {
  const given = Object.entries(state).filter(([name, value]) => value !== NOTHING[name]);
  return given.length ? `?${new URLSearchParams(given)}` : location.pathname;
}

const quoted = (text) => `"${text.replace(/[\\"]/g, "\\$&")}"`;

/** All that the hits are narrowed to, as one filter; empty without any. */
export function filterOf({ folder, type, date, filter }) {
  // What is special in a glob stands for itself in brackets.
  const glob = folder.replace(/[*?[\\]/g, (character) => (character === "\\" ? "\\\\" : `[${character}]`));
  return [
    folder && `path:${quoted(glob)}`,
    type && `type:${quoted(type)}`,
    date && `modified:${date}`,
    filter && `(${filter})`,
  ]
    .filter(Boolean)
    .join(" and ");
}
