// Player: chooses how the pictures travel, tries the next way where one fails, and begins anew when it must.

import { decodesVideo, watchChunks } from "./chunks.js";
import { watchRtc } from "./rtc.js";
import { Upload, openCamera } from "./webcam.js";

export const WAYS = { webrtc: "WebRTC", vp8: "WebSocket · video", jpeg: "WebSocket · pictures" };
const FIRST_FRAME_MS = 8000;
const STALL_MS = 6000; // without a frame over a way that had some

export class Player extends EventTarget {
  #watching = null;
  #upload = null;
  #stream = null;
  #turn = 0;
  #frames = 0;
  #shownMs = 0;
  #hello = null;

  constructor(link, video, show) {
    super();
    Object.assign(this, { link, video, show, source: "", via: "", force: "", pair: true, deviceId: "", serverIsLive: false });
    link.addEventListener("refused", ({ detail }) => this.#refused(detail));
    link.addEventListener("closed", () => this.stop());
    setInterval(() => this.#look(), 1000);
    document.addEventListener("visibilitychange", () => (this.#shownMs = performance.now()));
  }

  get stream() {
    return this.#stream;
  }

  /** Begin to watch: the server's camera, or the visitor's own. */
  async start(source, hello) {
    this.stop();
    const turn = this.#turn;
    Object.assign(this, { source });
    this.#hello = hello;
    try {
      if (source === "visitor") await this.#open();
      if (turn !== this.#turn) return;
      await this.#choose(turn);
    } catch (error) {
      if (turn === this.#turn) this.#tell("failed", { text: error.message });
    }
  }

  /** Show nothing any more; the camera goes off unless it is to be used again at once. */
  stop({ keepCamera = true } = {}) {
    this.#turn += 1;
    this.#upload?.close();
    this.#watching?.close();
    this.#upload = this.#watching = null;
    this.via = "";
    if (!keepCamera) {
      this.#stream?.getTracks().forEach((track) => track.stop());
      this.#stream = null;
    }
  }

  /** Ask for pairs of before and after, or for the result alone. */
  wantPair(pair) {
    if (pair === this.pair) return;
    this.pair = pair;
    this.link.send({ type: "pair", pair });
  }

  async #open() {
    const device = this.#stream?.getVideoTracks()[0]?.getSettings().deviceId;
    const isRight = this.#stream?.active && (!this.deviceId || this.deviceId === device);
    if (isRight) return;
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = await openCamera(this.deviceId);
    this.#stream.getVideoTracks()[0].addEventListener("ended", () => {
      this.stop({ keepCamera: false });
      this.#tell("failed", { text: "The camera has stopped." });
    });
    this.#tell("camera", {});
  }

  /** Try one way after the other until frames come. */
  async #choose(turn) {
    const ways = this.force ? [this.force] : ["webrtc", ...((await decodesVideo()) ? ["vp8"] : []), "jpeg"];
    let why = "";
    for (const via of ways) {
      if (turn !== this.#turn) return;
      try {
        await this.#try(via, turn);
        if (turn !== this.#turn) return;
        this.via = via;
        this.#tell("watching", { via, text: WAYS[via] });
        return;
      } catch (error) {
        why = error.message;
        if (turn !== this.#turn) return;
        this.#upload?.close();
        this.#watching?.close();
        this.#upload = this.#watching = null;
        this.link.send({ type: "leave" });
        if (!this.link.isOpen) break;
      }
    }
    throw new Error(why);
  }

  async #try(via, turn) {
    const wanted = { source: this.source, pair: this.pair };
    const before = this.#frames;
    const show = (picture, known, presentedMs) => {
      if (turn !== this.#turn) return;
      this.#frames += 1;
      this.#shownMs = performance.now();
      this.show(picture, known, presentedMs);
    };
    const track = this.source === "visitor" ? this.#stream.getVideoTracks()[0] : null;
    this.#watching =
      via === "webrtc"
        ? await watchRtc(this.link, wanted, track, this.#hello.ice, this.video, show)
        : await watchChunks(this.link, via, wanted, show);
    if (track && via !== "webrtc") this.#upload = new Upload(this.link, this.#stream);
    const untilMs = performance.now() + FIRST_FRAME_MS;
    while (this.#frames === before && turn === this.#turn && performance.now() < untilMs) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    if (this.#frames === before && this.serverIsLive && !document.hidden) throw new Error("no pictures came");
  }

  /** Begin anew where frames stopped coming though the server still has some. */
  #look() {
    if (document.hidden) this.#shownMs = performance.now(); // a browser shows no frames that nobody sees
    const quietMs = performance.now() - this.#shownMs;
    this.#tell("pace", { quietMs });
    if (this.via !== "webrtc" || quietMs < STALL_MS || !this.serverIsLive) return;
    this.#shownMs = performance.now();
    this.start(this.source, this.#hello);
  }

  #refused({ via, text }) {
    if (this.via && this.via === via) {
      this.#tell("lost", { text });
      this.start(this.source, this.#hello);
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
