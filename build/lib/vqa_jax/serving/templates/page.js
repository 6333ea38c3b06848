// The page of the service: sends one video or two, and shows what comes back.
"use strict";

const byId = (id) => document.getElementById(id);
const [form, drop, input, chosen, go, stop, token, progress, told, error, result] = [
  "form", "drop", "files", "chosen", "go", "stop", "token", "progress", "status", "error", "result",
].map(byId);
const MOST_BYTES = Number(document.body.dataset.mostMb) * 2 ** 20;
const NAMES = ["A", "B"];
let files = [];
let request = null;
let links = []; // blob URLs of the videos that are shown

// Text is only ever set as text: names of files may hold anything.
function make(tag, more = {}, ...children) {
  const svg = ["svg", "path", "line", "circle", "text", "rect"].includes(tag);
  const node = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(more)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const rest = (tenths % 600) / 10;
  return `${Math.floor(tenths / 600)}:${rest < 10 ? "0" : ""}${rest.toFixed(1)}`;
}

const number = (value, digits = 1) => (value === null ? "–" : value.toFixed(digits).replace("-", "−"));
const percent = (share) => `${Math.round(100 * share)}%`;
const scoreOf = (of) => `${number(of.score)}${of.std === null ? "" : ` ± ${number(of.std)}`}`;

function bars(label, rows) {
  return make("ul", { class: "bars", "aria-label": label }, ...rows.map(([name, share]) => {
    const bar = make("span", { class: "bar s1" });
    bar.style.setProperty("--v", share.toFixed(4));
    return make("li", {}, make("span", { text: name }), bar, make("span", { text: percent(share) }));
  }));
}

function section(title, ...children) {
  return make("section", { "aria-label": title }, make("h2", { text: title }), ...children);
}

// --- choosing -----------------------------------------------------------------------------------

function choose(list) {
  const given = [...list];
  // Two are dropped together, or one after the other; after an answer or an error it begins anew.
  files = (given.length === 1 && files.length === 1 && result.hidden && error.hidden ? [files[0], ...given] : given).slice(0, 2);
  const size = files.reduce((sum, file) => sum + file.size, 0);
  chosen.replaceChildren(...files.map((file) => make("li", {
    text: `${file.name} (${file.size < 2 ** 20 ? `${Math.ceil(file.size / 1024)} KB` : `${(file.size / 2 ** 20).toFixed(1)} MB`})`,
  })));
  chosen.hidden = !files.length;
  go.textContent = files.length === 2 ? "Compare" : "Score";
  go.disabled = !files.length || size > MOST_BYTES;
  complain(size > MOST_BYTES ? `Together they are larger than ${document.body.dataset.mostMb} MB.` : "");
  if (given.length > 2) complain("Only the first two were taken.");
  told.textContent = files.length === 1 ? "Drop a second one to compare them." : "";
  result.hidden = true;
}

function complain(text) {
  error.textContent = text;
  error.hidden = !text;
}

input.addEventListener("change", () => { choose(input.files); input.value = ""; });
for (const kind of ["dragover", "dragenter", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover" || kind === "dragenter");
    if (kind === "drop" && event.dataTransfer.files.length && !request) choose(event.dataTransfer.files);
  });
}

// --- asking -------------------------------------------------------------------------------------

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!files.length || request) return;
  const two = files.length === 2;
  const body = new FormData();
  (two ? ["first", "second"] : ["video"]).forEach((field, k) => body.append(field, files[k]));
  const flags = two ? ["over_time", "pictures"] : ["curve", "pictures"];
  if (!two && "explains" in document.body.dataset) flags.push("explain");
  for (const flag of flags) body.append(flag, "true");
  send(two ? "v1/compare" : "v1/score", body, two ? showPair : showScore);
});
stop.addEventListener("click", () => request && request.abort());

