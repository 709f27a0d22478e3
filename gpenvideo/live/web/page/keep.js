// Keeping: snapshots and recordings of what is seen.

const KINDS = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];
const BITS_S = 8_000_000;
const FREE_MS = 60_000;

/** A picture file of what the canvas shows; what it is called. */
export async function snapshot(canvas) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return save(blob, "png");
}

/** Records a canvas, from its making to stop(). */
export class Recording {
  #parts = [];
  #recorder;

  constructor(canvas) {
    const mimeType = KINDS.find((kind) => window.MediaRecorder?.isTypeSupported(kind));
    if (!mimeType) throw new Error("This browser does not record.");
    this.#recorder = new MediaRecorder(canvas.captureStream(), { mimeType, videoBitsPerSecond: BITS_S });
    this.#recorder.ondataavailable = ({ data }) => data.size && this.#parts.push(data);
    this.#recorder.start(1000);
    this.sinceMs = performance.now();
  }

  /** End it and save the file; what it is called. */
  async stop() {
    const recorder = this.#recorder;
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.stop();
    await stopped;
    recorder.stream.getTracks().forEach((track) => track.stop());
    return save(new Blob(this.#parts, { type: recorder.mimeType }), recorder.mimeType.includes("mp4") ? "mp4" : "webm");
  }
}

function save(blob, suffix) {
  const now = new Date(Date.now() - 60_000 * new Date().getTimezoneOffset()).toISOString();
  const name = `gpenvideo-${now.slice(0, 10)}-${now.slice(11, 19).replaceAll(":", "")}.${suffix}`;
  const href = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), FREE_MS);
  return name;
}
