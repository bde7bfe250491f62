// Animals: drag a keypoint and the picture follows.

import { ask, onNews } from "./live.js";
import { Stage } from "./stage.js";
import { $, api, clone, eachFrame, h, namedSlider, press, pressed, remembered, saveBlob, saveJson, say, takesDrops, toggle, tried, upload, whenQuiet } from "./util.js";

const TILES = 12;

let facts;
let stage;
let state; // what the picture follows from: points, off, pinned, look, original
let history = [];
let now = -1;
let firstLook = 0;
let poseNumbers = [];
let pictured = null; // the uploaded picture that the pose comes from, if it does
let started = 0;

// [-1, 1] with the ends at pixel centres <-> shares of the picture
const toShare = (v) => (((v + 1) / 2) * (facts.size - 1) + 0.5) / facts.size;
const fromShare = (v) => ((v * facts.size - 0.5) / (facts.size - 1)) * 2 - 1;
const asShares = (points) => points.map((point) => point.map(toShare));
const asKeypoints = (points) => points.map((point) => point.map((v) => Number(Math.max(-facts.outside, Math.min(facts.outside, fromShare(v))).toFixed(4))));

export const animals = {
  start,
  async open(argument) {
    if (argument) readLink(argument);
    else if (!state) surprise(0, 0);
  },
};

async function start() {
  facts = await api("animals");
  stage = new Stage($("#animals-stage"), {
    moved: (final, stamp) => {
      state.points = stage.points;
      started = stamp ?? performance.now();
      picture();
      if (final) {
        keep();
        sayWhere();
      }
    },
    toggledEdge: (e) => {
      stage.off.has(e) ? stage.off.delete(e) : stage.off.add(e);
      changed();
    },
    pinned: () => {
      state.pinned = [...stage.pinned];
      keep();
    },
    selected: sayWhere,
  });
  stage.edges = facts.edges;
  stage.weights = facts.weights;
  stage.colours = facts.colours.map((rgb) => rgb.join(" "));
  stage.ghostVisible = true;
  stage.painted = measured;
  $("#animals-stage .loading").hidden = true;
  $("#a-edges").max = facts.weights.filter((w) => w > 0.01).length;
  bind();
  poseNumbers = [...Array(TILES).keys()];
  onNews((news) => {
    if (news.slot === "connected" && state) everything();
  });
}

// state

function look(values) {
  return { seed: 0, number: 0, class_number: 0, truncation: 0.75, sweep: Array(facts.look_directions).fill(0), ...values };
}

function show(next) {
  state = next;
  stage.points = clone(state.points);
  stage.off = new Set(state.off);
  stage.pinned = new Set(state.pinned);
  stage.ghost = state.original;
  stage.selected = new Set([...stage.selected].filter((k) => k < state.points.length));
  started = 0;
  controls();
  everything();
}

function changed() {
  state = { ...state, points: clone(stage.points), off: [...stage.off], pinned: [...stage.pinned] };
  started = performance.now();
  picture();
  controls();
  keep();
}

/** Remember the state for undo and in the address. */
function keep() {
  history = [...history.slice(Math.max(0, now - 199), now + 1), clone(state)];
  now = history.length - 1;
  controls();
  settled();
}

const settled = whenQuiet(() => {
  window.history.replaceState(null, "", `#animals/${packed()}`);
  tiles();
}, 220);

function step(by) {
  if (!history[now + by]) return;
  now += by;
  show(clone(history[now]));
}

function newPose(points, original = points) {
  const fresh = asShares(points);
  stage.selected.clear();
  show({ ...state, points: fresh, original: asShares(original), off: [], pinned: [] });
  keep();
}

function surprise(structure, number) {
  const keepLook = pressed($("#a-lock-look"));
  const keepPose = pressed($("#a-lock-pose"));
  const s = structure ?? Math.floor(Math.random() * facts.structures.length);
  const next = state ? clone(state) : { look: look() };
  if (!state || !keepPose) {
    next.points = next.original = asShares(facts.structures[s]);
    next.off = [];
    next.pinned = [];
    pictured = null;
  }
  if (!state || !keepLook) {
    const random = Math.floor(Math.random() * 100000);
    next.look = look({ ...next.look, number: number ?? random, sweep: Array(facts.look_directions).fill(0) });
    if (!state || !keepPose) next.look.class_number = Math.max(0, facts.structure_classes[s]);
  }
  stage.selected.clear();
  show(next);
  before();
  keep();
}

// the address: the state as JSON, packed as base64url

function plain() {
  return {
    version: 1, keypoints: asKeypoints(state.points), original: asKeypoints(state.original), off: state.off, pinned: state.pinned, look: state.look,
  };
}

