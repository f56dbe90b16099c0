// Drawings to explore in place of pictures: curves, the signal through the layers at each step, distributions. After `chart.js`. No network.

const data = JSON.parse(document.getElementById("data").textContent);
// Schemes whose lines cover one another are one line, with one name: {...look, name}, the best first.
const groups = data.groups.map(places => ({...data.schemes[places[0]], scheme: places[0], name: places.map(place => data.schemes[place].name).join(" = ")}));
const shown = new Set(data.shown);
const drawn = () => [...groups.entries()].filter(([index]) => shown.has(index)).map(([, look]) => look).reverse();  // the best is on top
const MOST_LISTED = 6;  // schemes that a sentence names
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
const empty = data.empty.map(place => data.schemes[place].name);
legend.append(...chips, make("button", {type: "button", onclick: all(true)}, "all"), make("button", {type: "button", onclick: all(false)}, "none"),
  empty.length ? make("span", {class: "soft", title: empty.join(", ")}, `Nothing to draw of ${listed(empty.map(name => cut(name)), ", ")}.`) : "");

/** Some of many words, and how many more there are. */
function listed(words, between) { return words.slice(0, MOST_LISTED).join(between) + (words.length > MOST_LISTED ? ` and ${words.length - MOST_LISTED} more` : ""); }

/** Over how many of its runs the medians of a scheme are at a step, where not over all: "1 of 9 runs". */
function part(scheme, step) {
  const left = Object.values(data.absent[scheme][step]).reduce((sum, count) => sum + count, 0);
  return left ? `${data.of[scheme] - left} of ${data.of[scheme]} runs` : "";
}

/** The same with the name, and what became of the others: "normal: 1 of 9 runs (8 diverged)". */
function partly(look, step) {
  const became = Object.entries(data.absent[look.scheme][step]).map(([what, count]) => `${count} ${what}`);
  return part(look.scheme, step) && `${cut(look.name)}: ${part(look.scheme, step)} (${became.join(", ")})`;
}

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

function training(id, label, points, worst, percent, crosses, limits = {}) {
  const section = document.getElementById(id);
  if (!section) return;
  const below = data.runs.some(run => points(run).some(([, y]) => y !== null && y < 0));  // a loss of somebody's own
  const place = make("div", {class: "drawing"}), state = {log: !percent && !below, axis: "step", weight: 0, seeds: true};
  const axes = [["step", "steps"], ...(data.perEpoch ? [["epoch", "epochs"]] : []), ...(groups.every(look => data.pace[look.scheme]) ? [["second", "seconds of training"]] : [])];
  const smoothing = make("input", {type: "range", min: 0, max: 0.95, step: 0.05, value: 0, "aria-label": "smoothing", oninput: () => { state.weight = Number(smoothing.value); redraw(); }});
  section.append(make("div", {class: "tools"},
    control("x axis", select(axes, "step", value => { state.axis = value; redraw(); })),
    control("y axis", select([["log", "logarithmic"], ["linear", "linear"]], state.log ? "log" : "linear", value => { state.log = value === "log"; redraw(); })),
    control("smoothing", smoothing),
    control("each seed", make("input", {type: "checkbox", checked: true, onchange: event => { state.seeds = event.target.checked; redraw(); }}))), place);
  lazily(place, () => {
    const series = [], silent = [];
    drawn().forEach(look => {
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
      if (!curves.some(curve => curve.length)) silent.unshift(cut(look.name));
    });
    const seeds = series.some(line => line.thin) ? "scheme, seed" : "scheme";
    const smoothed = state.weight ? `, smoothed: exponential moving average with weight ${state.weight}` : "";
    chart(place, {series, log: state.log, decades: data.decades, limit: below ? undefined : limits[state.log ? "log" : "linear"], percent, whole: state.axis === "step",
      x: axes.find(([key]) => key === state.axis)[1], y: label + smoothed, label: `${label} by ${state.axis}`,
      hint: `Point at a line to read ${seeds} and value.`, crosses, notes: [silent.length && `Nothing to draw of ${listed(silent, ", ")}.`]});
  });
}

/** As the limits of axes: so many times the lowest of the starts; on logarithmic axes as many as in the pictures. */
function aboveStarts(times) { return (values, starts) => [-Infinity, times * least(starts)]; }

training("loss", "training loss" + (data.stretch > 1 ? `, mean of every ${data.stretch} steps` : ""),
  run => run.losses.map((loss, index) => [index * data.stretch + (data.stretch + 1) / 2, loss === "over" ? null : loss]),
  Infinity, false, "the run diverged there", {log: aboveStarts(data.wild), linear: aboveStarts(5)});
