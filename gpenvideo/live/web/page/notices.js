// Notices: what the server says of each frame that comes over WebRTC, found again by the frame's RTP timestamp.
//
// The timestamps differ from the server's ticks by an offset that nobody tells. But one offset alone makes all
// frames fit: it is what the differences of a few frames to all notices have in common.

const KEPT = 90;
const NEAR = 4; // ticks of 1/90000 s; browsers round
const LOST_AFTER = 20; // frames that fit no notice, after which the offset is looked for anew

export class Notices {
  #notices = [];
  #candidates = null;
  #offset = null;
  #misses = 0;

  add(notice) {
    this.#notices.push(notice);
    if (this.#notices.length > KEPT) this.#notices.shift();
  }

  /** The newest notice: the best guess before frames can be told apart. */
  get newest() {
    return this.#notices.at(-1) ?? null;
  }

  /** The notice of a frame; null while that is not known. */
  of(rtpTimestamp) {
    if (rtpTimestamp === undefined) return null;
    if (this.#offset === null) this.#narrow(rtpTimestamp);
    if (this.#offset === null) return null;
    const found = this.#notices.find((notice) => near(rtpTimestamp - notice.ticks, this.#offset));
    this.#misses = found ? 0 : this.#misses + 1;
    if (this.#misses > LOST_AFTER) {
      this.#offset = this.#candidates = null;
      this.#misses = 0;
    }
    return found ?? null;
  }

  #narrow(rtpTimestamp) {
    const offsets = this.#notices.map((notice) => rtpTimestamp - notice.ticks);
    const before = this.#candidates;
    const common = before ? offsets.filter((one) => before.some((other) => near(one, other))) : offsets;
    this.#candidates = common.length ? common : offsets;
    if (before && common.length === 1) this.#offset = common[0];
  }
}

/** Whether two offsets are the same, modulo 2^32. */
function near(one, other) {
  const apart = (((one - other) % 2 ** 32) + 2 ** 32) % 2 ** 32;
  return Math.min(apart, 2 ** 32 - apart) <= NEAR;
}
