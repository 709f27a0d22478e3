// Webcam: the visitor's own camera, and its pictures over the WebSocket where WebRTC finds no way.

const WANTED = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
const MOST_ON_THE_WAY = 2;
const QUALITY = 0.88;

/** The camera's stream; the error says what a person can do. */
export async function openCamera(deviceId) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("Browsers give a page the camera over https only: open the https address.");
  }
  const video = deviceId ? { ...WANTED, deviceId: { exact: deviceId } } : { ...WANTED, facingMode: "user" };
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    throw new Error(WHY[error.name] ?? `The camera cannot be used: ${error.message}`);
  }
}

const WHY = {
  NotAllowedError: "The browser may not use the camera: allow it beside the address, then try again.",
  NotFoundError: "There is no camera: connect one, then try again.",
  NotReadableError: "Another program uses the camera: close it, then try again.",
  OverconstrainedError: "This camera cannot do it: choose another one.",
};

/** The cameras there are, with their names, once one was allowed. */
export async function cameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter((device) => device.kind === "videoinput" && device.label);
}

/** Sends a camera's pictures as JPEG, no more than the server takes; close() ends it. */
export class Upload {
  #onTheWay = 0;
  #listening = new AbortController();
  #video = document.createElement("video");
  #canvas = document.createElement("canvas");

  constructor(link, stream) {
    this.link = link;
    this.#video.muted = this.#video.playsInline = true;
    this.#video.srcObject = stream;
    const taken = () => (this.#onTheWay = Math.max(0, this.#onTheWay - 1));
    link.addEventListener("taken", taken, { signal: this.#listening.signal });
    this.#video.play().then(() => this.#next());
  }

  close() {
    this.#listening.abort();
    this.#video.srcObject = null;
  }

  #next() {
    if (this.#listening.signal.aborted) return;
    const again = (nowMs, frame) => {
      this.#next();
      this.#send((frame?.captureTime ?? nowMs) / 1000);
    };
    if ("requestVideoFrameCallback" in this.#video) this.#video.requestVideoFrameCallback(again);
    else setTimeout(() => again(performance.now()), 33);
  }

  #send(capturedS) {
    const serverS = this.link.serverTime(capturedS);
    if (this.#onTheWay >= MOST_ON_THE_WAY || serverS === null || this.#listening.signal.aborted) return;
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (!width) return;
    this.#onTheWay += 1;
    Object.assign(this.#canvas, { width, height });
    this.#canvas.getContext("2d", { alpha: false }).drawImage(this.#video, 0, 0);
    this.#canvas.toBlob(
      (blob) => blob && this.link.sendBytes(new Float64Array([serverS]), blob),
      "image/jpeg",
      QUALITY,
    );
  }
}
