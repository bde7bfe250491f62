// The queue of long work, as every page sees it.

import { onNews } from "./live.js";
import { $, api, h, icon, post, say, tried } from "./util.js";

export const jobs = new Map();
const watchers = new Set();

/** Be told of every job that has news. */
export function watch(watcher) {
  watchers.add(watcher);
  for (const job of jobs.values()) watcher(job);
}

export const ofKind = (kind) => [...jobs.values()].filter((job) => job.kind === kind).sort((a, b) => b.created - a.created);
export const going = (job) => job.state === "running" || job.state === "waiting";
export const stopJob = (job, button) => tried(() => post(`jobs/${job.id}/stop`), button);

const STATES = { waiting: "waiting", running: "running", done: "done", failed: "failed", stopped: "stopped" };
const PAGES = { transfer: "transfer", train: "train", estimate: "train", report: "report" };

export function take(job) {
  const known = jobs.get(job.id);
  jobs.set(job.id, job);
  if (known && going(known) && job.state === "done") say(`${job.title}: done`);
  if (known && going(known) && job.state === "failed") say(job.error, true);
  watchers.forEach((watcher) => watcher(job));
  pill();
  if ($("#jobs-dialog").open) list();
}

export function progress(job) {
  const bar = h("div", { class: "progress", role: "progressbar", "aria-label": job.title });
  const fill = h("i");
  bar.append(fill);
  if (job.progress === null) bar.classList.toggle("unknown", job.state === "running");
  else {
    fill.style.width = `${Math.round(job.progress * 100)}%`;
    bar.setAttribute("aria-valuenow", Math.round(job.progress * 100));
  }
  return bar;
}

export function told(job) {
  if (job.state === "waiting") return "waits for its turn";
  if (job.state !== "running") return STATES[job.state];
  const share = job.progress === null ? "" : ` ${Math.round(job.progress * 100)} %`;
  return `${job.doing}${share}${job.left ? `, ${job.left} left` : ""}`;
}

/** The command that does the same, to be copied. */
export function command(job) {
  const quoted = job.command.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word}'`)).join(" ");
  const copy = h("button", { class: "plain square", "aria-label": "Copy the command", title: "Copy", onclick: () => navigator.clipboard.writeText(quoted).then(() => say("copied"), () => say(quoted)) }, icon("link"));
  return h("details", {}, h("summary", { class: "small soft" }, "The command that does the same"), h("div", { class: "command" }, h("code", {}, quoted), copy));
}

export function card(job) {
  const stop = h("button", { class: "push", onclick: (event) => stopJob(job, event.currentTarget) }, icon("stop"), "Stop");
  return h(
    "div", { class: "job", "data-job": job.id },
    h("div", { class: "row" }, h("strong", { class: "grow" }, job.title), h("span", { class: `tag ${job.state}` }, STATES[job.state]), going(job) && stop),
    going(job) && progress(job),
    going(job) && h("span", { class: "small soft" }, told(job)),
    job.error && h("p", { class: "note bad" }, job.error),
    ...job.notes.map((note) => h("p", { class: "note" }, note)),
    h("div", { class: "row" }, h("a", { href: `#${PAGES[job.kind]}/${job.id}`, class: "small", onclick: () => $("#jobs-dialog").close() }, "Open"), h("span", { class: "small soft push" }, new Date(job.created * 1000).toLocaleString())),
  );
}

function list() {
  const all = [...jobs.values()].sort((a, b) => b.created - a.created);
  $("#jobs-list").replaceChildren(...(all.length ? all.map(card) : [h("p", { class: "soft" }, "Nothing has been started yet. Transfers, trainings and reports will be listed here; one runs at a time.")]));
}

function pill() {
  const running = [...jobs.values()].find((job) => job.state === "running");
  const waiting = [...jobs.values()].filter((job) => job.state === "waiting").length;
  const share = running?.progress;
  $("#jobs-pill .ring").style.setProperty("--done", `${Math.round((share ?? (running ? 0.1 : 0)) * 100)}%`);
  $("#jobs-pill span").textContent = running ? `${share === null ? "…" : `${Math.round(share * 100)} %`}${waiting ? ` +${waiting}` : ""}` : "Jobs";
  $("#jobs-pill").title = running ? `${running.title}: ${told(running)}` : "Jobs";
}

export async function startJobs() {
  $("#jobs-pill").onclick = () => {
    list();
    $("#jobs-dialog").showModal();
  };
  onNews((news) => {
    if (news.slot === "job") take(news.job);
    if (news.slot === "lost") say("the studio does not answer any more; start it again in the terminal, this page will find it", true);
    if (news.slot === "connected") $("#messages").replaceChildren();
  });
  for (const job of await api("jobs")) take(job);
}
