// The page: what is asked is in its address; all that is shown follows from that.

import { ApiError, ask, hasKey, Latest, setKey } from "./api.js";
import { button, byId, debounced, element, plural } from "./dom.js";
import { showChosen, showFacets } from "./facets.js";
import { hitItem, placeOf } from "./hits.js";
import { MapView } from "./map.js";
import { Reader } from "./reader.js";
import { addressOf, filterOf, NOTHING, stateOf } from "./state.js";

const STEP = 20; // hits at first, and more each time
const MOST = 100; // that the server gives
const TYPING = 150; // milliseconds after which what is typed is searched for

let state = stateOf(location.search);
let shown = { key: "", hits: [], k: STEP };
let indexes = [];
const hitsAsked = new Latest();
const facetsAsked = new Latest();

const map = new MapView({ open, fail });
const reader = new Reader({ close: closeDocument, step, similar, neighbours });

/** Change what is asked; the browser's Back goes to what was there before, unless it is replaced. */
function change(changes, { replace = false } = {}) {
  const before = addressOf(state);
  state = { ...state, ...changes };
  if ("q" in changes) showQuery();
  const address = addressOf(state);
  if (address !== before) history[replace ? "replaceState" : "pushState"](null, "", address);
  show();
}

/** Have the field say what is asked, but for what somebody is typing there just now. */
function showQuery() {
  typing.cancel();
  if (byId("query").value.trim() !== state.q) byId("query").value = state.q;
}

function show() {
  if (byId("filter") !== document.activeElement) byId("filter").value = state.filter;
  for (const radio of document.querySelectorAll("[name=mode]")) radio.checked = radio.value === state.mode;
  byId("index").value = indexOf();
  document.title = state.q ? `${state.q} – semsearch` : "semsearch";
  const onMap = state.view === "map";
  document.body.classList.toggle("on-map", onMap);
  byId("view").setAttribute("aria-pressed", String(onMap));
  document.body.classList.toggle("reading", Boolean(state.open));
  byId("map").hidden = !onMap || needsIndex();
  if (!indexes.length) return;
  if (needsIndex()) return showStart();
  showHits();
  showCounts();
  showDocument();
}

const indexOf = () => state.index || (indexes.length === 1 ? indexes[0].name : "");
const needsIndex = () => !indexes.some(({ name }) => name === indexOf());
const asksNothing = () => !state.q && !state.similar;

function showHits() {
  const filter = filterOf(state);
  const key = JSON.stringify([state.q, state.mode, indexOf(), filter, state.similar]);
  if (key === shown.key) {
    select();
    return showMap();
  }
  shown = { ...shown, k: STEP };
  byId("start").hidden = true;
  if (asksNothing()) {
    hitsAsked.stop();
    shown = { key, hits: [], k: STEP };
    byId("hits").replaceChildren();
    byId("more").hidden = true;
    byId("failure").hidden = true;
    byId("status").textContent = "";
    document.body.classList.remove("searching");
    showChosen(state, "", drop);
    showMap();
    return showStart();
  }
  getHits(key, filter);
}

function getHits(key, filter, then = () => {}) {
  document.body.classList.add("searching");
  const { k } = shown;
  const common = { index: indexOf(), k, filter };
  hitsAsked.run(
    async (signal) => {
      if (!state.similar) return ask("/api/search", { ...common, query: state.q, mode: state.mode }, signal);
      const [answer, own] = await Promise.all([
        ask("/api/similar", { ...common, target: state.similar }, signal),
        ask("/api/document", { index: indexOf(), id: state.similar, context: 0 }, signal),
      ]);
      return { ...answer, like: own.document.title || own.document.path };
    },
    (answer) => {
      const { hits, like = "", took_ms: took, missing_shards: missing } = answer;
      shown = { key, hits, k, like };
      document.body.classList.remove("searching");
      byId("failure").hidden = true;
      byId("filter-error").hidden = true;
      byId("hits").replaceChildren(...hits.map((hit) => hitItem(hit, { address: (id) => addressOf({ ...state, open: String(id) }), open, similar })));
      byId("more").hidden = hits.length < k || k >= MOST;
      byId("status").textContent = told(hits.length, k, took) + without(missing);
      if (!hits.length) noHits();
      showChosen(state, like, drop);
      select();
      showMap();
      then();
    },
    (error) => {
      shown = { key: "", hits: [], k };
      document.body.classList.remove("searching");
      if (error.status === 400 && state.filter) {
        byId("filter-error").textContent = error.message;
        byId("filter-error").hidden = false;
        byId("status").textContent = "";
      } else fail(error);
    },
  );
}

