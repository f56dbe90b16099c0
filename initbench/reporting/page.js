// Drawings to explore in place of pictures: curves, the signal through the layers at each step, distributions. After `shared.js`. No network.

const data = JSON.parse(document.getElementById("data").textContent);
const DASHES = {"solid": "", "dashed": "7 3", "dotted": "2 3", "dash-dotted": "8 3 2 3"};
const MARKERS = {
  "o": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0", "s": "M-3 -3h6v6h-6z", "^": "M0 -4l4 7h-8z", "v": "M0 4l4 -7h-8z",
  "D": "M0 -4l4 4l-4 4l-4 -4z", "P": "M-1.3 -4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
};

// ---- drawings

const colours = () => getComputedStyle(document.documentElement);

const HEAD_GAP = 0.6;  // how far the head stands from the layer before it, beyond one layer, as in the pictures
const LETTER = 6.7;  // the width of a letter on the axes, in pixels

/** The names at an axis of layers, where they fit: side by side, or tilted, of many some and the head. */
function layerTicks(names, room, head) {
  const longest = names.reduce((most, [, name]) => Math.max(most, name.length), 0), step = room / Math.max(1, names.length);
  if (longest * LETTER + 8 < step) return {tilted: 0, ticks: names};
  const every = Math.max(1, Math.ceil(20 / step)), last = names.length - 1;
  const ticks = names.filter(([x], index) => x === head || (index % every === 0 && (head === null || names[last][0] !== head || (last - index) * step >= 20)));
  return {tilted: Math.min(13, longest), ticks: ticks.map(([x, name]) => [x, cut(name, 13)])};
}

/**
 * Axes with lines: `series` are {look, points: [[x, y]], thin, dashed, band: [[x, low, high]], name, lost}; y may be "over" or null.
 * `names` are [x, name] of layers, and `head` the x of the one that stands apart, joined to no other.
 */
