// Axes with lines, and maps of colours: what `page.js` draws with. After `shared.js`. No network.

const DASHES = {"solid": "", "dashed": "7 3", "dotted": "2 3", "dash-dotted": "8 3 2 3"};
const MARKERS = {
  "o": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0", "s": "M-3 -3h6v6h-6z", "^": "M0 -4l4 7h-8z", "v": "M0 4l4 -7h-8z",
  "D": "M0 -4l4 4l-4 4l-4 -4z", "P": "M-1.3 -4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
};
const EDGES = {  // what no place on the axes has: its mark, whether that is filled, in words
  above: ["^", true, "Filled triangles: beyond the axes."],
  below: ["v", true, "Filled triangles: beyond the axes."],
  over: ["^", false, "Open triangles: overflow."],
  zero: ["o", false, "Open circles: zero."],
};
const HEAD_GAP = 0.6;  // how far the head stands from the layer before it, beyond one layer, as in the pictures
const LETTER = 6.7;  // the width of a letter on the axes, in pixels
const MOST_MARKS = 40, MOST_EDGES = 20;  // of a line
const MOST_ASIDE = 7;  // marks beside one another at an edge
const LEAST_DECADES = 2, LEAST_SHARE = 0.1;  // of scales over layers: mere noise is to look like noise
const FAR = 20;  // so many times the usual size is what would hide the rest

const colours = () => getComputedStyle(document.documentElement);
const least = array => array.reduce((a, b) => Math.min(a, b), Infinity), most = array => array.reduce((a, b) => Math.max(a, b), -Infinity);
const some = (array, number) => array.filter((_, index) => index % Math.ceil(array.length / number) === 0);
const median = values => {
  const sorted = values.slice().sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

// ---- scales

/**
 * The lowest and highest y of the axes: of all values, but for what would hide the rest. Beyond the axes may be lines that are lost, where not
 * all are; a head that is far from the other layers; what `options.limit` gives as lowest and highest, of the values and where lines start; and on a
 * logarithmic axis what is `options.decades` powers of ten from the middle of the starts.
 */
function range(series, options) {
  const drawable = y => typeof y === "number" && (!options.log || y > 0);
  const whole = series.filter(line => !line.lost), counted = whole.length ? whole : series;
  const valued = counted.flatMap(line => [...line.points, ...(line.band || []).flatMap(([x, a, b]) => [[x, a], [x, b]])]).filter(([, y]) => drawable(y));
  const inner = valued.filter(([x]) => x !== options.head), ys = inner.map(([, y]) => y), between = new Set(inner.map(([x]) => x)).size > 1;
  const near = options.log ? [least(ys) / 10, most(ys) * 10] : [2 * least(ys) - most(ys), 2 * most(ys) - least(ys)];
  const taken = valued.map(([, y]) => y).filter(y => !between || options.percent || (y >= near[0] && y <= near[1]));
  if (!taken.length) return options.log ? [0.1, 10] : [0, 1];
  const starts = counted.map(line => (line.points.find(([, y]) => drawable(y)) || [])[1]).filter(y => y !== undefined);
  const limit = options.limit && starts.length ? options.limit(taken, starts) : [-Infinity, Infinity];
  let low = Math.max(least(taken), limit[0]), high = Math.min(most(taken), limit[1]);
  if (options.log) {
    const within = starts.filter(y => y <= high), middle = within.length ? median(within) : high;
    const exponents = [Math.max(low, middle / 10 ** options.decades), Math.min(high, middle * 10 ** options.decades)].map(Math.log10), size = exponents[1] - exponents[0];
    const room = Math.max(0.04 * size, ((options.names ? LEAST_DECADES : 0.05) - size) / 2);
    return [10 ** (exponents[0] - room), 10 ** (exponents[1] + room)];
  }
  if (options.percent && options.names) [low, high] = [0, Math.max(high, LEAST_SHARE)];
  const room = 0.04 * (high - low) || (options.percent ? 0.05 : 0.5);
  return options.percent ? [Math.max(low - room, -0.004), Math.min(high + room, 1.004)] : [low - room, high + room];
}

/** The middle of the sizes of numbers that are not zero. */
function middleSize(numbers) {
  const sizes = numbers.map(Math.abs).filter(size => size);
  return sizes.length ? median(sizes) : 1;
}

function power(tick) {
  const exponent = Math.round(Math.log10(tick));
  if (Math.abs(exponent) < 3 || Math.abs(tick / 10 ** exponent - 1) > 1e-9) return plain(tick);
  return "10" + [...String(exponent)].map(letter => letter === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(letter)]).join("");
}

