// Elements, made of text and other elements only: what a document says is never markup.

export const byId = (id) => document.getElementById(id);

/** An element with these attributes and children; a property that starts with "on" listens. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

export const button = (label, onclick, attributes = {}) => element("button", { type: "button", onclick, ...attributes }, label);

/** The text with <mark> around spans of it. They count characters, as Python does, of which JavaScript has some as two. */
export function marked(text, spans) {
  const characters = Array.from(text);
  const pieces = [];
  let done = 0;
  for (const [start, end] of spans) {
    pieces.push(characters.slice(done, start).join(""), element("mark", {}, characters.slice(start, end).join("")));
    done = end;
  }
  pieces.push(characters.slice(done).join(""));
  return pieces.filter((piece) => piece !== "");
}

/** Call it once nobody has asked for it any more for some time. */
export function debounced(work, milliseconds) {
  let timer = 0;
  const later = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
