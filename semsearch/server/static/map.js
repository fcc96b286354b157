// The map: every passage a dot, the hits lit.

import { ask, Latest } from "./api.js";
import { byId, debounced, element, plural } from "./dom.js";

const COLOURS = ["#3b7dd8", "#e07b2a", "#2f9e74", "#c94f9b", "#8a6fd1", "#b3921b", "#2aa5b8", "#d14b4b"];
const OTHERS = "#8c929b"; // all folders after these
const MARGIN = 24; // pixels around the dots when all are shown
const REACH = 8; // pixels from which a dot is meant
const CLOSEST = 400;

/** A colour as a pixel of an image has it, mixed with the background by so much. */
function pixel(colour, background, share) {
  const [from, to] = [background, colour].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const [red, green, blue] = from.map((value, at) => Math.round(value + (to[at] - value) * share));
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

export class MapView {
  #latest = new Latest();
  #canvas = byId("dots");
  #actions;
  #dots = null; // as /api/map answers
  #loaded = ""; // of which index that is
  #hits = []; // {id, x, y, rank}
  #selected = null;
  #view = { x: 0, y: 0, scale: 1 }; // of the place (0, 0) the pixel, and pixels per unit
  #fitted = true;
  #frame = 0;
  #pointers = new Map();
  #moved = 0;
  #hovered = null;

  /** What `actions` has: open(id), fail(error). */
  constructor(actions) {
    this.#actions = actions;
    new ResizeObserver(() => this.#resize()).observe(this.#canvas);
    this.#listen();
  }

  /** Show the map of an index, and light these hits. */
  show(index, hits, selected, generation) {
    this.#selected = selected;
    const key = `${index} ${generation}`;
    this.#latest.run(
      async (signal) => {
        if (this.#loaded !== key) {
          byId("map-note").textContent = "The map is being made…";
          const dots = await ask("/api/map", { index }, signal);
          this.#dots = dots;
          this.#loaded = key;
          this.#fit();
        }
        const ids = hits.map((hit) => hit.id);
        const { places } = ids.length ? await ask("/api/map/places", { index, id: ids }, signal) : { places: {} };
        return hits.filter((hit) => places[hit.id]).map(({ id, rank, title }) => ({ id, rank, title, x: places[id][0], y: places[id][1] }));
      },
      (lit) => {
        this.#hits = lit;
        this.#describe();
        this.draw();
      },
      (error) => this.#actions.fail(error),
    );
  }

  hide() {
    this.#latest.stop();
    this.#forget();
  }

  select(id) {
    this.#selected = id;
    this.draw();
  }

  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  #describe() {
    const { ids, passages, folders, folder } = this.#dots;
    const counts = folders.map(() => 0);
    for (const number of folder) counts[number] += 1;
    const sample = passages > ids.length ? `, a sample of ${passages.toLocaleString("en")}` : "";
    byId("map-note").textContent =
      `${plural(ids.length, "passage")}${sample}: near each other where they say like things. ` +
      "Drag to move, turn the wheel to zoom, point at a dot to read it.";
    this.#canvas.setAttribute("aria-label", `Map of ${plural(ids.length, "passage")}, ${plural(this.#hits.length, "hit")} lit`);
    const rows = folders.slice(0, COLOURS.length).map((name, at) => [name || "not in a folder", counts[at], at]);
    const rest = counts.slice(COLOURS.length).reduce((sum, count) => sum + count, 0);
    if (rest) rows.push(["other folders", rest, COLOURS.length]);
    byId("legend").replaceChildren(
      ...rows.map(([name, count, at]) =>
        element("li", {}, element("i", { class: `colour-${at}`, "aria-hidden": "true" }), `${name} `, element("span", { class: "count" }, count.toLocaleString("en"))),
      ),
    );
  }

  #resize() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width || !height) return;
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    if (this.#fitted) this.#fit();
    this.draw();
  }

  #fit() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = Math.max(1, Math.min(width, height) - 2 * MARGIN);
    this.#view = { scale, x: (width - scale) / 2, y: (height - scale) / 2 };
    this.#fitted = true;
    this.draw();
  }

  #zoom(factor, x, y) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const least = Math.min(width, height) / 2;
    const scale = Math.min(Math.max(this.#view.scale * factor, least), CLOSEST * least);
    const by = scale / this.#view.scale;
    this.#view = { scale, x: x - (x - this.#view.x) * by, y: y - (y - this.#view.y) * by };
    this.#fitted = false;
    this.draw();
  }

  #pan(x, y) {
    this.#view.x += x;
    this.#view.y += y;
    this.#fitted = false;
    this.draw();
  }

  // Dots are set pixel by pixel: 20,000 take two milliseconds, as shapes they would take ten times as long.
  #paint() {
    const { width, height } = this.#canvas;
    if (!this.#dots || !width) return;
    const context = this.#canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const background = style.getPropertyValue("--paper").trim();
    const share = this.#hits.length ? 0.45 : 0.9;
    const colours = [...COLOURS, OTHERS].map((colour) => pixel(colour, background, share));
    const ratio = devicePixelRatio || 1;
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer).fill(pixel(background, background, 1));
    const { x: xs, y: ys, folder } = this.#dots;
    const scale = this.#view.scale * ratio;
    const left = this.#view.x * ratio;
    const top = this.#view.y * ratio;
    const zoomed = Math.sqrt(this.#view.scale / Math.min(this.#canvas.clientWidth, this.#canvas.clientHeight));
    const least = Math.min(4, Math.max(1.2, 50 / Math.sqrt(xs.length + 1))); // the fewer the larger
    const radius = Math.max(1, Math.round(ratio * Math.min(5, least * zoomed)));
    const rows = [];
    for (let dy = -radius; dy <= radius; dy += 1) rows.push([dy, Math.floor(Math.sqrt(radius * radius + 0.5 - dy * dy))]);
    for (let at = 0; at < xs.length; at += 1) {
      const x = Math.round(left + xs[at] * scale);
      const y = Math.round(top + ys[at] * scale);
      if (x < radius || y < radius || x >= width - radius || y >= height - radius) continue;
      const colour = colours[Math.min(folder[at], COLOURS.length)];
      for (const [dy, reach] of rows) {
        const start = (y + dy) * width + x - reach;
        pixels.fill(colour, start, start + 2 * reach + 1);
      }
    }
    context.putImageData(image, 0, 0);
    this.#paintHits(context, ratio, style);
  }

  #paintHits(context, ratio, style) {
    const ink = style.getPropertyValue("--ink").trim();
    const accent = style.getPropertyValue("--accent").trim();
    const paper = style.getPropertyValue("--paper").trim();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const hit of [...this.#hits].reverse()) {
      const [x, y] = this.#at(hit.x, hit.y);
      const chosen = String(hit.id) === String(this.#selected);
      const named = hit.rank <= 10;
      context.beginPath();
      context.arc(x, y, named ? 9 : 5, 0, 2 * Math.PI);
      context.fillStyle = accent;
      context.fill();
      context.lineWidth = chosen ? 3 : 1.5;
      context.strokeStyle = chosen ? ink : paper;
      context.stroke();
      if (named) {
        context.font = "600 10px system-ui, sans-serif";
        context.fillStyle = paper;
        context.fillText(String(hit.rank), x, y + 0.5);
      }
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  #at(x, y) {
    return [this.#view.x + x * this.#view.scale, this.#view.y + y * this.#view.scale];
  }

  /** The passage whose dot is nearest to a pixel; hits come before others. */
  #near(x, y) {
    if (!this.#dots) return null;
    const hit = this.#hits.find((one) => Math.hypot(this.#at(one.x, one.y)[0] - x, this.#at(one.x, one.y)[1] - y) < 10);
    if (hit) return { id: hit.id, x: hit.x, y: hit.y };
    const { ids, x: xs, y: ys } = this.#dots;
    const [px, py] = [(x - this.#view.x) / this.#view.scale, (y - this.#view.y) / this.#view.scale];
    let nearest = (REACH / this.#view.scale) ** 2;
    let found = -1;
    for (let at = 0; at < ids.length; at += 1) {
      const distance = (xs[at] - px) ** 2 + (ys[at] - py) ** 2;
      if (distance < nearest) [nearest, found] = [distance, at];
    }
    return found < 0 ? null : { id: ids[found], x: xs[found], y: ys[found] };
  }

  #forget() {
    this.#hovered = null;
    this.#describeHovered.cancel();
    byId("tip").hidden = true;
    this.#canvas.classList.remove("over");
  }

  #tipAsked = new Latest();
  #describeHovered = debounced(() => {
    const meant = this.#hovered;
    if (!meant) return;
    this.#tipAsked.run(
      (signal) => ask("/api/document", { index: this.#dots.index, id: meant.id, context: 0 }, signal),
      ({ document: found }) => {
        if (this.#hovered?.id !== meant.id) return;
        const tip = byId("tip");
        const text = found.text.length > 280 ? `${found.text.slice(0, 280)}…` : found.text;
        tip.replaceChildren(element("b", {}, found.title || found.path), element("small", {}, found.path), element("p", {}, text));
        tip.hidden = false;
        const [x, y] = this.#at(meant.x, meant.y);
        const { clientWidth: width, clientHeight: height } = this.#canvas;
        tip.style.left = `${Math.max(0, Math.min(x + 12, width - tip.offsetWidth - 4))}px`;
        tip.style.top = `${y + 14 + tip.offsetHeight > height ? Math.max(0, y - tip.offsetHeight - 12) : y + 14}px`;
      },
      () => this.#forget(),
    );
  }, 80);

  #hover(x, y) {
    const meant = this.#near(x, y);
    if (meant?.id === this.#hovered?.id) return;
    this.#forget();
    this.#hovered = meant;
    if (!meant) return;
    this.#canvas.classList.add("over");
    this.#describeHovered();
  }

  #listen() {
    const canvas = this.#canvas;
    const placed = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { x, y } = placed(event);
      this.#forget();
      this.#zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), x, y);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      if (!this.#pointers.size) this.#moved = 0;
      this.#pointers.set(event.pointerId, placed(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      const now = placed(event);
      const before = this.#pointers.get(event.pointerId);
      if (!before) return this.#hover(now.x, now.y);
      const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const gap = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
        this.#zoom(gap(now) / gap(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
      } else this.#pan(now.x - before.x, now.y - before.y);
      this.#moved += Math.hypot(now.x - before.x, now.y - before.y);
      if (this.#moved > 4) this.#forget();
      this.#pointers.set(event.pointerId, now);
    });
    canvas.addEventListener("pointerup", (event) => {
      const { x, y } = placed(event);
      const pressed = this.#pointers.delete(event.pointerId);
      const meant = pressed && !this.#pointers.size && this.#moved <= 4 ? this.#near(x, y) : null;
      if (meant) this.#actions.open(meant.id);
    });
    canvas.addEventListener("pointercancel", (event) => this.#pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.#forget());
    canvas.addEventListener("keydown", (event) => {
      const step = 60;
      const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (moves[event.key]) this.#pan(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") this.#zoomMiddle(1.5);
      else if (event.key === "-") this.#zoomMiddle(1 / 1.5);
      else if (event.key === "0") this.#fit();
      else if (event.key === "Enter" && this.#selected) this.#actions.open(this.#selected);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    byId("zoom").addEventListener("click", (event) => {
      const factor = Number(event.target.dataset?.zoom ?? NaN);
      if (factor) this.#zoomMiddle(factor);
      else if (factor === 0) this.#fit();
    });
  }

  #zoomMiddle(factor) {
    this.#zoom(factor, this.#canvas.clientWidth / 2, this.#canvas.clientHeight / 2);
  }
}
