// A picture with keypoints and graph on a canvas: drawn, selected, dragged. Places are shares of the picture, 0 to 1.

import { eachFrame } from "./util.js";

const REACH = { mouse: 13, pen: 16, touch: 26 }; // CSS pixels from a point that still take hold of it
const STEP = 1 / 128;

/** The strongest edges of each block [first keypoint, count] of a graph, `each` for every keypoint of it. */
export function strongest(edges, weights, blocks, each) {
  const kept = blocks.flatMap(([start, count]) => {
    const inside = edges.map((_, e) => e).filter((e) => edges[e][0] >= start && edges[e][0] < start + count);
    return inside.sort((a, b) => weights[b] - weights[a]).slice(0, Math.round(each * count));
  });
  return new Set(kept);
}

export class Stage {
  /** `tell` has some of: moved(final), toggledEdge(e), pinned(), selected(), key(event). */
  constructor(box, tell = {}) {
    this.canvas = box.querySelector("canvas");
    this.box = box;
    this.tell = tell;
    this.points = []; // [x, y]
    this.edges = []; // [i, j]
    this.weights = []; // each relative to the strongest
    this.colours = []; // "r g b"
    this.off = new Set();
    this.pinned = new Set();
    this.selected = new Set();
    this.shown = Infinity; // how many of the strongest edges are drawn
    this.least = 0; // and from which weight
    this.hidden = () => false; // edges that are not there at present
    this.smallFrom = Infinity; // points from this one on are drawn small
    this.ghost = null; // the points of the original
    this.picture = null;
    this.before = null;
    this.wipe = null; // share of the width that shows what was before
    this.graphVisible = true;
    this.ghostVisible = false;
    this.numbers = false;
    this.editable = Boolean(tell.moved);
    this.extra = null; // draws over it all: (context, width, height)
    this.hovered = -1;
    this.draw = eachFrame(() => this.paint());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    if (this.editable) this.listen();
  }

  order() {
    // faint edges first, so that strong ones lie on top
    const ranks = this.edges.map((_, e) => e).sort((a, b) => this.weights[a] - this.weights[b]);
    return ranks.slice(Math.max(0, ranks.length - this.shown)).filter((e) => this.weights[e] >= this.least && !this.hidden(e));
  }

  paint() {
    const { canvas } = this;
    const ratio = Math.min(3, devicePixelRatio || 1);
    const [w, h] = [canvas.clientWidth, canvas.clientHeight];
    if (!w || !h) return;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.render(context, w, h);
    this.painted?.();
  }

  /** Draw at a size; also onto a canvas that is saved. */
  render(context, w, h, graph = this.graphVisible) {
    context.clearRect(0, 0, w, h);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    if (this.picture) context.drawImage(this.picture, 0, 0, w, h);
    if (this.wipe !== null && this.before) {
      context.save();
      context.beginPath();
      context.rect(0, 0, w * this.wipe, h);
      context.clip();
      context.drawImage(this.before, 0, 0, w, h);
      context.restore();
    }
    if (graph) this.drawGraph(context, w, h);
    if (this.wipe !== null && this.before) this.drawWipe(context, w, h);
    if (this.frame) {
      const [a, b] = this.frame;
      context.strokeStyle = "#fff";
      context.fillStyle = "rgb(255 255 255 / .14)";
      context.lineWidth = 1;
      context.setLineDash([4, 3]);
      context.fillRect(a[0] * w, a[1] * h, (b[0] - a[0]) * w, (b[1] - a[1]) * h);
      context.strokeRect(a[0] * w, a[1] * h, (b[0] - a[0]) * w, (b[1] - a[1]) * h);
      context.setLineDash([]);
    }
    this.extra?.(context, w, h);
  }

