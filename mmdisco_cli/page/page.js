"use strict";
const main = document.querySelector("main");
const made = (card) => Number(card.dataset.index);
const valueOf = (card, key) => JSON.parse(card.dataset.values)[key];
const order = document.querySelector("#order");
if (order) order.addEventListener("change", () => {
  const [key, sign] = order.value.split(" ");
  // A clip without the value comes last, whichever way round.
  const by = (a, b) => {
    const [x, y] = [valueOf(a, key), valueOf(b, key)];
    if (x == null || y == null) return (x == null) - (y == null);
    return Number(sign) * (x - y);
  };
  main.append(...[...main.children].sort((a, b) => (key && by(a, b)) || made(a) - made(b)));
});
const compare = document.querySelector("#compare");
if (compare) compare.addEventListener("change", () => main.classList.toggle("compare", compare.checked));
const button = (bar, name, act) => {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = name;
  made.addEventListener("click", act);
  bar.append(made);
  return made;
};
// Controls below the frames: the browser's own lie over their lower edge, where balls meet the floor.
const controls = (media, length) => {
  const bar = document.createElement("div"), at = document.createElement("input"), clock = document.createElement("output");
  const named = media.getAttribute("aria-label") || "video";
  bar.className = "bar";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", `controls of ${named}`);
  const toggle = () => (media.paused ? media.play() : media.pause());
  const play = button(bar, "Play", toggle);
  Object.assign(at, { type: "range", min: 0, max: length, step: 0.01, value: 0 });
  at.setAttribute("aria-label", "position in seconds");
  at.addEventListener("input", () => { media.currentTime = Number(at.value); });
  bar.append(at, clock);
  const sound = button(bar, "Mute", () => { media.muted = !media.muted; });
  button(bar, "Full screen", () => media.requestFullscreen());
  const show = () => {
    play.textContent = media.paused ? "Play" : "Pause";
    sound.textContent = media.muted ? "Unmute" : "Mute";
    clock.textContent = `${media.currentTime.toFixed(1)} s`;
    at.value = media.currentTime;
  };
  for (const name of ["play", "pause", "seeked", "timeupdate", "volumechange"]) media.addEventListener(name, show);
  media.addEventListener("click", () => { if (!media.controls) toggle(); });
  document.addEventListener("fullscreenchange", () => { media.controls = document.fullscreenElement === media; });
  media.controls = false;
  media.after(bar);
  show();
};
for (const clip of document.querySelectorAll(".clip")) {
  const media = clip.querySelector("video, audio"), time = clip.querySelector(".time"), head = clip.querySelector(".head");
  if (!time) continue;
  const length = Number(time.dataset.seconds);
  if (media.tagName === "VIDEO") controls(media, length);
  const draw = () => { head.style.left = `${100 * Math.min(1, media.currentTime / length)}%`; if (!media.paused) requestAnimationFrame(draw); };
  for (const name of ["play", "seeked", "timeupdate"]) media.addEventListener(name, draw);
  // One clip plays at a time.
  media.addEventListener("play", () => { for (const other of document.querySelectorAll("video, audio")) if (other !== media) other.pause(); });
  time.addEventListener("click", (event) => {
    const box = time.getBoundingClientRect();
    media.currentTime = length * (event.clientX - box.left) / box.width;
  });
}
