// Transfer: a source moved as a driver, as a job; crop, part of the driver, gains, and the result beside both.

import { card, command, going, jobs, ofKind, progress, stopJob, told, watch } from "./jobs.js";
import { closeHand, openHand } from "./hand.js";
import { $, $$, api, h, icon, press, post, say, showExamples, takesDrops, tried, upload } from "./util.js";

const MOTIONS = {
  relative: "The source moves as the driver moves away from its own starting pose: the safest choice for another person.",
  absolute: "The driver's keypoints as they are: for the same person, or one of the same build.",
  retarget: "The source keeps its own bone lengths and takes the driver's bone angles.",
};
const LONGEST_RECORDING = 20; // seconds

const chosen = { source: null, driver: null };
let crop = null; // {x, y, side} in pixels of the source
let motion = "relative";
let current = ""; // the job that is shown
let recorder = null;

export const transfer = {
  start,
  async open(argument) {
    const newest = ofKind("transfer")[0];
    const job = jobs.get(argument) ?? (current ? null : newest);
    if (job) await showJob(job.id);
  },
};

async function start() {
  const names = await api("gallery");
  for (const which of ["source", "driver"]) {
    const box = $(`#t-${which}`);
    const file = $("input[type=file]", box);
    for (const button of $$("[data-choose]", box)) button.onclick = () => file.click();
    file.onchange = () => {
      if (file.files[0]) receive(which, file.files[0]);
      file.value = "";
    };
    takesDrops(box, ([first]) => receive(which, first));
    const gallery = $("[data-examples]", box);
    showExamples(gallery, gallery.dataset.examples.split(" ").map((name) => [name, names[name]]), (held) => choose(which, held));
    for (const button of $$("[data-record]", box)) button.onclick = () => tried(record);
  }
  const cropButton = $("[data-crop]");
  cropButton.onclick = () => drawCrop(cropButton);
  $("[data-crop-auto]").onclick = () => {
    crop = null;
    showMedia("source");
  };
  $("#t-by-hand").onclick = () => openHand(chosen.source, crop, { take: takeMotion, driver: learnedFrom });
  for (const button of $("#t-motion").children) button.onclick = () => setMotion(button.dataset.value);
  setMotion("relative");
  for (const name of ["pose", "smooth", "lips", "eyes"]) {
    const slider = $(`#t-${name}`);
    slider.oninput = () => ($("output", slider.parentElement).value = Number(slider.value).toFixed(name === "smooth" ? 1 : 2));
    slider.oninput();
  }
  for (const id of ["t-start", "t-end"]) $(`#${id}`).oninput = () => span(id);
  $("#t-go").onclick = (event) => tried(go, event.currentTarget);
  watch((job) => {
    if (job.id === current) showResult();
  });
}

/** What was drawn by hand starts from the source's own pose, in this very square. */
function takeMotion(held, [x, y, side]) {
  crop = { x, y, side };
  showMedia("source");
  choose("driver", held);
  setMotion("relative");
  // a driver's lips and eyes are told somewhat larger than they are; a hand has put them where they should be
  gain("lips", 0.7);
  gain("eyes", 0.85);
  $("#t-go").scrollIntoView({ behavior: "smooth", block: "center" });
}

function gain(name, value) {
  $(`#t-${name}`).value = value;
  $(`#t-${name}`).oninput();
}

function learnedFrom() {
  const { driver } = chosen;
  return driver && { driver: driver.id, ...(driver.kind === "video" ? part() : {}) };
}

/** The part of the driver that is used, in seconds; an end of 0 is its own. */
function part() {
  const { seconds } = chosen.driver;
  const [start, end] = [$("#t-start"), $("#t-end")].map((slider) => Number(slider.value));
  return { start: start * seconds, end: end < 1 ? end * seconds : 0 };
}

function setMotion(name) {
  motion = name;
  press($("#t-motion"), name);
  $("#t-motion-told").textContent = MOTIONS[name];
}

async function receive(which, file) {
  const box = $(`#t-${which}`);
  $("[data-empty] p", box).textContent = "Reading …";
  const held = await tried(() => upload(file));
  $("[data-empty] p", box).textContent = which === "source" ? "A picture or a video" : "A video, or a motion that was saved here";
  if (held) choose(which, held);
}

