// The WebSocket: packets of a JSON header and bytes; in each slot the newest request wins, here and at the server.

let socket;
let ready = false;
const waiting = new Map(); // slot -> packet that is not sent yet
const newest = new Map(); // slot -> id of its newest request, and what to do with the answer
const listeners = new Set();
let count = 0;
let pause = 250;

export function onNews(listener) {
  listeners.add(listener);
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    ready = true;
    pause = 250;
    for (const packet of waiting.values()) socket.send(packet);
    waiting.clear();
    listeners.forEach((listener) => listener({ slot: "connected" }));
  };
  socket.onmessage = ({ data }) => take(data);
  socket.onclose = () => {
    if (ready) listeners.forEach((listener) => listener({ slot: "lost" }));
    ready = false;
    setTimeout(connect, pause);
    pause = Math.min(4000, pause * 1.6);
  };
}

function take(data) {
  const length = new DataView(data).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const asked = newest.get(header.slot);
  if (!asked) {
    listeners.forEach((listener) => listener(header));
  } else if (header.id === asked.id) {
    newest.delete(header.slot);
    asked.done(header, new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
  } else if (header.id > (asked.seen ?? 0) && !header.error) {
    // an older picture is better than none while the newest is on its way
    asked.seen = header.id;
    asked.done(header, new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }), true);
  }
}

/** Ask in a slot; `done(header, blob)` is called for the newest request of the slot. */
export function ask(slot, content, done, payload) {
  const id = ++count;
  newest.set(slot, { id, done });
  const text = new TextEncoder().encode(JSON.stringify({ slot, id, ...content }));
  const body = payload ?? new Uint8Array();
  const packet = new Uint8Array(4 + text.length + body.length);
  new DataView(packet.buffer).setUint32(0, text.length);
  packet.set(text, 4);
  packet.set(body, 4 + text.length);
  if (ready) socket.send(packet);
  else waiting.set(slot, packet);
}

connect();
