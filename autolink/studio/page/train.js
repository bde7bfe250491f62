// Train: a folder of pictures, how long it takes, and the run as it goes.

import { card, command, going, jobs, ofKind, progress, stopJob, told, watch } from "./jobs.js";
import { $, api, h, icon, post, tried } from "./util.js";

let current = "";
let estimate = "";
let timer = 0;
let presets = {};
let chosenSample = null; // a sample that is looked at, unless it is the newest

const PRESETS = {
  figures: ["small, for a CPU", "Small networks, 64 px: half an hour on two cores. A good first try on any pictures."],
  "faces-cpu": ["faces, for a CPU", "As small, trained longer; how the bundled faces were learned."],
  "cats-cpu": ["a few hundred pictures, for a CPU", "Few keypoints and steps, for small sets such as one kind of animal."],
};

const presetTold = (name) => PRESETS[name] ?? [`as in the paper, ${presets[name].keypoints} keypoints`, "The paper's networks and losses, 128 px with VGG16: needs a GPU and, once, the network to fetch VGG16's weights."];

export const train = {
  start,
  async open(argument) {
    const job = jobs.get(argument)?.kind === "train" ? jobs.get(argument) : jobs.get(current) ?? ofKind("train")[0];
    if (job) show(job.id);
    list();
  },
};

async function start() {
  presets = await api("presets");
  $("#n-preset").replaceChildren(...Object.keys(presets).map((name) => h("option", { value: name }, presetTold(name)[0])));
  $("#n-preset").onchange = fill;
  fill();
  $("#n-kind").onchange = () => ($("#n-folder-field").hidden = $("#n-kind").value !== "folder");
  $("#n-estimate").onclick = (event) => tried(async () => {
    const job = await post("jobs/train", asked(true));
    jobs.set(job.id, job);
    estimate = job.id;
    estimated(job);
  }, event.currentTarget);
  $("#n-start").onclick = (event) => tried(async () => {
    const job = await post("jobs/train", asked(false));
    jobs.set(job.id, job);
    show(job.id);
    list();
  }, event.currentTarget);
  new MutationObserver(refresh).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  watch((job) => {
    if (job.id === estimate) estimated(job);
    if (job.kind === "train" && !$("#page-train").hidden) {
      list();
      if (job.id === current) head();
    }
  });
}

/** The fields as a preset would have them. */
function fill() {
  const name = $("#n-preset").value;
  for (const [field, value] of Object.entries(presets[name])) $(`#n-${field}`).value = value;
  $("#n-preset-told").textContent = presetTold(name)[1];
}

function asked(estimating) {
  const kind = $("#n-kind").value;
  const number = (id) => Number($(`#n-${id}`).value);
  return {
    data: kind === "folder" ? $("#n-folder").value : kind, preset: $("#n-preset").value, keypoints: number("keypoints"), steps: number("steps"), size: number("size"), batch: number("batch"), estimate: estimating,
  };
}

function estimated(job) {
  const box = $("#n-estimated");
  const line = job.said.find((text) => text.startsWith("about "));
  if (going(job)) box.replaceChildren(h("p", { class: "small soft" }, job.state === "waiting" ? "waits for its turn …" : "trying a few steps …"), progress(job));
  else if (line) box.replaceChildren(h("p", { class: "small", id: "n-estimate-told" }, `${line.split(" for ")[0].replace(/^a/, "A")} on this machine. ${job.said.find((text) => text.includes("pictures to train on"))?.split(";")[0] ?? ""}.`));
  else box.replaceChildren(h("p", { class: "note bad" }, job.error || "stopped"));
}

function show(id) {
  current = id;
  chosenSample = null;
  history.replaceState(null, "", `#train/${id}`);
  $("#n-empty").hidden = true;
  const box = $("#n-run");
  box.hidden = false;
  box.replaceChildren(
    h("div", { id: "n-head", class: "list" }),
    h("canvas", { class: "curve", id: "n-curve", role: "img", "aria-label": "The loss over the steps" }),
    h("div", { class: "row small soft" }, h("span", {}, "Loss, falling as it learns")),
    h("img", { class: "sample", id: "n-sample", alt: "Pictures, what is hidden of them, edge maps, graphs, and what is rebuilt", hidden: true }),
    h("p", { class: "small soft", id: "n-sample-told", hidden: true }, "From above: pictures, what is left of them, edge maps, keypoints and graph, rebuilt pictures."),
    h("label", { class: "field", id: "n-samples-field", hidden: true }, h("span", {}, "Sample of step", h("output", { id: "n-samples-told" })), h("input", { type: "range", id: "n-samples", min: 0, max: 0, value: 0 })),
    command(jobs.get(id)),
  );
  $("#n-samples").oninput = (event) => {
    chosenSample = Number(event.target.value);
    refresh();
  };
  new ResizeObserver(() => refresh()).observe($("#n-curve"));
  head();
  poll();
}

