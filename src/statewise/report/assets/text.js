"use strict";
// What all parts of the page use. Text of a model only ever becomes a text node.

/** A new element; attributes by name, children as nodes or text. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** The data of a block of JSON, or null where there is none. */
function embedded(id) {
  const block = document.getElementById(id);
  return block ? JSON.parse(block.textContent) : null;
}

// Marks that show nothing, by name. `study/visible.py` has the same table.
const NAMED = new Map([
  [0x00, "NUL"], [0x0d, "CR"], [0x1b, "ESC"], [0x7f, "DEL"],
  [0x00ad, "SHY"], [0x061c, "ALM"], [0x180e, "MVS"], [0x200b, "ZWSP"], [0x200c, "ZWNJ"], [0x200d, "ZWJ"],
  [0x200e, "LRM"], [0x200f, "RLM"], [0x2028, "LS"], [0x2029, "PS"], [0x202a, "LRE"], [0x202b, "RLE"],
  [0x202c, "PDF"], [0x202d, "LRO"], [0x202e, "RLO"], [0x2060, "WJ"], [0x2066, "LRI"], [0x2067, "RLI"],
  [0x2068, "FSI"], [0x2069, "PDI"], [0xfeff, "BOM"],
]);

/** Text with control characters and marks without a shape by name or number. */
function visible(text) {
  let shown = "";
  for (const character of text) {
    const code = character.codePointAt(0);
    if (NAMED.has(code)) shown += `⟨${NAMED.get(code)}⟩`;
    else if ((code < 0x20 || (code > 0x7f && code < 0xa0)) && code !== 0x09 && code !== 0x0a) shown += `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
    else shown += character;
  }
  return shown;
}

/** Text of one token: a combining mark at its start gets a circle to stand on, not the letter of the token before. */
function tokenText(text) {
  return visible(/^\p{M}/u.test(text) ? `◌${text}` : text);
}

/** Text of one token as nodes: white space gets a faint sign of its own, but for that between bytes (`⟨F0 9F⟩`). */
function spaced(text) {
  const nodes = [];
  for (const part of tokenText(text).split(/(⟨[0-9A-F]{2}(?: [0-9A-F]{2})+⟩|[ \t\n])/)) {
    if (part === "") continue;
    if (part === " " || part === "\t") nodes.push(element("i", { class: "ws" }, part === " " ? "·" : "⇥"));
    else if (part === "\n") nodes.push(element("i", { class: "ws" }, "⏎"));
    else nodes.push(document.createTextNode(part));
  }
  return nodes;
}

/** A number with a true minus sign; a dash where it is not defined. */
function figure(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

/** A name that may break after an underscore. */
function breakable(name) {
  return name.split("_").flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]))
    .map((part, i, all) => (typeof part === "string" && i < all.length - 1 ? `${part}_` : part));
}

/** Hand a text over as a file. */
function download(name, text, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