  drawGraph(context, w, h) {
    const unit = Math.max(w, h) / 560;
    const at = ([x, y]) => [x * w, y * h];
    context.lineCap = "round";
    if (this.ghost && this.ghostVisible) {
      context.strokeStyle = "rgb(255 255 255 / .55)";
      context.lineWidth = 1.5 * unit;
      context.setLineDash([5 * unit, 5 * unit]);
      for (const e of this.order()) if (this.weights[e] > 0.12 && this.edges[e][0] < this.ghost.length) this.line(context, at, this.ghost, e);
      context.setLineDash([]);
    }
    for (const e of this.order()) {
      const strength = this.weights[e];
      const [i] = this.edges[e];
      const gone = this.off.has(e);
      const width = (1 + 5 * strength) * unit;
      context.setLineDash(gone ? [2 * unit, 7 * unit] : []);
      context.strokeStyle = `rgb(8 12 10 / ${gone ? 0.25 : 0.3 + 0.3 * strength})`;
      context.lineWidth = width + 2 * unit;
      this.line(context, at, this.points, e);
      context.strokeStyle = gone ? "rgb(255 255 255 / .75)" : `rgb(${this.edgeColour?.(e) ?? this.colours[i]} / ${0.45 + 0.5 * strength})`;
      context.lineWidth = e === this.hoveredEdge ? width + 2 * unit : width;
      this.line(context, at, this.points, e);
    }
    context.setLineDash([]);
    const linked = new Set(this.order().flatMap((e) => (this.weights[e] > 0.08 ? this.edges[e] : [])));
    this.points.forEach((point, k) => {
      const [x, y] = at(point);
      const chosen = this.selected.has(k);
      const radius = (k >= this.smallFrom ? 4 : linked.has(k) || this.editable ? 6.5 : 3.5) * unit + (k === this.hovered ? 2 : 0);
      if (chosen) this.disc(context, x, y, radius + 5, "rgb(255 255 255 / .95)");
      this.disc(context, x, y, radius + 2, "rgb(8 12 10 / .82)");
      this.disc(context, x, y, radius, `rgb(${this.colours[k]})`);
      if (this.pinned.has(k)) {
        this.disc(context, x, y, radius * 0.55, "rgb(8 12 10 / .9)");
        this.disc(context, x, y, radius * 0.25, "#fff");
      }
      if (this.numbers) {
        context.font = `600 ${Math.max(11, 12 * unit)}px system-ui, sans-serif`;
        context.lineWidth = 3;
        context.strokeStyle = "rgb(8 12 10 / .85)";
        context.fillStyle = "#fff";
        context.strokeText(k, x + radius + 3, y + 4);
        context.fillText(k, x + radius + 3, y + 4);
      }
    });
  }

  line(context, at, points, e) {
    const [i, j] = this.edges[e];
    context.beginPath();
    context.moveTo(...at(points[i]));
    context.lineTo(...at(points[j]));
    context.stroke();
  }

