// Controls: what can be set and done, by pointer and by key.

import { Recording, snapshot } from "./keep.js";

const SETTLED_MS = 700; // after a change of one's own, until the server's word counts again
const SEND_EVERY_MS = 80;
const TOAST_MS = 2600;

const at = (id) => document.getElementById(id);

export class Controls {
  #recording = null;
  #changedMs = -Infinity;
  #sending = 0;
  #toasting = 0;

  constructor(link, stage) {
    Object.assign(this, { link, stage });
    link.addEventListener("settings", ({ detail }) => this.show(detail.settings));
    link.addEventListener("watching", ({ detail }) => this.show(detail.settings));
    link.addEventListener("error", ({ detail }) => this.toast(detail.text));
    for (const name of ["enabled", "temporal", "mirror"]) at(name).onclick = () => this.#flip(name);
    at("strength").oninput = () => this.#strength(Number(at("strength").value));
    at("weights").onchange = () => this.#set({ weights: at("weights").value });
    at("compare").onclick = () => this.#compare();
    at("snapshot").onclick = () => this.#snapshot();
    at("record").onclick = () => this.#record();
    at("full").onclick = () => this.#full();
    at("details-button").onclick = () => this.#details(at("details").hidden);
    at("details-close").onclick = () => this.#details(false);
    at("help-button").onclick = () => at("help").showModal();
    at("help-close").onclick = () => at("help").close();
    document.addEventListener("fullscreenchange", () => press(at("full"), document.fullscreenElement !== null));
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  get isRecording() {
    return this.#recording !== null;
  }

  /** Whether the controls may fade away. */
  get mayFade() {
    const inside = document.activeElement?.closest?.(".dock");
    const byKey = inside && document.activeElement.matches(":focus-visible");
    const open = !at("details").hidden || at("help").open || document.activeElement instanceof HTMLSelectElement;
    return !byKey && !open && !at("dock").matches(":hover") && document.body.dataset.state === "live";
  }

  /** The networks to choose from. */
  offer(weights) {
    const names = Object.entries(weights);
    at("model-choice").hidden = names.length < 2;
    at("weights").replaceChildren(...names.map(([name, sizePx]) => new Option(`${shorter(name)} · ${sizePx}`, name)));
  }

  /** Show the server's settings, unless this page has just changed them. */
  show(settings) {
    if (!settings || performance.now() - this.#changedMs < SETTLED_MS) return;
    for (const name of ["temporal", "mirror"]) press(at(name), settings[name]);
    at("enabled").setAttribute("aria-checked", settings.enabled);
    at("weights").value = settings.weights;
    this.#fill(Math.round(100 * settings.strength));
    document.querySelector(".strength").classList.toggle("off", !settings.enabled);
  }

  toast(text) {
    clearTimeout(this.#toasting);
    at("toast").textContent = text;
    at("toast").classList.add("shown");
    this.#toasting = setTimeout(() => at("toast").classList.remove("shown"), TOAST_MS);
  }

  #set(change) {
    this.#changedMs = performance.now();
    this.link.send({ type: "settings", ...change });
  }

  #flip(name) {
    const button = at(name);
    const attribute = name === "enabled" ? "aria-checked" : "aria-pressed";
    const value = button.getAttribute(attribute) !== "true";
    button.setAttribute(attribute, value);
    if (name === "enabled") document.querySelector(".strength").classList.toggle("off", !value);
    this.#set({ [name]: value });
  }

  #strength(percent) {
    this.#fill(percent);
    this.#changedMs = performance.now();
    if (this.#sending) return;
    this.#sending = setTimeout(() => {
      this.#sending = 0;
      this.#set({ strength: Number(at("strength").value) / 100 });
    }, SEND_EVERY_MS);
  }

  #fill(percent) {
    at("strength").value = percent;
    at("strength").style.setProperty("--fill", `${percent}%`);
    at("strength-value").textContent = percent;
  }

  #compare() {
    this.stage.comparing = !this.stage.comparing;
    press(at("compare"), this.stage.comparing);
  }

  async #snapshot() {
    this.toast(`${await snapshot(this.stage.picture)} is saved`);
  }

  async #record() {
    const recording = this.#recording;
    try {
      this.#recording = recording ? null : new Recording(this.stage.picture);
      press(at("record"), this.isRecording);
      document.body.classList.toggle("recording", this.isRecording);
      this.toast(recording ? `${await recording.stop()} is saved` : "Recording");
    } catch (error) {
      this.toast(error.message);
    }
  }

  async #full() {
    const root = document.documentElement;
    if (document.fullscreenElement) await document.exitFullscreen();
    else if (root.requestFullscreen) await root.requestFullscreen().catch((error) => this.toast(error.message));
    else this.toast("This browser has no full screen for pages.");
  }

  #details(open) {
    const button = at("details-button");
    at("details").hidden = !open;
    button.setAttribute("aria-expanded", open);
    if (!open && at("details").contains(document.activeElement)) button.focus();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.body.dataset.state !== "live") return;
    const target = event.target;
    if (target instanceof HTMLSelectElement || target.closest("dialog")) return;
    const onButton = target instanceof HTMLButtonElement && (event.key === " " || event.key === "Enter");
    const onRange = target instanceof HTMLInputElement && event.key.startsWith("Arrow");
    if (onButton || onRange) return;
    const step = event.shiftKey ? 5 : 1;
    const percent = Number(at("strength").value);
    const actions = {
      " ": () => this.#flip("enabled"),
      ArrowLeft: () => this.stage.move(-step),
      ArrowRight: () => this.stage.move(step),
      ArrowUp: () => this.#strength(Math.min(100, percent + 5)),
      ArrowDown: () => this.#strength(Math.max(0, percent - 5)),
      c: () => this.#compare(),
      t: () => this.#flip("temporal"),
      m: () => this.#flip("mirror"),
      s: () => this.#snapshot(),
      r: () => this.#record(),
      f: () => this.#full(),
      d: () => this.#details(at("details").hidden),
      "?": () => at("help").showModal(),
      Escape: () => this.#details(false),
    };
    const action = actions[event.key] ?? (event.repeat ? null : actions[event.key.toLowerCase()]);
    if (!action) return;
    action();
    event.preventDefault();
  }
}

function press(button, pressed) {
  button.setAttribute("aria-pressed", pressed);
}

function shorter(name) {
  return name.split("/").at(-1).replace(/\.(pth|safetensors)$/, "");
}