function send(path, body, show) {
  complain("");
  result.hidden = true;
  const asked = files;
  const begun = Date.now();
  request = new XMLHttpRequest();
  request.open("POST", path);
  if (token.value) request.setRequestHeader("Authorization", `Bearer ${token.value}`);
  request.responseType = "json";
  const ticking = setInterval(() => {
    if (progress.hasAttribute("value")) return;
    told.textContent = `The student looks at it: ${Math.round((Date.now() - begun) / 1000)} s`;
  }, 500);
  request.upload.addEventListener("progress", (event) => {
    if (!event.lengthComputable) return;
    progress.max = event.total;
    progress.value = event.loaded;
    told.textContent = `Uploading: ${percent(event.loaded / event.total)}`;
    if (event.loaded === event.total) progress.removeAttribute("value");
  });
  const ended = (text) => () => {
    const { status, response } = request;
    const wait = request.getResponseHeader("Retry-After");
    clearInterval(ticking);
    request = null;
    busy(false);
    told.textContent = "";
    if (status === 200 && response) {
      show(response, asked);
      told.textContent = `Done in ${((Date.now() - begun) / 1000).toFixed(1)} s.`;
      result.hidden = false;
      result.focus({ preventScroll: true });
      result.scrollIntoView({ block: "start" });
      return;
    }
    if (status === 401) { token.hidden = false; token.focus(); }
    const why = (response && response.error) || text || `the service answered ${status}`;
    complain(`${response && response.file ? `${response.file}: ` : ""}${why}${wait ? ` (try again in ${wait} s)` : ""}`);
  };
  request.addEventListener("load", ended(""));
  request.addEventListener("error", ended("the service cannot be reached, or refused the upload"));
  request.addEventListener("abort", ended("stopped"));
  busy(true);
  request.send(body);
}

function busy(yes) {
  go.disabled = yes;
  input.disabled = yes;
  stop.hidden = !yes;
  progress.hidden = !yes;
  progress.removeAttribute("value");
}

// --- players ------------------------------------------------------------------------------------

// Videos with one set of controls, kept together; `curve` is told where they are.
function players(asked, names) {
  links.forEach(URL.revokeObjectURL);
  links = asked.map((file) => URL.createObjectURL(file));
  const videos = asked.map((file, k) => make("video", {
    src: links[k], muted: true, playsinline: true, preload: "auto", "aria-label": file.name,
  }));
  const box = make("div", { class: "players" }, ...videos.map((video, k) => {
    const caption = make("figcaption", { text: names[k] });
    video.muted = true;
    video.addEventListener("error", () => {
      video.hidden = true;
      caption.append(make("span", { text: "this browser cannot play it; the score is not concerned" }));
    });
    return make("figure", {}, video, caption);
  }));
  const lead = videos[0];
  const place = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "Position" });
  const shown = make("output", { text: "0:00.0" });
  const play = make("button", { type: "button", text: "Play" });
  const listeners = [];
  const all = { videos, seek, onTime: (listener) => listeners.push(listener) };
  const length = () => Math.min(...videos.map((v) => v.duration || Infinity));

  function seek(seconds) {
    const until = Number.isFinite(length()) ? length() : seconds;
    const time = Math.max(0, Math.min(seconds, until));
    videos.forEach((video) => { video.currentTime = time; });
    told(time);
  }
  function told(time = lead.currentTime) {
    place.value = time;
    shown.textContent = `${clock(time)} / ${clock(Number.isFinite(length()) ? length() : 0)}`;
    place.setAttribute("aria-valuetext", clock(time));
    listeners.forEach((listener) => listener(time));
  }
  function follow() {
    if (lead.paused) return;
    for (const video of videos.slice(1)) {
      if (Math.abs(video.currentTime - lead.currentTime) > 0.08) video.currentTime = lead.currentTime;
    }
    told();
    requestAnimationFrame(follow);
  }
  videos.forEach((v) => v.addEventListener("loadedmetadata", () => { if (Number.isFinite(length())) place.max = length(); told(); }));
  lead.addEventListener("seeked", () => told());
  lead.addEventListener("play", () => { play.textContent = "Pause"; videos.slice(1).forEach((v) => v.play()); follow(); });
  for (const kind of ["pause", "ended"]) {
    lead.addEventListener(kind, () => { play.textContent = "Play"; videos.slice(1).forEach((v) => v.pause()); });
  }
  play.addEventListener("click", () => { if (lead.paused) lead.play().catch(() => {}); else lead.pause(); });
  place.addEventListener("input", () => seek(Number(place.value)));
  const step = (by, text, label) => make("button", {
    type: "button", text, "aria-label": label, onclick: () => { lead.pause(); seek(lead.currentTime + by); },
  });
  all.node = make("div", {}, box, make("div", { class: "controls" }, play,
    step(-0.1, "−0.1 s", "Back by a tenth of a second"), step(0.1, "+0.1 s", "On by a tenth of a second"), place, shown));
  return all;
}

// --- a curve over time ----------------------------------------------------------------------------

