// A chart of the last minutes: one or two lines, each of which has a gap where it has no value.
"use strict";

const [width, height, left, right, top_, bottom] = [440, 150, 42, 8, 8, 18];

class Chart {
  // `values` gives the value of each line at a point. `most` is the top of the scale, if it is
  // always the same.
  constructor(id, values, { unit = "", most } = {}) {
    Object.assign(this, { section: document.getElementById(id), values, unit, most });
    this.section.insertAdjacentHTML("beforeend", `<svg viewBox="0 0 ${width} ${height}" role="img"></svg>`);
  }

  // Draws the points of the last `span` seconds, and shows what each line is at the moment.
  show(points, span, ...shown) {
    const lines = points.length ? this.values(points[0]).map((_, at) => points.map((point) => this.values(point)[at])) : [];
    const most = this.most ?? roundUp(Math.max(0, ...lines.flat()));
    const now = points.at(-1)?.at;
    const x = (point) => width - right - ((now - point.at) * (width - left - right)) / (1000 * span);
    const y = (value) => height - bottom - (value * (height - top_ - bottom)) / most;
    const grid = [0, most / 2, most].map((value) =>
      `<line x1="${left}" x2="${width - right}" y1="${y(value)}" y2="${y(value)}"/>` +
      `<text x="${left - 6}" y="${y(value) + 4}" text-anchor="end">${number(value)}${this.unit}</text>`);
    const drawn = lines.map((line, at) => runs(points, line).map((run) => {
      const ends = run.map(({ point, value }) => `${x(point).toFixed(1)},${y(value).toFixed(1)}`);
      // A point alone is a line of no length, which its round ends show.
      return `<polyline class="${["first", "second"][at]}" points="${ends.concat(ends.length > 1 ? [] : ends).join(" ")}"/>`;
    }).join(""));
    const axis = `<text x="${left}" y="${height - 3}">${number(span / 60)} min ago</text>` +
      `<text x="${width - right}" y="${height - 3}" text-anchor="end">now</text>`;
    const svg = this.section.querySelector("svg");
    svg.innerHTML = grid.join("") + drawn.join("") + axis;
    svg.dataset.lines = JSON.stringify(lines);
    this.section.querySelectorAll("b").forEach((b, at) => { b.textContent = shown[at] });
    const text = (selector) => this.section.querySelector(selector).textContent;
    svg.setAttribute("aria-label", `${text("h2 span")}, a chart of the last ${number(span / 60)} minutes`);
  }
}

// The parts of a line between its gaps. The service was away between two points that do not meet.
function runs(points, line) {
  const runs = [[]];
  points.forEach((point, at) => {
    const meets = at && point.at - 1000 * point.seconds <= points[at - 1].at + 1;
    if (!meets || line[at] === null) runs.push([]);
    if (line[at] !== null) runs.at(-1).push({ point, value: line[at] });
  });
  return runs.filter((run) => run.length);
}

// The top of a scale: its half is a short number, too.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 3, 4, 6, 8, 10].map((times) => times * power).find((most) => most >= value);
}

function number(value) {
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 0 });
}
