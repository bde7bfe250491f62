// Discover: keypoints, graph, parts and edge map of pictures, or of the webcam.

import { jobs } from "./jobs.js";
import { ask } from "./live.js";
import { Stage, strongest } from "./stage.js";
import { $, api, h, press, say, saveBlob, saveJson, showExamples, takesDrops, tried, upload } from "./util.js";

const CAMERA_SIDE = 256;
const PARTS = ["240 88 70", "64 158 250", "250 190 60", "92 204 120", "190 110 240", "250 130 190", "70 210 210", "220 220 220"];

let stage;
let view = "graph";
let found = []; // {upload, image, keypoints, ...} of each picture
let shown = null;
let camera = null; // the stream while the webcam is on

export const discover = {
  start,
  async open(argument) {
    const { stage_ones } = await api("checkpoints");
    const select = $("#d-checkpoint");
    const now = select.value;
    select.replaceChildren(h("option", { value: "auto" }, "the one that knows it best"), ...stage_ones.map((name) => h("option", { value: name }, told(name))));
    select.value = [argument, now].find((name) => stage_ones.includes(name)) ?? "auto";
  },
};

function told(name) {
  if (name === "faces-transfer/stage_one") return "faces, with mouth and eyes";
  return name.startsWith("runs/") ? `trained here: ${jobs.get(name.slice(5))?.title ?? name.slice(5)}` : name;
}

async function start() {
  stage = new Stage($("#d-stage"));
  stage.editable = false;
  stage.edgeColour = (e) => (view === "parts" ? partColour(stage.edges[e][0], stage.edges[e][1]) : null);
  stage.extra = drawRegions;
  const examples = Object.entries(await api("gallery")).filter(([name]) => name.endsWith(".png"));
  showExamples($("#d-gallery"), examples, (held) => take([held]));
  takesDrops($("#d-empty"), receive);
  takesDrops($("#d-stage"), receive);
  $("#d-file").onchange = (event) => {
    receive([...event.target.files]);
    event.target.value = "";
  };
  $("#d-webcam").onclick = $("#d-live").onclick = (event) => tried(() => (camera ? closeCamera() : openCamera()), event.currentTarget);
  $("#d-checkpoint").onchange = again;
  for (const button of $("#d-view").children) button.onclick = () => setView(button.dataset.value);
  for (const id of ["d-parts", "d-edges", "d-children", "d-numbers"]) $(`#${id}`).oninput = refresh;
  $("#d-save-picture").onclick = savePicture;
  $("#d-save-keypoints").onclick = saveKeypoints;
  document.addEventListener("visibilitychange", () => document.hidden && camera && closeCamera());
  addEventListener("hashchange", () => camera && !location.hash.startsWith("#discover") && closeCamera());
}

async function receive(files) {
  working(true);
  const held = [];
  for (const file of files) {
    const one = await tried(() => upload(file));
    if (one) held.push(one);
  }
  if (held.length) await take(held);
  else working(false);
}

async function take(uploads) {
  if (camera) closeCamera();
  working(true);
  for (const held of uploads) {
    const one = await tried(() => look(held));
    if (!one) continue;
    found.push(one);
    show(one);
  }
  working(false);
}

async function look(held) {
  const checkpoint = $("#d-checkpoint").value;
  const [facts, image] = await Promise.all([
    api(`uploads/${held.id}/keypoints?checkpoint=${encodeURIComponent(checkpoint)}`),
    fetch(`/api/uploads/${held.id}/picture`).then((answer) => answer.blob()).then(createImageBitmap),
  ]);
  return { ...facts, upload: held, image };
}

async function again() {
  if (camera) {
    closeCamera();
    await tried(openCamera);
    return;
  }
  if (!shown) return;
  working(true);
  const fresh = await tried(() => look(shown.upload));
  working(false);
  if (!fresh) return;
  found = found.map((one) => (one === shown ? fresh : one));
  show(fresh);
}

function working(on) {
  const empty = !on && !shown && !camera;
  $("#d-empty").hidden = !empty;
  $("#d-stage").hidden = empty;
  $("#d-tools").hidden = empty;
  $("#d-stage .loading").hidden = !on;
}

function show(one) {
  shown = one;
  place(one);
  stage.picture = one.image;
  $("#d-stage").style.aspectRatio = `${one.width} / ${one.height}`;
  $("#d-stage").style.setProperty("--aspect", one.width / one.height);
  $("#d-chosen").textContent = one.checkpoint && $("#d-checkpoint").value === "auto" ? `Chosen: ${told(one.checkpoint)}` : "";
  $("#d-children-field").hidden = !one.owners?.length;
  $("#d-parts").max = Math.max(...Object.keys(one.parts ?? { 2: 0 }).map(Number));
  if (view === "edges") edgeMap();
  refresh();
  thumbnails();
}

function place(one) {
  stage.points = one.keypoints.map(([x, y]) => [(x + 0.5) / one.width, (y + 0.5) / one.height]);
  stage.edges = one.pairs;
  stage.weights = one.weights;
}

function refresh() {
  if (!shown) return;
  const most = Number($("#d-edges").value); // edges for each keypoint, in each block of the graph
  const blocks = $("#d-children").checked ? shown.blocks : shown.blocks.slice(0, 1);
  const shownEdges = strongest(shown.pairs, shown.weights, blocks, most);
  stage.weights = shown.weights.map((w, e) => (shownEdges.has(e) ? w : -1));
  stage.least = 0;
  $("#d-edges-told").value = `${shownEdges.size} of ${shown.pairs.length}`;
  $("#d-parts-told").value = $("#d-parts").value;
  stage.colours = shown.keypoints.map((_, k) => (view === "parts" ? partColour(k, k) : shown.colours[k].join(" ")));
  stage.numbers = $("#d-numbers").checked;
  stage.graphVisible = view !== "edges";
  stage.draw();
}

