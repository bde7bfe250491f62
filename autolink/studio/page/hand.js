// A source moved by hand: keypoints are dragged, expressions are set, and it follows; kept poses become a motion.

import { ask } from "./live.js";
import { Stage, strongest } from "./stage.js";
import { Timeline } from "./timeline.js";
import { $, api, clone, eachFrame, namedSlider, remembered, saveJson, say, toggle, tried, upload } from "./util.js";

const RATE = 25;
const MOTION_SIDE = 256; // pixels of the square that a saved motion is told in

let stage;
let timeline;
let facts = null;
let source = null;
let square = "auto";
let now = null; // {pose, regions}: the parent's keypoints in shares of the square, the children's in their regions
let own = null; // the same of the source as it is
let maps = []; // where the regions are, in [-1, 1] of the square
let history = [];
let learned = null; // {directions, names} of expressions
let values = []; // how much of each is in the pose
let since = 0;
let others = { take: () => {}, driver: () => null };

const toShare = (v) => (((v + 1) / 2) * (facts.size - 1) + 0.5) / facts.size;
const fromShare = (v) => ((v * facts.size - 0.5) / (facts.size - 1)) * 2 - 1;
const rounded = (points) => points.map((point) => point.map((v) => Number(v.toFixed(4))));
const keypoints = (pose) => rounded(pose.map((point) => point.map(fromShare)));

/** `others` has take(upload, crop), which makes a motion the driver, and driver(), what is learned from. */
export async function openHand(held, crop, given) {
  if (!stage) bind();
  others = given;
  source = held;
  square = crop ? [crop.x, crop.y, crop.side, crop.side].map((v) => v.toFixed(2)).join(",") : "auto";
  facts = null;
  stage.points = [];
  stage.picture = null;
  $("#t-hand").hidden = false;
  $("#hand-stage .loading").hidden = false;
  $("#t-hand").scrollIntoView({ behavior: "smooth", block: "start" });
  const found = await tried(() => api(`uploads/${held.id}/puppet?crop=${encodeURIComponent(square)}`), $("#t-by-hand"));
  if (!found) {
    closeHand();
    return;
  }
  facts = found;
  own = { pose: facts.keypoints.map((point) => point.map(toShare)), regions: facts.regions };
  now = clone(own);
  maps = [];
  prepareStage();
  history = [clone(now)];
  learned = remembered(`expressions of ${facts.checkpoint}`);
  if (learned?.directions?.[0]?.length !== own.pose.length) learned = null;
  showExpressions();
  $("#h-children-field").hidden = !own.regions.length;
  $("#hand-stage .loading").hidden = true;
  draw();
  timeline.clear();
  redrawn((picture) => timeline.keep({ at: 0, state: clone(own), picture }));
}

export function closeHand() {
  if (!stage) return;
  timeline.stop();
  $("#t-hand").hidden = true;
}

function prepareStage() {
  const counts = [own.pose.length, ...own.regions.map((points) => points.length)];
  const blocks = counts.map((count, n) => [counts.slice(0, n).reduce((a, b) => a + b, 0), count]);
  const shown = strongest(facts.edges, facts.weights, blocks, 1);
  stage.edges = facts.edges;
  stage.weights = facts.weights.map((w, e) => (shown.has(e) ? w : -1));
  stage.colours = facts.colours.map((rgb) => rgb.join(" "));
  stage.smallFrom = own.pose.length;
  stage.ghost = own.pose;
  stage.ghostVisible = true;
  stage.selected.clear();
  stage.pinned.clear();
  place();
}

/** The points on the stage: the parent's, and the children's where their regions are. */
function place() {
  const shown = $("#h-children").checked && maps.length ? now.regions : [];
  const children = shown.flatMap((points, n) => points.map(([x, y]) => maps[n].map(([a, b, c]) => toShare(a * x + b * y + c))));
  stage.points = [...clone(now.pose), ...children];
  stage.hidden = (e) => facts.edges[e][0] >= stage.points.length;
  stage.selected = new Set([...stage.selected].filter((k) => k < stage.points.length));
  stage.draw();
}

/** Take over what was dragged: children if only they were, else the parent, with which its regions go. */
function dragged() {
  const K = now.pose.length;
  if (![...stage.selected].every((k) => k >= K)) {
    now.pose = stage.points.slice(0, K);
    return;
  }
  let k = K;
  now.regions = now.regions.map((points, n) => {
    const [[a, b, c], [d, e, f]] = maps[n];
    const area = a * e - b * d;
    return points.map((point) => {
      const index = k;
      k += 1;
      if (!stage.selected.has(index)) return point;
      const [x, y] = stage.points[index].map(fromShare);
      return [(e * (x - c) - b * (y - f)) / area, (a * (y - f) - d * (x - c)) / area];
    });
  });
}