function plain(tick) {
  const size = Math.abs(tick);
  return size && (size < 1e-3 || size >= 1e5) ? tick.toExponential().replace("e+", "e") : String(tick);
}

/** Ticks of a logarithmic axis: powers of ten where there are three, else 1, 2 and 5 of each, else round numbers. */
function powers(low, high) {
  const first = Math.floor(Math.log10(low)), last = Math.floor(Math.log10(high) + 1e-9), tens = [];
  for (let exponent = first; exponent <= last; exponent++) tens.push(exponent);
  const within = ticks => ticks.filter(tick => tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9));
  const decades = within(tens.map(exponent => Number("1e" + exponent)));
  if (decades.length > 2) return some(decades, 8);
  const parts = within(tens.flatMap(exponent => [1, 2, 5].map(digit => Number(`${digit}e${exponent}`))));
  return parts.length > 2 ? parts : round(low, high).filter(tick => tick > 0);
}

function round(low, high, number = 6, whole = false) {
  const raw = whole ? Math.max(1, (high - low) / number) : (high - low) / number, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find(size => size * power >= raw * (1 - 1e-9)) * power, found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

/** The names at an axis of layers, where they fit: side by side, or tilted, of many some and the head. */
function layerTicks(names, room, head) {
  const longest = names.reduce((most, [, name]) => Math.max(most, name.length), 0), step = room / Math.max(1, names.length);
  if (longest * LETTER + 8 < step) return {tilted: 0, ticks: names};
  const every = Math.max(1, Math.ceil(20 / step)), last = names.length - 1;
  const ticks = names.filter(([x], index) => x === head || (index % every === 0 && (head === null || names[last][0] !== head || (last - index) * step >= 20)));
  return {tilted: Math.min(13, longest), ticks: ticks.map(([x, name]) => [x, ending(name, 13)])};
}

// ---- axes with lines

/**
 * `series` are {look, points: [[x, y]], thin, dashed, marked, band: [[x, low, high]], name, lost}; y is a number or "over". The last is on top,
 * and read where several meet. `names` are [x, name] of layers, and `head` the x of the one that stands apart, joined to no other.
 * `hint`: what stands below until a point is read there; `notes`: sentences that stay, with those that say what marks mean that are drawn,
 * `crosses` of where lines are lost.
 */
function chart(place, options) {
  const width = Math.max(280, place.clientWidth), head = options.head ?? null, series = options.series.filter(line => line.points.length || (line.band || []).length);
  if (!series.length) {
    place.replaceChildren(make("p", {class: "soft"}, ["Nothing to show: no scheme is chosen, or nothing was measured.", ...options.notes].filter(Boolean).join(" ")));
    return;
  }
  const layers = options.names && layerTicks(options.names, width - 90, head), below = layers ? layers.tilted * LETTER * 0.6 : 0;
  const left = layers && layers.tilted ? 74 : 66, right = 14, top = 12, bottom = 44 + below, height = Math.min(380, Math.max(240, width * 0.5)) + below;
  const scale = options.log ? Math.log10 : value => value, [low, high] = range(series, {...options, head});
  const put = x => x === head ? x + HEAD_GAP : x, xs = [...(options.names || []), ...series.flatMap(line => [...line.points, ...(line.band || [])])].map(([x]) => put(x));
  const [from, to] = most(xs) > least(xs) ? [least(xs), most(xs)] : [xs[0] - 0.5, xs[0] + 0.5];
  const X = x => left + (put(x) - from) / (to - from) * (width - left - right);
  const share = y => (scale(y) - scale(low)) / (scale(high) - scale(low));
  const state = y => y === "over" ? "over" : options.log && y === 0 ? "zero" : share(y) > 1.003 ? "above" : share(y) >= -0.003 ? "inside" : "below";
  const HEIGHTS = {over: 1, above: 1, below: 0, zero: 0};
  const Y = y => top + (1 - (HEIGHTS[state(y)] ?? share(y))) * (height - top - bottom);
  const spot = ([x, y]) => X(x).toFixed(1) + " " + Y(y).toFixed(1);
  const svg = make("svg", {width, height, role: "img", "aria-label": options.label}), spots = [], said = new Set();
  const mark = (shape, x, y, colour, filled = true, aside = 0) => svg.append(make("path", {d: MARKERS[shape], transform: `translate(${X(x) + aside} ${Y(y)})`,
    fill: filled ? colour : "var(--paper)", stroke: colour, "stroke-width": filled ? 0 : 1.5}));
  const crowd = new Map();  // how many marks stand at an edge, by layer
  for (const tick of options.log ? powers(low, high) : round(low, high)) {
    svg.append(make("line", {x1: left, x2: width - right, y1: Y(tick), y2: Y(tick), class: "grid"}),
      make("text", {x: left - 6, y: Y(tick) + 4, "text-anchor": "end"}, options.percent ? Number((100 * tick).toPrecision(4)) + " %" : options.log ? power(tick) : plain(tick)));
  }
  for (const [x, label] of layers ? layers.ticks : round(from, to, Math.max(2, Math.floor(width / 90)), options.whole).map(x => [x, plain(x)])) {
    if (put(x) < from || put(x) > to) continue;
    const at = layers && layers.tilted ? {transform: `translate(${X(x) + 4} ${height - bottom + 14}) rotate(-35)`, "text-anchor": "end"} : {x: X(x), y: height - bottom + 17, "text-anchor": "middle"};
    svg.append(make("line", {x1: X(x), x2: X(x), y1: height - bottom, y2: height - bottom + 4, class: "axis"}), make("text", at, label));
  }
  svg.append(make("text", {x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle"}, options.x),
    make("line", {x1: left, x2: left, y1: top, y2: height - bottom, class: "axis"}),
    make("line", {x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, class: "axis"}));
  series.forEach(drawBand);
  series.forEach(drawLine);
  series.forEach(drawEdges);
  const reading = make("output", {class: "reading"}, options.hint), notes = [...options.notes, ...said].filter(Boolean).join(" ");
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = null, distance = 900;
    for (const spot of spots) { const d = (spot[0] - x) ** 2 + (spot[1] - y) ** 2; if (d <= distance) { best = spot; distance = d; } }
    if (best) reading.textContent = `${best[2]}; ${options.at ? options.at(best[3]) : options.x + " " + text(best[3])}: ${text(best[4])}`;
  });
  place.replaceChildren(make("p", {class: "y-label"}, options.y), svg, reading, make("div", {class: "notes"}, notes));

  function drawBand(line) {
    const there = (line.band || []).filter(([, a, b]) => a !== null && b !== null), lowest = a => a === "over" && !options.log ? height - bottom : Y(a);
    const alone = ([x, a, b]) => [[X(x) - 5, a, b], [X(x) + 5, a, b]];  // the band of the head, or of one layer
    const body = there.filter(([x]) => x !== head), bodies = [body.length === 1 ? alone(body[0]) : body.map(([x, a, b]) => [X(x), a, b])];
    for (const own of [...bodies, ...there.filter(([x]) => x === head).map(alone)]) {
      const path = own.map(([x, a]) => x + " " + lowest(a)).concat(own.map(([x, , b]) => x + " " + Y(b)).reverse());
      if (path.length) svg.append(make("path", {d: "M" + path.join("L") + "Z", fill: line.look.colour, opacity: 0.16}));
    }
    if (there.some(([, ...ends]) => ends.some(end => state(end) !== "inside"))) said.add("A shade that ends at the edge of the axes goes beyond.");
  }

  function drawLine(line) {
    const {points, look} = line, states = points.map(([, y]) => state(y)), inside = index => states[index] === "inside";
    const joins = index => index > 0 && index < points.length && [index - 1, index].every(each => points[each][0] !== head) && (inside(index - 1) || inside(index));
    let path = "";
    points.forEach((point, index) => {
      if (joins(index)) path += (joins(index - 1) ? "" : "M" + spot(points[index - 1])) + "L" + spot(point);
      else if (inside(index) && !joins(index + 1) && !line.marked) path += "M" + spot(point) + "m-3 0h6";  // joined to none
      if (inside(index)) spots.push([X(point[0]), Y(point[1]), line.name, ...point]);
    });
    if (path) svg.append(make("path", {d: path, fill: "none", stroke: look.colour, "stroke-width": line.thin ? 0.8 : 2.2, opacity: line.thin ? 0.55 : 1,
      "stroke-dasharray": line.dashed ? "3 3" : DASHES[look.dash], "stroke-linejoin": "round"}));
    if (line.marked) some(points.filter((_, index) => inside(index)), MOST_MARKS).forEach(([x, y]) => mark(look.marker, x, y, look.colour));
    const last = line.lost && points.filter(([, y]) => typeof y === "number").at(-1);
    if (!last) return;
    svg.append(make("path", {d: "M-4 -4L4 4M4 -4L-4 4", transform: `translate(${X(last[0])} ${Y(last[1])})`, stroke: look.colour, "stroke-width": 2}));
    said.add(`Crosses: ${options.crosses}.`);
  }

  function drawEdges(line) {
    for (const [kind, [shape, filled, words]] of Object.entries(EDGES)) {
      const own = line.points.filter(([, y]) => state(y) === kind), marked = new Set(line.thin ? [] : some(own, MOST_EDGES));
      for (const point of own) {
        const [x, y] = point, aside = layers && marked.has(point) ? beside(x, HEIGHTS[kind]) : 0;
        if (marked.has(point)) mark(shape, x, y, line.look.colour, filled, aside);
        spots.push([X(x) + aside, Y(y), line.name, x, y]);
      }
      if (marked.size) said.add(words);
    }
  }

  /** How far from its layer the next mark at an edge stands: at the ends of the axis inwards, else at both sides. */
  function beside(x, edge) {
    const key = x + " " + edge, before = crowd.get(key) || 0;
    crowd.set(key, before + 1);
    const place = before % MOST_ASIDE;
    return 9 * (put(x) === to ? -place : put(x) === from ? place : Math.ceil(place / 2) * (place % 2 ? -1 : 1));
  }
}

// ---- maps of colours

const OF_CELLS = {zero: ["#888888", "0", "zero"], over: ["#c2277c", "∞", "overflow"], none: ["none", "", "not measured"]};  // colour, sign, words

/** Colours of numbers: {kind: of a value one of `OF_CELLS` or "number", colour: of a number, ends: of the scale, key: these in words}. */
function colouring(numbers, scale, said) {
  const kind = value => value === null ? "none" : value === "over" ? "over" : scale === "log" && value === 0 ? "zero" : "number";
  if (scale === "linear") {
    const largest = most(numbers.map(Math.abs)), edge = Math.min(largest, FAR * middleSize(numbers)) || 1, beyond = largest > edge;
    const colour = value => {
      const share = Math.max(-1, Math.min(1, value / edge));
      return share < 0 ? `hsl(215 70% ${95 + 60 * share}%)` : `hsl(30 90% ${95 - 55 * share}%)`;
    };
    return {kind, colour, ends: [-edge, edge], key: [(beyond ? "≤ " : "") + said(-edge), (beyond ? "≥ " : "") + said(edge)]};
  }
  const put = scale === "log" ? Math.log10 : value => value, known = numbers.filter(value => scale !== "log" || value > 0);
  const room = Math.max(0, LEAST_DECADES - Math.log10(most(known) / least(known))) / 2;
  const ends = scale === "log" ? [least(known) / 10 ** room, most(known) * 10 ** room] : [0, Math.max(most(known), LEAST_SHARE)];
  const colour = value => {
    const share = (put(value) - put(ends[0])) / (put(ends[1]) - put(ends[0]));
    return `hsl(${250 - 200 * share} ${55 + 20 * share}% ${22 + 60 * share}%)`;
  };
  return {kind, colour, ends, key: ends.map(said)};
}

/** What the colours of a map mean, in a line: a bar with numbers, and those of what has no number, as far as there are such cells. */
function keyOf(colours, scale, kinds) {
  const parts = [], [low, high] = colours.ends;
  if (kinds.has("number")) {
    const bar = make("svg", {width: 120, height: 12, "aria-hidden": "true"});
    for (let step = 0; step < 30; step++) {
      const share = step / 29, value = scale === "log" ? low * (high / low) ** share : low + share * (high - low);
      bar.append(make("rect", {x: 4 * step, y: 0, width: 4.5, height: 12, fill: colours.colour(value)}));
    }
    parts.push(make("span", {}, colours.key[0] + " ", bar, " " + colours.key[1] + (scale === "linear" ? " (white: 0)" : "")));
  }
  for (const [kind, [, , words]] of Object.entries(OF_CELLS)) {
    if (kinds.has(kind)) parts.push(make("span", {}, make("svg", {width: 14, height: 12, "aria-hidden": "true"}, ...cell(kind, 0, 0, 14, 12)), " " + words));
  }
  return parts;
}

/** A cell that has no number on the scale. */
function cell(kind, x, y, width, height) {
  const [fill, sign] = OF_CELLS[kind], parts = [make("rect", {x, y, width: width + 0.5, height: height + 0.5, fill})];
  if (kind === "none") parts.push(make("line", {x1: x, y1: y + height, x2: x + width, y2: y, style: "stroke: var(--line)", "stroke-width": 0.6}));
  if (sign && height >= 12 && width >= 10) parts.push(make("text", {x: x + width / 2, y: y + height / 2 + 4, "text-anchor": "middle", style: "fill: #fff"}, sign));
  return parts;
}