function partColour(i, j) {
  const parts = shown.parts[$("#d-parts").value] ?? [];
  if (i >= shown.parent_keypoints) return "235 235 235";
  return parts[i] === parts[j] ? PARTS[parts[i] % PARTS.length] : "150 155 152";
}

function drawRegions(context, w, h) {
  if (!shown?.regions?.length || !$("#d-children").checked || view === "edges") return;
  context.setLineDash([6, 5]);
  context.lineWidth = 1.5;
  shown.regions.forEach((corners, n) => {
    const at = corners.map(([x, y]) => [((x + 0.5) / shown.width) * w, ((y + 0.5) / shown.height) * h]);
    context.strokeStyle = "rgb(255 255 255 / .9)";
    context.beginPath();
    at.forEach((point, k) => (k ? context.lineTo(...point) : context.moveTo(...point)));
    context.closePath();
    context.stroke();
    const [x, y] = at.reduce((a, b) => (b[1] < a[1] ? b : a));
    context.font = "600 12px system-ui, sans-serif";
    context.fillStyle = "#fff";
    context.strokeStyle = "rgb(0 0 0 / .8)";
    context.lineWidth = 3;
    context.setLineDash([]);
    context.strokeText(shown.owners[n], Math.max(4, x), Math.max(14, y - 6));
    context.fillText(shown.owners[n], Math.max(4, x), Math.max(14, y - 6));
    context.setLineDash([6, 5]);
    context.lineWidth = 1.5;
  });
  context.setLineDash([]);
}

function setView(next) {
  view = next;
  press($("#d-view"), view);
  $("#d-parts-field").hidden = $("#d-parts-note").hidden = view !== "parts";
  if (!shown) return;
  if (view === "edges") edgeMap();
  else stage.picture = shown.image;
  refresh();
}

async function edgeMap() {
  const one = shown;
  if (!one.upload) return; // the webcam's comes with its frames
  const answer = await fetch(`/api/uploads/${one.upload.id}/edge_map?checkpoint=${encodeURIComponent(one.checkpoint)}`);
  const image = await createImageBitmap(await answer.blob());
  if (view === "edges" && shown === one) {
    stage.picture = image;
    stage.draw();
  }
}

function thumbnails() {
  $("#d-tiles").hidden = found.length < 2;
  $("#d-tiles").replaceChildren(
    ...found.map((one) => h("button", { class: "tile", "aria-pressed": String(one === shown), "aria-label": one.upload.name, onclick: () => show(one) }, h("img", { src: `/api/uploads/${one.upload.id}/picture`, alt: "" }))),
  );
}

// webcam

async function openCamera() {
  const checkpoint = $("#d-checkpoint").value === "auto" ? "faces-transfer/stage_one" : $("#d-checkpoint").value;
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "the browser did not allow the webcam; allow it in the address bar and try again" : "no webcam was found");
  }
  const video = h("video", { id: "d-video", muted: true, playsinline: true });
  video.muted = true;
  video.srcObject = camera;
  await video.play();
  working(true);
  $("#d-live span").textContent = "Close the webcam";
  const small = h("canvas");
  const side = Math.min(video.videoWidth, video.videoHeight);
  [small.width, small.height] = [CAMERA_SIDE, CAMERA_SIDE];
  const opened = camera;
  const loop = async () => {
    if (camera !== opened) return;
    const context = small.getContext("2d");
    context.drawImage(video, (video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side, side, 0, 0, CAMERA_SIDE, CAMERA_SIDE);
    const blob = await new Promise((done) => small.toBlob(done, "image/jpeg", 0.85));
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const frame = await createImageBitmap(small);
    const since = performance.now();
    const edges = view === "edges";
    ask("camera", { kind: "look", checkpoint, edges }, async (header, answer) => {
      const picture = edges && !header.error ? await createImageBitmap(answer) : frame;
      if (camera !== opened) return;
      if (header.error) {
        closeCamera();
        say(header.error, true);
        return;
      }
      working(false);
      const fresh = { ...header, upload: null, image: frame };
      if (!shown || shown.upload || shown.checkpoint !== header.checkpoint) show(fresh);
      shown = fresh;
      stage.picture = picture;
      place(fresh);
      refresh();
      $("#d-told").hidden = false;
      $("#d-told").value = `${Math.round(performance.now() - since)} ms`;
      requestAnimationFrame(loop);
    }, bytes);
  };
  loop();
}

function closeCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
  $("#d-told").hidden = true;
  $("#d-live span").textContent = "Webcam";
  shown = null;
  if (found.length) show(found[found.length - 1]);
  working(false);
}

// saving

function savePicture() {
  if (!shown) return;
  const scale = Math.max(1, 768 / Math.max(shown.width, shown.height));
  const canvas = h("canvas", { width: Math.round(shown.width * scale), height: Math.round(shown.height * scale) });
  stage.render(canvas.getContext("2d"), canvas.width, canvas.height);
  canvas.toBlob((blob) => saveBlob(blob, `${shown.upload?.name.replace(/\.\w+$/, "") ?? "webcam"}-graph.png`));
}

function saveKeypoints() {
  if (!shown) return;
  const rows = found.length ? found.filter((one) => one.checkpoint === shown.checkpoint) : [shown];
  const images = rows.map((one) => ({ image: one.upload?.name ?? "webcam", width: one.width, height: one.height, keypoints: one.keypoints }));
  saveJson({ checkpoint: shown.checkpoint, images, skipped: {} }, "keypoints.json");
}
