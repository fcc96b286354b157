// What the hits can be narrowed to: folders, types and dates, with how many documents each has.

import { button, byId, element, plural } from "./dom.js";

const SHOWN = 10;
const MONTHS = "January February March April May June July August September October November December".split(" ");

function dateName(value) {
  const [year, month, day] = value.split("-");
  return month ? [day && Number(day), MONTHS[month - 1], !day && year].filter(Boolean).join(" ") : year;
}

const GROUPS = {
  folder: { title: "Folder", many: "folders", name: (value, chosen) => value.slice(chosen.length) },
  type: { title: "Type", many: "types", name: (value) => value },
  date: { title: "Date", many: "dates", name: (value) => dateName(value) },
};

/** Everything over a folder or date that is chosen, the widest first: "a/b/" has "a/", "2026-03" has "2026". */
function above(kind, chosen) {
  if (kind === "type") return [];
  const mark = kind === "folder" ? "/" : "-";
  const pieces = chosen.split(mark).filter(Boolean);
  const end = kind === "folder" ? mark : "";
  return pieces.slice(0, -1).map((_, at) => pieces.slice(0, at + 1).join(mark) + end);
}

/** Show the counts of an answer; `choose(kind, value)` narrows. */
export function showFacets(facets, state, choose) {
  const counts = { folder: facets.folders, type: facets.types, date: facets.dates };
  const open = new Set([...document.querySelectorAll("#facet-groups .all")].map((one) => one.dataset.kind));
  byId("facet-groups").replaceChildren(
    ...Object.keys(GROUPS)
      .filter((kind) => counts[kind].length || state[kind])
      .map((kind) => group(kind, counts[kind], state, choose, open.has(kind))),
  );
}

function group(kind, facets, state, choose, whole) {
  const { title, many, name } = GROUPS[kind];
  const chosen = state[kind];
  const list = element("ul", whole ? { class: "all", "data-kind": kind } : {});
  if (chosen) {
    const wider = above(kind, chosen);
    const label = (value) => (kind === "folder" ? value.split("/").at(-2) : name(value, ""));
    const back = (text, value) => element("li", { class: "wider" }, button(text, () => choose(kind, value)));
    list.append(back(`All ${many}`, ""), ...wider.map((value) => back(label(value), value)));
    const own = button(label(chosen), () => choose(kind, wider.at(-1) ?? ""), { "aria-pressed": "true" });
    list.append(element("li", { class: "own" }, own));
  }
  const below = facets.filter(({ value }) => value !== chosen && !(kind === "type" && chosen));
  for (const { value, documents } of whole ? below : below.slice(0, SHOWN)) {
    const count = element("span", { class: "count" }, documents.toLocaleString("en"));
    const label = button("", () => choose(kind, value), { "aria-pressed": "false", title: plural(documents, "document") });
    label.append(element("span", { class: "name" }, name(value, chosen)), count);
    list.append(element("li", {}, label));
  }
  if (!whole && below.length > SHOWN) {
    const all = button(`${below.length - SHOWN} more`, () => {
      const made = group(kind, facets, state, choose, true);
      section.replaceWith(made);
      made.querySelectorAll("li button")[SHOWN]?.focus();
    });
    list.append(element("li", { class: "wider" }, all));
  }
  const section = element("section", { "data-kind": kind }, element("h2", {}, title), list);
  return section;
}

/** What is chosen, each with a button that drops it. */
export function showChosen(state, similarTo, drop) {
  const chosen = [];
  if (state.similar) chosen.push(["similar", `Like ${similarTo || "this passage"}`]);
  for (const kind of Object.keys(GROUPS)) {
    if (state[kind]) chosen.push([kind, kind === "date" ? dateName(state.date) : state[kind]]);
  }
  if (state.filter) chosen.push(["filter", state.filter]);
  byId("chosen").replaceChildren(
    ...chosen.map(([kind, text]) =>
      button(text, () => drop(kind), { "aria-label": `Drop ${kind === "similar" ? text : `${kind} ${text}`}`, class: "chip" }),
    ),
  );
}
