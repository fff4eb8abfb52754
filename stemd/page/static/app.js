// Where everything meets: messages in, views updated, one paint a frame of the screen.

import { About } from "./about.js";
import { Archive } from "./archive.js";
import { MAPS, kindOf } from "./colormap.js";
import { Commands, mayReplace } from "./commands.js";
import { isEmpty } from "./contrast.js";
import { ContrastPanel } from "./contrastpanel.js";
import { ConfigFile } from "./config.js";
import { Controls } from "./controls.js";
import { Drawn } from "./drawn.js";
import { health } from "./health.js";
import { keyboard } from "./keys.js";
import { Lenses } from "./lenses.js";
import { Link } from "./link.js";
import { MeasuredOptics } from "./measured.js";
import { Model, REPLAY } from "./model.js";
import { Notices } from "./notices.js";
import { Operator } from "./operator.js";
import { Past } from "./past.js";
import { saveGrid, saveImage } from "./picture.js";
import { Rings } from "./rings.js";
import { Session } from "./session.js";
import { Stage } from "./stage.js";
import { Status, daemonTime, documentLine, logLine, waitingWords } from "./status.js";
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
  use: async (optics) => {
    const asked = await mayReplace("Make the images of the last scan again?", model.live.state.scan, true);
    if (!asked) return { ok: false, error: { message: "Nothing was changed." } };
    return operator.command("recompute", { settings: { optics }, write: asked === "write" });
  },
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
const notices = new Notices(id("notices"));
const archive = new Archive(id("past"), (scan) => past.open(scan));

const commands = new Commands(model, stage, (name) => operator.command(name));

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
        lastImages();
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
  commands.stale(tunable());
  commands.differs(tunable());
  about.update();
  if (!now) return;
  controls.imageSize = Math.max(...(stage.main.frame?.meta.scan_shape ?? [256]));
  controls.update(now, tunable());
  optics();
  id("revision").textContent = now.revision === undefined ? "" : `revision ${now.revision}`;
  stage.main.dirty = true;
  redraw();
}

/** What was measured in the scan on the screen; of another one only until there is something. */
function optics() {
  const { live, past: open } = model;
  if (model.settings) measured.update(open ? null : live.optics, model.settings, tunable(), live.state);
}

function lockedWords() {
  if (!connection.open) return "No connection.";
  if (!operator.allowed) return `You can look, but not change anything: ${operator.refusal}.`;
  return model.past ? "The settings of this scan. Replay it from its record to try others." : "";
}

const LATER = ["No result yet", "This image comes when its engine has seen enough of the scan, or after the scan."];

function emptyWords() {
  if (model.past) {
    id("empty-words").textContent = "Reading the images of this scan …";
    id("empty-more").textContent = "";
    return;
  }
  const { frame } = stage.main;
  const words = () => (frame && isEmpty(frame) ? LATER : waitingWords(model.live.state));
  const [text, more] = connection.open ? words() : ["Connecting to the microscope …", ""];
  id("empty-words").textContent = text;
  id("empty-more").textContent = more;
}

function everything() {
  status.update(model, connection);
  about.update();
  notices.update(model);
  session.update();
  emptyWords();
  commands.stale(tunable());
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
    setTimeout(lastImages, 500);
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
    daemonTime(document_.time);
    health(document_);
  },
  state(pipeline, document_) {
    const known = model.pipelines.has(pipeline);
    model.of(pipeline).state = document_;
    if (!known) tabs();
    if (pipeline !== model.pipeline) return;
    status.update(model, connection);
    about.update();
    notices.update(model);
    optics();
    emptyWords();
    commands.stale(tunable());
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
    model.of(pipeline).take(document_);
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
  session(pipeline, document_) {
    model.of(pipeline).session = document_;
    if (pipeline === model.pipeline) session.update();
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
    if (pipeline === model.pipeline && !model.past) {
      stage.update();
      emptyWords();
      commands.stale(tunable());
    }
    redraw();
  },
});

const operator = new Operator(link, model, {
  changed: () => {
    settings();
    commands.allow(operator.allowed);
    config.update();
    session.update();
    past.replay.tell();
  },
});
const config = new ConfigFile(model, operator);
const session = new Session(model, operator);
const about = new About(model, operator, () => everything());

function nextMap() {
  const { frame, show } = stage.main;
  if (!frame || frame.angle) return;
  const names = MAPS[kindOf(frame.meta)];
  change({ map: names[(names.indexOf(show.map) + 1) % names.length] });
}

/** The page has come before the first scan of this daemon: show the last one that is kept. */
async function lastImages() {
  const { pipeline, live } = model;
  if (live.images.length) return;
  const { frames, notices: noticed } = await past.newest(pipeline);
  if (live.images.length || !frames.length) return;
  live.images = frames.map(({ meta }) => ({ name: meta.name }));
  live.keptNotices = noticed;
  for (const frame of frames) live.frames.set(frame.meta.name, frame);
  everything();
}

function savePng() {
  const { frame } = stage.main;
  if (!frame) return;
  if (stage.gridMode) saveGrid(id("grid"), stage.cells.values(), `${frame.meta.scan}_all`);
  else saveImage(stage.main, id("bar"), `${frame.meta.scan}_${frame.meta.name}`);
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
keyboard(actions);
everything();
