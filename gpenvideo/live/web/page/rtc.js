// WebRTC: pictures from the server, and the visitor's camera to it.

import { Notices } from "./notices.js";

const ANSWER_MS = 6000;
const CONNECT_MS = 6000;
const RELAYS_MS = 2000;
const UP_BITS_S = 5_000_000;
const REPORT_MS = 1000;

/**
 * Begin to watch over WebRTC.
 *
 * @param link the open Link
 * @param wanted { source, pair }
 * @param track of the visitor's camera, or null
 * @param ice servers that the server named; mostly none
 * @param video the element that plays it
 * @param show takes (element, { pair, size, number, capturedS }, presentedMs) for each frame
 * @returns { close }; throws where there is no way
 */
export async function watchRtc(link, wanted, track, ice, video, show) {
  if (!("RTCPeerConnection" in window)) throw new Error("this browser has no WebRTC");
  const peer = new RTCPeerConnection({ iceServers: ice });
  const notices = new Notices();
  const listening = new AbortController();
  link.addEventListener("frame", ({ detail }) => notices.add(detail), { signal: listening.signal });
  const sockets = { udp: 0 };
  let reporting = 0;
  const close = () => {
    listening.abort();
    clearInterval(reporting);
    peer.close();
    video.srcObject = null;
  };
  try {
    const transceiver = peer.addTransceiver(track ?? "video", { direction: track ? "sendrecv" : "recvonly" });
    if ("jitterBufferTarget" in transceiver.receiver) transceiver.receiver.jitterBufferTarget = 0;
    peer.ontrack = ({ track: received }) => (video.srcObject = new MediaStream([received]));
    peer.onicecandidate = ({ candidate }) => (sockets.udp += candidate?.protocol === "udp");
    await peer.setLocalDescription();
    if (ice.length) await gathered(peer);
    link.send({ type: "watch", via: "webrtc", ...wanted, sdp: peer.localDescription.sdp });
    const answer = await link.next(["answer", "refused"], "webrtc", ANSWER_MS);
    if (answer.type !== "answer") throw new Error(answer.text ?? "the connection was closed");
    await peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    if (track) await allow(transceiver.sender);
    await connected(peer, sockets);
  } catch (error) {
    close();
    throw error;
  }
  video.play().catch(() => {}); // it is muted: where that is refused, frames come all the same
  const up = { takesS: 0 }; // from this camera until the server has the picture, where there is one
  reporting = setInterval(reporter(peer, link, up), REPORT_MS);
  follow(video, notices, show, up, listening.signal);
  return { close, peer };
}

/** Wait until the ways meet. A browser without one UDP socket, on a machine without network, need not be waited for. */
function connected(peer, sockets) {
  const changes = ["connectionstatechange", "icegatheringstatechange"];
  return new Promise((resolve, reject) => {
    const done = (settle) => {
      clearTimeout(timer);
      for (const change of changes) peer.removeEventListener(change, look);
      settle(new Error("there is no way for WebRTC"));
    };
    const look = () => {
      const hasNone = peer.iceGatheringState === "complete" && sockets.udp === 0;
      if (peer.connectionState === "connected") done(() => resolve());
      else if (peer.connectionState === "failed" || hasNone) done(reject);
    };
    const timer = setTimeout(() => done(reject), CONNECT_MS);
    for (const change of changes) peer.addEventListener(change, look);
    look();
  });
}

/** Wait for the addresses of relays, which the server has to know beforehand. */
function gathered(peer) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, RELAYS_MS);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Let the camera's picture be good. */
async function allow(sender) {
  const parameters = sender.getParameters();
  for (const encoding of parameters.encodings ?? []) encoding.maxBitrate = UP_BITS_S;
  parameters.degradationPreference = "maintain-resolution";
  await sender.setParameters(parameters).catch(() => {}); // an older browser decides by itself
}

/**
 * Tells the server, each time it is called, which share of the packets was lost since: it sends what the way bears.
 * How long a picture takes up to the server is found out too: to be coded, and half the way there and back.
 */
function reporter(peer, link, up) {
  let lostBefore = 0, receivedBefore = 0, codedBefore = 0, codingBefore = 0;
  return async () => {
    for (const stats of (await peer.getStats()).values()) {
      if (stats.type === "inbound-rtp") {
        const lost = Math.max(0, stats.packetsLost - lostBefore);
        const received = Math.max(0, stats.packetsReceived - receivedBefore);
        [lostBefore, receivedBefore] = [stats.packetsLost, stats.packetsReceived];
        if (lost + received > 0) link.send({ type: "report", lost: lost / (lost + received) });
      }
      if (stats.type === "outbound-rtp" && stats.framesEncoded > codedBefore) {
        const codingS = (stats.totalEncodeTime - codingBefore) / (stats.framesEncoded - codedBefore);
        [codedBefore, codingBefore] = [stats.framesEncoded, stats.totalEncodeTime];
        up.takesS = codingS + link.roundTripS / 2;
      }
    }
  };
}

/** Show each frame of a video element with what is known of it. */
function follow(video, notices, show, up, signal) {
  let frames = 0;
  const byFrame = (nowMs, metadata) => {
    if (signal.aborted) return;
    video.requestVideoFrameCallback(byFrame);
    const isTold = metadata.rtpTimestamp !== undefined; // else the newest notice is near enough
    showOne(isTold ? notices.of(metadata.rtpTimestamp) : notices.newest, Math.max(metadata.expectedDisplayTime, performance.now()));
  };
  const byScreen = (nowMs) => {
    if (signal.aborted) return;
    requestAnimationFrame(byScreen);
    const quality = video.getVideoPlaybackQuality?.().totalVideoFrames ?? video.currentTime;
    if (quality !== frames && video.videoWidth) showOne(notices.newest, nowMs);
    frames = quality;
  };
  const showOne = (notice, presentedMs) => {
    const known = notice ?? notices.newest;
    const size = [video.videoWidth, video.videoHeight];
    const pair = notice ? notice.pair : known !== null && known.pair && 2 * known.size[1] * size[0] === known.size[0] * size[1];
    const one = [size[0], pair ? size[1] / 2 : size[1]];
    const capturedS = notice ? notice.captured - up.takesS : null;
    show(video, { pair, size: one, number: notice?.n ?? null, capturedS }, presentedMs);
  };
  if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(byFrame);
  else requestAnimationFrame(byScreen);
}
