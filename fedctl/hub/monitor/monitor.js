// The monitor: looks at the hub every two seconds while somebody looks at the page, and shows what it saw.

import { Chart, Series } from "./charts.js";
import { Session } from "./session.js";
import { bytes, count, duration, many, moment, ms, plain, rate, spelt, timeOfDay } from "./words.js";

const LOOK_MS = 2_000;
const LOOK_SHARE = 10;  // a look that took long is followed by a pause of so many times that
const TENANTS_EVERY_MS = 10_000;  // where there are many
const TENANTS_FEW = 100;
const TENANTS_MAX = 8;  // looked into at once, when all are asked for
const AGENTS_A_PAGE = 20;
const AGENTS_LEAST = 200;
const WORKERS_MAX = 30;
const BARS_MAX = 12;
const EVENTS_MAX = 100;
const LINES_MAX = 40;
const SAME_MS = 10_000;  // what is of one kind and so near in time is one line
const LATENCIES_MAX = 8;
const HITS = 10;
const TOKEN = "fedctl.token";
const IS_SURE = location.protocol === "https:";
const KNOWN_HOST = "127.0.0.1";
const SHORT_LIFE_S = 20;

const $ = (id) => document.getElementById(id);
const seen = { principal: null, tenants: [], agents: [], stats: null, at: 0, answered: 0, ahead_ms: 0 };
let agentsPage = 0;
let timer = null;

// -- building -------------------------------------------------------------------------------------------------------

/** Make an element: `tag.class.class`, its children as nodes or text. */
function make(what, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  node.append(...children);
  return node;
}

const bdi = (text) => make("bdi", text);

/** Show nodes in a parent; one that looks as it did is left alone, so that what is selected or focused stays. */
function show(parent, nodes) {
  const present = [...parent.children];
  nodes.forEach((node, at) => {
    if (present[at] === undefined) parent.append(node);
    else if (!present[at].isEqualNode(node)) present[at].replaceWith(node);
  });
  present.slice(nodes.length).forEach((node) => node.remove());
}

function showRows(id, rows) {
  const table = $(id);
  show(table.tBodies[0], rows);
  table.hidden = rows.length === 0;
  table.closest(".panel").querySelector(".empty").hidden = rows.length > 0;
}

function showBars(id, bars, more) {
  const rest = more > 0 ? [make("li.quiet", `and ${count(more)} more`)] : [];
  show($(id), [...bars, ...rest]);
  $(id).closest(".panel").querySelector(".empty").hidden = bars.length > 0;
}

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function track(...parts) {
  const bar = make("span.track");
  bar.setAttribute("aria-hidden", "true");
  for (const [kind, share] of parts) {
    const part = make(kind ? `i.${kind}` : "i");
    part.style.width = `${(Math.min(1, Math.max(0, share)) * 100).toFixed(1)}%`;
    bar.append(part);
  }
  return bar;
}

function cell(...children) {
  return make("td", ...children);
}

function named(name, below) {
  const node = make("td", make("span.name", bdi(plain(name))));
  if (below) node.append(make("small", bdi(plain(below))));
  node.title = plain(name, 300);
  return node;
}

const nowMs = () => Date.now() + seen.ahead_ms;
const ago = (instant) => (instant === null ? "never" : `${duration((nowMs() - Date.parse(instant)) / 1000)} ago`);

function lastSync(instant) {
  const node = cell(instant === null ? "–" : ago(instant));
  if (instant === null) node.title = "nothing was delivered to the hub or fetched from it yet";
  return node;
}

// -- figures and charts ---------------------------------------------------------------------------------------------

const series = { episodes: new Series(), operations: new Series(), store: new Series(), query: new Series(),
  backlog: new Series(), claimed: new Series() };

const CHARTS = [
  { title: "Episodes stored", unit: "a second", lines: [["", series.episodes]], shown: rate },
  { title: "Operations", unit: "a second", lines: [["", series.operations]], shown: rate },
  { title: "Latency p99", unit: "", lines: [["store", series.store], ["query", series.query]], shown: ms },
  { title: "Items", unit: "", lines: [["waiting", series.backlog], ["held", series.claimed]], shown: (one) => count(one ?? 0) },
].map((one) => {
  const chart = new Chart(one.lines.map(([, its]) => its));
  const words = make("p");
  $("charts").append(make("div.chart", words, chart.svg));
  return { ...one, chart, words };
});

