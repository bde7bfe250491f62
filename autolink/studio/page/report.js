// Report: measure checkpoints, and read what came out.

import { command, going, jobs, ofKind, progress, stopJob, told, watch } from "./jobs.js";
import { $, $$, api, h, icon, post, tried } from "./util.js";

const CARE = [
  { told: "a quick look", clips: 4, frames: 2, pictures: 32, generated: 32 },
  { told: "some care", clips: 12, frames: 5, pictures: 128, generated: 200 },
  { told: "as published", clips: 40, frames: 10, pictures: 256, generated: 500 },
];

let current = "";

export const report = {
  start,
  async open(argument) {
    const job = jobs.get(argument)?.kind === "report" ? jobs.get(argument) : jobs.get(current) ?? ofKind("report")[0];
    if (job) show(job.id);
    list();
  },
};

async function start() {
  const { all, stage_ones } = await api("checkpoints");
  const trained = stage_ones.filter((name) => name.startsWith("runs/")).map((name) => `${name}/model`);
  $("#r-checkpoints").replaceChildren(...[...all.filter((name) => !name.endsWith("-judge")), ...trained].map((name) => h("label", { class: "check" }, h("input", { type: "checkbox", value: name, ...(name === "figures" ? { checked: true } : {}) }), name.startsWith("runs/") ? jobs.get(name.split("/")[1])?.title ?? name : name)));
  $("#r-kind").onchange = () => ($("#r-folder-field").hidden = $("#r-kind").value !== "folder");
  const care = $("#r-care");
  care.oninput = () => ($("#r-care-told").value = CARE[care.value].told);
  care.oninput();
  $("#r-go").onclick = (event) => tried(async () => {
    const { told: _, ...counts } = CARE[care.value];
    const checkpoints = $$("#r-checkpoints input:checked").map((box) => box.value);
    if (!checkpoints.length) throw new Error("choose a checkpoint to measure");
    const job = await post("jobs/report", { checkpoints, data: $("#r-kind").value === "folder" ? $("#r-folder").value : "auto", ...counts });
    jobs.set(job.id, job);
    show(job.id);
    list();
  }, event.currentTarget);
  watch((job) => {
    if (job.kind !== "report" || $("#page-report").hidden) return;
    list();
    if (job.id === current) show(job.id);
  });
}

function show(id) {
  current = id;
  const job = jobs.get(id);
  history.replaceState(null, "", `#report/${id}`);
  $("#r-empty").hidden = true;
  $("#r-run").hidden = false;
  const page = `/api/jobs/${id}/files/report/report.html`;
  const done = job.state === "done";
  $("#r-run").replaceChildren(
    h("div", { class: "row" }, h("h2", { class: "grow" }, job.title), h("span", { class: `tag ${job.state}` }, job.state),
      going(job) && h("button", { id: "r-stop", onclick: (event) => stopJob(job, event.currentTarget) }, icon("stop"), "Stop"),
      done && h("a", { class: "button", href: page, download: "report.html" }, icon("download"), "Page"), done && h("a", { class: "button", href: page.replace(".html", ".json"), download: "report.json" }, icon("download"), "Figures")),
    going(job) ? progress(job) : "", going(job) ? h("span", { class: "small soft" }, told(job)) : "",
    job.error ? h("p", { class: "note bad" }, job.error) : "",
    command(job),
  );
  const frame = $("#r-frame");
  frame.hidden = !done;
  if (done && !frame.src.endsWith(page)) frame.src = page;
}

function list() {
  const earlier = ofKind("report").filter((job) => job.state === "done");
  $("#r-earlier").hidden = !earlier.length;
  $("#r-list").replaceChildren(...earlier.map((job) => h("li", {}, h("button", { "aria-pressed": String(job.id === current), onclick: () => show(job.id) }, `${job.title.replace("Report on ", "")}, ${new Date(job.created * 1000).toLocaleString()}`))));
}