function choose(which, held) {
  if (which === "driver" && held.kind === "picture") {
    say(`${held.name} is a picture and does not move; give a video of whose motion to take`, true);
    return;
  }
  if (which === "source" && held.kind === "motion") {
    say(`${held.name} is a motion; give a picture or video that shows whose appearance`, true);
    return;
  }
  chosen[which] = held;
  if (which === "source") {
    crop = null;
    closeHand();
  }
  showMedia(which);
  if (which === "driver") {
    for (const name of ["lips", "eyes"]) gain(name, 1);
    $("#t-start").value = 0;
    $("#t-end").value = 1;
    span();
  }
  $("#t-go").disabled = !(chosen.source && chosen.driver);
}

function media(held, controls = true) {
  if (held.kind === "motion") return h("p", { class: "soft" }, "A motion of keypoints");
  const picture = h("img", { src: `/api/uploads/${held.id}/picture`, alt: held.name });
  if (held.kind === "picture") return picture;
  const video = h("video", { src: `/api/uploads/${held.id}/file`, controls, loop: true, playsinline: true, preload: "auto" });
  video.muted = true;
  video.onerror = () => video.replaceWith(picture); // a format that the browser does not play
  return video;
}

function showMedia(which) {
  const held = chosen[which];
  const box = $(`#t-${which}`);
  $("[data-empty]", box).hidden = true;
  for (const part of $$("[data-full]", box)) part.hidden = false;
  if (which === "driver") $("#t-span-field").hidden = held.kind !== "video";
  if (which === "driver" && held.kind === "video") $("#t-driver .film").style.backgroundImage = `url(/api/uploads/${held.id}/strip)`;
  const shown = which === "source" ? h("img", { src: `/api/uploads/${held.id}/picture`, alt: held.name }) : media(held);
  $("[data-media]", box).replaceChildren(shown);
  if (which === "driver" && shown.play) shown.play().catch(() => {});
  const facts = [held.name, held.kind !== "motion" && `${held.width} × ${held.height}`, held.seconds > 0 && `${held.seconds.toFixed(1)} s`, held.rate > 0 && `${held.rate.toFixed(0)} frames a second`, held.sound && "with sound"];
  $("[data-told]", box).textContent = facts.filter(Boolean).join(", ");
  if (which === "source") {
    $("[data-crop-auto]").hidden = !crop;
    $("[data-crop]").setAttribute("aria-pressed", "false");
    if (crop) cropLayer(false);
  }
}

// the square that is redrawn

function drawCrop(button) {
  button.setAttribute("aria-pressed", "true");
  const { width, height } = chosen.source;
  const side = Math.min(width, height) * 0.8;
  crop ??= { x: (width - side) / 2, y: (height - side) / 2, side };
  $("[data-crop-auto]").hidden = false;
  cropLayer(true);
}