function chart(place, options) {
  const width = Math.max(280, place.clientWidth), head = options.head ?? null;
  const layers = options.names && layerTicks(options.names, width - 90, head), below = layers ? layers.tilted * LETTER * 0.6 : 0;
  const left = layers && layers.tilted ? 74 : 66, right = 14, top = 12, bottom = 44 + below, height = Math.min(380, Math.max(240, width * 0.5)) + below;
  const drawable = y => typeof y === "number" && (!options.log || y > 0);
  const put = x => x === head ? x + HEAD_GAP : x;
  const xs = options.series.flatMap(line => [...line.points, ...(line.band || [])].map(([x]) => put(x)));
  const whole = options.series.filter(line => !line.lost), counted = whole.length ? whole : options.series;
  const valued = counted.flatMap(line => [...line.points, ...(line.band || []).flatMap(([x, a, b]) => [[x, a], [x, b]])]).filter(([, y]) => drawable(y));
  const inner = valued.filter(([x]) => x !== head).map(([, y]) => y);
  const least = array => array.reduce((a, b) => Math.min(a, b), Infinity), most = array => array.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!xs.length) { place.replaceChildren(make("p", {class: "soft"}, "Nothing to show: no scheme is chosen, or nothing was measured.")); return; }
  const beyond = options.log && inner.length ? [least(inner) / 10, most(inner) * 10] : [-Infinity, Infinity];  // a head far off does not set the axis
  const ys = valued.map(([, y]) => y).filter(y => y >= beyond[0] && y <= beyond[1]);
  let low = ys.length ? least(ys) : 0, high = ys.length ? most(ys) : 1;
  const scale = options.log ? Math.log10 : value => value;
  const starts = counted.map(line => (line.points.find(([, y]) => drawable(y)) || [])[1]).filter(y => y !== undefined);
  if (options.log && starts.length) {  // as in the pictures: what explodes may leave the axes, so that the others can be read
    const middle = median(starts);
    low = Math.max(low, middle / 10 ** data.decades);
    high = Math.min(high, middle * 10 ** data.decades);
    const missing = (options.leastDecades || 0) - Math.log10(high / low);
    if (missing > 0) { low /= 10 ** (missing / 2); high *= 10 ** (missing / 2); }  // mere noise is to look like noise
  }
  if (scale(high) - scale(low) < 1e-9) { low = options.log ? low / 3 : low - 0.5; high = options.log ? high * 3 : high + 0.5; }
  const from = least(xs), to = most(xs) > from ? most(xs) : from + 1;
  const X = x => left + (put(x) - from) / (to - from) * (width - left - right);
  const Y = y => top + (1 - (scale(y) - scale(low)) / (scale(high) - scale(low))) * (height - top - bottom);
  const clamp = y => Math.min(height - bottom, Math.max(top, y)), outside = y => Y(y) < top - 1 || Y(y) > height - bottom + 1;
  const svg = make("svg", {width, height, role: "img", "aria-label": options.label});
  for (const tick of options.log ? powers(low, high) : round(low, high)) {
    svg.append(make("line", {x1: left, x2: width - right, y1: Y(tick), y2: Y(tick), class: "grid"}),
      make("text", {x: left - 6, y: Y(tick) + 4, "text-anchor": "end"}, options.percent ? Number((100 * tick).toPrecision(4)) + " %" : options.log ? power(tick) : text(tick)));
  }
  for (const [x, label] of layers ? layers.ticks : round(from, to, Math.max(2, Math.floor(width / 90)), options.whole).map(x => [x, text(x)])) {
    if (put(x) < from || put(x) > to) continue;
    const at = layers && layers.tilted ? {transform: `translate(${X(x) + 4} ${height - bottom + 14}) rotate(-35)`, "text-anchor": "end"} : {x: X(x), y: height - bottom + 17, "text-anchor": "middle"};
    svg.append(make("line", {x1: X(x), x2: X(x), y1: height - bottom, y2: height - bottom + 4, class: "axis"}), make("text", at, label));
  }
  svg.append(make("text", {x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle"}, options.x));
  svg.append(make("line", {x1: left, x2: left, y1: top, y2: height - bottom, class: "axis"}),
    make("line", {x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, class: "axis"}));
  const spots = [];
  for (const line of options.series) {
    if (line.band && line.band.length) {
      const shown = line.band.filter(([, a, b]) => typeof a === "number" && typeof b === "number" && (!options.log || (a > 0 && b > 0)));
      const alone = ([x, a, b]) => [[X(x) - 5, a, b], [X(x) + 5, a, b]];  // the band of the head, or of one layer
      const body = shown.filter(([x]) => x !== head), bodies = [body.length === 1 ? alone(body[0]) : body.map(([x, a, b]) => [X(x), a, b])];
      for (const own of [...bodies, ...shown.filter(([x]) => x === head).map(alone)]) {
        const path = own.map(([x, a]) => x + " " + clamp(Y(a))).concat(own.map(([x, , b]) => x + " " + clamp(Y(b))).reverse());
        if (path.length) svg.append(make("path", {d: "M" + path.join("L") + "Z", fill: line.look.colour, opacity: 0.16}));
      }
    }
    let path = "", pen = "M";
    line.points.forEach(([x, y], index) => {
      const drawn = drawable(y);
      if (x === head || (index && line.points[index - 1][0] === head)) pen = "M";
      if (drawn && outside(y)) {
        if (pen === "L") path += "L" + X(x).toFixed(1) + " " + clamp(Y(y)).toFixed(1);
        pen = "M";
        if (index % Math.ceil(line.points.length / 20) === 0 && !line.thin)
          svg.append(make("path", {d: MARKERS[Y(y) < top ? "^" : "v"], transform: `translate(${X(x)} ${clamp(Y(y))})`, fill: line.look.colour}));
      } else if (drawn) { path += pen + X(x).toFixed(1) + " " + clamp(Y(y)).toFixed(1); pen = "L"; } else pen = "M";
      if (y === "over") svg.append(make("path", {d: MARKERS["^"], transform: `translate(${X(x)} ${top})`, fill: line.look.colour}));
      if (drawn && !outside(y) && line.marked && (line.points.length <= 40 || index % Math.ceil(line.points.length / 20) === 0))
        svg.append(make("path", {d: MARKERS[line.look.marker], transform: `translate(${X(x)} ${clamp(Y(y))})`, fill: line.look.colour}));
      spots.push([X(x), drawn ? clamp(Y(y)) : y === "over" ? top : height - bottom, line.name, x, y]);
    });
    if (path) svg.append(make("path", {d: path, fill: "none", stroke: line.look.colour, "stroke-width": line.thin ? 0.8 : 2.2,
      opacity: line.thin ? 0.55 : 1, "stroke-dasharray": line.dashed ? "3 3" : DASHES[line.look.dash], "stroke-linejoin": "round"}));
    if (line.lost && line.points.length) {
      const last = line.points.filter(([, y]) => typeof y === "number").at(-1);
      if (last) svg.append(make("path", {d: "M-4 -4L4 4M4 -4L-4 4", transform: `translate(${X(last[0])} ${clamp(Y(last[1]))})`, stroke: line.look.colour, "stroke-width": 2}));
    }
  }
  const reading = make("output", {class: "reading"}, options.hint || "Point at a line to read it.");
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = null, distance = 900;
    for (const spot of spots) { const d = (spot[0] - x) ** 2 + (spot[1] - y) ** 2; if (d < distance) { best = spot; distance = d; } }
    if (best) reading.textContent = `${best[2]}; ${options.at ? options.at(best[3]) : options.x + " " + text(best[3])}: ${text(best[4])}`;
  });
  place.replaceChildren(make("p", {class: "y-label"}, options.y), svg, reading);
}