function showCharts() {
  for (const { title, unit, lines, shown, chart, words } of CHARTS) {
    const now = lines.map(([name, its], at) => [name, shown(its.last), at]);
    const values = now.map(([name, value, at]) =>
      make(lines.length > 1 ? `i.dot${at}` : "i", name ? `${name} ` : "", make("b", value), unit ? ` ${unit}` : ""));
    show(words, [make("span", title), ...values]);
    const most = shown(Math.max(...lines.map(([, its]) => its.most)));
    chart.draw(`${title} ${unit}: ${now.map(([name, value]) => `${name} ${value}`).join(", ")} now, at most ${most}`);
  }
}

function take(stats) {
  const at = performance.now();
  const before = seen.stats;
  const own = seen.session.answered - seen.answered;
  // A hub that was started anew counts from nothing.
  const seconds = before !== null && stats.uptime_s > before.uptime_s ? (at - seen.at) / 1000 : null;
  series.episodes.add(seconds && (stats.acked_episodes - before.acked_episodes) / seconds);
  series.operations.add(seconds && Math.max(0, stats.operations - before.operations - own) / seconds);
  series.store.add(stats.latencies["memory.store"]?.p99_ms ?? NaN);
  series.query.add(stats.latencies["memory.query"]?.p99_ms ?? NaN);
  series.backlog.add((stats.items.pending ?? 0) + (stats.items.delayed ?? 0));
  series.claimed.add(stats.items.claimed ?? 0);
  Object.assign(seen, { stats, at, answered: seen.session.answered });
}

function showStats(stats) {
  const items = { pending: 0, delayed: 0, claimed: 0, poisoned: 0, ...stats.items };
  const tiles = [
    [count(stats.connected_agents), stats.connected_agents === 1 ? "agent connected" : "agents connected", ""],
    [count(stats.episodes), stats.episodes === 1 ? "episode" : "episodes", ""],
    [count(items.pending + items.delayed), "items waiting", ""],
    [count(items.claimed), "items held", ""],
    [count(items.poisoned), "items poisoned", items.poisoned ? "bad" : ""],
    [count(stats.pending_embeddings), "not embedded yet", stats.pending_embeddings > 1000 ? "warn" : ""],
    [bytes(stats.rss_bytes), "the hub's memory", ""],
    stats.read_only
      ? [bytes(stats.disk_free_bytes), "free: writes are refused", "bad"]
      : [bytes(stats.store_bytes), "on disk", ""],
  ];
  show($("tiles"), tiles.map(([value, label, how]) => make(how ? `div.tile.${how}` : "div.tile", make("b", value), make("span", label))));
  setText("about", `fedctl ${seen.version}, up for ${duration(stats.uptime_s)}, ${many(stats.connections, "session")}`);
  showCharts();
  const slowest = Object.entries(stats.latencies).sort(([, one], [, other]) => other.p99_ms - one.p99_ms).slice(0, LATENCIES_MAX);
  const most = slowest.length ? slowest[0][1].p99_ms : 1;
  showRows("latencies", slowest.map(([name, one]) => make("tr", cell(plain(name)), make("td.n", count(one.count)),
    make("td.n", ms(one.p50_ms)), make("td.n", ms(one.p99_ms)), make("td.latency", track(["", one.p99_ms / most])))));
}

// -- who and what ---------------------------------------------------------------------------------------------------

const isFull = (tenant) => (tenant.max_episodes !== null && tenant.episodes >= tenant.max_episodes)
  || (tenant.max_bytes !== null && tenant.size_bytes >= tenant.max_bytes);

function showTenants(tenants) {
  const sorted = [...tenants].sort((one, other) => other.episodes - one.episodes || (one.id < other.id ? -1 : 1));
  const most = sorted.length ? Math.max(1, sorted[0].episodes) : 1;
  setText("tenants-count", tenants.length > 1 ? many(tenants.length, "tenant") : "");
  showBars("tenants", sorted.slice(0, BARS_MAX).map((one) => {
    const limit = one.max_episodes === null ? "" : ` of ${count(one.max_episodes)}`;
    const share = one.max_episodes === null ? one.episodes / most : one.episodes / Math.max(1, one.max_episodes);
    const full = isFull(one);
    const row = make(full ? "li.full" : "li", make("p", bdi(plain(one.id)), make("span", count(one.episodes) + limit)),
      track(["", share]));
    if (full) row.title = "at its quota: what it stores is refused";
    return row;
  }), sorted.length - BARS_MAX);
}