function cropLayer(editable) {
  const box = $("#t-source [data-media]");
  $(".crop-layer", box)?.remove();
  const { width, height } = chosen.source;
  const canvas = h("canvas", { class: "crop-layer", tabindex: 0, role: "application", "aria-label": "The square that is redrawn: drag to draw another, arrow keys move it, plus and minus change its size" });
  box.append(canvas);
  const frame = () => {
    // where the picture is within the box, for it keeps its proportions
    const scale = Math.min(canvas.clientWidth / width, canvas.clientHeight / height);
    return { scale, left: (canvas.clientWidth - width * scale) / 2, top: (canvas.clientHeight - height * scale) / 2 };
  };
  const paint = () => {
    if (!crop || !canvas.isConnected) return;
    canvas.width = canvas.clientWidth;
    canvas.height = canvas.clientHeight;
    const { scale, left, top } = frame();
    const context = canvas.getContext("2d");
    context.fillStyle = "rgb(8 12 10 / .55)";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const square = [left + crop.x * scale, top + crop.y * scale, crop.side * scale, crop.side * scale];
    context.clearRect(...square);
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.strokeRect(...square);
  };
  const place = (event) => {
    const bounds = canvas.getBoundingClientRect();
    const { scale, left, top } = frame();
    return [(event.clientX - bounds.left - left) / scale, (event.clientY - bounds.top - top) / scale];
  };
  const fit = () => {
    crop.side = Math.max(16, Math.min(crop.side, width, height));
    crop.x = Math.max(0, Math.min(crop.x, width - crop.side));
    crop.y = Math.max(0, Math.min(crop.y, height - crop.side));
    paint();
  };
  let from = null;
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    const [x, y] = place(event);
    const inside = x > crop.x && x < crop.x + crop.side && y > crop.y && y < crop.y + crop.side;
    from = { x, y, inside, held: { ...crop } };
  };
  canvas.onpointermove = (event) => {
    if (!from) return;
    const [x, y] = place(event);
    if (from.inside) Object.assign(crop, { x: from.held.x + x - from.x, y: from.held.y + y - from.y });
    else {
      const side = Math.max(Math.abs(x - from.x), Math.abs(y - from.y), 16);
      Object.assign(crop, { side, x: x < from.x ? from.x - side : from.x, y: y < from.y ? from.y - side : from.y });
    }
    fit();
  };
  canvas.onpointerup = canvas.onpointercancel = () => (from = null);
  canvas.onkeydown = (event) => {
    const far = Math.max(1, crop.side / 32);
    const moves = { ArrowLeft: [-far, 0, 0], ArrowRight: [far, 0, 0], ArrowUp: [0, -far, 0], ArrowDown: [0, far, 0], "+": [-far / 2, -far / 2, far], "-": [far / 2, far / 2, -far] };
    const [dx, dy, ds] = moves[event.key] ?? [];
    if (dx === undefined) return;
    event.preventDefault();
    Object.assign(crop, { x: crop.x + dx, y: crop.y + dy, side: crop.side + ds });
    fit();
  };
  new ResizeObserver(paint).observe(canvas);
  $("img", box).onload = paint;
  if (editable) canvas.focus();
  fit();
}

// the part of the driver

function span(touched) {
  const [start, end] = [$("#t-start"), $("#t-end")];
  const { seconds } = chosen.driver;
  const least = Math.min(1, 0.2 / Math.max(0.2, seconds));
  if (touched === "t-start" && start.value > end.value - least) start.value = Math.max(0, end.value - least);
  if (touched === "t-end" && end.value < Number(start.value) + least) end.value = Math.min(1, Number(start.value) + least);
  const bar = $("#t-driver .chosen");
  bar.style.left = `calc(9px + ${start.value} * (100% - 18px))`;
  bar.style.width = `calc(${end.value - start.value} * (100% - 18px))`;
  $("#t-span-told").value = `${(start.value * seconds).toFixed(1)} to ${(end.value * seconds).toFixed(1)} s of ${seconds.toFixed(1)}`;
  const video = $("#t-driver video");
  if (touched && video) {
    video.pause();
    video.currentTime = Math.max(0, (touched === "t-start" ? start.value : end.value) * seconds - (touched === "t-end" ? 0.04 : 0));
  }
}

async function record() {
  const buttons = $$("[data-record]");
  if (recorder) {
    recorder.stop();
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "the browser did not allow the webcam; allow it in the address bar and try again" : "no webcam was found");
  }
  const pieces = [];
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = (event) => pieces.push(event.data);
  recorder.onstop = async () => {
    stream.getTracks().forEach((track) => track.stop());
    const kind = recorder.mimeType.includes("mp4") ? "mp4" : "webm";
    recorder = null;
    for (const button of buttons) button.replaceChildren(icon("camera"), "Webcam");
    const held = await tried(() => upload(new Blob(pieces), `webcam.${kind}`));
    if (held) choose("driver", held);
  };
  const preview = h("video", { playsinline: true });
  preview.muted = true;
  preview.srcObject = stream;
  $("#t-driver [data-empty]").hidden = true;
  for (const part of $$("#t-driver [data-full]")) part.hidden = part.id === "t-span-field";
  $("#t-driver [data-media]").replaceChildren(preview);
  await preview.play();
  recorder.start();
  for (const button of buttons) button.replaceChildren(icon("stop"), "Stop recording");
  setTimeout(() => recorder?.stop(), LONGEST_RECORDING * 1000);
}

// the job

