// Where everything meets: messages in, views updated, one paint a frame of the screen.

import { Archive } from "./archive.js";
import { MAPS, kindOf } from "./colormap.js";
import { ContrastPanel } from "./contrastpanel.js";
import { Controls, describe } from "./controls.js";
import { Drawn } from "./drawn.js";
import { health } from "./health.js";
import { keyboard } from "./keys.js";
import { Lenses } from "./lenses.js";
import { Link } from "./link.js";
import { MeasuredOptics } from "./measured.js";
import { Model, REPLAY } from "./model.js";
import { Operator } from "./operator.js";
import { Past } from "./past.js";
import { Rings } from "./rings.js";
import { Stage } from "./stage.js";
import { Status, documentLine, logLine } from "./status.js";
import { glossary } from "./words.js";


const id = (name) => document.getElementById(name);

const model = new Model();
const status = new Status();
const connection = { open: false, ever: false };
const drawn = new Drawn((pipeline, name) => link.send({ type: "drawn", pipeline, name }));
let scheduled = false;

function redraw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(paint);
}

const rings = new Rings(
  () => model.settings,
  () => model.source.centre(),
  (part) => operator.settings(part),
);
const stage = new Stage(model, {
  redraw,
  rings: rings.overlay,
  chosen: () => watch(),
  grab: (event, view) => lenses.grab(event) ?? (tunable() ? rings.grab(event, view) : null),
});
const lenses = new Lenses(stage.main, redraw);
const contrast = new ContrastPanel(id("contrast"), change);
const controls = new Controls(
  id("settings"),
  (part) => operator.settings(part),
  (command) => operator.command(command),
);
const measured = new MeasuredOptics(id("measured"), {
  use: (optics) => operator.command("recompute", { settings: { optics }, write: true }),
});
const past = new Past(model, {
  send: (message) => link.send(message),
  allowed: () => connection.open && operator.allowed,
  grown: () => {
    stage.update();
    redraw();
  },
  changed: () => {
    settings();
    everything();
  },
  opened: () => stage.scanPort.fit(),
  failed: (text) => logLine(id("log"), "", { text }, "error"),
});
const archive = new Archive(id("past"), (scan) => past.open(scan));

/** Whether a settings change has a meaning for what is on the screen, and this viewer may make it. */
function tunable() {
  return operator.allowed && model.target !== null;
}

/** Change how the large image is shown. */
function change(part) {
  const { frame } = stage.main;
  if (!frame) return;
  model.change(frame.meta, part);
  stage.restyle(frame.meta.name);
  if (frame.angle) stage.restyle("field");
}

function paint() {
  scheduled = false;
  const again = stage.main.dirty;
  stage.paint();
  if (again) {
    contrast.update(stage.main);
    stage.refreshReadout();
  }
  lenses.paint();
  drawn.painted();
}

let watched = "";

/** Tell the daemon which images are wanted, and at what size. */
function watch() {
  if (!connection.open) return;
  // of a past scan nothing comes unless it is replayed from its record: then the viewer's own
  const from = model.past ? past.from : model.pipeline;
  const images = from ? { [from]: stage.wants() } : {};
  const text = JSON.stringify(images);
  if (text === watched) return;
  watched = text;
  link.send({ type: "watch", images, bundle: true, short: true });
}

function tabs() {
  const nav = id("pipelines");
  const names = [...model.pipelines.keys()];
  nav.hidden = names.length < 2;
  nav.replaceChildren(
    ...names.map((name) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.textContent = name;
      tab.setAttribute("aria-pressed", String(name === model.pipeline));
      tab.addEventListener("click", () => {
        past.close();
        model.pipeline = name;
        tabs();
        settings();
        everything();
      });
      return tab;
    }),
  );
}

function settings() {
  const now = model.settings;
  id("locked").hidden = tunable();
  id("locked").textContent = lockedWords();
  if (!now) return;
  controls.imageSize = Math.max(...(stage.main.frame?.meta.scan_shape ?? [256]));
  controls.update(now, tunable());
  measured.update(model.past ? null : model.live.optics, now.optics, tunable());
  id("revision").textContent = now.revision === undefined ? "" : `revision ${now.revision}`;
  stage.main.dirty = true;
  redraw();
}

function lockedWords() {
  if (!connection.open) return "No connection.";
  if (!operator.allowed) return `You can look, but not change anything: ${operator.refusal}.`;
  return model.past ? "The settings of this scan. Replay it from its record to try others." : "";
}

function emptyWords() {
  if (model.past) {
    id("empty-words").textContent = "Reading the images of this scan …";
    id("empty-more").textContent = "";
    return;
  }
  const { state } = model.live;
  const waiting = state.state === "waiting" || !state.state;
  id("empty-words").textContent = !connection.open
    ? "Connecting to the microscope …"
    : waiting
      ? "Waiting for the camera"
      : "Waiting for the first scan line";
  const more = "The image grows here as soon as the first patterns arrive.";
  id("empty-more").textContent = connection.open ? more : "";
}

function everything() {
  status.update(model, connection);
  emptyWords();
  stage.update();
  watch();
}