// points: {x: seconds, stop, y, low, high}; marks: {x, y}. Pressing it, or arrow keys on it, seek.
function curve(points, marks, label, bounds, player) {
  const [wide, high, left, bottom, top] = [Math.max(320, Math.min(1000, window.innerWidth - 60)), 210, 38, 24, 10];
  const end = Math.max(...points.map((p) => p.stop));
  let [low, most] = bounds || [Math.min(...points.map((p) => p.low)), Math.max(...points.map((p) => p.high))];
  if (most - low < 1) { low -= 0.5; most += 0.5; }
  const x = (seconds) => left + (wide - left - 8) * Math.min(seconds / end, 1);
  const y = (value) => top + (high - top - bottom) * (1 - (value - low) / (most - low));
  const line = (list) => list.map(([a, b], k) => `${k ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const svg = make("svg", {
    class: "curve", viewBox: `0 0 ${wide} ${high}`, role: "slider", tabindex: "0",
    "aria-label": `${label}; arrow keys seek`, "aria-valuemin": 0, "aria-valuemax": end.toFixed(1), "aria-valuenow": 0,
  });
  for (let k = 0; k <= 4; k += 1) {
    const value = low + ((most - low) * k) / 4;
    svg.append(
      make("line", { class: "grid", x1: left, x2: wide - 8, y1: y(value), y2: y(value) }),
      make("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end", text: bounds ? percent(value) : number(value, 0) }),
      make("text", { x: x((end * k) / 4), y: high - 6, "text-anchor": k === 4 ? "end" : k ? "middle" : "start", text: clock((end * k) / 4) }),
    );
  }
  const band = [...points.map((p) => [p.x, p.high]), ...points.map((p) => [p.x, p.low]).reverse()];
  svg.append(
    make("path", { class: "band", d: `${line(band)}Z` }),
    make("path", { class: "line", d: line(points.map((p) => [p.x, p.y])) }),
    ...marks.map((p) => make("circle", { class: "mark", cx: x(p.x), cy: y(p.y), r: 5 })),
  );
  const now = make("line", { class: "now", x1: left, x2: left, y1: top, y2: high - bottom });
  svg.append(now);
  player.onTime((time) => {
    now.setAttribute("x1", x(time));
    now.setAttribute("x2", x(time));
    svg.setAttribute("aria-valuenow", time.toFixed(1));
    svg.setAttribute("aria-valuetext", clock(time));
  });
  const press = (event) => {
    if (event.buttons !== 1) return;
    const box = svg.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * wide;
    player.seek(((place - left) / (wide - left - 8)) * end);
  };
  svg.addEventListener("pointerdown", press);
  svg.addEventListener("pointermove", press);
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    player.seek(player.videos[0].currentTime + by);
  });
  return svg;
}

function moment(title, note, time, player, ...pictures) {
  return make("li", {}, make("button", {
    type: "button", text: `${title} · go there`, onclick: () => { player.seek(time); player.node.scrollIntoView({ block: "nearest" }); },
  }), make("div", { class: "muted", text: note }), ...pictures);
}

const span = (m) => `${clock(m.start)} to ${clock(m.stop)}`;
const middle = (m) => (m.start + m.stop) / 2;

// --- one video ------------------------------------------------------------------------------------

function tile(value, name, small) {
  return make("div", { class: "tile" }, make("span", { text: name }), make("b", { text: value }), small && make("small", { text: small }));
}

function showScore(answer, asked) {
  const found = answer.result;
  const player = players(asked, [found.path]);
  const tiles = make("div", { class: "tiles" },
    tile(scoreOf(found), "Score, higher is better", found.extrapolated ? "beyond the anchors" : ""));
  const parts = [make("h2", { text: found.path }), tiles];
  if (found.notes) parts.push(make("p", { class: "absent", text: found.notes }));
  parts.push(player.node);
  const over = answer.curve;
  const good = over ? over.moments.filter((m) => m.score !== null) : [];
  if (good.length) {
    tiles.append(tile(number(over.summary.worst_5_percent), "Its worst 5%"), tile(number(over.summary.median), "Median over time"));
  }
  const shown = [make("section", { "aria-label": "Score" }, ...parts, make("p", { class: "caption", text: found.scale }))];
  if (good.length > 1) {
    const points = good.map((m) => ({ x: middle(m), stop: m.stop, y: m.score, low: m.score - m.std, high: m.score + m.std }));
    const marks = over.worst.map((w) => ({ x: middle(w.moment), y: w.moment.score }));
    shown.push(section("Over time", curve(points, marks, "Score over time", null, player),
      make("p", { class: "caption", text: `Passages of 2 s, the band is ± 1 std.${over.note ? ` It covers ${over.note}.` : ""}` })));
  }
  const failed = over ? over.moments.filter((m) => m.error !== null) : [];
  if (failed.length) shown.push(make("p", { class: "absent", text: `Without a score from ${clock(failed[0].start)} on: ${failed[0].error}` }));
  if (over && over.worst.length) {
    shown.push(section("Worst moments", make("ul", { class: "moments" }, ...over.worst.map((w, k) => moment(
      `${k + 1}. ${span(w.moment)}`, `score ${scoreOf(w.moment)}`, w.time, player,
      w.picture && make("img", { src: w.picture.frame, alt: `Frame at ${clock(w.time)}` }),
    )))));
  }
  if (answer.explanation) shown.push(explained(answer.explanation, tiles));
  result.replaceChildren(...shown);
}

function explained(found, tiles) {
  tiles.append(tile(number(found.pictures), "Pictures alone"));
  if (found.motion !== null) tiles.append(tile(number(found.motion), "Motion alone"));
  const kinds = [["none of them", found.undistorted], ...found.flaws.map((flaw) => [flaw.kind.replaceAll("_", " "), flaw.probability])];
  const parts = [make("p", { text: found.text }), bars("Kinds of flaw", kinds)];
  if (found.heat) {
    const scores = found.places.map((place) => place.score);
    parts.push(make("figure", {}, make("img", { src: found.heat, alt: `The frame at ${clock(found.time)}, coloured by the score of each place` }),
      make("figcaption", { text: `Places at ${clock(found.time)}` }, make("span", {
        text: `orange: lowest, ${number(Math.min(...scores))}; blue: highest, ${number(Math.max(...scores))}` }))));
  }
  return section("What the student sees", ...parts, make("p", { class: "caption", text: found.what_not }));
}

// --- two videos -----------------------------------------------------------------------------------

function showPair(answer, asked) {
  const better = answer.pair.second_better;
  const surer = Math.max(better, 1 - better);
  const names = answer.versions.map((v) => `${v.name}: ${v.path}`);
  const winner = answer.versions[better >= 0.5 ? 1 : 0];
  const verdict = surer < 0.55 ? "No difference that the student is sure of"
    : `${winner.name} looks better, with probability ${percent(surer)}`;
  const player = players(asked, names.map((name, k) => {
    const { score } = answer.versions[k];
    return score === null ? name : `${name} (${scoreOf(answer.versions[k])})`;
  }));
  const levels = Object.entries(answer.pair.level_probs);
  const notes = [...answer.versions.filter((v) => v.notes).map((v) => `${v.name}: ${v.notes}`)];
  if (answer.pair.contradictory) notes.push("Shown the other way round, the student says the opposite: take this for a tie.");
  const shown = [
    section("Verdict", make("p", { class: "verdict", text: verdict }),
      ...notes.map((text) => make("p", { class: "absent", text })),
      player.node, make("h3", { text: "B in comparison with A" }), bars("What the student says of B", levels),
      make("p", { class: "caption", text: answer.scale })),
  ];
  const over = answer.over_time;
  if (over && over.moments.length > 1) {
    const points = over.moments.map((m) => ({ x: middle(m), stop: m.stop, y: m.second_better, low: m.second_better, high: m.second_better }));
    const marks = over.most.map((m) => ({ x: middle(m.moment), y: m.moment.second_better }));
    shown.push(section("Probability that B is better, over time", curve(points, marks, "Probability that B is better", [0, 1], player)));
  }
  if (over && over.note) shown.push(make("p", { class: "absent", text: `Over time: ${over.note}` }));
  if (over && over.most.length) {
    shown.push(section("Where they differ most", make("ul", { class: "moments" }, ...over.most.map((m, k) => moment(
      `${k + 1}. ${span(m.moment)}`, `B better: ${percent(m.moment.second_better)}`, m.time, player,
      m.first && make("div", { class: "pair" }, ...[m.first, m.second].map((picture, side) => make("figure", {},
        make("img", { src: picture.crop, alt: `${NAMES[side]} at ${clock(m.time)}, pixel for pixel` }),
        make("figcaption", { text: NAMES[side] })))),
    )))));
  }
  result.replaceChildren(...shown);
}