async function go() {
  const { source, driver } = chosen;
  const asked = { source: source.id, driver: driver.id, motion, crop: crop && [crop.x, crop.y, crop.side, crop.side] };
  for (const name of ["pose", "smooth", "lips", "eyes"]) asked[name] = Number($(`#t-${name}`).value);
  for (const name of ["paste_back", "watermark"]) asked[name] = $(`#t-${name}`).checked;
  if (driver.kind === "video") Object.assign(asked, part());
  const job = await post("jobs/transfer", asked);
  jobs.set(job.id, job);
  history.replaceState(null, "", `#transfer/${job.id}`);
  current = job.id;
  showResult();
  $("#t-result").scrollIntoView({ behavior: "smooth", block: "nearest" });
}

/** Show an earlier job, with its uploads and options as they were. */
async function showJob(id) {
  current = id;
  const asked = jobs.get(id).shown;
  for (const which of ["source", "driver"]) {
    if (chosen[which]?.id === asked[which]) continue;
    const held = await api(`uploads/${asked[which]}`).catch(() => null);
    if (held) choose(which, held);
  }
  setMotion(asked.motion);
  for (const name of ["pose", "smooth", "lips", "eyes"]) {
    gain(name, asked[name]);
  }
  for (const name of ["paste_back", "watermark"]) $(`#t-${name}`).checked = asked[name];
  if (asked.crop && chosen.source) {
    const [x, y, side] = asked.crop;
    crop = { x, y, side };
    showMedia("source");
  }
  if (chosen.driver?.kind === "video") {
    $("#t-start").value = asked.start / chosen.driver.seconds;
    $("#t-end").value = asked.end ? asked.end / chosen.driver.seconds : 1;
    span();
  }
  showResult();
}

let drawn = ""; // so that a player is not replaced under the viewer's eyes

function showResult() {
  const job = jobs.get(current);
  const box = $("#t-result");
  box.hidden = !job;
  if (!job) return;
  if (job.state === "done") {
    if (drawn === job.id) return;
    drawn = job.id;
    box.replaceChildren(...players(job));
    return;
  }
  drawn = "";
  const stop = h("button", { class: "push", id: "t-stop", onclick: (event) => stopJob(job, event.currentTarget) }, icon("stop"), "Stop");
  if (going(job)) box.replaceChildren(h("div", { class: "row" }, h("h2", {}, job.title), stop), progress(job), h("p", { class: "small soft" }, told(job)), ...job.notes.map((note) => h("p", { class: "note" }, note)));
  else box.replaceChildren(card(job));
}

function players(job) {
  const result = `/api/jobs/${job.id}/files/result.mp4`;
  const shown = job.shown;
  const figure = (element, told) => h("figure", {}, element, h("figcaption", {}, told));
  const video = h("video", { id: "t-video", src: result, controls: true, loop: true, playsinline: true });
  const driverVideo = shown.driver_kind === "video" ? h("video", { src: `/api/uploads/${shown.driver}/file`, playsinline: true, preload: "auto" }) : null;
  if (driverVideo) driverVideo.muted = true;
  const source = h("img", { src: `/api/uploads/${shown.source}/picture`, alt: "The source" });
  // the driver follows the result's clock
  const follow = () => {
    if (driverVideo && Math.abs(driverVideo.currentTime - shown.start - video.currentTime) > 0.08) driverVideo.currentTime = shown.start + video.currentTime;
  };
  video.onplay = () => driverVideo?.play().catch(() => {});
  video.onpause = () => driverVideo?.pause();
  video.onseeking = video.ontimeupdate = follow;
  video.muted = true;
  video.autoplay = true;
  return [
    h("div", { class: "row" }, h("h2", { class: "grow" }, job.title), h("span", { class: "soft small" }, `${(job.ended - job.started).toFixed(0)} s`)),
    h("div", { class: "players" }, figure(source, "The source"), driverVideo && figure(driverVideo, "The driver"), figure(video, "The source in the driver's motion")),
    ...job.notes.map((note) => h("p", { class: "note" }, note)),
    h("div", { class: "row" }, h("a", { class: "button primary", href: result, download: "moved.mp4" }, icon("download"), "Video, with the driver's sound"), h("a", { class: "button", href: `/api/jobs/${job.id}/files/motion.json`, download: "motion.json" }, icon("download"), "Its motion, to use again")),
    command(job),
  ];
}