  disc(context, x, y, radius, colour) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.fill();
  }

  drawWipe(context, w, h) {
    const x = this.wipe * w;
    context.fillStyle = "#fff";
    context.fillRect(x - 1, 0, 2, h);
    this.disc(context, x, h / 2, 15, "#fff");
    context.strokeStyle = "#1a1e1c";
    context.lineWidth = 2;
    for (const side of [-1, 1]) {
      context.beginPath();
      context.moveTo(x + side * 4, h / 2 - 4);
      context.lineTo(x + side * 8, h / 2);
      context.lineTo(x + side * 4, h / 2 + 4);
      context.stroke();
    }
  }

  // places

  place(event) {
    const bounds = this.canvas.getBoundingClientRect();
    return [(event.clientX - bounds.left) / bounds.width, (event.clientY - bounds.top) / bounds.height];
  }

  pointAt([x, y], reach) {
    const [w, h] = [this.canvas.clientWidth, this.canvas.clientHeight];
    let best = -1;
    let nearest = reach;
    this.points.forEach(([px, py], k) => {
      const away = Math.hypot((px - x) * w, (py - y) * h);
      if (away < nearest) [best, nearest] = [k, away];
    });
    return best;
  }

  edgeAt([x, y], reach) {
    const [w, h] = [this.canvas.clientWidth, this.canvas.clientHeight];
    let best = -1;
    let nearest = reach;
    for (const e of this.order()) {
      const [a, b] = this.edges[e].map((k) => [this.points[k][0] * w, this.points[k][1] * h]);
      const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
      const t = Math.min(1, Math.max(0, ((x * w - a[0]) * dx + (y * h - a[1]) * dy) / (dx * dx + dy * dy || 1)));
      const away = Math.hypot(a[0] + t * dx - x * w, a[1] + t * dy - y * h);
      if (away <= nearest) [best, nearest] = [e, away];
    }
    return best;
  }

  // pointer and keys

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", () => this.cancel());
    canvas.addEventListener("dblclick", (event) => {
      const k = this.pointAt(this.place(event), REACH.mouse);
      if (k >= 0) this.pin([k]);
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  down(event) {
    if (event.button) return;
    const place = this.place(event);
    const reach = REACH[event.pointerType] ?? REACH.mouse;
    this.canvas.setPointerCapture(event.pointerId);
    const onWipe = this.wipe !== null && Math.abs(place[0] - this.wipe) * this.canvas.clientWidth < 18;
    const k = this.graphVisible ? this.pointAt(place, reach) : -1;
    if (k >= 0) {
      if (event.shiftKey) this.selected.has(k) ? this.selected.delete(k) : this.selected.add(k);
      else if (!this.selected.has(k)) this.selected = new Set([k]);
      this.grip = { kind: "points", from: place, held: this.points.map((point) => [...point]), moved: false };
      this.tell.selected?.();
    } else if (onWipe) {
      this.grip = { kind: "wipe" };
    } else {
      this.grip = { kind: "frame", from: place, add: event.shiftKey, edge: this.graphVisible ? this.edgeAt(place, reach / 2) : -1 };
    }
    this.draw();
  }

  move(event) {
    const place = this.place(event);
    const { grip } = this;
    if (!grip) {
      const k = this.graphVisible ? this.pointAt(place, REACH.mouse) : -1;
      const e = k < 0 && this.graphVisible ? this.edgeAt(place, 6) : -1;
      this.canvas.style.cursor = k >= 0 ? "grab" : e >= 0 ? "pointer" : "default";
      if (k !== this.hovered || e !== this.hoveredEdge) this.draw();
      [this.hovered, this.hoveredEdge] = [k, e];
      return;
    }
    if (grip.kind === "wipe") {
      this.wipe = Math.min(1, Math.max(0, place[0]));
    } else if (grip.kind === "points") {
      this.canvas.style.cursor = "grabbing";
      const [dx, dy] = [place[0] - grip.from[0], place[1] - grip.from[1]];
      if (!grip.moved && Math.hypot(dx * this.canvas.clientWidth, dy * this.canvas.clientHeight) < 2) return;
      grip.moved = true;
      this.shift(grip.held, dx, dy);
      this.tell.moved(false, event.timeStamp);
    } else {
      this.frame = [
        [Math.min(place[0], grip.from[0]), Math.min(place[1], grip.from[1])],
        [Math.max(place[0], grip.from[0]), Math.max(place[1], grip.from[1])],
      ];
    }
    this.draw();
  }

  up(event) {
    const { grip, frame } = this;
    this.grip = this.frame = null;
    if (!grip) return;
    if (grip.kind === "points" && grip.moved) this.tell.moved(true, event.timeStamp);
    if (grip.kind === "frame") {
      const far = frame && Math.hypot((frame[1][0] - frame[0][0]) * this.canvas.clientWidth, (frame[1][1] - frame[0][1]) * this.canvas.clientHeight) > 5;
      if (far) {
        if (!grip.add) this.selected.clear();
        this.points.forEach(([x, y], k) => {
          if (x >= frame[0][0] && x <= frame[1][0] && y >= frame[0][1] && y <= frame[1][1]) this.selected.add(k);
        });
      } else if (grip.edge >= 0) {
        this.tell.toggledEdge?.(grip.edge);
      } else {
        this.selected.clear();
      }
      this.tell.selected?.();
    }
    this.canvas.style.cursor = "default";
    this.draw();
  }

  cancel() {
    if (this.grip?.moved) {
      this.points = this.grip.held;
      this.tell.moved(true);
    }
    this.grip = this.frame = null;
    this.draw();
  }

  shift(from, dx, dy) {
    const clamp = (value) => Math.min(1.02, Math.max(-0.02, value));
    this.points = from.map(([x, y], k) => (this.selected.has(k) && !this.pinned.has(k) ? [clamp(x + dx), clamp(y + dy)] : [x, y]));
  }

  pin(points = [...this.selected]) {
    const all = points.every((k) => this.pinned.has(k));
    for (const k of points) all ? this.pinned.delete(k) : this.pinned.add(k);
    this.tell.pinned?.();
    this.draw();
  }

  key(event) {
    const command = event.ctrlKey || event.metaKey;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (arrows[event.key] && this.points.length) {
      if (!this.selected.size) this.selected.add(0);
      const far = STEP * (event.shiftKey ? 5 : 1);
      this.shift(this.points, arrows[event.key][0] * far, arrows[event.key][1] * far);
      this.tell.moved(true, event.timeStamp);
    } else if ((event.key === "," || event.key === ".") && this.points.length) {
      const last = [...this.selected].pop() ?? (event.key === "." ? -1 : 0);
      this.selected = new Set([(last + (event.key === "." ? 1 : -1) + this.points.length) % this.points.length]);
      this.tell.selected?.();
    } else if (command && event.key.toLowerCase() === "a") {
      this.selected = new Set(this.points.keys());
      this.tell.selected?.();
    } else if (event.key === "Escape") {
      this.selected.clear();
      this.tell.selected?.();
    } else if (event.key.toLowerCase() === "p" && !command) {
      this.pin();
    } else {
      return;
    }
    event.preventDefault();
    this.draw();
  }
}
