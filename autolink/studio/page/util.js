// What all pages need: elements, requests, messages.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element: h("button", {class: "primary", onclick: go}, "Go"). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export const clone = (value) => JSON.parse(JSON.stringify(value));

/** What this browser remembers under a name; given a value, it is remembered. */
export function remembered(name, value) {
  if (value !== undefined) localStorage.setItem(name, JSON.stringify(value));
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

/** A slider along a direction in deviations, which the user may name; input(value, final, slider). */
export function namedSlider(told, name, rename, input) {
  const slider = h("input", { type: "range", min: -3, max: 3, step: 0.05, value: 0, "aria-label": name || told });
  const label = h("input", { type: "text", class: "name", value: name, placeholder: told, maxlength: 40, "aria-label": `Name of ${told.toLowerCase()}`, title: "Click to name it" });
  label.onchange = () => {
    slider.setAttribute("aria-label", label.value || told);
    rename(label.value);
  };
  slider.oninput = () => input(Number(slider.value), false, slider);
  slider.onchange = () => input(Number(slider.value), true, slider);
  slider.ondblclick = () => {
    slider.value = 0;
    input(0, true, slider);
  };
  return h("div", { class: "sweep" }, label, slider);
}

/** Ask the server; throws its sentence. */
export async function api(path, options = {}) {
  let answer;
  try {
    answer = await fetch(`/api/${path}`, options);
  } catch {
    throw new Error("the studio does not answer; is it still running in the terminal?");
  }
  const content = await answer.json().catch(() => ({ error: `the studio answered with code ${answer.status}` }));
  if (!answer.ok) throw new Error(content.error || `the studio answered with code ${answer.status}`);
  return content;
}

export const post = (path, content) =>
  api(path, {
    method: "POST",
    ...(content === undefined ? {} : { body: JSON.stringify(content), headers: { "content-type": "application/json" } }),
  });

export const upload = (file, name = file.name) =>
  api(`uploads/${encodeURIComponent(name)}`, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });

export const takeExample = (name) => post(`gallery/${name}`);

/** One sentence at the foot of the page; errors stay until they are closed. */
export function say(text, bad = false) {
  const sentence = /^[a-z]+[ ,:]/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text; // not of a file's name
  const box = h("div", { class: bad ? "message bad" : "message", ...(bad ? { role: "alert" } : {}) }, h("span", { class: "grow" }, sentence));
  box.append(h("button", { "aria-label": "Close", onclick: () => box.remove() }, icon("close")));
  $("#messages").replaceChildren(box);
  if (!bad) setTimeout(() => box.remove(), 4000);
}

/** Run something that may fail; what failed is told in the page. */
export async function tried(work, button) {
  if (button) button.disabled = true;
  try {
    return await work();
  } catch (error) {
    say(error.message, true);
    return undefined;
  } finally {
    if (button) button.disabled = false;
  }
}

export function press(group, value) {
  for (const button of $$("button", group)) button.setAttribute("aria-pressed", String(button.dataset.value === value));
}

export function toggle(button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  return on;
}

export const pressed = (button) => button.getAttribute("aria-pressed") === "true";

export function saveBlob(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 5000);
}

export const saveJson = (content, name) => saveBlob(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }), name);

/** Have an element take files that are dropped on it. */
export function takesDrops(element, take) {
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  });
}

/** At most once a frame. */
export function eachFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

/** Once things have been quiet for a while. */
export function whenQuiet(work, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };
}

/** Fill a gallery of examples; a click takes one. */
export function showExamples(gallery, names, take) {
  gallery.replaceChildren(
    ...names.map(([name, told]) => {
      const shown = name.endsWith(".mp4")
        ? Object.assign(h("video", { src: `/api/gallery/${name}`, muted: true, preload: "metadata", playsinline: true, width: 84, height: 84 }), { muted: true })
        : h("img", { src: `/api/gallery/${name}`, alt: "", loading: "lazy", width: 128, height: 128 });
      return h("button", { class: "tile", "aria-label": told, title: told, "data-example": name, onclick: (event) => tried(() => takeExample(name).then(take), event.currentTarget) }, shown);
    }),
  );
}
