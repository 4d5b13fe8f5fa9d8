/* Making elements, and unpacking what the page brings along. Foreign text only ever becomes a text node. */

const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg"; // a name, not an address

/** Set attributes and append children; strings become text. */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** The text of one of the packed elements: gzipped, in base64. */
async function unpack(id) {
  const packed = atob(byId(id).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = packed.charCodeAt(k);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/** The lines of a hover text, which is escaped for plotly, as plain text. */
function plainLines(hovertext) {
  const plain = (line) => new DOMParser().parseFromString(line, "text/html").body.textContent;
  return hovertext.split("<br>").map(plain);
}

function tell(readout, lines) {
  readout.replaceChildren(...lines.map((line) => make("div", {}, line)));
}

/** As shlex.quote does it. */
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\"'\"'") + "'";
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no permission, or an old browser
    const area = make("textarea", { style: "position:fixed;opacity:0" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
  return true;
}