function bind() {
  stage = new Stage($("#hand-stage"), {
    moved: (final, stamp) => {
      timeline.stop();
      since = stamp ?? 0;
      dragged();
      place();
      draw();
      if (final) history.push(clone(now));
    },
  });
  stage.painted = () => {
    if (!stage.since) return;
    $("#hand-latency").hidden = false;
    $("#hand-latency").value = `${Math.round(performance.now() - stage.since)} ms`;
    stage.since = 0;
  };
  timeline = new Timeline($("#h-timeline"), { show: (state) => set(state, false), between });
  $("#t-hand-close").onclick = closeHand;
  $("#h-undo").onclick = undo;
  $("#h-reset").onclick = () => set(own);
  $("#h-all").onclick = () => {
    stage.selected = stage.selected.size === stage.points.length ? new Set() : new Set(stage.points.keys());
    stage.draw();
  };
  $("#h-pin").onclick = () => (stage.selected.size ? stage.pin() : say("select a point first, then pin it"));
  $("#h-graph").onclick = (event) => {
    stage.graphVisible = toggle(event.currentTarget);
    stage.draw();
  };
  $("#h-children").onchange = place;
  $("#t-hand").addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || event.target.closest("input[type=text]")) return;
    event.preventDefault();
    undo();
  });
  $("#h-keep").onclick = () => {
    timeline.stop();
    const state = clone(now);
    const at = timeline.placeForNew();
    redrawn((picture) => timeline.keep({ at, state, picture }));
  };
  $("#h-learn-driver").onclick = (event) => learn(event.currentTarget, () => {
    const driver = others.driver();
    if (!driver) throw new Error("choose a driver first, “Whose motion” above; expressions are what moves in it");
    return driver;
  });
  $("#h-learn-poses").onclick = (event) => learn(event.currentTarget, () => {
    const poses = timeline.frames.map((frame) => keypoints(frame.state.pose));
    if (poses.length < 3) throw new Error("keep three poses or more on the timeline first; expressions are what differs between them");
    return { poses };
  });
  $("#h-save").onclick = () => saveJson(motion(), "motion.json");
  $("#h-use").onclick = (event) => tried(async () => {
    if (timeline.frames.length < 2) throw new Error("keep a pose or two first; a motion goes from one to the next");
    const content = new Blob([JSON.stringify(motion())], { type: "application/json" });
    others.take(await upload(content, "by-hand.json"), facts.crop);
  }, event.currentTarget);
}

function undo() {
  if (history.length > 1) history.pop();
  set(history[history.length - 1], false);
}

/** Show a pose and expression; one that is chosen can be undone. */
function set(state, chosen = true) {
  now = clone(state);
  if (chosen) history.push(clone(state));
  values = values.map(() => 0);
  for (const slider of $("#h-expressions").querySelectorAll("input[type=range]")) slider.value = 0;
  since = 0;
  place();
  draw();
}

const wanted = (state) => ({ kind: "move", wanted: { upload: source.id, crop: square, keypoints: keypoints(state.pose), regions: state.regions.map(rounded) } });

const draw = eachFrame(() => {
  if (!facts) return;
  const begun = since;
  ask("picture", wanted(now), async (header, blob, older) => {
    if (header.error) {
      say(header.error, true);
      return;
    }
    stage.picture = await createImageBitmap(blob);
    stage.since = older ? 0 : begun;
    maps = header.maps;
    if (!stage.grip) place();
    stage.draw();
    document.body.dataset.moves = String(Number(document.body.dataset.moves ?? 0) + 1);
  });
});

/** The picture of the present pose, for a keyframe. */
function redrawn(done) {
  ask("keyframe", wanted(now), async (header, blob) => {
    if (header.error) say(header.error, true);
    else done(await createImageBitmap(blob));
  });
}

// expressions

function learn(button, what) {
  button.disabled = true;
  tried(async () => {
    const asked = { kind: "learn", wanted: { upload: source.id, crop: square, ...what() } };
    const header = await new Promise((done) => ask("learn", asked, done));
    if (header.error) throw new Error(header.error);
    learned = { directions: header.directions, names: header.directions.map(() => "") };
    showExpressions();
    say("these are the directions that move most; try them, and give them names");
  }, button);
}

function showExpressions() {
  const key = `expressions of ${facts.checkpoint}`;
  values = (learned?.directions ?? []).map(() => 0);
  $("#h-expressions-told").hidden = Boolean(learned);
  $("#h-expressions").replaceChildren(...values.map((_, n) => namedSlider(`Expression ${n + 1}`, learned.names[n], (name) => {
    learned.names[n] = name;
    remembered(key, learned);
  }, (value, final) => express(n, value, final))));
  if (learned) remembered(key, learned);
}

function express(n, value, final) {
  timeline.stop();
  const more = value - values[n];
  values[n] = value;
  const scale = (facts.size - 1) / facts.size / 2;
  now.pose = now.pose.map(([x, y], k) => {
    const [dx, dy] = learned.directions[n][k];
    return stage.pinned.has(k) ? [x, y] : [x + more * dx * scale, y + more * dy * scale];
  });
  if (final) history.push(clone(now));
  since = performance.now();
  place();
  draw();
}

// motion

/** A state between two others, `share` of the way. */
function between(from, to, share) {
  const mix = (a, b) => a.map(([x, y], k) => [x + share * (b[k][0] - x), y + share * (b[k][1] - y)]);
  return { pose: mix(from.pose, to.pose), regions: from.regions.map((points, n) => mix(points, to.regions[n])) };
}

function motion() {
  const count = Math.round(timeline.seconds * RATE);
  const states = [...Array(count + 1).keys()].map((n) => timeline.at(n / RATE));
  const pixels = (v) => Number((((fromShare(v) + 1) / 2) * (MOTION_SIDE - 1)).toFixed(3));
  const regions = own.regions.map((_, n) => ({ owner: facts.owners[n], frames: states.map((state) => rounded(state.regions[n])), beliefs: states.map(() => 1) }));
  return {
    checkpoint: facts.checkpoint, rate: String(RATE), width: MOTION_SIDE, height: MOTION_SIDE,
    frames: states.map((state) => state.pose.map((point) => point.map(pixels))),
    ...(regions.length ? { regions } : {}),
  };
}