function showChoices() {
  const names = seen.tenants.map((one) => one.id);
  // With a token the page sees one tenant's agents, pools and memory, and of the others that they are there.
  const own = seen.principal.role === "owner" ? null : seen.principal.tenant_id;
  const known = own !== null ? [own] : names.length ? names : ["default"];
  fill($("tenant"), own === null && known.length > 1 ? [["", "all"], ...known.map((one) => [one, plain(one)])] : known.map((one) => [one, plain(one)]));
  $("whose").hidden = false;
  fill($("search-tenant"), known.map((one) => [one, plain(one)]));
  if (!seen.searchChosen) $("search-tenant").value = $("tenant").value || largest(known);
  $("search-whose").hidden = known.length === 1 || $("tenant").value !== "";
}

/** Return the tenant of those with the most episodes: what is searched first, until somebody chooses. */
function largest(known) {
  const [first] = seen.tenants.filter((one) => known.includes(one.id)).sort((one, other) => other.episodes - one.episodes);
  return first?.id ?? known[0];
}

function fill(select, options) {
  const before = [...select.options].map((one) => one.value).join("\n");
  if (before === options.map(([value]) => value).join("\n")) return;
  const value = select.value;
  select.replaceChildren(...options.map(([its, text]) => new Option(text, its)));
  if (options.some(([its]) => its === value)) select.value = value;
}

const isSeveral = () => $("tenant").value === "";

/** Return the tenants to look into: the one that was chosen, or of all those where something happened last. */
function inView() {
  if (!isSeveral()) return [$("tenant").value];
  const busy = [...new Set(seen.events?.map((one) => one.tenant_id) ?? [])];
  const large = [...seen.tenants].sort((one, other) => other.episodes - one.episodes).map((one) => one.id);
  const there = new Set(large);
  return [...new Set([...busy.filter((one) => there.has(one)), ...large])].slice(0, TENANTS_MAX);
}

function life(agent) {
  const whole_s = (Date.parse(agent.expires_at) - Date.parse(agent.spawned_at)) / 1000;
  const left_s = (Date.parse(agent.expires_at) - nowMs()) / 1000;
  const how = left_s <= 0 ? ".over" : left_s < SHORT_LIFE_S ? ".short" : "";
  return make(`span.life${how}`, track(["", left_s / whole_s]), left_s > 0 ? duration(left_s) : "over");
}

const chip = (status) => make(`span.chip.${status}`, spelt(status));

function showAgents() {
  const { agents } = seen;
  const pages = Math.max(1, Math.ceil(agents.length / AGENTS_A_PAGE));
  agentsPage = Math.min(agentsPage, pages - 1);
  const start = agentsPage * AGENTS_A_PAGE;
  const more = seen.moreAgents ? "+" : "";
  setText("agents-count", agents.length ? `${count(agents.length)}${more}` : "");
  const phases = new Map();
  for (const one of agents) phases.set(one.status, (phases.get(one.status) ?? 0) + 1);
  show($("phases"), [...phases].sort(([one], [other]) => (one < other ? -1 : 1)).map(([status, number]) =>
    make(`span.chip.${status}`, `${spelt(status)} ${count(number)}${more}`)));
  showRows("agents", agents.slice(start, start + AGENTS_A_PAGE).map((one) => make("tr",
    named(one.id, isSeveral() ? `${one.type}, ${one.tenant_id}` : one.type),
    cell(chip(one.status)), cell(life(one)), make("td.n", count(one.episodes_stored)), lastSync(one.last_sync_at))));
  $("agents-pages").hidden = pages === 1 && !more;
  setText("agents-page", `${start + 1} to ${Math.min(agents.length, start + AGENTS_A_PAGE)}`);
  $("agents-back").disabled = agentsPage === 0;
  $("agents-on").disabled = agentsPage >= pages - 1 && !more;
}

