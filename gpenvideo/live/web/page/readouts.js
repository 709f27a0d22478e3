// Readouts: frame rate and latency, live, and what else the server tells.

const WINDOW_MS = 3000;
const EVERY_MS = 500;
const CHARTED = 140;
const LINES_MS = [50, 100, 200, 400, 800, 1600];
const NETWORK = /^\w+\((\d+ px) to \d+ px, (\w+ on [^,]+)/;
const STAGES = 4; // the slowest ones

const at = (id) => document.getElementById(id);

export class Readouts {
  #shown = []; // { ms, latencyMs }
  #charted = [];

  constructor(link) {
    this.link = link;
    setInterval(() => this.#update(), EVERY_MS);
    link.addEventListener("stats", ({ detail }) => this.#stats(detail));
  }

  /** Frames a second, and the latency's median in ms, of the last seconds; null where there is none. */
  get now() {
    const latencies = this.#latencies();
    const span = this.#shown.length > 1 ? this.#shown.at(-1).ms - this.#shown[0].ms : 0;
    return { fps: span ? (1000 * (this.#shown.length - 1)) / span : null, latencyMs: share(latencies, 0.5) };
  }

  /** Count a frame: when the camera had it by the server's clock, in s, and when it was presented here. */
  frame(capturedS, presentedMs) {
    const nowMs = performance.now();
    const serverS = capturedS === null ? null : this.link.serverTime(presentedMs / 1000);
    const latencyMs = serverS === null ? null : 1000 * (serverS - capturedS);
    this.#shown.push({ ms: nowMs, latencyMs });
    if (latencyMs !== null) this.#charted.push(latencyMs);
    if (this.#charted.length > CHARTED) this.#charted.shift();
    while (this.#shown[0].ms < nowMs - WINDOW_MS) this.#shown.shift();
  }

  #latencies() {
    const latencies = this.#shown.map((one) => one.latencyMs).filter((one) => one !== null);
    return latencies.sort((one, other) => one - other);
  }

  #update() {
    while (this.#shown.length && this.#shown[0].ms < performance.now() - WINDOW_MS) this.#shown.shift();
    const { fps, latencyMs } = this.now;
    at("fps").textContent = fps === null ? "–" : Math.round(fps);
    at("latency").textContent = latencyMs === null ? "–" : Math.round(latencyMs);
    if (at("details").hidden) return;
    const latencies = this.#latencies();
    at("d-shown").textContent = latencies.length ? quantiles([0.5, 0.95, 0.99].map((p) => share(latencies, p))) : "–";
    this.#draw();
  }

  #stats(stats) {
    const { p50, p95, p99 } = stats.latency;
    at("d-ready").textContent = quantiles([p50, p95, p99]);
    at("d-frames").textContent = `${stats.frames} shown, ${stats.dropped} dropped`;
    at("d-faces").textContent = stats.faces;
    at("d-size").textContent = `${stats.size[0]} × ${stats.size[1]}, ${stats.fps.toFixed(1)} fps`;
    at("d-network").textContent = NETWORK.exec(stats.network)?.slice(1).join(" ") || stats.network || "–";
    const stages = Object.entries(stats.stages).sort((one, other) => other[1] - one[1]);
    const slowest = stages.slice(0, STAGES).map(([name, ms]) => `${name} ${ms.toFixed(1)}`);
    at("d-stages").textContent = slowest.length ? `${slowest.join(", ")} ms` : "–";
    at("d-steps").textContent = stats.level ? stats.steps.at(-1) : "nothing given up";
  }

  /** The latency of the last frames, as a line. */
  #draw() {
    const canvas = at("chart");
    const pen = canvas.getContext("2d");
    const { width, height } = canvas;
    pen.clearRect(0, 0, width, height);
    if (this.#charted.length < 2) return;
    const most = Math.max(60, ...this.#charted) * 1.15;
    const y = (ms) => height - (ms / most) * height;
    pen.font = "20px system-ui, sans-serif";
    for (const ms of LINES_MS.filter((line) => line < most && line > most / 3)) {
      pen.fillStyle = "rgb(255 255 255 / 8%)";
      pen.fillRect(0, y(ms), width, 2);
      pen.fillStyle = "rgb(255 255 255 / 45%)";
      pen.fillText(ms, 0, y(ms) - 6);
    }
    pen.beginPath();
    const start = CHARTED - this.#charted.length; // the newest is at the right
    this.#charted.forEach((ms, i) => pen.lineTo(((start + i) / (CHARTED - 1)) * width, y(ms)));
    Object.assign(pen, { strokeStyle: "#eabf93", lineWidth: 3, lineJoin: "round" });
    pen.stroke();
  }
}

function share(sorted, part) {
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] : null;
}

function quantiles([p50, p95, p99]) {
  return `${Math.round(p50)} · ${Math.round(p95)} · ${Math.round(p99)} ms`;
}