function told(count, k, took) {
  if (!count) return "No hits.";
  const best = count < k ? plural(count, "hit") : `The best ${plural(count, "hit")}`;
  return took === undefined ? best : `${best} in ${took} ms`;
}

function without(missing) {
  return missing ? ` ${plural(missing.length, "shard")} of the index could not be searched.` : "";
}

function noHits() {
  const narrowed = filterOf(state);
  const advice = narrowed
    ? ["Nothing is left of it under what the hits are narrowed to. ", button("Search everything", () => change({ folder: "", type: "", date: "", filter: "" }))]
    : ["No passage has these words. ", button("Search by meaning", () => change({ mode: "hybrid" }))];
  byId("hits").replaceChildren(element("li", { class: "none" }, element("p", {}, ...advice)));
}

function showCounts() {
  const { folder, type, date, filter } = state;
  facetsAsked.run(
    (signal) => ask("/api/facets", { index: indexOf(), folder, type, date, filter }, signal),
    ({ facets }) => {
      byId("filter-error").hidden = true;
      showFacets(facets, state, (kind, value) => change({ [kind]: value, open: "" }));
    },
    (error) => {
      if (error.status !== 400) return fail(error);
      byId("filter-error").textContent = error.message;
      byId("filter-error").hidden = false;
    },
  );
}

function showDocument() {
  if (!state.open) return reader.close();
  const hit = shown.hits.find((one) => String(one.id) === state.open);
  reader.open(indexOf(), state.open, hit);
}

function showMap() {
  if (state.view !== "map") return map.hide();
  map.show(indexOf(), shown.hits, state.open, indexes.find(({ name }) => name === indexOf())?.generation);
}

/** What to do where nothing is asked yet, or nothing can be. */
function showStart() {
  const start = byId("start");
  start.hidden = false;
  if (!indexes.length) {
    start.replaceChildren(
      element("h2", {}, "There is nothing to search yet"),
      element("p", {}, "Index a folder, then come back to this page:"),
      element("pre", {}, "semsearch index FOLDER"),
      button("Look again", begin),
    );
    return;
  }
  if (needsIndex()) {
    hitsAsked.stop();
    facetsAsked.stop();
    reader.close();
    for (const id of ["hits", "facet-groups", "chosen", "status"]) byId(id).replaceChildren();
    shown.key = "";
    start.replaceChildren(
      element("h2", {}, state.index ? `There is no index “${state.index}” here` : "Which index?"),
      element("ul", { class: "indexes" }, ...indexes.map((one) => element("li", {}, button(one.name, () => change({ ...NOTHING, index: one.name, q: state.q })), about(one)))),
    );
    return;
  }
  start.replaceChildren(
    element("h2", {}, "Ask in your own words"),
    about(indexes.find(({ name }) => name === indexOf())),
    element(
      "ul",
      { class: "hints" },
      element("li", {}, "A question or a description finds what means the same, whatever its words."),
      element("li", {}, "Words in ", element("code", {}, '"double quotes"'), " must stand there just so."),
      element("li", {}, "Narrow down by folder, type and date at the side, or see everything on the ", button("map", () => change({ view: "map" })), "."),
      element("li", {}, element("kbd", {}, "↓"), " goes to the hits, ", element("kbd", {}, "Enter"), " opens one, ", element("kbd", {}, "?"), " tells more."),
    ),
  );
}

function about(index) {
  if (index.error) return element("p", { class: "wrong" }, `${index.name}: ${index.error}`);
  const { documents, passages, built } = index;
  const when = new Date(built).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
  return element("p", { class: "index-about" }, `${plural(documents, "document")}, ${plural(passages, "passage")}, indexed ${when}`);
}

function fail(error) {
  if (error.status === 401) return signIn();
  const told = error instanceof ApiError ? error.message : "The page itself failed; load it again.";
  byId("failure").replaceChildren(element("p", {}, told), button("Try again", begin));
  byId("failure").hidden = false;
  byId("status").textContent = "";
}

function signIn() {
  byId("key-wrong").hidden = !hasKey();
  if (!byId("sign-in").open) byId("sign-in").showModal();
  byId("key").focus();
}

function open(id) {
  change({ open: String(id) });
}

function similar(id) {
  change({ similar: String(id), open: "" });
  byId("results").focus();
}

function closeDocument() {
  const { open: was } = state;
  change({ open: "" });
  (linkOf(was) ?? byId("results")).focus();
}

function drop(kind) {
  change({ [kind]: "", ...(kind === "similar" ? { open: "" } : {}) });
  byId("query").focus();
}

const links = () => [...document.querySelectorAll("#hits .title")];
const linkOf = (id) => links().find((link) => link.dataset.id === String(id));