const receive = {
  hello(_, document_) {
    model.hello = document_;
    id("instrument").textContent = document_.instrument;
    for (const name of document_.pipelines) model.of(name);
    model.keep(document_.pipelines);
    operator.hello(document_);
    tabs();
    everything();
  },
  removed(pipeline) {
    const looked = pipeline === model.pipeline && !model.past;
    if (!model.keep([...model.pipelines.keys()].filter((name) => name !== pipeline))) return;
    tabs();
    if (looked) settings();
    everything();
  },
  access(_, __, message) {
    operator.answered(message.operator);
  },
  daemon(_, document_) {
    model.daemon = document_;
  },
  health(_, document_) {
    model.health = document_;
    health(document_);
  },
  state(pipeline, document_) {
    const known = model.pipelines.has(pipeline);
    model.of(pipeline).state = document_;
    if (!known) tabs();
    if (pipeline !== model.pipeline) return;
    status.update(model, connection);
    emptyWords();
    stage.describe();
  },
  replay(_, document_) {
    past.replay.hear(document_);
  },
  settings(pipeline, document_) {
    if (pipeline === REPLAY) {
      past.settings(document_);
      return;
    }
    model.of(pipeline).settings = document_;
    if (pipeline === model.pipeline && !model.past) settings();
  },
  images(pipeline, document_) {
    if (pipeline === REPLAY) {
      past.images(document_.images);
      return;
    }
    model.of(pipeline).images = document_.images;
    if (pipeline === model.pipeline && !model.past) everything();
  },
  optics(pipeline, document_) {
    model.of(pipeline).optics = document_;
    if (pipeline === model.pipeline && !model.past) settings();
  },
  document(pipeline, document_) {
    if (document_.event !== "started") archive.news();
    logLine(id("log"), pipeline, documentLine(document_), "info");
  },
  log(pipeline, document_) {
    logLine(id("log"), pipeline, document_, document_.level ?? "warning");
  },
  reply(_, document_) {
    operator.replied(document_);
  },
};

const link = new Link({
  status({ open }) {
    connection.open = open;
    connection.ever ||= open;
    watched = "";
    if (open) {
      // the daemon tells its newest log lines again
      id("log").replaceChildren();
      drawn.forget();
    }
    if (!open) past.replay.lost();
    operator.connected(open);
    everything();
  },
  text(message) {
    receive[message.type]?.(message.pipeline, message.document, message);
  },
  image(frame) {
    const { pipeline, name } = frame.meta;
    drawn.came(pipeline, name);
    if (pipeline === REPLAY) {
      past.image(frame);
      redraw();
      return;
    }
    const source = model.of(pipeline);
    const { state } = source;
    const missing = state.scan === frame.meta.scan ? (state.missing ?? 0) : 0;
    frame.meta.reached = frame.meta.positions_done + missing;
    source.frames.set(name, frame);
    if (pipeline === model.pipeline && !model.past) stage.update();
    redraw();
  },
});

const operator = new Operator(link, model, {
  changed: () => {
    settings();
    for (const button of id("commands").children) button.disabled = !operator.allowed;
    past.replay.tell();
  },
});

function nextMap() {
  const { frame, show } = stage.main;
  if (!frame || frame.angle) return;
  const names = MAPS[kindOf(frame.meta)];
  change({ map: names[(names.indexOf(show.map) + 1) % names.length] });
}

function savePng() {
  const { main } = stage;
  if (!main.frame || stage.gridMode) return;
  main.canvas.toBlob((blob) => {
    const anchor = document.createElement("a");
    anchor.href = URL.createObjectURL(blob);
    anchor.download = `${main.frame.meta.scan}_${main.frame.meta.name}.png`;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
  });
}

const port = () => stage.port(stage.main.frame);
const actions = {
  grid: () => stage.setGrid(!stage.gridMode),
  fft: () => lenses.toggle("fft", !lenses.fftOn),
  profile: () => lenses.toggle("profile", !lenses.profileOn),
  zoomIn: () => port().zoomAt(port().x, port().y, 1.5),
  zoomOut: () => port().zoomAt(port().x, port().y, 1 / 1.5),
  fit: () => port().fit(),
  pan: (dx, dy) => port().pan((dx * 0.15) / port().zoom, (dy * 0.15) / port().zoom),
  cursor: (dx, dy) => stage.moveCursor(dx, dy),
  step: (by) => stage.step(by),
  pick: (i) => {
    const name = model.source.names()[i];
    if (name) stage.select(name);
  },
  map: nextMap,
  log: () => change({ log: !stage.main.show?.log }),
  past: () => archive.show(),
  replay: () => past.replay.toggle(),
  back: () => past.close(),
  help: () => {
    glossary(id("words"), model.source.names(), model.rings);
    id("help").showModal();
  },
};

for (const [button, action] of Object.entries({
  "grid-button": actions.grid,
  "fft-button": actions.fft,
  "profile-button": actions.profile,
  "zoom-in": actions.zoomIn,
  "zoom-out": actions.zoomOut,
  "zoom-fit": actions.fit,
  "save-button": savePng,
  "past-button": actions.past,
  "past-close": actions.back,
  "help-button": actions.help,
})) {
  id(button).addEventListener("click", action);
}
for (const button of id("commands").children) {
  button.addEventListener("click", async () => {
    const reply = await operator.command(button.dataset.command);
    id("command-reply").textContent = reply.ok ? `${button.textContent}: done` : describe(reply.error);
  });
}
keyboard(actions);
everything();
