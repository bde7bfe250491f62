// The page: tabs by the address, theme, help.

import { animals } from "./animals.js";
import { discover } from "./discover.js";
import { startJobs } from "./jobs.js";
import { report } from "./report.js";
import { train } from "./train.js";
import { transfer } from "./transfer.js";
import { $, $$, say, tried } from "./util.js";

const pages = { animals, discover, transfer, train, report };
const started = {}; // of each page that was opened, the promise of its start

function route() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const page = pages[name] ? name : "animals";
  for (const section of $$(".page")) section.hidden = section.id !== `page-${page}`;
  for (const link of $$(".tabs a")) {
    if (link.getAttribute("href") === `#${page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${page.charAt(0).toUpperCase() + page.slice(1)} · AutoLink studio`;
  tried(() => open(page, rest.join("/")));
}

/** A page takes nothing (its section is inert) until it is started, for a click or a file would be lost. */
async function open(page, argument) {
  started[page] ??= pages[page].start();
  await started[page].catch((error) => {
    delete started[page]; // so that it is tried again at the next visit
    throw error;
  });
  $(`#page-${page}`).inert = false;
  await pages[page].open(argument);
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme === "dark";
  $("#theme use").setAttribute("href", dark ? "#i-sun" : "#i-moon");
  $("#theme").onclick = () => {
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    theme();
  };
}

theme();
$("#help").onclick = () => $("#help-dialog").showModal();
for (const button of $$("[data-close]")) button.onclick = () => button.closest("dialog").close();
for (const dialog of $$("dialog")) dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !event.target.closest("input, select")) $("#help-dialog").showModal();
});
document.addEventListener("click", (event) => {
  const chooser = event.target.closest("[data-choose]");
  if (chooser?.dataset.choose) $(`#${chooser.dataset.choose}`).click();
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => event.preventDefault());
addEventListener("unhandledrejection", (event) => say(event.reason?.message ?? String(event.reason), true));
addEventListener("hashchange", route);
startJobs().then(route, (error) => {
  say(error.message, true);
  route();
});