function power(tick) {
  const exponent = Math.round(Math.log10(tick));
  if (Math.abs(exponent) < 3 || Math.abs(tick / 10 ** exponent - 1) > 1e-9) return text(tick);
  return "10" + [...String(exponent)].map(letter => letter === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(letter)]).join("");
}

function powers(low, high) {
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first < 1) return round(low, high).filter(tick => tick > 0);
  const step = Math.max(1, Math.ceil((last - first) / 7)), found = [];
  for (let power = first; power <= last; power += step) found.push(Number("1e" + power));
  return found;
}

function round(low, high, most = 6, whole = false) {
  const raw = whole ? Math.max(1, (high - low) / most) : (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find(size => size * power >= raw) * power, found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

const median = values => {
  const sorted = values.slice().sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

// ---- the page

// Schemes whose lines cover one another are one line, with one name: {...look, name}, the best first.
const groups = data.groups.map(places => ({...data.schemes[places[0]], scheme: places[0], name: places.map(place => data.schemes[place].name).join(" = ")}));
const shown = new Set(data.shown);
const redraws = [];
const redraw = () => redraws.forEach(each => each());

function control(label, input) { return make("label", {class: "control"}, label + " ", input); }
function select(choices, value, changed) {
  return make("select", {onchange: event => changed(event.target.value)}, ...choices.map(([key, label]) => make("option", {value: key, selected: key === value}, label)));
}
function swatch(look) {
  return make("svg", {width: 34, height: 12, "aria-hidden": "true"},
    make("line", {x1: 0, x2: 34, y1: 6, y2: 6, stroke: look.colour, "stroke-width": 2.2, "stroke-dasharray": DASHES[look.dash]}),
    make("path", {d: MARKERS[look.marker], transform: "translate(17 6)", fill: look.colour}));
}
const groupChoices = groups.map((group, index) => [String(index), cut(group.name)]);

const legend = document.getElementById("legend");
const chipOf = (scheme, index) => make("button", {type: "button", class: "chip", title: scheme.name, "aria-pressed": String(shown.has(index)), onclick: event => {
  if (shown.has(index)) shown.delete(index); else shown.add(index);
  event.currentTarget.setAttribute("aria-pressed", String(shown.has(index)));
  redraw();
}}, swatch(scheme), " " + cut(scheme.name));
const chips = groups.map(chipOf);
const all = wanted => () => {
  chips.forEach((chip, index) => { if (wanted) shown.add(index); else shown.delete(index); chip.setAttribute("aria-pressed", String(wanted)); });
  redraw();
};
legend.append(...chips, make("button", {type: "button", onclick: all(true)}, "all"), make("button", {type: "button", onclick: all(false)}, "none"));

/** Runs `draw` when its place first comes into view, then whenever something changes or the width does. */
function lazily(place, draw) {
  let seen = false, width = 0;
  const again = () => { if (seen) draw(); };
  new IntersectionObserver((entries, observer) => {
    if (entries.some(entry => entry.isIntersecting)) { seen = true; observer.disconnect(); width = place.clientWidth; draw(); }
  }, {rootMargin: "300px"}).observe(place);
  new ResizeObserver(() => { if (seen && place.clientWidth !== width) { width = place.clientWidth; draw(); } }).observe(place);
  redraws.push(again);
}

function smooth(values, weight) {
  let mean = null;
  return values.map(value => { mean = mean === null ? value : weight * mean + (1 - weight) * value; return mean; });
}

function training(id, label, points, worst, percent, crosses) {
  const section = document.getElementById(id);
  if (!section) return;
  const place = make("div", {class: "drawing"}), state = {log: !percent, axis: "step", weight: 0, seeds: true};
  const axes = [["step", "steps"], ...(data.perEpoch ? [["epoch", "epochs"]] : []), ...(data.pace.every(pace => pace) ? [["second", "seconds of training"]] : [])];
  const smoothing = make("input", {type: "range", min: 0, max: 0.95, step: 0.05, value: 0, "aria-label": "smoothing", oninput: () => { state.weight = Number(smoothing.value); redraw(); }});
  section.append(make("div", {class: "tools"},
    control("x axis", select(axes, "step", value => { state.axis = value; redraw(); })),
    control("y axis", select([["log", "logarithmic"], ["linear", "linear"]], state.log ? "log" : "linear", value => { state.log = value === "log"; redraw(); })),
    control("smoothing", smoothing),
    control("each seed", make("input", {type: "checkbox", checked: true, onchange: event => { state.seeds = event.target.checked; redraw(); }}))), place);
  lazily(place, () => {
    const series = [];
    groups.forEach((look, index) => {
      if (!shown.has(index)) return;
      const runs = data.runs.filter(run => run.scheme === look.scheme && (points(run).length || run.status === "diverged"));
      const x = step => state.axis === "epoch" ? step / data.perEpoch : state.axis === "second" ? step * data.pace[look.scheme] : step;
      const curves = runs.map(run => {
        const own = points(run).filter(([, y]) => y !== null), values = smooth(own.map(([, y]) => y), state.weight);
        return own.map(([step], index) => [step, values[index]]);
      });
      if (state.seeds) curves.forEach((curve, index) => series.push({look, thin: runs.length > 1, marked: runs.length === 1 && curve.length < 30, lost: runs[index].status === "diverged",
        name: `${look.name}, seed ${runs[index].seed}`, points: curve.map(([step, y]) => [x(step), y])}));
      if (runs.length > 1) {
        const at = new Map();
        curves.forEach(curve => curve.forEach(([step, y]) => at.set(step, [...(at.get(step) || []), y])));
        const middle = [...at.keys()].sort((a, b) => a - b).map(step => {
          const values = at.get(step);
          while (values.length < runs.length) values.push(worst);  // a run that has diverged is worse than every number
          return [x(step), median(values)];
        });
        const end = middle.findIndex(([, y]) => !Number.isFinite(y));
        series.push({look, marked: middle.length < 30, lost: runs.every(run => run.status === "diverged"), name: `${look.name}, median of ${runs.length} seeds`, points: end < 0 ? middle : middle.slice(0, end)});
      }
    });
    const lost = series.some(line => line.lost) ? ` A cross: ${crosses}.` : "", seeds = series.some(line => line.thin) ? "scheme, seed" : "scheme";
    const smoothed = state.weight ? `, smoothed: exponential moving average with weight ${state.weight}` : "";
    chart(place, {series, log: state.log, percent, whole: state.axis === "step", x: axes.find(([key]) => key === state.axis)[1], y: label + smoothed, label: `${label} by ${state.axis}`,
      hint: `Point at a line to read ${seeds} and value.${lost}`});
  });
}

training("loss", "training loss" + (data.stretch > 1 ? `, mean of every ${data.stretch} steps` : ""),
  run => run.losses.map((loss, index) => [index * data.stretch + (data.stretch + 1) / 2, loss === "over" ? null : loss]), Infinity, false, "the run diverged there");
training("accuracy", data.accuracy, run => run.evaluations.map(([step, accuracy]) => [step, accuracy]), -Infinity, true, "the last evaluation before the run diverged");

/** The layers of a kind ("all", or its place among `data.roles`) on an axis: `lines` are those that are joined, each with its layers. */
function axis(kind) {
  const own = kind === "all" ? data.layers.map((_, layer) => layer) : data.roles[kind][1], places = new Map(own.map((layer, index) => [layer, index + 1]));
  const apart = data.head !== null && places.has(data.head) && own.length > 1;
  return {
    own, x: layer => places.get(layer), names: own.map((layer, index) => [index + 1, data.layers[layer]]), head: apart ? places.get(data.head) : null,
    lines: kind === "all" && data.roles.length ? data.roles : [["", own]], label: (kind === "all" ? "weight layer" : "layer of this kind") + ", from the input on",
    at: x => layerName(own[x - 1]),
  };
}

function layerName(layer) { return `layer ${layer + 1} (${data.layers[layer]})`; }

function kindControl(all, changed) {
  if (!data.roles.length) return null;
  const kinds = data.roles.map(([name], index) => [String(index), cut(name)]);
  return control("layers", select(all ? [["all", "all, a line for each kind"], ...kinds] : kinds, all ? "all" : "0", changed));
}

function depth() {
  const section = document.getElementById("depth");
  if (!section || !data.layers.length) return;
  const usual = data.quantities.find(each => each.name === "activation_variance") || data.quantities[0];
  const state = {quantity: usual.name, kind: "all", step: 0, group: 0};
  const place = make("div", {class: "drawing"}), heat = make("div", {class: "drawing"}), at = make("output", {});
  const slider = make("input", {type: "range", min: 0, max: data.steps.length - 1, step: 1, value: 0, "aria-label": "training step", oninput: () => { state.step = Number(slider.value); redraw(); }});
  section.append(make("div", {class: "tools"},
    control("quantity", select(data.quantities.map(each => [each.name, each.label]), usual.name, value => { state.quantity = value; redraw(); })),
    kindControl(true, value => { state.kind = value; redraw(); }),
    data.steps.length > 1 ? control("training step", slider) : null, at,
    data.steps.length > 1 && data.steps.length < 6 ? make("span", {class: "soft"}, `Measured at ${data.steps.length} steps; at more with --set probe.every_steps=10.`) : null), place);
  if (data.steps.length > 1) section.append(make("div", {class: "tools"}, control("layer by step of", select(groupChoices, "0", value => { state.group = Number(value); redraw(); }))), heat);
  lazily(place, () => {
    const quantity = data.quantities.find(each => each.name === state.quantity), step = data.steps[state.step], layers = axis(state.kind);
    at.textContent = `step ${step}` + (step === 0 ? ": before training" : "");
    const series = [], said = ["Point at a line to read layer and value."];
    groups.forEach((look, index) => {
      if (!shown.has(index)) return;
      const of = table => table && table[quantity.name] && table[quantity.name][look.scheme], values = data.values[quantity.name][look.scheme][state.step];
      const low = of(data.low), high = of(data.high), theory = step === 0 && of(data.theory);
      for (const [kind, own] of layers.lines) {
        const points = own.map(layer => [layers.x(layer), values[layer]]).filter(([, value]) => value !== null), name = look.name + (kind && `, ${kind}`);
        if (points.length) series.push({look, marked: true, name, points, band: low ? own.map(layer => [layers.x(layer), low[state.step][layer], high[state.step][layer]]) : []});
        const expected = theory ? own.filter(layer => theory[layer]) : [];
        if (expected.length) series.push({look, dashed: true, thin: true, name: `${name}, theory`, points: expected.map(layer => [layers.x(layer), theory[layer][0]]),
          band: expected.map(layer => [layers.x(layer), theory[layer][1], theory[layer][2]])});
      }
      if (low) said[1] = "Shade: lowest to highest seed.";
    });
    if (series.some(line => line.dashed)) said.push("Thin dashes with shade: theory.");
    if (layers.head !== null) said.push("The last layer, the head, stands apart.");
    said.push("Triangles: beyond the axes, or overflow.");
    const log = !quantity.share && series.every(line => line.points.every(([, y]) => typeof y !== "number" || y >= 0));
    chart(place, {series, log, leastDecades: 2, percent: quantity.share, x: layers.label, names: layers.names, head: layers.head, y: quantity.label,
      label: `${quantity.label} through the layers`, at: layers.at, hint: said.filter(Boolean).join(" ")});
  });
  if (data.steps.length > 1) lazily(heat, () => heatMap(heat, data.quantities.find(each => each.name === state.quantity), groups[state.group], state.step));
}

function heatMap(place, quantity, look, chosen) {
  const table = data.values[quantity.name][look.scheme], numbers = table.flat().filter(value => typeof value === "number" && (quantity.share || value > 0));
  const scale = quantity.share ? value => value : Math.log10, width = Math.max(280, place.clientWidth);
  const low = numbers.reduce((a, b) => Math.min(a, scale(b)), Infinity), high = numbers.reduce((a, b) => Math.max(a, scale(b)), -Infinity);
  const names = data.layers.map(name => cut(name, 15)), left = Math.max(50, 14 + LETTER * names.reduce((most, name) => Math.max(most, name.length), 0));
  const top = 6, bottom = 44, row = Math.max(3, Math.min(18, 330 / data.layers.length)), height = top + row * data.layers.length + bottom;
  const column = (width - left - 14) / data.steps.length, reading = make("output", {class: "reading"}, "Point at a cell to read it. Grey: overflow or not measured. The frame: the step of the slider.");
  const svg = make("svg", {width, height, role: "img", "aria-label": `${quantity.label} of ${look.name}, layer by step`});
  table.forEach((values, step) => values.forEach((value, layer) => {
    const usable = typeof value === "number" && (quantity.share || value > 0), share = usable && high > low ? (scale(value) - low) / (high - low) : 0.5;
    svg.append(make("rect", {x: left + step * column, y: top + layer * row, width: column + 0.5, height: row + 0.5,
      fill: usable ? `hsl(${250 - 200 * share} ${55 + 20 * share}% ${22 + 60 * share}%)` : "#8886",
      onpointermove: () => { reading.textContent = `${look.name}; step ${data.steps[step]}; ${layerName(layer)}: ${text(value)}`; }}));
  }));
  names.forEach((name, layer) => {
    if (layer % Math.ceil(14 / row) === 0) svg.append(make("text", {x: left - 6, y: top + (layer + 0.5) * row + 4, "text-anchor": "end"}, name));
  });
  data.steps.forEach((step, index) => {
    if (index % Math.ceil(data.steps.length / Math.max(1, Math.floor((width - left) / 70))) === 0)
      svg.append(make("text", {x: left + (index + 0.5) * column, y: height - bottom + 17, "text-anchor": "middle"}, String(step)));
  });
  svg.append(make("text", {x: (left + width) / 2, y: height - 6, "text-anchor": "middle"}, "step"),
    make("rect", {x: left + chosen * column + 1, y: top, width: column - 2, height: row * data.layers.length, fill: "none", class: "axis"}));
  place.replaceChildren(make("p", {class: "y-label"}, `layer; dark: ${numbers.length ? text(quantity.share ? low : 10 ** low) : "nothing"}, bright: ${numbers.length ? text(quantity.share ? high : 10 ** high) : "nothing"}`), svg, reading);
}

function distributions() {
  const section = document.getElementById("distributions");
  if (!section || !data.layers.length) return;
  const state = {of: "activation", kind: data.roles.length ? 0 : "all", group: 0, when: 0}, place = make("div", {class: "drawing"});
  const times = data.steps.length > 1 ? [["0", "before training"], ["1", "at the end"]] : [["0", "before training"]];
  section.append(make("div", {class: "tools"},
    control("of the", select([["activation", "activations"], ["gradient", "gradients"], ["weight", "weights"]], "activation", value => { state.of = value; redraw(); })),
    kindControl(false, value => { state.kind = Number(value); redraw(); }),
    control("scheme", select(groupChoices, "0", value => { state.group = Number(value); redraw(); })),
    control("when", select(times, "0", value => { state.when = Number(value); redraw(); }))), place);
  lazily(place, () => {
    const look = groups[state.group], found = data.distributions[state.of][look.scheme][state.when] || [], series = [], layers = axis(state.kind);
    const taken = found.length ? layers.own.map(layer => [layers.x(layer), found[layer]]) : [];
    for (const [low, high, words] of [[0, 4, "5 % to 95 %"], [1, 3, "25 % to 75 %"]])
      series.push({look, name: words, points: [], band: taken.map(([x, each]) => [x, each[low], each[high]])});
    series.push({look, marked: true, name: `${look.name}, median`, points: taken.map(([x, each]) => [x, each[2]]).filter(([, y]) => y !== null)});
    chart(place, {series, log: false, x: layers.label, names: layers.names, head: layers.head, y: `${state.of}s of ${cut(look.name)}`, label: `distribution of the ${state.of}s`, at: layers.at,
      hint: "Shades: where 90 % and 50 % of the numbers lie. Line: their median."});
  });
}

function cellOf(words) {
  const short = words.includes(" ") ? words : cut(words, 40);
  return short === words ? make("td", {}, words) : make("td", {title: words}, make("span", {class: "cut"}, short));
}

function parameters() {
  const section = document.getElementById("parameters");
  if (!section) return;
  const place = make("div", {}), rows = data.init.rows;
  const draw = scheme => {
    const table = make("table", {"data-name": "parameters"}, make("thead", {}, make("tr", {}, ...data.init.columns.map(name => make("th", {scope: "col"}, name)))), make("tbody", {}, ...rows[scheme].map(([place, ...row]) =>
      make("tr", {}, ...[...data.init.parameters[place], ...row].map(value => cellOf(value === null ? "" : typeof value === "number" ? text(value) : value))))));
    place.replaceChildren(make("div", {class: "wide", tabindex: 0, role: "region", "aria-label": "parameters"}, table));
    explore(table, 0);
  };
  section.append(make("div", {class: "tools"}, control("scheme", select(data.schemes.map((scheme, index) => [String(index), cut(scheme.name)]), "0", value => draw(Number(value))))), place);
  section.closest("details").addEventListener("toggle", () => { if (!place.firstChild) draw(0); });
}

depth();
distributions();
parameters();
