// A source moved by hand: keypoints are dragged and it follows; poses are kept as keyframes and become a motion.

import { ask } from "./live.js";
import { Stage } from "./stage.js";
import { $, api, eachFrame, h, icon, saveJson, say, toggle, tried, upload } from "./util.js";

const RATE = 25;
const MOTION_SIDE = 256; // pixels of the square that a saved motion is told in
const clone = (value) => JSON.parse(JSON.stringify(value));

let stage;
let facts = null;
let source = null;
let square = "auto";
let own = []; // the source's own pose, in shares of the square
let history = [];
let frames = []; // kept poses: {points, picture}
let playing = null;
let since = 0;
let take = () => {};

const toShare = (v) => (((v + 1) / 2) * (facts.size - 1) + 0.5) / facts.size;
const fromShare = (v) => ((v * facts.size - 0.5) / (facts.size - 1)) * 2 - 1;

export async function openHand(held, crop, taken) {
  if (!stage) bind();
  take = taken;
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
  own = facts.keypoints.map((point) => point.map(toShare));
  stage.points = clone(own);
  stage.edges = facts.edges;
  stage.weights = facts.weights;
  stage.colours = facts.colours.map((rgb) => rgb.join(" "));
  stage.shown = own.length;
  stage.ghost = own;
  stage.ghostVisible = true;
  stage.selected.clear();
  stage.pinned.clear();
  history = [clone(own)];
  frames = [];
  $("#hand-stage .loading").hidden = true;
  draw();
  redrawn((image) => {
    frames = [{ points: clone(own), picture: image }];
    showFrames();
  });
}

export function closeHand() {
  if (!stage) return;
  stop();
  $("#t-hand").hidden = true;
}

function bind() {
  stage = new Stage($("#hand-stage"), {
    moved: (final, stamp) => {
      since = stamp ?? 0;
      draw();
      if (final) history.push(clone(stage.points));
    },
  });
  stage.painted = () => {
    if (!stage.since) return;
    $("#hand-latency").hidden = false;
    $("#hand-latency").value = `${Math.round(performance.now() - stage.since)} ms`;
    stage.since = 0;
  };
  $("#t-hand-close").onclick = closeHand;
  $("#h-undo").onclick = () => {
    if (history.length > 1) history.pop();
    set(history[history.length - 1]);
  };
  $("#h-reset").onclick = () => {
    history.push(clone(own));
    set(own);
  };
  $("#h-all").onclick = () => {
    stage.selected = stage.selected.size === stage.points.length ? new Set() : new Set(stage.points.keys());
    stage.draw();
  };
  $("#h-pin").onclick = () => (stage.selected.size ? stage.pin() : say("select a point first, then pin it"));
  $("#h-graph").onclick = (event) => {
    stage.graphVisible = toggle(event.currentTarget);
    stage.draw();
  };
  $("#h-keep").onclick = () => {
    const points = clone(stage.points);
    redrawn((image) => {
      frames.push({ points, picture: image });
      showFrames();
    });
  };
  $("#h-seconds").oninput = () => ($("#h-seconds-told").value = Number($("#h-seconds").value).toFixed(1));
  $("#h-seconds").oninput();
  $("#h-play").onclick = () => (playing ? stop() : play());
  $("#h-save").onclick = () => saveJson(motion(), "motion.json");
  $("#h-use").onclick = (event) => tried(async () => {
    if (frames.length < 2) throw new Error("keep a pose or two first; a motion goes from one to the next");
    const content = new Blob([JSON.stringify(motion())], { type: "application/json" });
    take(await upload(content, "by-hand.json"), facts.crop);
  }, event.currentTarget);
}

function set(points) {
  stage.points = clone(points);
  since = 0;
  stage.draw();
  draw();
}

const wanted = (points) => ({ kind: "move", wanted: { upload: source.id, crop: square, keypoints: points.map((point) => point.map((v) => Number(fromShare(v).toFixed(4)))) } });

const draw = eachFrame(() => {
  if (!facts) return;
  const begun = since;
  ask("picture", wanted(stage.points), async (header, blob, older) => {
    if (header.error) {
      say(header.error, true);
      return;
    }
    stage.picture = await createImageBitmap(blob);
    stage.since = older ? 0 : begun;
    stage.draw();
    document.body.dataset.moves = String(Number(document.body.dataset.moves ?? 0) + 1);
  });
});

/** The picture of the present pose, for a keyframe. */
function redrawn(done) {
  ask("keyframe", wanted(stage.points), async (header, blob) => {
    if (header.error) say(header.error, true);
    else done(await createImageBitmap(blob));
  });
}

function showFrames() {
  $("#h-frames").replaceChildren(
    ...frames.map((frame, n) => {
      const canvas = h("canvas", { width: 96, height: 96 });
      canvas.getContext("2d").drawImage(frame.picture, 0, 0, 96, 96);
      const open = () => {
        history.push(clone(frame.points));
        set(frame.points);
      };
      const remove = h("button", { class: "remove", "aria-label": `Remove keyframe ${n}`, onclick: () => { frames.splice(n, 1); showFrames(); } }, icon("close"));
      return h("div", {}, h("button", { class: "tile wide", "aria-label": n ? `Keyframe ${n}` : "The source's own pose", onclick: open }, canvas), n > 0 && remove);
    }),
  );
}

/** The pose at a time, smoothly from keyframe to keyframe and back to the first. */
function poseAt(seconds) {
  const each = Number($("#h-seconds").value);
  const place = (seconds / each) % frames.length;
  const n = Math.floor(place);
  const share = 0.5 - 0.5 * Math.cos((place - n) * Math.PI);
  const [from, to] = [frames[n].points, frames[(n + 1) % frames.length].points];
  return from.map(([x, y], k) => [x + share * (to[k][0] - x), y + share * (to[k][1] - y)]);
}

const length = () => Number($("#h-seconds").value) * frames.length;

function motion() {
  const count = Math.max(1, Math.round(length() * RATE));
  const pixels = (v) => Number((((fromShare(v) + 1) / 2) * (MOTION_SIDE - 1)).toFixed(3));
  const poses = [...Array(count + 1).keys()].map((n) => poseAt((n / RATE) % length()));
  return { checkpoint: facts.checkpoint, rate: String(RATE), width: MOTION_SIDE, height: MOTION_SIDE, frames: poses.map((pose) => pose.map((point) => point.map(pixels))) };
}

function play() {
  if (frames.length < 2) {
    say("keep a pose or two first; the clip goes from one to the next");
    return;
  }
  const begun = performance.now();
  $("#h-play span").textContent = "Stop";
  const step = () => {
    if (!playing) return;
    set(poseAt((performance.now() - begun) / 1000));
    playing = requestAnimationFrame(step);
  };
  playing = requestAnimationFrame(step);
}

function stop() {
  if (playing) cancelAnimationFrame(playing);
  playing = null;
  $("#h-play span").textContent = "Play";
}