const last = "the last evaluation before the run diverged";
if (data.accuracy) training("accuracy", data.accuracy, run => run.evaluations.map(([step, accuracy]) => [step, accuracy]), -Infinity, true, last);
else training("accuracy", data.loss, run => run.evaluations.map(([step, , loss]) => [step, loss]), Infinity, false, last, {log: aboveStarts(data.wild), linear: aboveStarts(5)});

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
  const told = each => Object.values((data.theory || {})[each.name] || {}).some(layers => layers && 2 * layers.filter(Boolean).length > layers.length);
  const streams = data.quantities.some(each => data.quantities.some(other => other.name === each.stream));
  const usual = (!streams && data.quantities.find(told)) || data.quantities.find(each => each.name === "activation_variance") || data.quantities[0];
  const state = {quantity: usual.name, kind: "all", step: 0, group: 0};
  const place = make("div", {class: "drawing"}), heat = make("div", {class: "drawing"}), at = make("output", {});
  const slider = make("input", {type: "range", min: 0, max: data.steps.length - 1, step: 1, value: 0, "aria-label": "training step", oninput: () => { state.step = Number(slider.value); redraw(); }});
  section.append(make("div", {class: "tools"},
    control("quantity", select(data.quantities.map(each => [each.name, each.label]), usual.name, value => { state.quantity = value; redraw(); })),
    kindControl(true, value => { state.kind = value; redraw(); }),
    data.steps.length > 1 ? control("training step", slider) : null, at,
    data.runs.length && data.steps.length > 1 && data.steps.length < 6 ? make("span", {class: "soft"}, `Measured at ${data.steps.length} steps; at more with --set probe.every_steps=10.`) : null), place);
  if (data.steps.length > 1) section.append(make("div", {class: "tools"}, control("layer by step of", select(groupChoices, "0", value => { state.group = Number(value); redraw(); }))), heat);
  lazily(place, () => {
    const quantity = data.quantities.find(each => each.name === state.quantity), step = data.steps[state.step], layers = axis(state.kind);
    at.textContent = `step ${step}` + (step === 0 ? ": before training" : "");
    const series = [], said = new Set(), lacks = [];
    drawn().forEach(look => {
      const of = table => table && table[quantity.name] && table[quantity.name][look.scheme], values = data.values[quantity.name][look.scheme][state.step];
      const low = of(data.low), high = of(data.high), theory = step === 0 && of(data.theory), runs = part(look.scheme, state.step);
      if (runs || layers.own.every(layer => values[layer] === null)) lacks.unshift(partly(look, state.step) || `${cut(look.name)}: not measured`);
      for (const [kind, own] of layers.lines) {
        const points = own.map(layer => [layers.x(layer), values[layer]]).filter(([, value]) => value !== null), name = look.name + (kind && `, ${kind}`);
        const expected = theory ? own.filter(layer => theory[layer]) : [];
        if (expected.length) series.push({look, dashed: true, thin: true, name: `${name}, theory`, points: expected.map(layer => [layers.x(layer), theory[layer][0]]),
          band: expected.map(layer => [layers.x(layer), theory[layer][1], theory[layer][2]])});
        if (points.length) series.push({look, marked: true, name: name + (runs && ` (${runs})`), points,
          band: low ? own.map(layer => [layers.x(layer), low[state.step][layer], high[state.step][layer]]) : []});
      }
      if (low) said.add("Shade: lowest to highest seed.");
    });
    if (layers.lines.length > 1) said.add(`A line for each kind of layer: ${listed(layers.lines.map(([kind]) => cut(kind)), ", ")}.`);
    const stream = data.quantities.find(each => each.name === quantity.stream);
    if (stream) said.add(`The stream behind the blocks: ${stream.label}.`);
    if (series.some(line => line.dashed)) said.add("Thin dashes with shade: theory.");
    const without = layers.own.filter(layer => drawn().every(look => data.values[quantity.name][look.scheme][state.step][layer] === null)).length;
    if (series.length && without) said.add(`Not measured at ${without} of ${layers.own.length} layers.`);
    if (layers.head !== null) said.add("The last layer, the head, stands apart.");
    const limit = quantity.scale === "linear" && (values => [-1, 1].map(sign => sign * FAR * middleSize(values)));
    chart(place, {series, log: quantity.scale === "log", decades: data.decades, limit, percent: quantity.scale === "share",
      x: layers.label, names: layers.names, head: layers.head, y: quantity.label, label: `${quantity.label} through the layers`, at: layers.at, hint: "Point at a line to read layer and value.", notes: [lacks.length && listed(lacks, "; ") + ".", ...said]});
  });
  if (data.steps.length > 1) lazily(heat, () => heatMap(heat, data.quantities.find(each => each.name === state.quantity), groups[state.group], state.step));
}

