// What every page does where scripts run: tables to sort, filter and save. The template puts this and `page.js` into one function. No network.

function make(tag, attributes, ...children) {
  const svg = ["svg", "path", "line", "text", "rect", "g", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}

function text(value) {
  if (value === null || value === undefined) return "not measured";
  if (value === "over") return "overflow";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e12) return value.toLocaleString("en");
  return size && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** A name in so many letters, cut in its middle: of a layer's the end says most. */
function cut(name, most = 34) {
  if (name.length <= most) return name;
  const front = Math.floor((most - 1) / 3);
  return name.slice(0, front) + "…" + name.slice(name.length - (most - 1 - front));
}

/** The end of a name, which tells layers apart. */
function ending(name, most) { return name.length > most ? "…" + name.slice(1 - most) : name; }

function save(name, content, type) {
  const link = make("a", {href: URL.createObjectURL(new Blob([content], {type})), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// ---- tables: sorted by a click on a heading, filtered by words, with the columns that are wanted, saved as CSV

function number(cell) {
  const found = cell.replace("−", "-").match(/^\s*[-+]?[\d.]+(e[-+]?\d+)?/i);
  return found ? parseFloat(found[0]) : null;
}

const whole = cell => cell.title || cell.textContent.trim();  // a long name is cut in its middle

function field(cell) {
  const safe = /^[=+\-@\t\r]/.test(cell) && number(cell) === null ? "'" + cell : cell;
  return /[",\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
}

function explore(table, place) {
  const head = table.tHead.rows[0], body = table.tBodies[0];
  const rows = [...body.rows], name = table.dataset.name || "table-" + (place + 1);
  let sorted = null, up = true;
  [...head.cells].forEach((cell, column) => {
    const label = cell.textContent;
    const button = make("button", {type: "button", class: "sort", onclick: () => {
      up = sorted === column ? !up : true;
      sorted = column;
      const key = row => number(whole(row.cells[column]));
      const numbers = rows.filter(row => key(row) !== null).length * 2 > rows.length;
      rows.sort((a, b) => {
        const order = numbers ? key(a) - key(b) : whole(a.cells[column]).localeCompare(whole(b.cells[column]));
        if (numbers && (key(a) === null || key(b) === null)) return (key(a) === null) - (key(b) === null);  // what has no number is last
        return up ? order : -order;
      });
      body.append(...rows);
      [...head.cells].forEach(other => other.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", up ? "ascending" : "descending");
    }}, label || "number");
    cell.textContent = "";
    cell.append(button);
  });
  const tools = make("div", {class: "tools"});
  if (rows.length > 5) {
    const input = make("input", {type: "search", placeholder: "filter rows", "aria-label": "filter rows of " + name, oninput: () => {
      const words = input.value.toLowerCase().split(/\s+/);
      rows.forEach(row => { row.hidden = !words.every(word => [...row.cells].some(cell => whole(cell).toLowerCase().includes(word))); });
    }});
    tools.append(input);
  }
  if (head.cells.length > 4) {
    const boxes = [...head.cells].map((cell, column) => make("label", {}, make("input", {type: "checkbox", checked: true, onchange: event => {
      for (const row of [head, ...rows]) row.cells[column].hidden = !event.target.checked;
    }}), " " + cell.textContent));
    tools.append(make("details", {class: "columns"}, make("summary", {}, "columns"), ...boxes));
  }
  tools.append(make("button", {type: "button", onclick: () => {
    const shown = row => [...row.cells].filter(cell => !cell.hidden).map(cell => field(whole(cell))).join(",");
    save(name + ".csv", [head, ...rows.filter(row => !row.hidden)].map(shown).join("\n") + "\n", "text/csv");
  }}, "save as CSV"));
  (table.closest(".wide") || table).after(tools);
}

// ---- sections that are folded: open where a link leads into them, and on paper

function reveal(hash) {
  const target = hash.length > 1 && document.getElementById(decodeURIComponent(hash.slice(1)));
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  return target;
}
document.querySelectorAll("nav a").forEach(link => link.addEventListener("click", () => reveal(link.hash)));
window.addEventListener("hashchange", () => reveal(location.hash));
if (location.hash) window.addEventListener("load", () => { const target = reveal(location.hash); if (target) target.scrollIntoView(); });
let unfolded = [];
window.addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("main details:not([open])")].filter(each => !each.closest(".explore, .tools"));
  unfolded.forEach(each => { each.open = true; });
});
window.addEventListener("afterprint", () => unfolded.forEach(each => { each.open = false; }));

document.documentElement.classList.add("scripted");
document.querySelectorAll("main table").forEach(explore);
for (const button of document.querySelectorAll("button[data-save]"))
  button.addEventListener("click", () => save(button.dataset.save, document.getElementById(button.dataset.from).textContent, "text/plain"));
