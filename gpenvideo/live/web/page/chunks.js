// Pictures over the WebSocket: VP8 through WebCodecs, or JPEG.

const HEADER_BYTES = 22;
const VP8 = { codec: "vp8", optimizeForLatency: true };
const WATCH_MS = 6000;
const MOST_WAITING = 4;

/** Whether this browser decodes VP8 by itself. */
export async function decodesVideo() {
  if (!("VideoDecoder" in window)) return false;
  return (await VideoDecoder.isConfigSupported(VP8)).supported === true;
}

/**
 * Begin to watch over the WebSocket.
 *
 * @param link the open Link
 * @param via "vp8" or "jpeg"
 * @param wanted { source, pair }
 * @param show takes (picture, { pair, size, number, capturedS }, presentedMs) for each frame
 * @returns { close }; throws where the server refuses
 */
export async function watchChunks(link, via, wanted, show) {
  const listening = new AbortController();
  const decoder = via === "vp8" ? new Chunks(show) : new Stills(show);
  const received = ({ detail }) => {
    const chunk = parsed(detail);
    if (chunk.via === via) decoder.take(chunk);
  };
  link.addEventListener("picture", received, { signal: listening.signal });
  const close = () => {
    listening.abort();
    decoder.close();
  };
  link.send({ type: "watch", via, ...wanted });
  const answer = await link.next(["watching", "refused"], via, WATCH_MS).catch((error) => ({ text: error.message }));
  if (answer.type !== "watching") {
    close();
    throw new Error(answer.text ?? "the connection was closed");
  }
  return { close };
}

/** A message of the server: what is known of the picture, and its bytes. */
export function parsed(message) {
  const view = new DataView(message);
  const flags = view.getUint8(1);
  return {
    via: view.getUint8(0) === 0 ? "vp8" : "jpeg",
    key: (flags & 1) !== 0,
    bytes: new Uint8Array(message, HEADER_BYTES),
    known: {
      pair: (flags & 2) !== 0,
      size: [view.getUint16(2, true), view.getUint16(4, true)],
      number: view.getUint32(6, true),
      capturedS: view.getFloat64(14, true),
    },
  };
}

class Chunks {
  #decoder = null;
  #known = new Map();
  #clock = 0;

  constructor(show) {
    this.show = show;
  }

  take({ key, bytes, known }) {
    if (this.#decoder === null || this.#decoder.state === "closed") {
      if (!key) return;
      this.#begin();
    }
    const timestamp = this.#clock++;
    this.#known.set(timestamp, known);
    this.#decoder.decode(new EncodedVideoChunk({ type: key ? "key" : "delta", timestamp, data: bytes }));
  }

  close() {
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
  }

  #begin() {
    this.#known.clear();
    this.#decoder = new VideoDecoder({
      output: (frame) => {
        const known = this.#known.get(frame.timestamp);
        this.#known.delete(frame.timestamp);
        if (known) this.show(frame, known, performance.now());
        frame.close();
      },
      error: () => {}, // it closes itself; the next key frame begins anew
    });
    this.#decoder.configure(VP8);
  }
}

class Stills {
  #waiting = [];
  #busy = false;
  #closed = false;

  constructor(show) {
    this.show = show;
  }

  async take(chunk) {
    this.#waiting.push(chunk);
    if (this.#waiting.length > MOST_WAITING) this.#waiting.shift();
    if (this.#busy) return;
    this.#busy = true;
    while (this.#waiting.length && !this.#closed) {
      const { bytes, known } = this.#waiting.shift();
      const picture = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" })).catch(() => null);
      if (picture && !this.#closed) this.show(picture, known, performance.now());
      picture?.close();
    }
    this.#busy = false;
  }

  close() {
    this.#closed = true;
  }
}