function packed() {
  return btoa(JSON.stringify(plain())).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function readLink(text) {
  try {
    const content = JSON.parse(atob(text.replaceAll("-", "+").replaceAll("_", "/")));
    if (state && JSON.stringify(content) === JSON.stringify(plain())) return;
    take(content);
  } catch {
    say("this link holds no state of the studio; here is a fresh animal", true);
    surprise(0, 0);
  }
}

/** A state, or keypoints as `autolink detect` writes them. */
function take(content) {
  const K = facts.keypoints;
  const isPoints = (value) => Array.isArray(value) && value.length === K && value.every((p) => Array.isArray(p) && p.length === 2 && p.every((v) => Number.isFinite(v) && Math.abs(v) <= facts.outside));
  if (content.images?.[0]) {
    const { width, height, keypoints } = content.images[0];
    const points = keypoints.map(([x, y]) => [(x / Math.max(1, width - 1)) * 2 - 1, (y / Math.max(1, height - 1)) * 2 - 1]);
    if (!isPoints(points)) throw new Error(`this file has ${keypoints.length} keypoints, or some outside of the picture; the GAN wants its own ${K}`);
    newPose(points);
    return;
  }
  if (!isPoints(content.keypoints)) throw new Error("this is no state of the studio and no keypoints of this GAN");
  const inside = (list, end) => (Array.isArray(list) ? list.filter((n) => Number.isInteger(n) && n >= 0 && n < end) : []);
  const whole = (value, end) => (Number.isInteger(value) && value >= 0 && value < end ? value : 0);
  const given = content.look ?? {};
  const sweep = Array(facts.look_directions).fill(0).map((_, n) => (Number.isFinite(given.sweep?.[n]) ? given.sweep[n] : 0));
  const truncation = given.truncation >= 0 && given.truncation <= 2 ? given.truncation : 0.75;
  show({
    points: asShares(content.keypoints),
    original: asShares(isPoints(content.original) ? content.original : content.keypoints),
    off: inside(content.off, facts.edges.length),
    pinned: inside(content.pinned, K),
    look: { seed: whole(given.seed, 2 ** 31), number: whole(given.number, 2 ** 31), class_number: whole(given.class_number, facts.classes.length), truncation, sweep },
  });
  before();
  keep();
}

// pictures

const wanted = (points = state.points, given = state.look, off = state.off) => ({ kind: "paint", wanted: { keypoints: asKeypoints(points), off, look: given } });

async function bitmap(header, blob) {
  if (header.error) {
    say(header.error, true);
    return null;
  }
  return createImageBitmap(blob);
}

let inFlight = 0;
const picture = eachFrame(() => {
  const since = started;
  const off = [...stage.off];
  inFlight += 1;
  ask("picture", wanted(stage.points, state.look, off), async (header, blob, older) => {
    const image = await bitmap(header, blob);
    if (!image) return;
    stage.picture = image;
    stage.since = older ? 0 : since;
    stage.draw();
    document.body.dataset.pictures = String(Number(document.body.dataset.pictures ?? 0) + 1);
    if (!stage.before) before();
  });
});

/** How long after the hand moved its picture is on the canvas. */
function measured() {
  if (!stage.since) return;
  const milliseconds = performance.now() - stage.since;
  stage.since = 0;
  const told = $("#latency");
  told.hidden = false;
  told.value = `${Math.round(milliseconds)} ms`;
  (window.latencies ??= []).push(milliseconds);
}

/** What the original looks like in the present look, for the slider between before and after. */
const before = () => {
  if (pictured) {
    stage.before = pictured;
    stage.draw();
    return;
  }
  ask("before", wanted(state.original, state.look, []), async (header, blob) => {
    stage.before = await bitmap(header, blob);
    stage.draw();
  });
};

function everything() {
  picture();
  before();
  settled();
}

function tile(box, n, slot, content, told, chosen, take) {
  let button = box.children[n];
  if (!button) {
    button = h("button", { class: "tile" }, h("canvas", { width: facts.size, height: facts.size }));
    box.append(button);
  }
  button.setAttribute("aria-label", told);
  button.setAttribute("aria-pressed", String(chosen));
  button.onclick = take;
  const key = JSON.stringify(content);
  if (button.dataset.key === key) return;
  button.dataset.key = key;
  ask(slot, content, async (header, blob) => {
    const image = header.error ? null : await createImageBitmap(blob);
    if (image) $("canvas", button).getContext("2d").drawImage(image, 0, 0);
  });
}

function tiles() {
  if ($("#page-animals").hidden) return;
  for (let n = 0; n < TILES; n += 1) {
    const given = { ...state.look, number: firstLook + n, sweep: Array(facts.look_directions).fill(0) };
    const chosen = JSON.stringify(given) === JSON.stringify(state.look);
    tile($("#a-looks"), n, `look-${n}`, wanted(state.points, given), `Look ${firstLook + n}`, chosen, () => {
      state.look = given;
      changed();
      before();
    });
    const s = poseNumbers[n];
    const points = asShares(facts.structures[s]);
    tile($("#a-poses"), n, `pose-${n}`, wanted(points, state.look, []), `Pose ${s}`, JSON.stringify(asKeypoints(points)) === JSON.stringify(asKeypoints(state.points)), () => {
      pictured = null;
      newPose(facts.structures[s]);
    });
  }
}

// controls

function controls() {
  $("#a-undo").disabled = now < 1;
  $("#a-redo").disabled = now >= history.length - 1;
  press($("#a-class"), String(state.look.class_number));
  $("#a-truncation").value = state.look.truncation;
  $("#a-truncation-told").value = Number(state.look.truncation).toFixed(2);
  $("#a-seed").value = state.look.seed;
  $("#a-edges-told").value = `${$("#a-edges").value} of ${facts.edges.length}${stage.off.size ? `, ${stage.off.size} off` : ""}`;
  stage.shown = Number($("#a-edges").value);
  state.look.sweep.forEach((value, n) => {
    const slider = $(`#a-look-sweep-${n}`);
    if (slider) slider.value = value;
  });
  stage.draw();
}

/** Sliders along principal directions of looks or poses; their names are kept in this browser. */
function sweeps(kind, count, input) {
  const key = `${kind} directions of ${facts.name}`;
  const names = remembered(key) ?? [];
  for (let n = 0; n < count; n += 1) {
    const rename = (name) => {
      names[n] = name;
      remembered(key, names);
    };
    const row = namedSlider(`Direction ${n + 1}`, names[n] ?? "", rename, (value, final, slider) => input(n, value, final, slider));
    $("input[type=range]", row).id = `a-${kind}-sweep-${n}`;
    $(`#a-${kind}-sweeps`).append(row);
  }
}

function bind() {
  facts.classes.forEach((name, n) => $("#a-class").append(h("button", { "data-value": n, onclick: () => setLook({ class_number: n }) }, name.charAt(0).toUpperCase() + name.slice(1))));
  $("#a-class").hidden = facts.classes.length < 2;
  sweeps("look", facts.look_directions, (n, value, final) => {
    state.look.sweep[n] = value;
    if (final) {
      setLook({});
      return;
    }
    started = performance.now();
    picture();
  });
  let from = null;
  sweeps("pose", facts.pose_directions.length, (n, value, final, slider) => {
    from ??= clone(stage.points);
    const scale = (facts.size - 1) / facts.size / 2;
    const direction = facts.pose_directions[n];
    stage.points = from.map(([x, y], k) => (stage.pinned.has(k) ? [x, y] : [x + value * direction[k][0] * scale, y + value * direction[k][1] * scale]));
    state.points = stage.points;
    if (final) {
      from = null;
      slider.value = 0; // the pose has moved; a further sweep begins here
      changed();
      return;
    }
    started = performance.now();
    stage.draw();
    picture();
  });
  for (const button of $("#a-sweeps").children) {
    button.onclick = () => {
      press($("#a-sweeps"), button.dataset.value);
      for (const kind of ["look", "pose"]) $(`#a-${kind}-sweeps`).hidden = kind !== button.dataset.value;
    };
  }
  $("#a-dice").onclick = () => surprise();
  for (const id of ["a-lock-look", "a-lock-pose"]) $(`#${id}`).onclick = (event) => toggle(event.currentTarget);
  $("#a-truncation").oninput = (event) => {
    state.look.truncation = Number(event.target.value);
    $("#a-truncation-told").value = state.look.truncation.toFixed(2);
    picture();
  };
  $("#a-truncation").onchange = () => setLook({});
  $("#a-seed").onchange = (event) => setLook({ seed: Math.max(0, Math.min(2 ** 31 - 1, Math.floor(Number(event.target.value) || 0))) });
  $("#a-edges").oninput = () => controls();
  $("#a-undo").onclick = () => step(-1);
  $("#a-redo").onclick = () => step(1);
  $("#a-reset").onclick = reset;
  $("#a-all").onclick = () => {
    stage.selected = stage.selected.size === stage.points.length ? new Set() : new Set(stage.points.keys());
    stage.draw();
  };
  $("#a-pin").onclick = () => (stage.selected.size ? stage.pin() : say("select a point first, then pin it"));
  $("#a-mirror").onclick = mirror;
  $("#a-graph").onclick = (event) => {
    stage.graphVisible = toggle(event.currentTarget);
    stage.draw();
  };
  $("#a-ghost").onclick = (event) => {
    stage.ghostVisible = toggle(event.currentTarget);
    stage.draw();
  };
  $("#a-wipe").onclick = (event) => {
    stage.wipe = toggle(event.currentTarget) ? 0.5 : null;
    $("#wipe-told").hidden = stage.wipe === null;
    stage.draw();
  };
  $("#a-more-looks").onclick = () => {
    firstLook += TILES;
    tiles();
  };
  $("#a-more-poses").onclick = () => {
    poseNumbers = poseNumbers.map((n) => (n + TILES) % facts.structures.length);
    tiles();
  };
  $("#a-from-picture").onclick = () => $("#a-file").click();
  $("#a-file").onchange = (event) => {
    if (event.target.files[0]) open(event.target.files[0]);
    event.target.value = "";
  };
  takesDrops($("#animals-stage"), ([file]) => open(file));
  bindSave();
  document.addEventListener("keydown", key);
}

function setLook(values) {
  state.look = { ...state.look, ...values };
  changed();
  before();
}

function reset() {
  stage.points = clone(state.original);
  stage.off.clear();
  changed();
}

/** Turn it over: each keypoint goes to where its mirrored partner was. */
function mirror() {
  const points = clone(stage.points);
  stage.points = points.map(([x, y], k) => {
    const partner = points[facts.mirror[k]];
    return stage.pinned.has(k) ? [x, y] : [1 - partner[0], partner[1]];
  });
  changed();
}

function key(event) {
  if ($("#page-animals").hidden || document.querySelector("dialog[open]")) return;
  const writing = event.target.closest?.("input:not([type=range]), select, textarea");
  const command = event.ctrlKey || event.metaKey;
  const name = event.key.toLowerCase();
  if (writing || event.defaultPrevented) return;
  if (command && name === "z") event.shiftKey ? step(1) : step(-1);
  else if (command && name === "y") step(1);
  else if (command || event.altKey) return;
  else if (name === "m") mirror();
  else if (name === "r") reset();
  else if (name === "g") $("#a-graph").click();
  else if (name === "o") $("#a-ghost").click();
  else if (name === "b") $("#a-wipe").click();
  else if (name === " " && event.target === stage.canvas) surprise();
  else return;
  event.preventDefault();
}

function sayWhere() {
  const [k] = stage.selected;
  const percent = (v) => `${Math.round(v * 100)} %`;
  $("#spoken").textContent = stage.selected.size === 1
    ? `keypoint ${k}${stage.pinned.has(k) ? ", pinned" : ""}, at ${percent(stage.points[k][0])} from the left, ${percent(stage.points[k][1])} from the top`
    : `${stage.selected.size} keypoints selected`;
}

async function open(file) {
  await tried(async () => {
    if (file.name.toLowerCase().endsWith(".json")) {
      let content;
      try {
        content = JSON.parse(await file.text());
      } catch {
        throw new Error(`${file.name} is not JSON; give a state or keypoints that were saved here`);
      }
      take(content);
      return;
    }
    const held = await upload(file);
    const { keypoints } = await api(`uploads/${held.id}/structure`);
    const image = await (await fetch(`/api/uploads/${held.id}/picture`)).blob();
    pictured = await createImageBitmap(image);
    newPose(keypoints);
    before();
    say(`the pose is that of ${file.name}; the slider between before and after shows both`);
  });
}

// saving

function bindSave() {
  const menu = $("#a-export");
  const list = $("div", menu);
  const close = () => {
    list.hidden = true;
    $("button", menu).setAttribute("aria-expanded", "false");
  };
  $("button", menu).onclick = () => {
    list.hidden = !list.hidden;
    $("button", menu).setAttribute("aria-expanded", String(!list.hidden));
  };
  document.addEventListener("pointerdown", (event) => {
    if (!menu.contains(event.target)) close();
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  list.addEventListener("click", (event) => {
    const what = event.target.closest("button")?.dataset.save;
    close();
    if (what) save[what]();
  });
}

function savePicture(graph, name) {
  const side = 768;
  const canvas = h("canvas", { width: side, height: side });
  const { wipe, selected } = stage;
  [stage.wipe, stage.selected] = [null, new Set()];
  stage.render(canvas.getContext("2d"), side, side, graph);
  [stage.wipe, stage.selected] = [wipe, selected];
  canvas.toBlob((blob) => saveBlob(blob, name));
}

const save = {
  picture: () => savePicture(false, "animal.png"),
  graph: () => savePicture(true, "animal-graph.png"),
  keypoints: () => {
    const pixels = asKeypoints(state.points).map((point) => point.map((v) => Number((((v + 1) / 2) * (facts.size - 1)).toFixed(2))));
    saveJson({ images: [{ image: "animal.png", width: facts.size, height: facts.size, keypoints: pixels }], skipped: {} }, "keypoints.json");
  },
  state: () => saveJson(plain(), "animal-state.json"),
  link: async () => {
    const link = `${location.origin}/#animals/${packed()}`;
    await navigator.clipboard.writeText(link).then(() => say("the link is copied; it opens this very state"), () => say(link));
  },
  open: () => $("#a-file").click(),
};