function showWorkers(workers) {
  const rank = { active: 0, terminating: 1, lost: 2, terminated: 3 };
  const sorted = [...workers].sort((one, other) => rank[one.status] - rank[other.status]);
  setText("workers-count", workers.length > WORKERS_MAX ? `${WORKERS_MAX} of more` : workers.length ? count(workers.length) : "");
  showRows("workers", sorted.slice(0, WORKERS_MAX).map((one) => make("tr",
    named(one.worker_id, isSeveral() ? one.tenant_id : one.capabilities.join(", ")),
    cell(one.stale ? make("span.chip.silent", `${spelt(one.status)}, silent`) : chip(one.status)),
    named(one.pool_id ?? "any"), cell(ago(one.last_heartbeat)), named(one.current_task_id ?? "–"))));
}

const ITEM_STATES = [["pending", "waiting"], ["delayed", "later"], ["claimed", "held"], ["poisoned", "poisoned"]];
show($("pools-key"), ITEM_STATES.map(([status, word]) => make(`span.${status}`, word)));

function showPools(pools) {
  const open = (one) => ITEM_STATES.reduce((sum, [status]) => sum + one[status], 0);
  const sorted = [...pools].sort((one, other) => open(other) - open(one) || (one.name < other.name ? -1 : 1));
  setText("pools-count", pools.length ? count(pools.length) : "");
  const most = sorted.length ? Math.max(1, open(sorted[0])) : 1;
  $("pools-key").hidden = pools.length === 0;
  showBars("pools", sorted.slice(0, BARS_MAX).map((one) => {
    const name = make("span", bdi(plain(one.name)));
    if (isSeveral()) name.append(make("small", " ", bdi(plain(one.tenant))));
    if (one.paused) name.append(" ", make("span.chip.paused", "paused"));
    const said = ITEM_STATES.filter(([status]) => one[status]).map(([status, word]) => `${count(one[status])} ${word}`);
    if (one.done) said.push(`${count(one.done)} done`);
    const waits = one.oldest_pending_s === null ? "" : `, the oldest for ${duration(one.oldest_pending_s)}`;
    return make("li", make("p", name, make("span", count(one.pending + one.delayed))),
      track(...ITEM_STATES.map(([status]) => [status, one[status] / most])), make("small", (said.join(", ") || "empty") + waits));
  }), sorted.length - BARS_MAX);
}

// -- events ---------------------------------------------------------------------------------------------------------

const BAD = new Set(["agent_error", "items_poisoned", "token_revoked", "tenant_erased"]);

function detailOf({ kind, detail }) {
  if (kind === "agent_note" || kind === "agent_error") return plain(detail.text, 160);
  if (detail.status !== undefined) return spelt(detail.status);
  return kind === "agent_synced" ? `${count(detail.pushed ?? 0)} pushed, ${count(detail.pulled ?? 0)} pulled` : "";
}

const lines = [];  // newest first, LINES_MAX of them
let lastSeq = 0;

/** Take in what happened since the last look: a hundred episodes or items are one line with a number. */
function note(events) {
  for (const event of events) {
    if (event.seq <= lastSeq) continue;
    lastSeq = event.seq;
    const { kind, tenant_id: tenant, detail } = event;
    const crowd = kind.startsWith("episode_") || kind.startsWith("items_");
    const what = kind.startsWith("episode_") ? "" : event.subject;
    const key = JSON.stringify([kind, tenant, what, detail.status ?? detail.text ?? ""]);
    const at_ms = Date.parse(event.at);
    const number = Array.isArray(detail.ids) ? detail.ids.length : 1;
    const same = lines.find((one) => one.key === key && at_ms - one.at_ms < SAME_MS);
    if (same !== undefined) {
      same.number += number;
      continue;
    }
    lines.unshift({ key, at_ms, at: event.at, kind, tenant, what, crowd, number, detail: detailOf(event) });
  }
  lines.length = Math.min(lines.length, LINES_MAX);
}

function forgetEvents() {
  lines.length = 0;
  lastSeq = 0;
}