let facts = { metrics: [], samples: [], model: false };

async function poll() {
  clearTimeout(timer);
  const id = current;
  const fresh = await api(`jobs/${id}/run`).catch(() => null);
  if (fresh && id === current) {
    facts = fresh;
    refresh();
    head();
  }
  if ($("#page-train").hidden) return;
  if (going(jobs.get(id) ?? { state: "done" })) timer = setTimeout(poll, 1500);
}

function head() {
  const job = jobs.get(current);
  const last = [...facts.metrics].reverse().find((row) => "loss" in row) ?? {};
  const number = (value, digits) => (value === undefined ? "–" : value.toFixed(digits));
  const buttons = [];
  if (going(job)) buttons.push(h("button", { id: "n-stop", class: "push", onclick: (event) => stopJob(job, event.currentTarget) }, icon("stop"), "Stop and save"));
  if (job.state === "stopped") buttons.push(h("button", { id: "n-resume", class: "push primary", onclick: (event) => tried(async () => { jobs.set(job.id, await post(`jobs/${job.id}/resume`)); show(job.id); }, event.currentTarget) }, icon("play"), "Resume"));
  if (facts.model) buttons.push(h("a", { class: "button", href: `#discover/runs/${job.id}` }, icon("discover"), "Use in Discover"));
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  $("#n-head")?.replaceChildren(
    h("div", { class: "row" }, h("h2", { class: "grow" }, job.title), h("span", { class: `tag ${job.state}` }, job.state), ...buttons),
    ...(going(job) ? [progress(job), h("span", { class: "small soft" }, told(job))] : []),
    ...(job.error ? [h("p", { class: "note bad" }, job.error)] : []),
    h("dl", { class: "facts" }, fact("Step", `${last.step ?? 0} of ${job.shown.steps}`), fact("Loss", number(last.loss, 4)), fact("Pictures a second", number(last.images_per_second, 0)), fact("Keypoints", String(job.shown.keypoints))),
  );
  if (!going(job)) clearTimeout(timer);
  else if (!timer) poll();
}

function refresh() {
  curve();
  const { samples } = facts;
  const slider = $("#n-samples");
  if (!slider || !samples.length) return;
  slider.max = samples.length - 1;
  const n = chosenSample === null || chosenSample >= samples.length - 1 ? samples.length - 1 : chosenSample;
  slider.value = n;
  $("#n-samples-field").hidden = samples.length < 2;
  $("#n-samples-told").value = Number.parseInt(samples[n], 10);
  $("#n-sample").hidden = $("#n-sample-told").hidden = false;
  const source = `/api/jobs/${current}/samples/${samples[n]}`;
  if (!$("#n-sample").src.endsWith(source)) $("#n-sample").src = source;
}

function curve() {
  const canvas = $("#n-curve");
  if (!canvas?.clientWidth) return;
  const ratio = devicePixelRatio || 1;
  const [w, height] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [w * ratio, height * ratio];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  const rows = facts.metrics.filter((row) => "loss" in row);
  const [left, bottom, top] = [44, 24, 10];
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = colour("soft");
  if (rows.length < 2) {
    context.fillText("The curve begins with the first logged steps.", left, height / 2);
    return;
  }
  const losses = rows.map((row) => row.loss);
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const end = Math.max(jobs.get(current).shown.steps, rows[rows.length - 1].step);
  const x = (step) => left + (step / end) * (w - left - 8);
  const y = (loss) => top + (1 - (loss - low) / (high - low || 1)) * (height - top - bottom);
  context.strokeStyle = colour("line");
  context.lineWidth = 1;
  for (const share of [0, 0.5, 1]) {
    const value = low + share * (high - low);
    context.beginPath();
    context.moveTo(left, y(value));
    context.lineTo(w, y(value));
    context.stroke();
    context.fillText(value.toFixed(3), 0, y(value) + 4);
  }
  context.fillText("0", left, height - 6);
  context.textAlign = "right";
  context.fillText(`${end} steps`, w, height - 6);
  context.textAlign = "left";
  context.strokeStyle = colour("accent");
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.beginPath();
  rows.forEach((row, n) => (n ? context.lineTo(x(row.step), y(row.loss)) : context.moveTo(x(row.step), y(row.loss))));
  context.stroke();
}

function list() {
  const others = ofKind("train").filter((job) => job.id !== current);
  $("#n-list").replaceChildren(...(others.length ? [h("h2", {}, "Other trainings"), h("div", { class: "list" }, ...others.map(card))] : []));
}