/** Mark the hit that is open. */
function select() {
  for (const item of byId("hits").children) {
    const open = item.dataset.id === state.open;
    item.classList.toggle("open", open);
    item.querySelector(".title")?.toggleAttribute("aria-current", open);
  }
  if (state.view === "list") linkOf(state.open)?.scrollIntoView({ block: "nearest" });
  map.select(state.open);
}

/** The number among the hits of the one that is open, or has the focus; -1 without. */
function current() {
  const focused = document.activeElement?.closest?.("#hits li")?.dataset.id;
  const id = state.open || focused;
  return shown.hits.findIndex((hit) => String(hit.id) === id);
}

function neighbours() {
  const at = current();
  return { before: at > 0, after: at < shown.hits.length - 1 };
}

function step(by) {
  const hit = shown.hits[current() + by];
  if (hit) change({ open: String(hit.id) }, { replace: Boolean(state.open) });
}

function move(by) {
  const all = links();
  const at = all.indexOf(document.activeElement.closest("#hits li")?.querySelector(".title"));
  if (at + by < 0) byId("query").focus();
  else all[Math.min(at + by, all.length - 1)]?.focus();
}

const SINGLE = {
  "/": () => {
    byId("query").focus();
    byId("query").select();
  },
  "?": () => byId("keys").showModal(),
  n: () => step(1),
  p: () => step(-1),
  m: () => change({ view: state.view === "map" ? "list" : "map" }),
  s: () => {
    const id = state.open || shown.hits[current()]?.id;
    if (id) similar(id);
  },
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const { target, key } = event;
  const inDocument = target.closest("#document");
  const types = target.matches("input:not([type=radio]), select, textarea");
  if (key === "Escape") {
    if (state.open) closeDocument();
    else if (target === byId("query") && target.value) return; // it is emptied
    else if (state.similar) drop("similar");
    else byId("query").focus();
  } else if ((key === "ArrowDown" || key === "ArrowUp") && !inDocument && (target === byId("query") || !types) && !target.matches("[type=radio]")) {
    move(key === "ArrowDown" ? 1 : -1);
  } else if (!types && SINGLE[key]) SINGLE[key]();
  else return;
  event.preventDefault();
}

const typing = debounced(() => {
  const q = byId("query").value.trim();
  if (q !== state.q) change({ q, similar: "", open: "" }, { replace: true });
}, TYPING);

function listen() {
  document.addEventListener("keydown", onKey);
  addEventListener("popstate", () => {
    state = stateOf(location.search);
    showQuery();
    show();
  });
  byId("query").addEventListener("input", typing);
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    typing.cancel();
    change({ q: byId("query").value.trim(), similar: "", open: "" });
  });
  byId("filter-form").addEventListener("submit", (event) => {
    event.preventDefault();
    change({ filter: byId("filter").value.trim(), open: "" });
  });
  byId("mode").addEventListener("change", (event) => change({ mode: event.target.value, q: byId("query").value.trim() }));
  byId("index").addEventListener("change", (event) => change({ ...NOTHING, q: state.q, mode: state.mode, view: state.view, index: event.target.value }));
  byId("view").addEventListener("click", SINGLE.m);
  byId("help").addEventListener("click", SINGLE["?"]);
  byId("home").addEventListener("click", (event) => {
    event.preventDefault();
    change({ ...NOTHING, index: state.index });
    byId("query").focus();
  });
  byId("more").addEventListener("click", () => {
    const count = shown.hits.length;
    shown.k = Math.min(MOST, shown.k + STEP);
    getHits(shown.key, filterOf(state), () => links()[count]?.focus());
  });
  byId("theme").addEventListener("click", () => useTheme(isDark() ? "light" : "dark"));
  byId("sign-in").addEventListener("cancel", (event) => event.preventDefault()); // there is nothing behind it
  byId("sign-in-form").addEventListener("submit", () => {
    setKey(byId("key").value);
    byId("key").value = "";
    begin();
  });
}

const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";

function useTheme(theme) {
  if (theme) {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("semsearch-theme", theme);
  }
  byId("theme").textContent = isDark() ? "Light" : "Dark";
  map.draw();
}

async function begin() {
  byId("failure").hidden = true;
  try {
    ({ indexes } = await ask("/api/indexes", {}));
  } catch (error) {
    return fail(error);
  }
  byId("index").replaceChildren(...indexes.map(({ name }) => element("option", { value: name }, name)));
  byId("index-choice").hidden = indexes.length < 2;
  shown.key = "";
  if (indexes.length) show();
  else showStart();
}

if (matchMedia("(max-width: 60rem)").matches) byId("facets").open = false;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => useTheme(""));
listen();
useTheme(localStorage.getItem("semsearch-theme") ?? "");
showQuery();
show();
byId("query").focus();
begin();
