// The page of live video: what belongs together is brought together here.

import { Controls } from "./controls.js";
import { Link } from "./link.js";
import { Player } from "./player.js";
import { watchPresence } from "./presence.js";
import { Readouts } from "./readouts.js";
import { Stage } from "./stage.js";
import { cameras } from "./webcam.js";

const QUIET_MS = 2500; // without a frame, after which the page says that it waits
const REFUSED_AFTER = 3; // attempts to connect, after which the page asks why

const at = (id) => document.getElementById(id);
const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`;
const link = new Link(address);
const readouts = new Readouts(link);
let hello = null;
let stopped = false;

const stage = new Stage(() => player.wantPair(stage.comparing));
const player = new Player(link, at("received"), (picture, known, presentedMs) => {
  stage.draw(picture, known, performance.now());
  readouts.frame(known.capturedS, presentedMs);
  if (document.body.dataset.state !== "live") say("live");
  document.dispatchEvent(new CustomEvent("shown", { detail: known }));
});
const controls = new Controls(link, stage);
watchPresence(() => controls.mayFade);

/** Say how it stands: connecting, asking, waiting, live or stopped. */
function say(state, title = "", text = "", button = "") {
  if (state !== "live") at("way").textContent = state === "connecting" ? "connecting" : "–";
  document.body.dataset.state = state;
  if (state === "live") return;
  at("notice-title").textContent = title;
  at("notice-text").textContent = text;
  at("start").hidden = !button;
  at("start").textContent = button;
  at("other").hidden = !(button && player.source !== "camera" && hello?.sources.includes("camera"));
  if (button) at("start").focus({ focusVisible: false });
}

const ASKING = [
  "Your camera, restored",
  "The picture goes to this server, comes back restored, and is not kept.",
  "Start my camera",
];

function watch(source) {
  at("source").value = source;
  if (source === "visitor" && !player.stream) {
    player.stop();
    player.source = source;
    link.send({ type: "leave" });
    say("asking", ...ASKING);
    return;
  }
  say("connecting", "Connecting", "");
  player.start(source, hello);
}

link.addEventListener("hello", ({ detail }) => {
  hello = detail;
  stopped = false;
  controls.offer(hello.weights);
  at("source-choice").hidden = hello.sources.length < 2;
  const names = { camera: "Server", visitor: "My camera" };
  at("source").replaceChildren(...hello.sources.map((name) => new Option(names[name], name)));
  watch(hello.sources.includes(player.source) ? player.source : hello.sources[0]);
});

let level = 0;
link.addEventListener("stats", ({ detail }) => {
  player.serverIsLive = detail.fps > 1;
  if (detail.level !== level && detail.steps.length) controls.toast(detail.steps.at(-1));
  level = detail.level;
});

link.addEventListener("ended", ({ detail }) => {
  stopped = true;
  player.stop({ keepCamera: false });
  say("stopped", "It has ended", `${detail.text[0].toUpperCase()}${detail.text.slice(1)}.`);
});

link.addEventListener("closed", async ({ detail }) => {
  if (!stopped) say("connecting", detail.tries > 1 ? "Connecting again" : "Connecting", sentence(detail.reason));
  if (detail.tries < REFUSED_AFTER) return;
  const answer = await fetch("/healthz", { cache: "no-store" }).catch(() => null);
  if (!answer) say("stopped", "The server is not there", "This page goes on by itself when it is back.");
  else if ((await fetch("/main.js", { cache: "no-store" })).status === 401) {
    say("stopped", "This address is no longer valid", "Open the address that gpenvideo printed when it started.");
  } else say("stopped", "The server is full", "As many pages as it bears are open. This one goes on when there is room.");
});

player.addEventListener("watching", ({ detail }) => (at("way").textContent = detail.text));
player.addEventListener("lost", () => (at("way").textContent = "connecting"));
player.addEventListener("failed", ({ detail }) => {
  say("asking", "That did not work", sentence(detail.text), player.source === "visitor" ? "Try again" : "Connect again");
});
player.addEventListener("pace", ({ detail }) => {
  if (document.body.dataset.state !== "live" || detail.quietMs < QUIET_MS) return;
  say("waiting", "Waiting for the camera", "The picture goes on when it is back.");
});
player.addEventListener("camera", async () => {
  const found = await cameras();
  at("device-choice").hidden = found.length < 2;
  const current = player.stream.getVideoTracks()[0].getSettings().deviceId;
  at("device").replaceChildren(...found.map(({ label, deviceId }) => new Option(label, deviceId)));
  at("device").value = current;
});

at("start").onclick = () => {
  say("connecting", "Connecting", "");
  player.start(at("source").value, hello);
};
at("other").onclick = () => watch("camera");
at("source").onchange = () => {
  if (at("source").value !== "visitor") player.stop({ keepCamera: false });
  watch(at("source").value);
};
at("device").onchange = () => {
  player.deviceId = at("device").value;
  player.start(player.source, hello);
};
at("force").onchange = () => {
  player.force = at("force").value;
  at("way").textContent = "connecting";
  player.start(player.source, hello);
};

function sentence(text) {
  return text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}` : "";
}

link.open();
