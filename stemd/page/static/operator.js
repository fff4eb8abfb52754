// Changes: who may make them, and the daemon's answers to them.

const PATIENCE_MS = 10000;
const STORE = "stemd.token";
const id = (name) => document.getElementById(name);

export class Operator {
  /** `on.changed()` is called when the right to change settings comes or goes. */
  constructor(link, model, on) {
    this.link = link;
    this.model = model;
    this.on = on;
    this.allowed = false;
    this.online = false;
    this.waiting = new Map();
    this.count = 0;
    id("key-button").addEventListener("click", () => this.ask());
    id("key-cancel").addEventListener("click", () => id("key").close());
    id("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      id("key-problem").textContent = "";
      this.token = id("token").value;
      this.link.send({ type: "token", token: this.token });
    });
  }

  /** A new connection says who may do what; a token given before is shown again. */
  hello({ operator, refusal }) {
    this.refusal = refusal;
    this.set(operator);
    const token = this.token ?? sessionStorage.getItem(STORE);
    if (!operator && token) {
      this.token = token;
      this.link.send({ type: "token", token });
    }
  }

  answered(operator) {
    this.set(operator);
    if (operator) {
      sessionStorage.setItem(STORE, this.token);
      id("key").close();
    } else {
      sessionStorage.removeItem(STORE);
      this.token = null;
      id("key-problem").textContent = "This is not the operator's token.";
    }
    id("token").value = "";
  }

  connected(open) {
    this.online = open;
    if (open) return;
    for (const answer of this.waiting.values()) answer(lost());
    this.set(false);
  }

  set(allowed) {
    this.allowed = allowed;
    id("key-button").hidden = allowed || !this.online;
    this.on.changed();
  }

  ask() {
    id("key-why").textContent = `${this.refusal.charAt(0).toUpperCase()}${this.refusal.slice(1)}.`;
    id("key-problem").textContent = "";
    id("key").showModal();
    id("token").focus();
  }

  settings(part) {
    return this.request("settings", part);
  }

  command(command, args = {}) {
    return this.request("command", { command, args });
  }

  /** Send a request for what is on the screen, or for a pipeline; resolves to the reply document, or to a refusal of the same form. */
  request(kind, request, pipeline = this.model.target, patience = PATIENCE_MS) {
    const key = `page-${Date.now().toString(36)}-${(this.count += 1)}`;
    return new Promise((resolve) => {
      const answer = (reply) => {
        clearTimeout(timer);
        this.waiting.delete(key);
        resolve(reply);
      };
      const timer = setTimeout(() => answer(lost()), patience);
      this.waiting.set(key, answer);
      if (pipeline) this.link.send({ type: "request", pipeline, kind, request: { id: key, ...request } });
      else answer({ ok: false, error: { message: "this scan is over" } });
    });
  }

  replied(reply) {
    this.waiting.get(reply.id)?.(reply);
  }
}

function lost() {
  return { ok: false, error: { message: "the daemon has not answered" } };
}
