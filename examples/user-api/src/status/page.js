// Shows what the service says: its whole history at first, then each second what is new.
// A test says how often: /?every=100 (milliseconds).
"use strict";

const every = Number(new URLSearchParams(location.search).get("every")) || 1000;
const none = "–";

const charts = {
  hits: new Chart("hits", (point) => [point.hit_ratio === null ? null : 100 * point.hit_ratio], { unit: " %", most: 100 }),
  loads: new Chart("loads", (point) => [point.loads]),
  latencies: new Chart("latencies", (point) => [point.median, point.p99]),
  limits: new Chart("limits", (point) => [point.allowed, point.refused]),
};

const percent = (ratio) => (ratio === null || ratio === undefined ? none : (100 * ratio).toFixed(1) + " %");
const rate = (value) => (value === undefined ? none : value.toFixed(value < 100 ? 1 : 0));
const byId = (id) => document.getElementById(id);

// Latencies are known by the bounds they are between. The last one has none above it.
function latency(bound, slowest) {
  if (bound === null || bound === undefined) return none;
  const [sign, value] = bound > slowest ? [">", slowest] : ["<", bound];
  return `${sign} ${value.toLocaleString("en", { maximumFractionDigits: 3 })}`;
}

function show(now, points) {
  const recent = now.recent ?? {};
  byId("location").textContent = now.location;
  byId("breaker").textContent = now.breaker;
  byId("requests").textContent = number(now.allowed + now.refused);
  byId("refused").textContent = number(now.refused);
  charts.hits.show(points, now.span_seconds, percent(recent.hit_ratio));
  charts.loads.show(points, now.span_seconds, rate(recent.loads));
  charts.latencies.show(points, now.span_seconds, ...[recent.median, recent.p99].map((bound) => latency(bound, now.slowest)));
  charts.limits.show(points, now.span_seconds, rate(recent.allowed), rate(recent.refused));
  const seconds = number(Math.round(recent.seconds ?? 10));
  document.querySelectorAll(".recent").forEach((of) => { of.textContent = seconds });
  byId("types").tBodies[0].replaceChildren(...now.types.map(row));
  byId("types").tFoot.replaceChildren(row({ ...now, name: "all" }));
}

// A type's row of the table: the columns are those of page.html.
function row(of) {
  const recent = of.recent ?? {};
  const groups = [
    [percent(recent.hit_ratio), percent(of.hit_ratio)],
    [rate(recent.hits), rate(recent.misses), rate(recent.loads)],
    [of.hits, of.absences, of.misses, of.loads, of.coalesced, of.stale, of.failed_loads, of.errors].map(number),
  ];
  const row = document.createElement("tr");
  const name = row.appendChild(document.createElement("th"));
  name.scope = "row";
  name.textContent = of.name;
  for (const group of groups) {
    group.forEach((text, at) => {
      const cell = row.insertCell();
      cell.textContent = text;
      if (at === 0) cell.className = "begins";
    });
  }
  return row;
}

let points = [];

// Adds the new points, instead of those of a later time by another clock, and forgets the oldest.
function add(now) {
  const first = now.points[0]?.at ?? Infinity;
  points = points.filter((point) => point.at < first).concat(now.points);
  const oldest = points.at(-1)?.at - 1000 * now.span_seconds;
  points = points.filter((point) => point.at > oldest);
}

async function ask() {
  const after = points.length ? `?after=${points.at(-1).at}` : "";
  const response = await fetch("status.json" + after, { cache: "no-store" });
  if (!response.ok) throw new Error(response.statusText);
  return response.json();
}

async function poll() {
  const now = await ask().catch(() => null);
  byId("alert").textContent = now ? "" : "The service does not answer. The numbers are the last ones.";
  if (now) {
    add(now);
    show(now, points);
    document.dispatchEvent(new CustomEvent("polled", { detail: now }));
  }
  setTimeout(poll, every);
}

const shown = poll();
