// Polls the service's counts and draws what happened between two polls: the last minute, a point each second.
// A test polls more often: /?every=100 (milliseconds).
"use strict";

const every = Number(new URLSearchParams(location.search).get("every")) || 1000;
const points = 60;
const [width, height, left, right, top_, bottom] = [440, 150, 42, 8, 8, 18];

const byId = (id) => document.getElementById(id);
const sum = (counts) => counts.reduce((all, count) => all + count, 0);
const minus = (now, before) => now.map((count, at) => count - before[at]);

// A ratio without requests is none: the line has a gap there.
const ratio = ({ hits, misses }) => (hits + misses ? (100 * hits) / (hits + misses) : null);

// The bound, in milliseconds, under which that part of the requests stayed.
function quantile(part, { bounds, counts }) {
  const wanted = Math.ceil(part * sum(counts));
  if (!wanted) return null;
  let seen = 0;
  const at = counts.findIndex((count) => (seen += count) >= wanted);
  return (bounds[at] ?? 2 * bounds.at(-1)) / 1000;
}

class Chart {
  constructor(id, unit, most) {
    Object.assign(this, { id, unit, most, lines: [] });
    byId(id).insertAdjacentHTML("beforeend", `<svg viewBox="0 0 ${width} ${height}" role="img"></svg>`);
  }

  // One value for each line; null where there is none.
  add(...values) {
    values.forEach((value, at) => {
      this.lines[at] ??= [];
      this.lines[at].push(value);
      if (this.lines[at].length > points) this.lines[at].shift();
    });
    this.draw();
  }

  draw() {
    const most = this.most ?? roundUp(Math.max(0, ...this.lines.flat()));
    const x = (at) => left + (at * (width - left - right)) / (points - 1);
    const y = (value) => height - bottom - (value * (height - top_ - bottom)) / most;
    const grid = [0, most / 2, most].map((value) =>
      `<line x1="${left}" x2="${width - right}" y1="${y(value)}" y2="${y(value)}"/>` +
      `<text x="${left - 6}" y="${y(value) + 4}" text-anchor="end">${number(value)}${this.unit}</text>`);
    const lines = this.lines.map((line, at) => {
      const from = points - line.length;
      const runs = [[]];
      line.forEach((value, n) => {
        if (value === null) runs.push([]);
        else runs.at(-1).push(`${x(from + n).toFixed(1)},${y(value).toFixed(1)}`);
      });
      // A point alone is drawn as a line of no length, which the round ends show.
      return runs.filter((run) => run.length).map((run) =>
        `<polyline class="${["first", "second"][at]}" points="${(run.length > 1 ? run : [run[0], run[0]]).join(" ")}"/>`
      ).join("");
    });
    const ends = `<text x="${left}" y="${height - 3}">${((points - 1) * every) / 1000} s ago</text>` +
      `<text x="${width - right}" y="${height - 3}" text-anchor="end">now</text>`;
    const svg = byId(this.id).querySelector("svg");
    svg.dataset.points = JSON.stringify(this.lines);
    svg.innerHTML = grid.join("") + lines.join("") + ends;
  }

  say(text) {
    byId(this.id).querySelector("b").textContent = text;
  }
}

// 1, 2 or 5 times a power of ten.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((times) => times * power).find((most) => most >= value);
}

function number(value) {
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 0 });
}

const charts = {
  hits: new Chart("hits", " %", 100),
  loads: new Chart("loads", ""),
  latencies: new Chart("latencies", ""),
  limits: new Chart("limits", ""),
};

function show(now, before, seconds) {
  byId("location").textContent = now.location;
  byId("breaker").textContent = now.breaker;
  byId("requests").textContent = number(now.allowed + now.refused);
  byId("errors").textContent = number(now.errors);
  byId("reads").textContent = number(now.hits + now.misses);
  charts.hits.say(ratio(now) === null ? "none" : ratio(now).toFixed(1) + " %");
  charts.loads.say(number(now.loads));
  const middle = quantile(0.5, now.latencies);
  charts.latencies.say(middle === null ? "none" : `< ${number(middle)} ms`);
  charts.limits.say(number(now.refused));
  if (!before) return;

  const since = (name) => now[name] - before[name];
  const latencies = { ...now.latencies, counts: minus(now.latencies.counts, before.latencies.counts) };
  charts.hits.add(ratio({ hits: since("hits"), misses: since("misses") }));
  charts.loads.add(since("loads") / seconds);
  charts.latencies.add(quantile(0.5, latencies), quantile(0.99, latencies));
  charts.limits.add(since("allowed") / seconds, since("refused") / seconds);
}

let before, then;

async function poll() {
  try {
    const response = await fetch("status.json", { cache: "no-store" });
    const now = await response.json();
    const at = performance.now();
    show(now, before, (at - then) / 1000);
    [before, then] = [now, at];
    document.dispatchEvent(new CustomEvent("polled", { detail: now }));
  } catch {
    byId("breaker").textContent = "the service does not answer";
  }
  setTimeout(poll, every);
}

poll();