function showEvents() {
  show($("events"), lines.map((one) => {
    const words = make("span", make("b", spelt(one.kind)));
    if (one.what) words.append(" ", bdi(plain(one.what, 60)));
    if (one.detail) words.append(": ", bdi(one.detail));
    if (one.crowd || one.number > 1) words.append(` × ${count(one.number)}`);
    if (isSeveral()) words.append(" ", make("small", bdi(plain(one.tenant))));
    const time = make("time", timeOfDay(one.at));
    time.dateTime = one.at;
    return make(BAD.has(one.kind) ? "li.bad" : "li", time, words);
  }));
  $("events").closest(".panel").querySelector(".empty").hidden = lines.length > 0;
}

// -- looking --------------------------------------------------------------------------------------------------------

/** The token to show. Over TLS the tab keeps it; without, whoever has the hub's port next could read what is kept, and
 * might be who we connect to again: there it lives as long as this page, and the hub does not go away. */
const token = {
  plain: null,
  get: () => (IS_SURE ? sessionStorage.getItem(TOKEN) : token.plain),
  set: (text) => (IS_SURE ? sessionStorage.setItem(TOKEN, text) : (token.plain = text)),
  forget: () => {
    token.plain = null;
    sessionStorage.removeItem(TOKEN);
  },
};

const session = new Session({ welcome, denied, gone }, token.get);
seen.session = session;

async function look() {
  const began = performance.now();
  const few = seen.tenants.length <= TENANTS_FEW || began - seen.counted > TENANTS_EVERY_MS;
  const [{ stats }, counted] = await Promise.all([session.call("hub.stats"), few ? session.call("tenant.list") : null]);
  if (counted !== null) Object.assign(seen, { tenants: counted.tenants, counted: began });
  showChoices();
  const chosen = $("tenant").value;
  const whose = inView();
  const each = (op, fields) => Promise.all(whose.map((tenant) => session.call(op, fields, tenant)));
  const agentsMost = Math.max(AGENTS_LEAST, (agentsPage + 2) * AGENTS_A_PAGE);
  const [page, agents, workers, pools] = await Promise.all([
    session.call("hub.events", { newest: EVENTS_MAX, all_tenants: isSeveral() }, isSeveral() ? null : whose[0]),
    each("agent.list", { limit: agentsMost }),
    each("worker.list", { statuses: ["active", "terminating", "lost"], limit: WORKERS_MAX + 1 }),
    each("pool.list", {}),
  ]);
  if ($("tenant").value !== chosen) return look();  // another was chosen meanwhile
  seen.events = page.events;
  seen.agents = agents.flatMap((one) => one.agents).sort((one, other) => (one.spawned_at < other.spawned_at ? 1 : -1));
  seen.moreAgents = agents.some((one) => one.agents.length >= agentsMost);
  take(stats);
  showStats(stats);
  showTenants(seen.tenants);
  showAgents();
  showWorkers(workers.flatMap((one) => one.workers));
  showPools(pools.flatMap((one, at) => one.pools.map((pool) => ({ ...pool, tenant: whose[at] }))));
  if (page.epoch !== seen.epoch) forgetEvents();  // the store is another one: it counts anew
  seen.epoch = page.epoch;
  note(page.events);
  showEvents();
  $("main").hidden = false;
  return performance.now() - began;
}

async function round() {
  clearTimeout(timer);
  if (document.hidden || !session.isOpen || seen.looking) return;
  seen.looking = true;
  let took = 0;
  try {
    took = await look();
    state("live", "live");
  } catch (error) {
    if (session.isOpen) state("gone", plain(error.message));
  } finally {
    seen.looking = false;
  }
  clearTimeout(timer);
  if (session.isOpen) timer = setTimeout(round, Math.max(LOOK_MS, took * LOOK_SHARE));
}

// -- coming and going -----------------------------------------------------------------------------------------------

function state(how, text) {
  $("state").dataset.state = how;
  setText("state", text);
  $("main").classList.toggle("old", how === "gone");
}

function welcome(frame) {
  seen.principal = frame.principal;
  seen.version = plain(frame.fedctl);
  seen.ahead_ms = Date.parse(frame.server_time) - Date.now();
  $("door").hidden = $("again").hidden = true;
  setText("door-why", "");
  $("forget").hidden = token.get() === null;
  round();
}