function heatMap(place, quantity, look, chosen) {
  const table = data.values[quantity.name][look.scheme], scale = quantity.scale, parts = data.steps.map((_, step) => part(look.scheme, step));
  const said = value => scale === "share" ? Number((100 * value).toPrecision(4)) + " %" : text(value);
  const colours = colouring(table.flat().filter(value => typeof value === "number"), scale, said), kinds = new Set(table.flat().map(colours.kind));
  const names = data.layers.map(name => ending(name, 15)), left = Math.max(50, 14 + LETTER * names.reduce((most, name) => Math.max(most, name.length), 0));
  const width = Math.max(280, place.clientWidth), top = 6, bottom = parts.some(Boolean) ? 60 : 44;
  const row = Math.max(3, Math.min(18, 330 / data.layers.length)), height = top + row * data.layers.length + bottom, column = (width - left - 14) / data.steps.length;
  const reading = make("output", {class: "reading"}, "Point at a cell to read it.");
  const notes = "Frame: the step of the slider." + (parts.some(Boolean) ? " Below a step: over how many runs the medians are, where not over all." : "");
  const svg = make("svg", {width, height, role: "img", "aria-label": `${quantity.label} of ${look.name}, layer by step`});
  table.forEach((values, step) => values.forEach((value, layer) => {
    const kind = colours.kind(value), x = left + step * column, y = top + layer * row;
    const own = make("g", {onpointermove: () => { reading.textContent = `${look.name}${parts[step] && ` (${parts[step]})`}; step ${data.steps[step]}; ${layerName(layer)}: ${text(value)}`; }});
    own.append(...(kind === "number" ? [make("rect", {x, y, width: column + 0.5, height: row + 0.5, fill: colours.colour(value)})] : cell(kind, x, y, column, row)));
    svg.append(own);
  }));
  names.forEach((name, layer) => {
    if (layer % Math.ceil(14 / row) === 0) svg.append(make("text", {x: left - 6, y: top + (layer + 0.5) * row + 4, "text-anchor": "end"}, name));
  });
  data.steps.forEach((step, index) => {
    if (index % Math.ceil(data.steps.length / Math.max(1, Math.floor((width - left) / 70))) === 0)
      svg.append(...[String(step), parts[index].replace(" runs", "")].map((words, line) =>
        make("text", {x: left + (index + 0.5) * column, y: height - bottom + 17 + 15 * line, "text-anchor": "middle"}, words)));
  });
  svg.append(make("text", {x: (left + width) / 2, y: height - 6, "text-anchor": "middle"}, "step"),
    make("rect", {x: left + chosen * column + 1, y: top, width: column - 2, height: row * data.layers.length, fill: "none", class: "axis", "pointer-events": "none"}));
  place.replaceChildren(make("p", {class: "y-label key"}, quantity.label + (scale === "log" ? ", logarithmic" : "") + ", layer by step: ", ...keyOf(colours, scale, kinds)), svg, reading, make("div", {class: "notes"}, notes));
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
    const look = groups[state.group], step = state.when ? data.steps.length - 1 : 0, found = data.distributions[state.of][look.scheme][state.when] || [], series = [], layers = axis(state.kind);
    const taken = found.length ? layers.own.map(layer => [layers.x(layer), found[layer]]) : [];
    for (const [low, high, words] of [[0, 4, "5 % to 95 %"], [1, 3, "25 % to 75 %"]])
      series.push({look, name: words, points: [], band: taken.map(([x, each]) => [x, each[low], each[high]])});
    series.push({look, marked: true, name: `${look.name}, median`, points: taken.map(([x, each]) => [x, each[2]]).filter(([, y]) => y !== null)});
    chart(place, {series, log: false, x: layers.label, names: layers.names, head: layers.head, y: `${state.of}s of ${cut(look.name)}`, label: `distribution of the ${state.of}s`, at: layers.at,
      hint: "Point at the line to read layer and value.", notes: [partly(look, step), "Shades: where 90 % and 50 % of the numbers lie. Line: their median."]});
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
