// Small charts of the last few minutes: inline SVG, as many samples as there are places, nothing kept beyond them.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 240;
const HEIGHT = 56;

export const SAMPLES = 150;  // a look every 2 s: five minutes

/** The last samples of one measure; null is a gap. */
export class Series {
  constructor() {
    this.values = [];
  }

  add(value) {
    this.values.push(Number.isFinite(value) ? value : null);
    if (this.values.length > SAMPLES) this.values.shift();
  }

  get last() {
    return this.values.at(-1) ?? null;
  }

  get most() {
    return Math.max(0, ...this.values.map((one) => one ?? 0));
  }
}

function drawn(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** A chart of some series on one scale that begins at 0; `draw` shows what they are now. */
export class Chart {
  constructor(series) {
    this.series = series;
    this.svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.lines = series.map((_, at) => {
      const area = drawn("path", { class: `area s${at}` });
      const line = drawn("path", { class: `line s${at}`, "vector-effect": "non-scaling-stroke" });
      this.svg.append(area, line);
      return { area, line };
    });
  }

  draw(label) {
    const most = Math.max(...this.series.map((one) => one.most)) || 1;
    this.svg.setAttribute("aria-label", label);
    this.series.forEach((series, at) => {
      const { line, area } = paths(series.values, most);
      this.lines[at].line.setAttribute("d", line);
      this.lines[at].area.setAttribute("d", at === 0 ? area : "");
    });
  }
}

/** The newest sample is at the right edge; a gap interrupts the line. */
function paths(values, most) {
  const step = WIDTH / (SAMPLES - 1);
  const floor = HEIGHT - 1;
  let line = "";
  let area = "";
  let begun = null;
  const close = (x) => {
    if (begun !== null) area += `L${x.toFixed(1)} ${floor}Z`;
    begun = null;
  };
  values.forEach((value, at) => {
    const x = WIDTH - (values.length - 1 - at) * step;
    if (value === null) return close(x - step);
    const y = floor - (value / most) * (HEIGHT - 6);
    line += `${begun === null ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    area += begun === null ? `M${x.toFixed(1)} ${floor}L${x.toFixed(1)} ${y.toFixed(1)}` : `L${x.toFixed(1)} ${y.toFixed(1)}`;
    begun ??= x;
  });
  close(WIDTH);
  return { line, area };
}