function denied(error) {
  const had = token.get() !== null;
  token.forget();
  state("gone", "a token is wanted");
  for (const id of ["main", "whose", "forget"]) $(id).hidden = true;
  setText("about", "");
  $("door").hidden = false;
  if (had) setText("door-why", plain(`${error.message}${error.hint ? ` (${error.hint})` : ""}`, 400));
  $("token").value = "";
  $("token").focus();
}

function gone(why, pause) {
  if (!IS_SURE && token.get() !== null) {
    token.forget();
    setText("door-why", "The hub was gone: another program may be in its place. Give the token again if it is the hub.");
  }
  if (seen.principal?.token_id === null && !IS_SURE) $("again").hidden = false;
  const until = performance.now() + pause;
  const tell = () => {
    if (session.isOpen || !$("door").hidden) return;
    const left = Math.ceil((until - performance.now()) / 1000);
    state("gone", `the hub is gone${why ? ` (${plain(why)})` : ""}: ${left > 0 ? `trying again in ${left}s` : "trying again"}`);
    if (left > 0) setTimeout(tell, 1000);
  };
  tell();
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden || !$("door").hidden) return;
  if (session.isOpen) round();
  else session.open();
});
$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set($("token").value.trim());
  setText("door-why", "");
  state("connecting", "connecting");
  session.open();
});
$("forget").addEventListener("click", () => {
  token.forget();
  location.reload();
});
$("tenant").addEventListener("change", () => {
  agentsPage = 0;
  seen.searchChosen = false;
  forgetEvents();
  round();
});
for (const [id, step] of [["agents-back", -1], ["agents-on", 1]]) {
  $(id).addEventListener("click", () => {
    agentsPage = Math.max(0, agentsPage + step);
    if (seen.moreAgents) round();
    else showAgents();
  });
}
$("search-tenant").addEventListener("change", () => { seen.searchChosen = true; });
setInterval(() => {
  if (!document.hidden && session.isOpen && !$("main").hidden) showAgents();
}, 1000);

// -- searching ------------------------------------------------------------------------------------------------------

let searches = 0;

$("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("query").value.trim();
  if (text === "") return;
  const tenant = isSeveral() ? $("search-tenant").value : $("tenant").value;
  const began = performance.now();
  const turn = ++searches;
  told("searching");
  try {
    const { hits, notes } = await session.call("memory.query", { text, k: HITS }, tenant);
    if (turn !== searches) return;  // another search was begun meanwhile
    const what = hits.length ? `${many(hits.length, "episode")} of ${plain(tenant)}` : `nothing in the memory of ${plain(tenant)} is like that`;
    told([`${what}, in ${ms(performance.now() - began)}`, ...notes.map((one) => plain(one))].join("; "));
    show($("hits"), hits.map(hit));
  } catch (error) {
    if (turn === searches) told(plain(error.message, 400), true);
  }
});

$("query").addEventListener("input", () => {
  if ($("query").value !== "") return;
  searches += 1;
  told("", true);
});

function told(text, bad = false) {
  $("found").classList.toggle("bad", bad);
  setText("found", text);
  if (bad || text === "searching") $("hits").replaceChildren();
}

function hit(one) {
  const episode = one.episode ?? one;
  const head = make("h3", bdi(plain(episode.task, 300)));
  const said = [["in", episode.input], ["out", episode.output], ["critique", episode.critique]]
    .filter(([, value]) => value != null && value !== "")
    .map(([name, value]) => make("p", make("b", `${name} `), bdi(plain(value, 600))));
  const facts = [
    `score ${one.score.toFixed(2)}`,
    episode.reward === null ? "no reward" : `reward ${episode.reward}`,
    episode.success === null ? null : episode.success ? "succeeded" : "failed",
    episode.agent_id && `agent ${episode.agent_id}`,
    episode.session_id && `session ${episode.session_id}`,
    moment(episode.created_at),
    episode.id,
  ].filter(Boolean);
  return make("li", head, ...said, make("footer", ...facts.map((fact) => make("span", bdi(plain(fact))))));
}

$("door-kept").hidden = !IS_SURE;
$("door-plain").hidden = IS_SURE;
setText("door-where", location.host);
const known = new URL("/", location);  // the owner's page is at another address each time the hub starts
known.hostname = KNOWN_HOST;
$("again").href = known;

session.open();
