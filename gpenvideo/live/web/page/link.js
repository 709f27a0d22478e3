// Link: the page's one WebSocket. It comes back by itself, and knows how the server's clock differs from the page's.

const RETRY_S = [0.5, 1, 2, 4, 8];
const CLOCK_EVERY_MS = [150, 150, 150, 300, 600, 2000]; // the last one goes on
const CLOCKS_KEPT = 16;

export class Link extends EventTarget {
  #socket = null;
  #tries = 0;
  #timer = 0;
  #clocks = [];

  constructor(address) {
    super();
    this.address = address;
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Bytes that wait to be sent. */
  get waiting() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** Seconds that a message takes to the server and back; 0 before the first did. */
  get roundTripS() {
    return this.#best()?.tripS ?? 0;
  }

  open() {
    clearTimeout(this.#timer);
    const socket = (this.#socket = new WebSocket(this.address));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#tries = 0;
      this.#clocks = [];
      this.#askTime(0);
    };
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = (event) => {
      if (socket !== this.#socket) return;
      const waitS = RETRY_S[Math.min(this.#tries++, RETRY_S.length - 1)];
      this.#tell("closed", { reason: event.reason, code: event.code, tries: this.#tries });
      this.#timer = setTimeout(() => this.open(), 1000 * waitS);
    };
  }

  send(message) {
    if (this.isOpen) this.#socket.send(JSON.stringify(message));
  }

  sendBytes(...parts) {
    if (this.isOpen) this.#socket.send(new Blob(parts));
  }

  /** The next message of one of some types about a way that pictures travel, or an error after a while. */
  next(types, via, withinMs) {
    return new Promise((resolve, reject) => {
      const done = (event) => {
        if (event && event.type !== "closed" && event.detail.via !== via) return;
        clearTimeout(timer);
        for (const type of [...types, "closed"]) this.removeEventListener(type, done);
        if (event) resolve({ type: event.type, ...event.detail });
        else reject(new Error("the server did not answer in time"));
      };
      const timer = setTimeout(done, withinMs);
      for (const type of [...types, "closed"]) this.addEventListener(type, done);
    });
  }

  /** A moment of the page's clock, in s, by the server's; null before both were compared. */
  serverTime(pageS) {
    const best = this.#best();
    return best ? pageS + best.aheadS : null;
  }

  #received(data) {
    if (data instanceof ArrayBuffer) {
      this.#tell("picture", data);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "clock") this.#compare(message);
    this.#tell(message.type, message);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #askTime(turn) {
    if (!this.isOpen) return;
    this.send({ type: "clock", page: performance.now() / 1000 });
    const waitMs = CLOCK_EVERY_MS[Math.min(turn, CLOCK_EVERY_MS.length - 1)];
    setTimeout(() => this.#askTime(turn + 1), waitMs);
  }

  #compare({ page, server }) {
    const nowS = performance.now() / 1000;
    this.#clocks.push({ tripS: nowS - page, aheadS: server - (page + nowS) / 2 });
    if (this.#clocks.length > CLOCKS_KEPT) this.#clocks.shift();
  }

  #best() {
    return this.#clocks.reduce((best, one) => (best && best.tripS <= one.tripS ? best : one), null);
  }
}
