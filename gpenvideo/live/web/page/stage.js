// Stage: the picture, and the split between before and after.

const GLOW_EVERY_MS = 250;
const GLOW_PX = [8, 5];
const STEP = 0.02; // of the width, for a key
const FAR = 0.12;
const BELOW_TOP_PX = 72; // of what lies over the picture at the top

export class Stage {
  #picture = document.getElementById("picture");
  #pen = this.#picture.getContext("2d", { alpha: false });
  #glow = document.getElementById("glow").getContext("2d", { alpha: false });
  #frame = document.getElementById("frame");
  #line = document.getElementById("split");
  #handle = document.getElementById("handle");
  #glowMs = 0;
  #last = null;
  #at = 0.5;
  #comparing = true;

  constructor(changed) {
    this.changed = changed;
    this.#listen();
    new ResizeObserver(() => this.#place()).observe(document.getElementById("stage"));
    this.at = 0.5;
  }

  /** The canvas: what is seen, for snapshots and recordings. */
  get picture() {
    return this.#picture;
  }

  /** Where the split is, in [0, 1] of the width. */
  get at() {
    return this.#at;
  }

  set at(value) {
    this.#at = Math.min(1, Math.max(0, value));
    const percent = Math.round(100 * this.#at);
    this.#line.style.left = `${100 * this.#at}%`;
    this.#frame.style.setProperty("--at", `${100 * this.#at}%`);
    this.#frame.classList.toggle("far-left", this.#at < FAR);
    this.#frame.classList.toggle("far-right", this.#at > 1 - FAR);
    this.#handle.setAttribute("aria-valuenow", percent);
    this.#handle.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
  }

  /** Whether before and after are shown beside each other. */
  get comparing() {
    return this.#comparing;
  }

  set comparing(value) {
    this.#comparing = value;
    this.#show(this.#last?.pair ?? false);
    this.changed();
  }

  /** Draw a picture, or a pair of them one above the other: the source left of the split, the result right. */
  draw(source, { pair, size: [width, height] }, nowMs) {
    if (this.#picture.width !== width || this.#picture.height !== height) {
      Object.assign(this.#picture, { width, height });
      this.#place();
    }
    if (pair !== this.#last?.pair) this.#show(pair);
    this.#last = { pair };
    const pen = this.#pen;
    pen.drawImage(source, 0, pair ? height : 0, width, height, 0, 0, width, height);
    const left = pair && this.#comparing ? Math.round(this.#at * width) : 0;
    if (left > 0) pen.drawImage(source, 0, 0, left, height, 0, 0, left, height);
    if (left > 0 && left < width) {
      pen.fillStyle = "rgb(255 255 255 / 70%)";
      pen.fillRect(left - 1, 0, 2, height);
    }
    if (nowMs - this.#glowMs > GLOW_EVERY_MS) {
      this.#glowMs = nowMs;
      this.#glow.imageSmoothingQuality = "high"; // the mean of all, not single pixels
      this.#glow.drawImage(this.#picture, 0, 0, GLOW_PX[0], GLOW_PX[1]);
    }
  }

  #show(pair) {
    this.#frame.classList.toggle("paired", pair && this.#comparing);
  }

  /** Lay the split over the picture, which is as large as fits. */
  #place() {
    const { width, height } = this.#picture;
    const { clientWidth, clientHeight } = this.#picture;
    const scale = Math.min(clientWidth / width, clientHeight / height);
    const top = (clientHeight - scale * height) / 2;
    this.#frame.style.setProperty("--tags", `${Math.max(14, BELOW_TOP_PX - top)}px`);
    Object.assign(this.#frame.style, {
      width: `${scale * width}px`,
      height: `${scale * height}px`,
      left: `${(clientWidth - scale * width) / 2}px`,
      top: `${top}px`,
    });
  }

  #listen() {
    const line = this.#line;
    const follow = (event) => {
      const box = this.#frame.getBoundingClientRect();
      this.at = (event.clientX - box.left) / box.width;
    };
    line.addEventListener("pointerdown", (event) => {
      line.setPointerCapture(event.pointerId);
      line.classList.add("dragged");
      this.#handle.focus({ preventScroll: true, focusVisible: false });
      event.preventDefault();
    });
    line.addEventListener("pointermove", (event) => line.hasPointerCapture(event.pointerId) && follow(event));
    line.addEventListener("lostpointercapture", () => line.classList.remove("dragged"));
    line.addEventListener("dblclick", () => (this.at = 0.5));
    this.#handle.addEventListener("keydown", (event) => {
      const places = { Home: 0, End: 1, PageDown: this.#at - 5 * STEP, PageUp: this.#at + 5 * STEP };
      if (!(event.key in places)) return;
      this.at = places[event.key];
      event.preventDefault();
    });
  }

  /** Move the split by some steps. */
  move(steps) {
    this.at = this.#at + STEP * steps;
  }
}
