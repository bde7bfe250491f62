// A timeline of keyframes: kept at a time, dragged along, played, and told at any time between.

import { $, h, icon, say } from "./util.js";

const STEP = 0.04;

export class Timeline {
  /** `tell` has show(state) and between(from, to, share). */
  constructor(box, tell) {
    this.tell = tell;
    this.frames = []; // {at, state, picture}, by time; the first stands at 0
    this.track = $(".track", box);
    this.head = $("#h-head", box);
    this.playButton = $("#h-play", box);
    this.length = $("#h-seconds", box);
    this.loop = $("#h-loop", box);
    this.head.oninput = () => {
      this.stop();
      this.look(Number(this.head.value));
    };
    this.length.oninput = () => {
      const least = this.frames.at(-1)?.at ?? 0;
      if (this.seconds < least) this.length.value = Math.ceil(least * 2) / 2;
      this.draw();
    };
    this.playButton.onclick = () => (this.playing ? this.stop() : this.play());
    this.draw();
  }

  get seconds() {
    return Number(this.length.value);
  }

  clear() {
    this.stop();
    this.frames = [];
    this.head.value = 0;
    this.draw();
  }

  /** Where the next keyframe goes: at the playhead, or behind the last one if there is one there already. */
  placeForNew() {
    const here = Number(this.head.value);
    if (!this.frames.some((frame) => Math.abs(frame.at - here) < STEP)) return here;
    const at = this.frames.at(-1).at + 0.8;
    if (at > this.seconds) this.length.value = Math.ceil(at * 2) / 2;
    return Math.min(at, this.seconds);
  }

  keep(frame) {
    this.frames = [...this.frames.filter((other) => Math.abs(other.at - frame.at) >= STEP), frame].sort((a, b) => a.at - b.at);
    this.draw();
    this.head.value = frame.at;
    this.told();
  }

  /** The state at a time: smoothly from one keyframe to the next, and back to the first at the end if it is a loop. */
  at(seconds) {
    const next = this.frames.findIndex((frame) => frame.at > seconds);
    const from = this.frames.at(next < 0 ? -1 : next - 1);
    if (next < 0 && !this.loop.checked) return from.state;
    const to = next < 0 ? this.frames[0] : this.frames[next];
    const end = next < 0 ? this.seconds : to.at;
    const share = end > from.at ? (seconds - from.at) / (end - from.at) : 1;
    return this.tell.between(from.state, to.state, 0.5 - 0.5 * Math.cos(Math.min(1, share) * Math.PI));
  }

  look(seconds) {
    this.told();
    if (this.frames.length) this.tell.show(this.at(seconds));
  }

  told() {
    $("#h-told").value = `${Number(this.head.value).toFixed(2)} of ${this.seconds.toFixed(1)} s`;
  }

  draw() {
    this.head.max = this.seconds;
    this.told();
    this.track.replaceChildren(...this.frames.map((frame, n) => this.key(frame, n)));
  }

  key(frame, n) {
    const canvas = h("canvas", { width: 96, height: 96 });
    canvas.getContext("2d").drawImage(frame.picture, 0, 0, 96, 96);
    const told = n ? `Keyframe at ${frame.at.toFixed(2)} seconds; arrow keys move it, Delete removes it` : "The source's own pose, at the beginning";
    const button = h("button", { class: "tile key", "aria-label": told, title: n ? "Drag it along the time" : "The source's own pose" }, canvas);
    const remove = h("button", { class: "remove", "aria-label": `Remove the keyframe at ${frame.at.toFixed(2)} seconds`, tabindex: -1, onclick: () => this.remove(frame) }, icon("close"));
    const place = h("div", { class: "place" }, button, n > 0 && remove);
    place.style.left = `${(frame.at / this.seconds) * 100}%`;
    button.onclick = () => {
      this.stop();
      this.head.value = frame.at;
      this.look(frame.at);
    };
    if (!n) return place;
    button.onkeydown = (event) => {
      const by = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
      if (event.key === "Delete" || event.key === "Backspace") this.remove(frame);
      else if (by) this.shift(frame, frame.at + by, true);
      else return;
      event.preventDefault();
    };
    button.onpointerdown = (event) => {
      button.setPointerCapture(event.pointerId);
      const width = this.track.getBoundingClientRect().width;
      const [begin, x] = [frame.at, event.clientX];
      button.onpointermove = (now) => {
        this.shift(frame, begin + ((now.clientX - x) / width) * this.seconds);
        place.style.left = `${(frame.at / this.seconds) * 100}%`;
      };
      button.onpointerup = button.onpointercancel = () => {
        button.onpointermove = null;
        this.draw();
      };
    };
    return place;
  }

  /** Move a keyframe in time, between its neighbours. */
  shift(frame, to, draw = false) {
    const n = this.frames.indexOf(frame);
    const end = this.frames[n + 1]?.at - STEP || this.seconds;
    frame.at = Math.max(this.frames[n - 1].at + STEP, Math.min(end, Math.round(to / STEP) * STEP));
    if (!draw) return;
    this.draw();
    $("button.key", this.track.children[n]).focus();
  }

  remove(frame) {
    this.frames = this.frames.filter((other) => other !== frame);
    this.draw();
  }

  play() {
    if (this.frames.length < 2) {
      say("keep a pose or two first; the clip goes from one to the next");
      return;
    }
    const begun = performance.now() - (Number(this.head.value) % this.seconds) * 1000;
    $("span", this.playButton).textContent = "Stop";
    const step = () => {
      if (!this.playing) return;
      const seconds = (performance.now() - begun) / 1000;
      this.head.value = seconds % this.seconds;
      this.look(Number(this.head.value));
      this.playing = requestAnimationFrame(step);
    };
    this.playing = requestAnimationFrame(step);
  }

  stop() {
    if (this.playing) cancelAnimationFrame(this.playing);
    this.playing = null;
    $("span", this.playButton).textContent = "Play";
  }
}
