// A session with the hub: the frames of any client, over a WebSocket that is opened again whenever it ends.

const HELLO_MS = 8_000;
const CALL_MS = 15_000;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;
const RESTING_MS = 5 * 60_000;

/** What a call raised, or why there was nobody to ask: `code` as in the command line's errors. */
export class HubError extends Error {
  constructor({ code, message, hint }) {
    super(message);
    this.code = code;
    this.hint = hint;
  }
}

export class Session {
  #socket = null;
  #calls = new Map();
  #lastId = 0;
  #failures = 0;
  #timer = null;
  #why = null;

  /** `on` hears: welcome(frame), denied(error), gone(why, next try in ms). `token` returns the one to show, or null. */
  constructor(on, token) {
    this.on = on;
    this.token = token;
    this.answered = 0;
  }

  get isOpen() {
    return this.#socket?.welcome === true;
  }

  /** Connect now, or again. */
  open() {
    this.close();
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    this.#socket = socket;
    this.#why = null;
    this.#timer = setTimeout(() => this.#ended(socket, "it does not answer"), HELLO_MS);
    socket.onopen = () => {
      const token = this.token();
      const hello = { frame: "hello", protocol: "fedctl", version: 1, client: "monitor" };
      socket.send(JSON.stringify(token === null ? hello : { ...hello, token }));
    };
    socket.onmessage = ({ data }) => this.#received(socket, JSON.parse(data));
    socket.onclose = () => this.#ended(socket, null);
  }

  /** Hang up and stay so. */
  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    const error = new HubError({ code: "unavailable", message: "the hub is gone" });
    for (const { reject, timer } of this.#calls.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#calls.clear();
  }

  /** Ask the hub to do `op`, for a tenant; the promise holds its answer, or fails with a `HubError`. */
  call(op, fields = {}, tenant = null) {
    const socket = this.#socket;
    if (!this.isOpen) return Promise.reject(new HubError({ code: "unavailable", message: "the hub is gone" }));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#ended(socket, "it does not answer"), CALL_MS);
      this.#calls.set(id, { resolve, reject, timer });
      socket.send(JSON.stringify({ frame: "call", id, tenant_id: tenant, request: { op, ...fields } }));
    });
  }

  #received(socket, frame) {
    if (frame.frame === "welcome") {
      clearTimeout(this.#timer);
      this.#failures = 0;
      socket.welcome = true;
      this.on.welcome(frame);
    } else if (frame.frame === "goodbye") {
      this.#why = frame.reason;
    } else if (frame.frame === "failed" && frame.id === null) {
      if (frame.error.code === "denied") {
        this.close();
        this.on.denied(new HubError(frame.error));
      } else {
        this.#why = frame.error.message;
      }
    } else if (frame.frame === "answer" || frame.frame === "failed") {
      const call = this.#calls.get(frame.id);
      if (call === undefined) return;
      this.#calls.delete(frame.id);
      this.answered += 1;
      clearTimeout(call.timer);
      if (frame.frame === "answer") call.resolve(frame.answer);
      else call.reject(new HubError(frame.error));
    }
  }

  #ended(socket, why) {
    if (socket !== this.#socket) return;
    const reason = this.#why ?? why;
    this.close();
    const longest = document.hidden ? RESTING_MS : LONGEST_PAUSE_MS;
    const pause = Math.min(longest, FIRST_PAUSE_MS * 2 ** this.#failures) * (0.75 + Math.random() / 2);
    this.#failures += 1;
    this.#timer = setTimeout(() => this.open(), pause);
    this.on.gone(reason, pause);
  }
}
